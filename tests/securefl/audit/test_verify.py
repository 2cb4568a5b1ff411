"""A whole run holds; one changed byte, a cut or missing file anywhere does not, and the line that fails names it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securefl.audit import SumCheck, verify
from securefl.audit.chain import ChainWalk
from securefl.audit.founding import Founding, Receipts, read_info
from securefl.audit.verdict import BrokenError
from securefl.errors import EngineError, RunError
from securefl.roles.records import CLOSING
from securefl.run_folder import RunFolder

EACH = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def failing(folder: Path) -> str:
    """The check that fails, as one line."""
    verdict = verify(folder)
    assert verdict.fault is not None, verdict.sentence
    assert verdict.checks[-1] is verdict.fault
    assert not verdict.holds
    return f"{verdict.fault.name}: {verdict.fault.says}"


@contextmanager
def tampered(path: Path, content: bytes) -> Iterator[None]:
    """Another content in a file, for as long as it takes."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def names_it(line: str, run: RunFolder, path: Path) -> bool:
    return path.relative_to(run.path).as_posix() in line


# -- what holds -------------------------------------------------------------------------------------------------------


def test_a_whole_run_holds_check_by_check(finished: RunFolder) -> None:
    verdict = verify(finished.path)
    assert verdict.fault is None
    assert verdict.closed
    assert verdict.holds
    rounds = [f"round {round_}" for round_ in range(5)]
    files = ["model.safetensors", "summary.json", "history.jsonl"]
    names = ["study", "run.json", "members", *rounds, "copies", "closing", *files]
    assert [check.name for check in verdict.checks] == names
    assert [check.name for check in verdict.checks if check.mark != "holds"] == ["round 3"]
    assert verdict.sentence == (
        "Everything holds: 5 outcomes and the closing record; the hospitals did not check the sum of round 3, "
        "which is the committee's word alone."
    )


def test_it_says_what_the_receipts_say(finished: RunFolder) -> None:
    verdict = verify(finished.path)
    everyone = ["b", "charite", "st-anna", "va"]
    assert [list(receipt.cohort) for receipt in verdict.receipts] == [everyone] * 5
    assert [len(receipt.included) for receipt in verdict.receipts] == [4, 4, 3, 4, 4]
    assert verdict.receipts[2].absent == {"va": "no-answer"}
    assert [receipt.sum_check for receipt in verdict.receipts] == [
        SumCheck.UNVERIFIED if round_ == 3 else SumCheck.VERIFIED for round_ in range(5)
    ]
    assert verdict.unverified == [3]
    assert all(all(receipt.signers.values()) for receipt in verdict.receipts)
    assert verdict.closers == {"party-1": True, "party-3": True}
    assert verdict.claims == [
        "rounds 0-3: committee of 3 (party-1, party-2, party-3): private unless 3 of them collude",
        "round 4: committee of 2 (party-1, party-3): private unless 2 of them collude",
    ]
    assert "keys" in verdict.not_signed


def test_an_auditors_copy_is_enough(auditors: RunFolder) -> None:
    verdict = verify(auditors.path)
    assert verdict.holds
    assert "copies" not in [check.name for check in verdict.checks]
    assert verdict.not_signed == ["run.json (but study and version)"]


def test_nothing_is_written(finished: RunFolder) -> None:
    def state() -> dict[Path, Any]:
        return {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in finished.path.rglob("*")}

    before = state()
    verify(finished.path)
    assert state() == before


def test_a_run_that_was_stopped_holds_so_far(stopped: RunFolder) -> None:
    verdict = verify(stopped.path)
    assert verdict.fault is None
    assert not verdict.closed
    assert not verdict.holds
    # The last round's check runs beside the next round: it is made when the run goes on.
    assert verdict.sentence == (
        "Everything holds so far: 3 outcomes, and the study is not closed; the hospitals did not check the sum of "
        "round 2, which is the committee's word alone."
    )
    model = next(check for check in verdict.checks if check.name == "model.safetensors")
    assert "after round 2" in model.says


def test_a_run_that_was_killed_between_two_files_holds_so_far(stopped: RunFolder) -> None:
    # The sum of a round is on disk before its receipt, the receipt before the line of the history, and the model is the
    # one of an earlier stop.
    shutil.copy(stopped.receipts / "sum-000002", stopped.receipts / "sum-000003")
    lines = stopped.history_file.read_bytes().split(b"\n")
    stopped.history_file.write_bytes(b"\n".join([*lines[:2], lines[2][:20]]))
    assert verify(stopped.path).fault is None
    shutil.copy(stopped.receipts / "sum-000002", stopped.receipts / "sum-000004")
    assert "receipts/sum-000004 belongs to no receipt" in failing(stopped.path)


def test_a_run_that_an_error_ended_holds_so_far(runs: Any, tmp_path: Path) -> None:
    source = runs.make("stopped", stop_after=2).parent / "source"
    with pytest.raises(EngineError, match="has 2 contributions and needs 3"):
        runs.play(source, tmp_path / "run", silent={2: {"b", "va"}})
    verdict = verify(tmp_path / "run")
    assert verdict.fault is None
    assert [receipt.round for receipt in verdict.receipts] == [0, 1]
    assert not verdict.closed


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.json"):
        verify(tmp_path)


# -- one byte, a cut, a missing file ----------------------------------------------------------------------------------

COVERED = [
    "study/study.toml",
    "consortium.toml",
    "model.safetensors",
    "receipts/closing",
    "receipts/receipt-000000",
    "receipts/receipt-000002",
    "receipts/receipt-000004",
    "receipts/sum-000000",
    "receipts/sum-000003",
    "receipts/verification-000002",
    "receipts/verification-000004",
    "homes/party-2/receipt-000002",
    "homes/party-3/receipt-000004",
]


@pytest.mark.parametrize("name", COVERED)
def test_one_changed_byte_fails_and_is_named(finished: RunFolder, name: str) -> None:
    path = finished.path / name
    content = path.read_bytes()

    @EACH
    @given(st.integers(0, len(content) - 1), st.integers(1, 255))
    def check(position: int, mask: int) -> None:
        other = bytearray(content)
        other[position] ^= mask
        with tampered(path, bytes(other)):
            assert names_it(failing(finished.path), finished, path)

    check()
    assert verify(finished.path).holds


def test_every_byte_of_the_closing_record_counts(auditors: RunFolder, tmp_path: Path) -> None:
    # The walk up to the closing record is the same each time: here only the record itself is read anew.
    receipts = Receipts(auditors.receipts)
    walk = ChainWalk(
        Founding.read(auditors, read_info(auditors), receipts), receipts, None, tmp_path / "workplace"
    )
    list(walk.check_rounds())
    assert [check.mark for check in walk.check_closing()] == ["holds"]
    path = auditors.receipts / CLOSING
    content = path.read_bytes()
    for position in range(len(content)):
        other = bytearray(content)
        other[position] ^= 1 << position % 8
        path.write_bytes(other)
        with pytest.raises(BrokenError, match="receipts/closing"):
            list(walk.check_closing())
    path.write_bytes(content)
    assert [check.mark for check in walk.check_closing()] == ["holds"]


@pytest.mark.parametrize("name", [*COVERED, "run.json", "summary.json", "history.jsonl"])
def test_a_cut_file_fails_and_is_named(finished: RunFolder, name: str) -> None:
    path = finished.path / name
    content = path.read_bytes()

    @settings(EACH, max_examples=5)
    @given(st.integers(0, len(content) - 1))
    def check(length: int) -> None:
        with tampered(path, content[:length]):
            assert names_it(failing(finished.path), finished, path)

    check()
    with tampered(path, content[:-1]):
        assert names_it(failing(finished.path), finished, path)


@pytest.mark.parametrize("name", [*(n for n in COVERED if not n.startswith("homes")), "run.json"])
def test_a_missing_file_fails_and_is_named(finished: RunFolder, name: str) -> None:
    path = finished.path / name
    path.unlink()
    line = failing(finished.path)
    number = re.search(r"-00000(\d)", name)
    # The last receipt cannot be missed itself: its sum, its check and the parties' copies are.
    assert names_it(line, finished, path) or (number and f"-00000{number[1]}" in line), line


@pytest.mark.parametrize("name", ["summary.json", "history.jsonl", "homes", "keys", "partition.json"])
def test_what_nobody_signed_may_be_missing(finished: RunFolder, name: str) -> None:
    path = finished.path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert verify(finished.path).holds


def test_a_missing_end_fails(auditors: RunFolder) -> None:
    for name in ("receipt-000004", "sum-000004", "verification-000004"):
        (auditors.receipts / name).unlink()
    assert "does not close these 4 outcomes" in failing(auditors.path)
    (auditors.receipts / CLOSING).unlink()
    assert "model.safetensors is of round 4, the chain ends with 3" in failing(auditors.path)
    auditors.model_file.unlink()
    # Nothing here tells any more that there was an end: such a run is open, and does not pass as a finished one.
    assert not verify(auditors.path).holds
    assert "not closed" in verify(auditors.path).sentence


def test_the_parties_copies_tell_of_a_missing_end(finished: RunFolder) -> None:
    for name in ("receipt-000004", "sum-000004", "verification-000004", "closing"):
        (finished.receipts / name).unlink()
    assert "homes/party-1/receipt-000004 is of no round" in failing(finished.path)
