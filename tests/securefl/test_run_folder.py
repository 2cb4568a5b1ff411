"""The folder of a run: prepared whole, locked, emptied only when it is a run, and read back after a crash."""

from __future__ import annotations

import json
import multiprocessing
import shutil

import pytest

from protocols.chain import Closing, Outcome, SignedClosing, SignedOutcome
from protocols.contribution import FrozenList, RoundContext
from securefl.errors import EngineError, RunError
from securefl.roles.messages import Verification
from securefl.run_folder import RunFolder
from securefl.study import Study

STUDY = """\
name = "Folder"
seed = 1
[simulation]
[consortium]
hospitals = 2
parties = 2
[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(STUDY)
    return Study.load(tmp_path / "study")


@pytest.fixture
def run(tmp_path, study):
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.prepare(study, {"name": "Folder"})
    return folder


def names(folder):
    return sorted(p.name for p in folder.path.iterdir() if p.name != ".lock")


def test_a_prepared_folder_has_the_study_its_members_and_its_name(run, study):
    assert names(run) == ["consortium.toml", "keys", "run.json", "study"]
    assert list(run.consortium(study).hospitals) == ["hospital-1", "hospital-2"]
    assert list(run.consortium(study).parties) == ["party-1", "party-2"]
    assert run.info() == {"name": "Folder", "study": study.digest(run.consortium(study).digest()).hex()}
    assert Study.load(run.path / "study").files == study.files
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_a_second_preparation_is_refused(run, study):
    before = run.info()
    with pytest.raises(RunError, match="is not empty: choose another --out, or add --resume or --overwrite"):
        run.prepare(study, {})
    assert run.info() == before


def test_what_an_interrupted_preparation_left_is_taken_over(run, study):
    digest = run.info()["study"]
    (run.path / "run.json").unlink()
    (run.path / ".unfinished").touch()
    shutil.rmtree(run.keys / "party-2")
    run.prepare(study, {})
    assert names(run) == ["consortium.toml", "keys", "run.json", "study"]
    assert run.info()["study"] != digest  # new keys, hence another study
    assert sorted(p.name for p in run.keys.iterdir()) == ["hospital-1", "hospital-2", "party-1", "party-2"]


def test_only_a_run_is_overwritten(tmp_path, run):
    other = RunFolder(tmp_path / "other")
    other.path.mkdir()
    (other.path / "precious").write_text("mine")
    with pytest.raises(RunError, match="is not the folder of a run"):
        other.overwrite()
    assert (other.path / "precious").read_text() == "mine"
    run.write_history([])
    run.overwrite()
    assert names(run) == []
    run.overwrite()  # an empty folder is empty


def test_members_and_their_keys_are_no_left_over_of_a_run(run, study):
    # As `securefl consortium new` makes them.
    (run.path / "run.json").unlink()
    shutil.rmtree(run.path / "study")
    with pytest.raises(RunError, match="is not empty"):
        run.prepare(study, {})
    with pytest.raises(RunError, match="is not the folder of a run"):
        run.overwrite()
    assert names(run) == ["consortium.toml", "keys"]


def test_a_link_in_a_run_is_removed_and_not_followed(tmp_path, run):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (run.path / "linked").symlink_to(precious)
    (run.path / "a-dangling-link").symlink_to(tmp_path / "nothing")
    run.overwrite()
    assert names(run) == []
    assert (precious / "file").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_an_interrupted_emptying_left_is_taken_over(run, study, monkeypatch, overwrite):
    def refused(_path):
        raise PermissionError(13, "no")

    run.write_history([])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refused)
        with pytest.raises(PermissionError):
            run.overwrite()
    assert not (run.path / "run.json").exists()
    if overwrite:
        run.overwrite()
        assert names(run) == []
    run.prepare(study, {})
    assert names(run) == ["consortium.toml", "keys", "run.json", "study"]


@pytest.mark.parametrize("left", [".run.json.0123abcd", ".consortium.toml.0123abcd"])
def test_a_file_that_a_cut_off_preparation_left_half_written_is_removed(run, study, left):
    (run.path / "run.json").unlink()
    (run.path / ".unfinished").touch()
    (run.path / left).write_text("{")
    run.prepare(study, {})
    assert names(run) == ["consortium.toml", "keys", "run.json", "study"]


def test_a_preparation_that_was_cut_off_at_once_is_begun_anew(tmp_path, study):
    folder = RunFolder(tmp_path / "new")
    folder.path.mkdir()
    (folder.path / "..unfinished.0123abcd").touch()
    folder.overwrite()
    folder.prepare(study, {})
    assert names(folder) == ["consortium.toml", "keys", "run.json", "study"]


def test_one_run_at_a_time(run):
    assert not run.running()
    assert not RunFolder(run.path / "nothing").running()
    with run.locked():
        assert run.running()
        with pytest.raises(RunError, match="Another run is using"), run.locked():
            pass
    assert not run.running()


def _hold(path, ready, release):
    with RunFolder(path).locked():
        ready.set()
        release.wait(30)


def test_the_lock_ends_with_the_process_that_holds_it(run):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(run.path, ready, release))
    process.start()
    assert ready.wait(60)
    assert run.running()
    process.kill()
    process.join()
    assert not run.running()
    with run.locked():
        pass


def test_history_is_a_line_a_round_and_a_cut_line_is_left_out(run):
    assert run.history() == []
    run.write_history([{"round": 0}])
    run.append_history({"round": 1, "accuracy": 0.5})
    assert run.history() == [{"round": 0}, {"round": 1, "accuracy": 0.5}]
    with run.history_file.open("a") as file:
        file.write('{"round": 2, "acc')
    assert [line["round"] for line in run.history()] == [0, 1]
    run.write_history(run.history())
    run.append_history({"round": 2})
    assert [line["round"] for line in run.history()] == [0, 1, 2]


def test_a_line_that_cannot_be_added_is_one_sentence(run, monkeypatch):
    run.write_history([{"round": 0}])

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EngineError, match="is full: free some space"):
        run.append_history({"round": 1})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff"])
def test_a_damaged_run_file_is_told(run, content):
    (run.path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read: the run must be started anew"):
        run.info()


def outcome(round_):
    context = RoundContext(
        study=b"",
        round=round_,
        attempt=1,
        previous=b"",
        purpose="update",
        model=b"",
        parties=[],
        width=16,
        size=1,
    )
    frozen = FrozenList(context=context.digest(), cohort=[], contributions={}, absent={})
    return SignedOutcome(
        outcome=Outcome(context=context, frozen=frozen, excluded={}, total=b""), signatures=[]
    )


def test_receipts_are_read_in_order_up_to_the_first_gap(run):
    assert (run.outcomes(), run.closing()) == ([], None)
    signed = [outcome(r) for r in range(3)]
    for r in (0, 2):
        run.store().put(f"receipt-{r:06d}", signed[r].to_bytes())
        run.store().put(f"sum-{r:06d}", bytes([r]) * 2)
    assert run.outcomes() == signed[:1]
    run.store().put("receipt-000001", signed[1].to_bytes())
    run.store().put("sum-000001", b"11")
    assert run.outcomes() == signed
    assert (run.settled(1).signed, run.settled(1).total) == (signed[1], b"11")
    closing = SignedClosing(
        closing=Closing(
            study=b"", rounds=3, last=b"", model=b"", parties=[], unverified=[1], verifications=b""
        ),
        signatures=[],
    )
    run.store().put("closing", closing.to_bytes())
    assert run.closing() == closing


def test_checks_of_sums_are_read_by_round_and_those_that_are_missing_have_no_digest(run):
    record = Verification(round=2, outcome=b"o" * 32, coins=[], answers=[])
    run.store().put("verification-000002", record.to_bytes())
    assert [run.verification(r) for r in range(4)] == [None, None, record, None]
    digests = [run.verification_digest(r) for r in range(4)]
    assert digests == [b"", b"", record.digest(), b""]


def test_a_run_was_begun_as_an_insecure_one_or_not(run, tmp_path, study):
    assert run.unchecked() is False
    for asked in (True, False):
        folder = RunFolder(tmp_path / f"asked-{asked}")
        with folder.locked():
            folder.prepare(study, {"insecure_unchecked": asked})
        assert RunFolder(folder.path).unchecked() is asked
    with pytest.raises(RunError, match="is not the folder of a run"):
        RunFolder(tmp_path / "nothing").unchecked()


def test_a_simulation_that_checks_norms_has_a_dealer_and_no_other_has(tmp_path, study, run):
    (study.folder / "study.toml").write_text(STUDY + "[aggregation]\nnorm_bound = 1.0\n")
    checked = Study.load(study.folder)
    folder = RunFolder(tmp_path / "checked")
    with folder.locked():
        folder.prepare(checked, {})
    assert folder.consortium(checked).dealer.name == "dealer"
    assert sorted(p.name for p in folder.keys.iterdir()) == [
        "dealer", "hospital-1", "hospital-2", "party-1", "party-2"
    ]  # fmt: skip
    assert run.consortium(study).dealer is None
    assert not (run.keys / "dealer").exists()


def test_the_consortium_of_a_real_study_is_its_own_file(tmp_path, study):
    from securefl import consortium as members

    made = members.create(study.folder, ["va", "b"], ["left", "right"])
    text = STUDY.replace("hospitals = 2\nparties = 2", 'file = "consortium.toml"').replace(
        "[simulation]\n", ""
    )
    (study.folder / "study.toml").write_text(text)
    real = Study.load(study.folder)
    folder = RunFolder(tmp_path / "real")
    with folder.locked():
        folder.prepare(real, {})
    assert folder.consortium(real) == made
    assert names(folder) == ["run.json", "study"]
    assert json.loads((folder.path / "run.json").read_text())["study"] == real.digest(made.digest()).hex()
