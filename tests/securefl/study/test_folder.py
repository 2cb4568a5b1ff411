"""Study folders: what is read, what is refused in one sentence, and a digest over everything that runs."""

from __future__ import annotations

import shutil

import pytest

from securefl.errors import StudyError
from securefl.study import Study, folder

TOML = """\
name = "Study"
seed = 1
[simulation]
[consortium]
hospitals = 3
[data]
source = "module"
module = "data.py:build"
[model]
kind = "module"
module = "nets/model.py:build"
[training]
rounds = 2
learning_rate = 0.1
"""


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "study"
    (made / "nets").mkdir(parents=True)
    (made / "study.toml").write_text(TOML)
    (made / "data.py").write_text("def build(hospital, split): ...\n")
    (made / "nets" / "model.py").write_text("import helper\n")
    (made / "nets" / "helper.py").write_text("x = 1\n")
    (made / "notes.txt").write_text("not part of it\n")
    (made / ".hidden").mkdir()
    (made / ".hidden" / "old.py").write_text("x = 1\n")
    return made


def test_a_study_is_its_toml_and_every_python_file(path):
    study = Study.load(path)
    assert list(study.files) == ["data.py", "nets/helper.py", "nets/model.py", "study.toml"]
    assert study.simulation
    assert Study.load(str(path / "study.toml")) == study


def test_earlier_runs_in_the_folder_are_no_part_of_it(path):
    before = Study.load(path)
    run = path / "runs" / "one"
    before.copy_to(run / "study")
    (run / "run.json").write_text("{}")
    assert Study.load(path).files == before.files
    # A folder that only looks a little like a run counts.
    (path / "nets" / "run.json").write_text("{}")
    assert Study.load(path).files == before.files
    # Nor does a file of that name take the study itself away.
    (path / "run.json").write_text("{}")
    (path / "study").mkdir()
    (path / "study" / "study.toml").write_text(TOML)
    assert Study.load(path).files == before.files


def test_the_digest_changes_with_every_byte_that_counts_and_with_no_other(path):
    first = Study.load(path).digest(bytes(32))
    digests = {first}
    for name in ("study.toml", "data.py", "nets/model.py", "nets/helper.py"):
        file = path / name
        whole = file.read_bytes()
        for changed in (whole + b"\n", whole + b"# \n"):
            file.write_bytes(changed)
            digests.add(Study.load(path).digest(bytes(32)))
        file.write_bytes(whole)
    assert len(digests) == 9
    (path / "notes.txt").write_text("changed\n")
    (path / ".hidden" / "old.py").write_text("x = 2\n")
    assert Study.load(path).digest(bytes(32)) == first


def test_every_single_byte_of_the_toml_counts(path):
    whole = (path / "study.toml").read_bytes()
    at = whole.index(b"Study")
    digests = set()
    for position in range(at, at + 5):
        changed = bytearray(whole)
        changed[position] ^= 1
        (path / "study.toml").write_bytes(bytes(changed))
        digests.add(Study.load(path).digest(bytes(32)))
    assert len(digests) == 5


def test_the_digest_covers_members_names_and_version(path, monkeypatch):
    study = Study.load(path)
    first = study.digest(bytes(32))
    assert study.digest(b"\x01" + bytes(31)) != first
    shutil.move(path / "nets" / "helper.py", path / "nets" / "other.py")
    assert Study.load(path).digest(bytes(32)) != first
    monkeypatch.setattr(folder, "version", lambda _name: "99.0")
    assert study.digest(bytes(32)) != first


def test_a_copy_has_the_same_digest(path, tmp_path):
    study = Study.load(path)
    copy = study.copy_to(tmp_path / "copy")
    assert (
        Study.load(tmp_path / "copy").digest(bytes(32)) == study.digest(bytes(32)) == copy.digest(bytes(32))
    )
    assert not (tmp_path / "copy" / "notes.txt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rounds = 2", "round = 2"), r"training\.round is not a known key; did you mean rounds\?"),
        (("learning_rate = 0.1", "learning_rte = 0.1"), "did you mean learning_rate"),
        (("[training]", "[trainings]"), r"trainings is not a known key; did you mean training\?"),
        (
            ("seed = 1", "seed = 1\nzzz = 2"),
            "zzz is not a known key; known there are name, description, seed",
        ),
        (
            ("[data]", "[data]\npartition = {kid = 'iid'}"),
            r"data\.partition\.kid is not a known key; did you mean kind",
        ),
        (
            ("[training]", "[training.schedule]\nknd = 'step'\n[training]"),
            r"schedule\.knd .* did you mean kind",
        ),
        (("rounds = 2\n", ""), r"training\.rounds is missing: add it"),
        (("rounds = 2", "rounds = 0"), r"training\.rounds: .*greater than or equal to 1, not 0\.$"),
        (("rounds = 2", "rounds = '2'"), r"training\.rounds: .*valid integer, not '2'\.$"),
        (("rounds = 2", "rounds = 2.5"), r"training\.rounds: .*integer, not 2\.5\.$"),
        (
            ("[data]", "[aggregation]\nnorm_bond = 1.0\n[data]"),
            r"aggregation\.norm_bond is not a known key; did you mean norm_bound\?",
        ),
        (
            ("[data]", "[aggregation]\nnorm_bound = 0.0\n[data]"),
            r"aggregation\.norm_bound: .*greater than or equal to .*, not 0\.0\.$",
        ),
        (
            ("[data]", "[committee]\nminimum_partys = 2\n[data]"),
            r"committee\.minimum_partys is not a known key; did you mean minimum_parties\?",
        ),
        (
            ("[data]", "[committee]\nminimum_parties = 1\n[data]"),
            r"committee\.minimum_parties: .*greater than or equal to 2, not 1\.$",
        ),
        (("hospitals = 3", ""), r"consortium: give either file or hospitals"),
        (("[simulation]\n", ""), r"add a \[simulation\] table"),
        (("seed = 1", "seed ="), "is not valid TOML"),
        (("seed = 1", "seed = 1\nseed = 2"), "is not valid TOML"),
        (("data.py:build", "datas.py:build"), "names datas.py, which cannot be read .* add the file"),
    ],
)
def test_a_bad_study_is_refused_in_one_sentence(path, change, message):
    text = (path / "study.toml").read_text()
    assert change[0] in text
    (path / "study.toml").write_text(text.replace(*change, 1))
    with pytest.raises(StudyError, match=message) as error:
        Study.load(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert len(text) < 400


def test_an_unknown_key_is_told_before_what_it_left_out(path):
    # "round" for "rounds" makes one key unknown and another missing: the first explains the second.
    text = (path / "study.toml").read_text().replace("rounds", "round")
    (path / "study.toml").write_text(text)
    with pytest.raises(StudyError, match="did you mean rounds"):
        Study.load(path)


def test_studies_that_are_not_there(path, tmp_path):
    with pytest.raises(StudyError, match=r"There is no .*study.toml: make a study with `securefl study new"):
        Study.load(tmp_path / "nothing")
    with pytest.raises(StudyError, match="cannot be read: not a directory"):
        Study.load(path / "data.py")
    (path / "study.toml").unlink()
    (path / "study.toml").mkdir()
    with pytest.raises(StudyError, match="cannot be read: is a directory"):
        Study.load(path)
    (path / "study.toml").rmdir()
    (path / "study.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match="is not valid TOML"):
        Study.load(path)


def test_files_outside_the_folder_are_refused(path, tmp_path):
    (tmp_path / "consortium.toml").write_text("")
    (path / "link.toml").symlink_to(tmp_path / "consortium.toml")
    text = TOML.replace("hospitals = 3", 'file = "{}"').replace("[simulation]\n", "")
    for name in ("link.toml", "nets/../../consortium.toml"):
        (path / "study.toml").write_text(text.format(name))
        with pytest.raises(StudyError, match="lies outside the study folder"):
            Study.load(path)
    (path / "study.toml").write_text(text.format("/etc/passwd"))
    with pytest.raises(StudyError, match=r"consortium\.file"):
        Study.load(path)


def test_known_keys_of_nested_tables():
    assert "rounds" in folder.known_keys(["training"])
    assert "kind" in folder.known_keys(["training", "schedule"])
    assert folder.known_keys(["data", "partition"]) == ["kind", "alpha", "classes"]
    assert folder.known_keys([]) == folder.known_keys(["nothing"])


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        (f"x = {'[' * 5000}{']' * 5000}", "is not valid TOML: it is nested too deeply."),
        (f"x = {'1' * 5000}", "is not valid TOML: a number in it is too long."),
        (f"seed = 0x{'f' * 5000}", "what is too long to show"),
        (f"name = {'n' * 5000!r}", "n…."),
    ],
)
def test_toml_that_python_does_not_take_is_refused_in_a_sentence(path, addition, says):
    key = addition.split(" ")[0]
    lines = [line for line in TOML.splitlines() if not line.startswith(f"{key} =")]
    (path / "study.toml").write_text("\n".join([addition, *lines]))
    with pytest.raises(StudyError) as error:
        Study.load(path)
    assert says in str(error.value)
    assert len(str(error.value)) < 500
