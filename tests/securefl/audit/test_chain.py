"""What signatures alone do not show: mixed chains, broken rules, other models, and parties that lie together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from securefl.audit import SumCheck, verify
from securefl.errors import EngineError
from securefl.roles.records import CLOSING
from securefl.run_folder import RunFolder

Forge = Callable[[RunFolder], Any]


def failing(folder: Path) -> str:
    """The check that fails, as one line."""
    verdict = verify(folder)
    assert verdict.fault is not None, verdict.sentence
    assert not verdict.holds
    return f"{verdict.fault.name}: {verdict.fault.says}"


def other_sum(total: bytes) -> bytes:
    """The sum of 32-bit coordinates with one of them one larger."""
    values = np.frombuffer(total, dtype="<u4").copy()
    values[3] += 1
    return values.tobytes()


def copied(run: Path, to: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(run, to)))


# -- receipts out of place --------------------------------------------------------------------------------------------


def test_swapped_rounds_fail(auditors: RunFolder) -> None:
    store = auditors.store()
    for kind in ("receipt", "sum", "verification"):
        one, two = f"{kind}-000001", f"{kind}-000002"
        first, second = store[one], store[two]
        store.put(one, second)
        store.put(two, first)
    assert failing(auditors.path).startswith(
        "round 1: receipts/receipt-000001: The outcome of round 2 stands where"
    )


def test_a_receipt_of_another_run_fails(auditors: RunFolder, stopped: RunFolder) -> None:
    shutil.copy(stopped.receipts / "receipt-000002", auditors.receipts / "receipt-000002")
    assert "round 2: receipts/receipt-000002: The outcome of round 2 belongs to another study" in failing(
        auditors.path
    )


@pytest.mark.parametrize("name", ["receipt-000005", "receipt-000009"])
def test_a_receipt_after_the_closing_fails(auditors: RunFolder, name: str) -> None:
    shutil.copy(auditors.receipts / "receipt-000004", auditors.receipts / name)
    assert failing(auditors.path).startswith("round 5: receipts/receipt-000005")


@pytest.mark.parametrize("name", ["sum-000005", "verification-000005", "receipt-5", "closing-2", "note"])
def test_a_file_that_belongs_to_no_round_fails(auditors: RunFolder, name: str) -> None:
    (auditors.receipts / name).write_bytes(b"x")
    assert failing(auditors.path) == f"receipts: receipts/{name} belongs to no receipt of this chain."


def test_a_signature_that_is_not_the_partys_is_named(
    auditors: RunFolder, forge: Forge, finished: RunFolder
) -> None:
    signed = auditors.outcomes()[2]
    first, _, third = signed.signatures
    forged = signed.model_copy(update={"signatures": [first, first, third]})
    auditors.store().put("receipt-000002", forged.to_bytes())
    assert failing(auditors.path).endswith(
        "The outcome of round 2 is not signed by every party. Not by party-2."
    )
    assert verify(auditors.path).receipts[-1].signers == {"party-1": True, "party-2": False, "party-3": True}


# -- all parties sign what the study does not allow -------------------------------------------------------------------


def test_an_outcome_that_is_signed_again_unchanged_holds(finished: RunFolder, forge: Forge) -> None:
    forger = forge(finished)
    forger.outcome(4)
    forger.close()
    assert verify(finished.path).holds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frozen": {"cohort": ["b", "va"]}}, "does not account for every hospital asked"),
        (
            {"excluded": {"b": "norm-too-large"}},
            "b was excluded for norm-too-large, which this study has no rule for",
        ),
        ({"excluded": {"b": "x", "va": "x"}}, "A sum over 2 hospitals is too small: 3 are needed."),
        ({"excluded": {"nobody": "x"}}, "contradicts itself"),
        ({"context": {"parties": ["party-1"]}}, "A committee of 1 is too small"),
        ({"context": {"parties": ["party-3", "party-1"]}}, "not in the order of the ranks"),
        ({"context": {"purpose": "statistics"}}, "The study has no round 4 for statistics."),
        ({"context": {"purpose": "insecure-unchecked-update"}}, "The study has no round 4"),
        ({"context": {"width": 64}}, "width or size is not the study's"),
        ({"context": {"size": 7}}, "The sum is not of the model's size"),
        ({"context": {"model": bytes(32)}}, "is of another model than the outcomes before it give"),
        ({"context": {"previous": bytes(32)}}, "does not follow the one before it"),
        ({"context": {"attempt": 0}}, "The study has no round 4"),
    ],
    ids=str,
)
def test_a_rule_that_all_parties_break_fails(
    finished: RunFolder, forge: Forge, changes: dict[str, Any], words: str
) -> None:
    forge(finished).outcome(4, **changes)
    line = failing(finished.path)
    assert line.startswith("round 4: ")
    assert words in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": bytes(32)}, "names another model than the outcomes give"),
        ({"unverified": []}, "verification-000003 is missing, and receipts/closing says otherwise"),
        ({"unverified": [2, 3]}, "verification-000002 is there, and receipts/closing says otherwise"),
        ({"unverified": [3, 3]}, "other checks of the sums"),
        ({"verifications": bytes(32)}, "other checks of the sums"),
        ({"rounds": 4}, "does not close these 5 outcomes"),
        ({"last": bytes(32)}, "does not close these 5 outcomes"),
        ({"study": bytes(32)}, "does not close these 5 outcomes"),
        ({"parties": ["party-2"]}, "not signed by every party"),
    ],
    ids=str,
)
def test_a_closing_record_that_says_something_else_fails(
    finished: RunFolder, forge: Forge, changes: dict[str, Any], words: str
) -> None:
    forge(finished).close(**changes)
    line = failing(finished.path)
    assert line.startswith("closing: receipts/")
    assert words in line


def test_parties_that_close_too_early_fail(stopped: RunFolder, forge: Forge) -> None:
    forge(stopped).close()
    assert failing(stopped.path) == "closing: receipts/closing ends the study after 2 of 4 rounds."


# -- all parties lie about a sum --------------------------------------------------------------------------------------


def test_a_sum_that_all_parties_changed_later_is_not_the_one_that_was_checked(
    finished: RunFolder, forge: Forge
) -> None:
    forger = forge(finished)
    forger.outcome(4, total=other_sum(finished.settled(4).total))
    forger.close()
    assert failing(finished.path).startswith(
        "round 4: receipts/verification-000004 is not a whole check of this sum."
    )
    # Without the check, the parties' word stands alone: it holds, and says so.
    forger.drop_check(4)
    forger.close()
    verdict = verify(finished.path)
    assert verdict.holds
    assert verdict.unverified == [3, 4]


@pytest.mark.parametrize("round_", [0, 2, 4])
def test_a_sum_that_all_parties_lied_about_is_wrong(runs: Any, tmp_path: Path, round_: int) -> None:
    def lie(total: np.ndarray) -> np.ndarray:
        changed = total.copy()
        changed[0] += 2**20
        return changed

    out = tmp_path / "lied"
    with pytest.raises(EngineError, match="find out who lied"):
        runs.play(runs.make("finished").parent / "source", out, lies={round_: lie})
    assert failing(out).startswith(f"round {round_}: WRONG SUM, by receipts/verification-00000{round_}.")
    assert verify(out).receipts[-1].sum_check == SumCheck.WRONG


def test_a_coordinator_that_closes_over_a_wrong_sum_is_found_out(runs: Any, tmp_path: Path) -> None:
    out = tmp_path / "lied"
    source = runs.make("finished").parent / "source"
    runs.play(source, out, lies={4: lambda total: total + 1}, stubborn=True)
    assert (out / "receipts" / CLOSING).exists()
    assert failing(out).startswith("round 4: WRONG SUM")
    honest = runs.make("honest")
    assert verify(honest).holds
    assert verify(honest).unverified == []


# -- other studies ----------------------------------------------------------------------------------------------------


def test_who_was_excluded_by_the_norm_check_is_named(runs: Any) -> None:
    smaller = ("collusion_bound = 1\nminimum_parties = 2", "")
    bound = ("[server]", "[aggregation]\nnorm_bound = 1.0\n[server]")
    run = runs.make("norms", smaller, bound, long={2: {"st-anna"}})
    verdict = verify(run)
    assert verdict.holds
    assert verdict.receipts[2].absent == {"st-anna": "norm-too-large"}
    assert list(verdict.receipts[2].excluded) == ["st-anna"]
    assert [len(receipt.included) for receipt in verdict.receipts] == [4, 4, 3, 4, 4]
    assert verdict.claims[-1] == (
        "norm checks: private unless the dealer colludes with a party; together they read an update"
    )


def test_an_insecure_run_says_so(runs: Any, tmp_path: Path) -> None:
    run = copied(runs.make("insecure", insecure=True), tmp_path / "run")
    verdict = verify(run.path)
    assert verdict.holds
    assert verdict.insecure
    assert verdict.unverified == [0, 1, 2, 3, 4]
    assert "INSECURE" in verdict.claims[-1]
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(
        text.replace('"insecure_unchecked": true', '"insecure_unchecked": false')
    )
    assert failing(run.path).startswith("run.json: ")
