"""Faults of real processes: what is missing costs no more than it must, and nothing is opened twice.

The exhaustive tables are on the machines (``tests/securefl/roles/test_crashes.py``); here are the faults that only real
processes have: signals, sockets, children that do not come back.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securefl.run_folder import RunFolder

pytestmark = pytest.mark.timeout(600)

StartStudy = Callable[..., Any]


def model(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def summary(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return read


def finished(run: Any) -> Path:
    errors = run.finish()
    assert run.process.returncode == 0, errors
    return Path(run.out)


def committees(out: Path) -> list[list[str]]:
    return [signed.outcome.context.parties for signed in RunFolder(out).outcomes()]


def check_opened_once(out: Path) -> None:
    """What every party wrote down before it opened: one cohort for each model and purpose."""
    ledgers = sorted((out / "homes").glob("party-*.ledger"))
    assert len(ledgers) == 3
    for ledger in ledgers:
        names = [path.name for path in ledger.iterdir()]
        assert len(names) == len(set(names)) <= len(RunFolder(out).outcomes())


@pytest.mark.slow
def test_a_stopped_party_is_waited_for(undisturbed: Path, start: StartStudy, tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.wait_for_rounds(3)
    party = run.child("party-2")
    os.kill(party, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(party, signal.SIGCONT)
    out = finished(run)
    assert model(out) == model(undisturbed)
    check_opened_once(out)


@pytest.mark.slow
def test_a_stopped_hospital_process_is_waited_for(
    undisturbed: Path, start: StartStudy, tmp_path: Path
) -> None:
    run = start(tmp_path / "run")
    run.wait_for_rounds(3)
    worker = run.child("hospitals-1")
    os.kill(worker, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(worker, signal.SIGCONT)
    out = finished(run)
    assert model(out) == model(undisturbed)
    assert all(line["absent"] == {} for line in RunFolder(out).history())


@pytest.mark.slow
def test_a_party_that_does_not_come_back_ends_the_run_and_a_mended_one_finishes_it(
    undisturbed: Path, start: StartStudy, tmp_path: Path
) -> None:
    run = start(tmp_path / "run")
    run.wait_for_rounds(3)
    key = run.out / "keys" / "party-3" / "signing.key"
    key.rename(key.with_name("away"))
    run.kill("party-3")
    errors = run.finish()
    assert run.process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert "signing.key is missing" in last
    assert "mend party-3" in last
    key.with_name("away").rename(key)
    out = finished(start(run.out, "--resume"))
    assert model(out) == model(undisturbed)
    assert set(map(tuple, committees(out))) == {("party-1", "party-2", "party-3")}
    check_opened_once(out)


@pytest.mark.slow
def test_a_smaller_committee_goes_on_where_the_study_allows_it(
    undisturbed: Path, start: StartStudy, tmp_path: Path
) -> None:
    allowed = "[committee]\ncollusion_bound = 1\nminimum_parties = 2\n"
    run = start(tmp_path / "run", extra=allowed)
    run.wait_for_rounds(3)
    key = run.out / "keys" / "party-3" / "signing.key"
    key.rename(key.with_name("away"))
    run.kill("party-3")
    out = finished(run)
    seen = committees(out)
    assert seen[0] == ["party-1", "party-2", "party-3"]
    assert seen[-1] == ["party-1", "party-2"]
    # Its members' keys are new ones, and so is its digest; training and sums are those of the undisturbed study.
    assert model(out) == model(undisturbed)
    assert summary(out)["plaintext_identical"] is True
    check_opened_once(out)


@pytest.mark.slow
def test_norms_are_checked_and_a_killed_dealer_comes_back(
    undisturbed: Path, start: StartStudy, tmp_path: Path
) -> None:
    # A bound that no update of this study reaches: the same integers are encoded as without one.
    run = start(tmp_path / "run", extra="[aggregation]\nnorm_bound = 0.5\n")
    run.wait_for_rounds(3)
    run.kill("dealer")
    run.wait_for_rounds(6)
    os.kill(run.child("dealer"), signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(run.child("dealer"), signal.SIGCONT)
    out = finished(run)
    assert summary(out)["plaintext_identical"] is True
    assert all(line["absent"] == {} for line in RunFolder(out).history())
    assert len(RunFolder(out).outcomes()) == 15
    closing = RunFolder(out).closing()
    assert closing is not None
    assert closing.closing.unverified == []
    check_opened_once(out)
