"""The command line: bad input gets one line, exit code 1, and leaves nothing half-written."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile

import numpy as np
import pytest

from securefl import consortium as members
from securefl.cli import main
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.determinism import fingerprint

STUDY = """\
name = "Command line"
seed = 1
[simulation]
[consortium]
hospitals = ["st-anna", "va", "b"]
parties = 2
[data]
source = "npz"
root = "{hospital}.npz"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch, tmp_path):
    # What is left behind there is looked at.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(STUDY)
    draw = np.random.default_rng(0)
    for name in ("st-anna", "va", "b"):
        np.savez(folder / f"{name}.npz", x=draw.normal(size=(20, 4)), y=np.arange(20) % 2, classes=2)
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["securefl", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def refused(call, tmp_path):
    """Run a command that must fail: its one line, after a look at what it left."""

    def tree():
        return {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*") if p.name != ".lock"}

    def refused(*arguments):
        before = tree()
        code, out, err = call(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert err.endswith((".\n", "?\n"))
        assert tree() == before
        return err

    return refused


def replaced(folder, old, new):
    text = (folder / "study.toml").read_text()
    assert old in text
    (folder / "study.toml").write_text(text.replace(old, new))


def test_a_party_with_a_home_for_each_study_needs_one_ledger_for_all(refused, tmp_path):
    arguments = [
        "--study",
        "s",
        "--consortium",
        "c",
        "--keys",
        "k",
        "--socket",
        "x",
        "--listen",
        "127.0.0.1:1",
    ]
    said = refused(
        "party", "serve", "uni", *arguments, "--peer", "127.0.0.1:1", "--home", tmp_path / "{study}" / "uni"
    )
    assert "wants --ledger" in said


# -- run: what is found before anything is written -----------------------------------------------------------


def test_a_missing_study(refused, tmp_path):
    assert "There is no" in refused("run", tmp_path / "nothing", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 1", "seed = ", "is not valid TOML"),
        ("rounds = 1", "round = 1", "did you mean rounds?"),
        ("rounds = 1", "rounds = 0", "training.rounds"),
        ('kind = "logistic"', 'kind = "logistics"', "model.kind"),
        ("[simulation]", "[cohort]\nminimum_hospitals = 5\n[simulation]", "wants at least 5 hospitals"),
        (
            "[simulation]",
            "[committee]\ncollusion_bound = 2\n[simulation]",
            "collusion_bound must be at most 1",
        ),
        (
            "[simulation]",
            "[committee]\nminimum_parties = 3\n[simulation]",
            "minimum_parties must be more than the collusion bound, 1, and at most 2",
        ),
        ("[simulation]", "[committee]\nminimum_parties = 1\n[simulation]", "committee.minimum_parties"),
        ("[simulation]", "[aggregation]\nnorm_bound = -1.0\n[simulation]", "aggregation.norm_bound"),
        ('root = "{hospital}.npz"', 'root = "{hospital}.npz"\nminimum_records = 17', "records"),
        ('root = "{hospital}.npz"', 'root = "elsewhere/{hospital}.npz"', "does not exist"),
        (
            'source = "npz"\nroot = "{hospital}.npz"',
            'source = "module"\nmodule = "data.py:build"',
            "names data.py",
        ),
        ('kind = "logistic"', 'kind = "cnn"', "cnn"),
    ],
)
def test_a_study_that_cannot_run(refused, study, tmp_path, old, new, message):
    replaced(study, old, new)
    assert message in refused("run", study, "--out", tmp_path / "out")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_records_that_are_not_finite(refused, study, tmp_path, value):
    x = np.zeros((20, 4))
    x[3, 1] = value
    np.savez(study / "va.npz", x=x, y=np.arange(20) % 2)
    line = refused("run", study, "--out", tmp_path / "out")
    assert "va.npz" in line
    assert "NaN" in line


def test_a_hospital_without_records(refused, study, tmp_path):
    np.savez(study / "va.npz", x=np.zeros((0, 4)), y=np.zeros(0, dtype=int))
    assert "va" in refused("run", study, "--out", tmp_path / "out")


def test_an_output_folder_with_something_in_it(refused, study, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    assert "is not empty: choose another --out" in refused("run", study, "--out", tmp_path / "out")
    assert "is not the folder of a run" in refused("run", study, "--out", tmp_path / "out", "--overwrite")
    assert "is not empty" in refused("run", study, "--out", tmp_path / "out", "--resume")


def test_an_output_folder_that_is_a_file(refused, study, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refused("run", study, "--out", tmp_path / "file")
    assert "cannot be written" in refused("run", study, "--out", tmp_path / "file" / "out")


@pytest.fixture
def prepared(study, tmp_path):
    """A run that has been prepared and has not begun."""
    folder = RunFolder(tmp_path / "out")
    with folder.locked():
        folder.prepare(Study.load(study), {"name": "x", "fingerprint": fingerprint(), "started": "now"})
    return folder


def test_a_run_of_another_study_is_not_resumed(refused, prepared, study, tmp_path):
    assert "is not empty" in refused("run", study, "--out", tmp_path / "out")
    replaced(study, "seed = 1", "seed = 2")
    assert "holds a run of another study" in refused("run", study, "--out", tmp_path / "out", "--resume")


def test_a_bad_study_overwrites_nothing(refused, prepared, study, tmp_path):
    replaced(study, "[simulation]", "[cohort]\nminimum_hospitals = 9\n[simulation]")
    assert "at least 9 hospitals" in refused("run", study, "--out", tmp_path / "out", "--overwrite")


def test_two_runs_do_not_share_a_folder(refused, prepared, study, tmp_path):
    with prepared.locked():
        assert "Another run is using" in refused("run", study, "--out", tmp_path / "out", "--resume")


@pytest.mark.parametrize("out", [".", "out", "runs/one", "../link/out"])
def test_a_run_in_the_studys_own_folder(refused, study, tmp_path, out):
    (tmp_path / "link").symlink_to(study)
    said = refused("run", study, "--out", study / out)
    assert "lies in the study's folder" in said
    assert f"such as {tmp_path / 'study-run'}." in said
    (study / "earlier").mkdir()
    (study / "earlier" / "run.json").write_text("{}")
    assert "lies in the study's folder" in refused("run", study, "--out", study / "earlier", "--overwrite")


def test_what_a_study_says_moves_no_cursor(refused, call, study):
    escape = "\\u001b[1A\\u001b[2K\\u202e"
    replaced(study, 'name = "Command line"', f'name = "All {escape}is well"')
    code, out, _ = call("study", "check", study)
    assert code == 0
    assert out.replace("\n", "").isprintable()
    replaced(study, "seed = 1", f'seed = 1\n"{escape}" = 2')
    said = refused("study", "check", study)
    assert said.rstrip("\n").isprintable()
    assert "is not a known key" in said


def test_a_run_that_would_remove_its_study(refused, study, tmp_path):
    (tmp_path / "work").mkdir()
    study = study.rename(tmp_path / "work" / "study")
    assert "holds the study, which a new run would remove" in refused(
        "run", study, "--out", tmp_path / "work"
    )


def test_a_damaged_run(refused, prepared, study, tmp_path):
    (tmp_path / "out" / "run.json").write_text("{")
    assert "run.json cannot be read" in refused("run", study, "--out", tmp_path / "out", "--resume")


def test_a_port_in_use(refused, study, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("run", study, "--out", tmp_path / "out", "--base-port", port - 1)
    assert f"Port {port} is in use: choose another --base-port" in line


# -- run: pinned keys ----------------------------------------------------------------------------------------


@pytest.fixture
def pinned(study):
    """The study among members of a consortium file."""
    members.create(study, ["st-anna", "va", "b"], ["left", "right"])
    replaced(study, 'hospitals = ["st-anna", "va", "b"]\nparties = 2', 'file = "consortium.toml"')
    return study


@pytest.mark.parametrize("name", ["va", "left"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "signing.key").unlink(), "signing.key is missing"),
        (lambda folder: (folder / "sealing.key").chmod(0o644), "can be read by others"),
        (lambda folder: (folder / "sealing.key").write_text("?"), "sealing.key is damaged"),
        (
            lambda folder: shutil.copy(folder.parent / "b" / "signing.key", folder),
            "are not the ones pinned for",
        ),
        (shutil.rmtree, "is missing"),
    ],
    ids=["missing", "readable", "damaged", "not pinned", "no folder"],
)
def test_keys_that_are_not_as_they_must_be(refused, pinned, tmp_path, name, change, message):
    change(pinned / "keys" / name)
    assert message in refused("run", pinned, "--out", tmp_path / "out")


def test_a_malformed_or_missing_consortium(refused, pinned, tmp_path):
    whole = (pinned / "consortium.toml").read_text()
    (pinned / "consortium.toml").write_text(whole.replace("epoch = 1", "epoch = 0"))
    assert "malformed at epoch" in refused("run", pinned, "--out", tmp_path / "out")
    (pinned / "consortium.toml").unlink()
    assert "names consortium.toml" in refused("run", pinned, "--out", tmp_path / "out")


def test_norms_need_a_dealer_among_the_members(call, refused, pinned, tmp_path):
    assert call("study", "check", pinned)[0] == 0
    replaced(pinned, "[simulation]", "[aggregation]\nnorm_bound = 1.0\n[simulation]")
    for command in (
        ("run", pinned, "--out", tmp_path / "out"),
        ("study", "check", pinned),
        ("study", "plan", pinned),
    ):
        line = refused(*command)
        assert "aggregation.norm_bound needs a dealer: make the consortium with one (--dealer)" in line


def test_a_dealer_whose_keys_are_not_there(call, refused, study, tmp_path):
    members.create(study, ["st-anna", "va", "b"], ["left", "right"], "dora")
    replaced(study, 'hospitals = ["st-anna", "va", "b"]\nparties = 2', 'file = "consortium.toml"')
    replaced(study, "[simulation]", "[aggregation]\nnorm_bound = 1.0\n[simulation]")
    assert call("study", "check", study)[0] == 0
    (study / "keys" / "dora" / "tls.key").unlink()
    assert "restore the keys of dora" in refused("run", study, "--out", tmp_path / "out")


# -- studies and members -------------------------------------------------------------------------------------


def test_study_commands(call, study, tmp_path):
    code, out, err = call("study", "check", study)
    assert (code, err) == (0, "")
    assert "This study can run." in out
    assert "3 hospitals, 2 parties" in out
    code, out, _ = call("study", "show", study)
    shown = out[: out.rindex("}") + 1]
    assert (code, json.loads(shown)["aggregation"]["width"]) == (0, 32)
    assert "study.toml" in out
    code, out, _ = call("study", "plan", study)
    assert code == 0
    assert "never sees" in out
    assert "opening shares" in out
    code, out, _ = call("study", "new", tmp_path / "new", "--template", "fed-heart")
    assert code == 0
    assert call("study", "check", tmp_path / "new")[0] == 0


@pytest.mark.parametrize(
    ("table", "line", "value"),
    [
        ("aggregation", "norm_bound = 0.5", 0.5),
        ("committee", "minimum_parties = 2\ncollusion_bound = 1", 2),
    ],
)
def test_a_study_that_checks_norms_or_goes_on_with_fewer_parties(call, study, table, line, value):
    replaced(study, "parties = 2", "parties = 3")
    key = line.split(" = ")[0]
    shown = call("study", "show", study)[1]
    assert json.loads(shown[: shown.rindex("}") + 1])[table][key] is None
    replaced(study, "[simulation]", f"[{table}]\n{line}\n[simulation]")
    for command in ("check", "plan"):
        code, _, err = call("study", command, study)
        assert (code, err) == (0, "")
    shown = call("study", "show", study)[1]
    assert json.loads(shown[: shown.rindex("}") + 1])[table][key] == value


@pytest.mark.parametrize("command", ["check", "show", "plan"])
def test_study_commands_on_bad_studies(refused, study, tmp_path, command):
    assert "There is no" in refused("study", command, tmp_path / "nothing")
    replaced(study, "rounds = 1", "round = 1")
    assert "did you mean rounds" in refused("study", command, study)


def test_new_studies_write_over_nothing(refused, study, tmp_path):
    assert "is not empty" in refused("study", "new", study)
    assert "There is no template x" in refused("study", "new", tmp_path / "new", "--template", "x")
    assert "cannot be made" in refused("study", "new", study / "va.npz" / "below")


def test_consortium_commands(call, tmp_path):
    names = ["--hospital", "va", "--hospital", "b", "--party", "left", "--party", "right"]
    code, out, err = call("consortium", "new", tmp_path / "c", *names)
    assert (code, err) == (0, "")
    assert "2 hospitals, 2 parties" in out
    for place in (tmp_path / "c", tmp_path / "c" / "consortium.toml"):
        code, shown, _ = call("consortium", "show", place)
        assert code == 0
        assert "Digest: " in shown
    code, out, _ = call("consortium", "rotate", tmp_path / "c", "va")
    assert code == 0
    assert "epoch 2" in out
    loaded = members.load(tmp_path / "c" / "consortium.toml")
    assert loaded.member("va").fingerprint in out
    assert loaded.member("left").fingerprint in shown


def test_a_consortium_with_a_dealer(call, tmp_path):
    names = ["--hospital", "va", "--hospital", "b", "--party", "left", "--party", "right", "--dealer", "dora"]
    code, _, err = call("consortium", "new", tmp_path / "c", *names)
    assert (code, err) == (0, "")
    made = members.load(tmp_path / "c" / "consortium.toml")
    assert made.dealer.name == "dora"
    assert (tmp_path / "c" / "keys" / "dora" / "tls.key").exists()
    shown = call("consortium", "show", tmp_path / "c")[1]
    assert "dora" in shown
    assert "dealer" in shown
    assert call("consortium", "rotate", tmp_path / "c", "dora")[0] == 0
    rotated = members.load(tmp_path / "c" / "consortium.toml")
    assert rotated.dealer.fingerprint != made.dealer.fingerprint


def test_consortium_commands_on_bad_input(refused, tmp_path, study):
    hospitals, parties = ["--hospital", "va", "--hospital", "b"], ["--party", "left", "--party", "right"]
    new = ["consortium", "new", tmp_path / "c"]
    assert "cannot be a member's name" in refused(*new, "--hospital", "../x", "--hospital", "b", *parties)
    assert "same name" in refused(*new, *hospitals, "--hospital", "va", *parties)
    assert "at least" in refused(*new, *hospitals, "--party", "left")
    assert "at least" in refused(*new, *hospitals, "--party", "left", "--dealer", "right")
    assert "same name" in refused(*new, *hospitals, *parties, "--dealer", "left")
    assert "same name" in refused(*new, *hospitals, *parties, "--dealer", "va")
    assert "cannot be a member's name" in refused(*new, *hospitals, *parties, "--dealer", "D")
    assert "There is no" in refused("consortium", "show", tmp_path / "c")
    assert "There is no" in refused("consortium", "rotate", tmp_path / "c", "va")
    assert "malformed" in refused("consortium", "show", study / "study.toml")
    members.create(tmp_path / "c", ["va", "b"], ["left", "right"])
    assert "already holds a consortium" in refused(*new, *hospitals, *parties)
    assert "not a member" in refused("consortium", "rotate", tmp_path / "c", "nobody")


# -- runs that are there, or not -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "stop", "report", "verify"])
def test_commands_on_what_is_no_run(refused, study, tmp_path, command):
    for place in (tmp_path / "nothing", study):
        assert "is not the folder of a run" in refused(command, place)


def test_status_and_stop_of_a_run_that_has_not_begun(call, refused, prepared):
    code, out, err = call("status", prepared.path)
    assert (code, err) == (0, "")
    assert json.loads(out)["rounds"] == "0 of 1"
    assert json.loads(out)["state"] == "not running"
    assert "there is nothing to stop" in refused("stop", prepared.path)
    with prepared.locked():
        assert json.loads(call("status", prepared.path)[1])["state"] == "running"
        assert call("stop", prepared.path)[:2] == (0, "The run stops after its round; go on with --resume.\n")
    assert prepared.stop_file.exists()


@pytest.mark.parametrize(
    ("name", "content"), [("run.json", "[]"), ("run.json", "{}"), ("history.jsonl", "{}\n")]
)
def test_status_of_a_damaged_run(refused, prepared, name, content):
    (prepared.path / name).write_text(content)
    assert f"{name} cannot be read" in refused("status", prepared.path)


def test_status_says_what_is_there(call, prepared):
    (prepared.path / "run.json").write_text('{"study": "ab"}')
    prepared.write_history([{"round": 1}])
    code, out, _ = call("status", prepared.path)
    assert code == 0
    assert (json.loads(out)["name"], json.loads(out)["accuracy"]) == (None, None)


def test_stop_while_a_run_is_compared(call, prepared, monkeypatch):
    monkeypatch.setattr(RunFolder, "closing", lambda _folder: "there")
    with prepared.locked():
        code, out, _ = call("stop", prepared.path)
    assert (code, out) == (
        0,
        "Training is over. Comparisons that are not made yet stop; --resume makes them.\n",
    )


def test_version_and_help(call):
    code, out, _ = call("version")
    assert (code, out.count("\n")) == (0, 1)
    code, out, _ = call("--help")
    assert code == 0
    assert all(
        command in out
        for command in ("run", "study", "consortium", "party", "dealer", "status", "stop", "doctor", "bench")
    )
    assert call("study", "--help")[0] == 0
    assert call("nonsense")[0] == 2


def test_the_dealers_port_in_use(refused, study, tmp_path):
    replaced(study, "[simulation]", "[aggregation]\nnorm_bound = 1.0\n[simulation]")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("run", study, "--out", tmp_path / "out", "--base-port", port - 2)
    assert f"Port {port} is in use" in line
    assert not (tmp_path / "out").exists()
