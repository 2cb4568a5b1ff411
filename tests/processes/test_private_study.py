"""A private study in real processes, one of which is killed: nothing that left a hospital is without its charge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securefl.audit.verify import verify
from securefl.privacy import PrivacyLedger, spent
from securefl.roles.host import Store
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSPITALS = ["cleveland", "hungary", "switzerland", "va"]
ROUNDS = 14
DELTA = 1e-5
PRIVATE = f"""
name = "Private, in real processes"
seed = 7
[simulation]
[consortium]
hospitals = {HOSPITALS}
parties = 3
[data]
source = "fed-heart"
standardise = "public"
public_mean = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
public_std = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]
[model]
kind = "logistic"
[training]
rounds = {ROUNDS}
learning_rate = 0.3
[privacy]
unit = "patient"
noise_multiplier = 2.0
delta = {DELTA}
clip = 0.5
sampling_rate = 0.25
patients = 490
largest_hospital = 250
"""


def _ledger(run: RunFolder, hospital: str) -> PrivacyLedger:
    return PrivacyLedger("fed-heart", Store(run.privacy / hospital / "ledger"))


def _attempts(run: RunFolder) -> list[tuple[int, int]]:
    """Round and attempt of each opened sum, the roll call left out."""
    return [(s.outcome.round, s.outcome.context.attempt) for s in run.outcomes()[1:]]


def test_killed_processes_forget_no_charge_and_no_noise_repeats(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    running = start(tmp_path / "run", text=PRIVATE)
    running.wait_for_rounds(4)
    running.kill("hospitals-1")
    running.wait_for_rounds(8)
    running.kill("party-2")
    errors = running.finish()
    assert running.process.returncode == 0, errors

    run = RunFolder(tmp_path / "run")
    verdict = verify(run.path)
    assert verdict.fault is None
    assert verdict.closed
    opened = _attempts(run)
    assert [round_ for round_, _ in opened] == list(range(1, ROUNDS + 1))
    # A round that was attempted anew was paid for twice: more may be charged than was opened, nothing less.
    for hospital in HOSPITALS:
        charged = [(c.round, c.attempt) for c in _ledger(run, hospital).charges()]
        included = [
            place
            for place, s in zip(opened, run.outcomes()[1:], strict=True)
            if hospital in s.outcome.included
        ]
        assert set(included) <= set(charged)
        assert len(charged) == len(set(charged))

    summary = json.loads(run.summary_file.read_text())["privacy"]
    study = Study.load(run.path / "study")
    private = Terms.of(study, run.consortium(study)).private
    assert private is not None
    mechanism = private.mechanism(run.outcomes()[1].outcome.context.size)
    for colluders in range(3):
        claimed = summary["epsilon"][str(colluders)]["pld"]
        assert claimed >= spent(mechanism, ROUNDS, DELTA, colluders).pld - 1e-9
        assert claimed >= spent(mechanism, summary["attempts"], DELTA, colluders).pld - 1e-9


def test_the_same_study_gives_another_model(start: Callable[..., Any], tmp_path: Path) -> None:
    # Where there is no noise it gives the same bytes: test_local_engine.
    models = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        running = start(tmp_path / name / "run", text=PRIVATE)
        errors = running.finish()
        assert running.process.returncode == 0, errors
        models.append((tmp_path / name / "run" / "model.safetensors").read_bytes())
    assert models[0] != models[1]
