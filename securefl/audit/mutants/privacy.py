"""Mutants of a patient's privacy: noise that is missing, a clip that rounding undoes, draws that can be guessed.

What ships plays whole private rounds, or trains as a hospital does; nothing of it is called by itself here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.bounded_rounding import squared_norm
from protocols.ring import from_bytes, signed
from securefl.audit.hostile import context
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM, Private
from securefl.roles.effects import AddShares, Job
from securefl.roles.messages import Announcement, KeyRequest, SignedContribution
from securefl.training.determinism import seed_for

SMALL = "switzerland"
"""A hospital with so few patients that its vector tells, to whoever knows all gradients, which of them are in it."""
RATE, ROUNDS = 0.25, 20

Integers = NDArray[np.int64]

# -- noise -----------------------------------------------------------------------------------------------------------


def _without_noise(job: Job) -> Job:
    return replace(job, noise_variance=0) if isinstance(job, AddShares) else job


def _patient_moves(noiseless: Sequence[str]) -> tuple[float, float]:
    """How far a patient can move an opened sum, in standard deviations of the noise in it; and how far at most.

    Args:
        noiseless: parties that add no noise: whoever works with them knows the rest of the sum without it.
    """
    with staged(private=Private()) as stage:
        for name in noiseless:
            stage.jobs[name].changed = _without_noise
        stage.play()
        settled, private = stage.done[-1].settled, stage.private
        of = settled.signed.outcome.context
        total = signed(from_bytes(settled.total, of.width, of.size))
        truth = np.sum([signed(stage.update(hospital)) for hospital in HOSPITALS], axis=0)
        spread = float(np.sqrt(np.mean((total - truth).astype(np.float64) ** 2)))
        return math.inf if spread == 0 else private.clip_units / spread, 1 / private.multiplier


def _noise_breaks() -> Finding:
    distance, _ = _patient_moves(PARTIES)
    said = "Without the honest parties' noise the sum tells for certain whether a patient took part."
    return Finding(math.isinf(distance), said, {"standard_deviations": str(distance)})


def _noise_caught() -> Finding:
    distance, most = _patient_moves(PARTIES[-1:])
    said = (
        f"With the honest parties' noise alone a patient moves the opened sum by {distance:.2f} standard deviations; "
        f"the study's multiplier stands for {most:.2f}."
    )
    # So many coordinates tell the spread to a fortieth; noise for three parties of which two add it gives 1.22.
    return Finding(0 < distance < 1.1 * most, said, {"standard_deviations": distance})


# -- the clip --------------------------------------------------------------------------------------------------------


class OnePatient:
    """Draws the patient that it is told to, and nobody else."""

    def __init__(self) -> None:
        self.patient = 0

    def __call__(self, _units: int, _rate: float) -> Integers:
        return np.array([self.patient])


def _trainer(stage: Stage, hospital: str, bits: int, **changes: Any) -> Any:
    from securefl.training.private import PrivateTrainer

    return PrivateTrainer(
        stage.study.settings, stage.study.folder, hospital, stage.data[hospital], bits, **changes
    )


def _largest(naive: bool) -> tuple[float, int]:
    """Squared norm of what one patient brings to a sum over that of the clip, at most; and of how many patients.

    The ring is so coarse that rounding counts.
    """
    from securefl.training.patient_gradients import PatientGradients

    with staged(private=Private()) as stage:
        draws, clip = OnePatient(), stage.private.settings.clip
        bits = 10
        trainer = _trainer(stage, SMALL, bits, _sampler=draws)
        model, bound, found = trainer.initial_model(), math.floor(clip * 2**bits), []
        gradients: PatientGradients = trainer._gradients
        for draws.patient in range(len(gradients)):
            if naive:
                trainer.layout.load(trainer._model, model)
                (gradient,) = gradients.of([draws.patient])
                clipped = gradient * min(1.0, bound / 2**bits / float(np.linalg.norm(gradient)))
                vector = np.rint(np.ldexp(clipped, bits))
            else:
                vector = np.ldexp(trainer.update(model, 1), bits)
            found.append(squared_norm(vector.astype(np.int64)) / bound**2)
        return max(found), len(found)


def _rounding_breaks() -> Finding:
    """Clip first, round to nearest afterwards."""
    excess, _ = _largest(naive=True)
    said = f"After rounding, a patient's clipped gradient has {excess:.3f} times the bound's squared norm."
    return Finding(excess > 1, said, {"squared_ratio": excess})


def _rounding_caught() -> Finding:
    ratio, patients = _largest(naive=False)
    said = (
        f"Of {patients} patients, each drawn alone, none brings to the hospital's vector more than {ratio:.3f} times "
        "the bound's squared norm."
    )
    return Finding(0 < ratio <= 1, said, {"squared_ratio": ratio})


# -- draws -----------------------------------------------------------------------------------------------------------


def _guessed(draws: list[set[int]], guesses: list[set[int]], patients: int) -> float:
    """Share of (patient, round) pairs that the guesses have right."""
    right = sum(patients - len(a ^ b) for a, b in zip(draws, guesses, strict=True))
    return right / (patients * len(draws))


def seeded(round_: int, patients: int) -> set[int]:
    """A draw from the study's seed, which every member knows."""
    random = np.random.default_rng(seed_for(1, "sampling", SMALL, round_))
    return set(np.flatnonzero(random.random(patients) < RATE).tolist())


class Seeded:
    """Draws each round's patients from the study's seed."""

    def __init__(self) -> None:
        self._rounds = count()

    def __call__(self, units: int, _rate: float) -> Integers:
        return np.array(sorted(seeded(next(self._rounds), units)), dtype=np.int64)


def _drawn(sampler: Seeded | None = None) -> tuple[list[set[int]], int]:
    """Who was drawn in each round, read from the hospital's own vectors by whoever has all gradients.

    Args:
        sampler: the naive hospital's; what ships draws by its own.
    """
    with staged(private=Private(RATE)) as stage:
        bits = stage.private.encoding.fraction_bits
        trainer = _trainer(stage, SMALL, bits, _sampler=sampler) if sampler else stage.trainers[SMALL]
        model, patients = trainer.initial_model(), OnePatient()
        alone = _trainer(stage, SMALL, bits, _sampler=patients)
        rows = []
        for patients.patient in range(len(stage.data[SMALL].train)):
            rows.append(alone.update(model, 1))
        gradients = np.stack(rows, axis=1)
        vectors = [trainer.update(model, round_) for round_ in range(ROUNDS)]
    found = np.linalg.lstsq(gradients, np.stack(vectors, axis=1))[0]
    if np.abs(found - np.rint(found)).max() > 0.01:
        return [], gradients.shape[1]
    return [set(np.flatnonzero(np.rint(column)).tolist()) for column in found.T], gradients.shape[1]


def _sampling_breaks() -> Finding:
    draws, patients = _drawn(Seeded())
    share = _guessed(draws, [seeded(round_, patients) for round_ in range(ROUNDS)], patients)
    said = f"Whoever knows the study's seed names who was drawn in {ROUNDS} rounds: {share:.0%} right."
    return Finding(share == 1, said, {"right": share})


def _sampling_caught() -> Finding:
    draws, patients = _drawn()
    if not draws:
        return Finding(False, f"The vectors of {SMALL} are no sums of its patients' gradients.")
    share = _guessed(draws, [seeded(round_, patients) for round_ in range(ROUNDS)], patients)
    chance = RATE**2 + (1 - RATE) ** 2
    # Five standard deviations of that many coins.
    room = 5 * math.sqrt(chance * (1 - chance) / (patients * ROUNDS))
    said = (
        f"The seed's draws agree with those in the hospital's vectors in {share:.1%} of the cases; chance is "
        f"{chance:.1%}."
    )
    return Finding(abs(share - chance) < room, said, {"right": share, "chance": chance})


# -- the budget ------------------------------------------------------------------------------------------------------

DELTA, COLLUDING, PAID = 1e-5, 1, 2
"""The budget pays for so many attempts of the stage's study."""


def _contributes(stage: Stage, attempt: int) -> bool:
    """Whether the hospital contributes to an attempt of round 1."""
    of, cohort = context(stage, attempt), list(HOSPITALS)
    keys: Any = stage.ask_all(dict.fromkeys(PARTIES, KeyRequest(context=of, cohort=cohort, session=attempt)))
    announcement = Announcement(context=of, cohort=cohort, keys=[keys[party] for party in PARTIES])
    return isinstance(stage.ask(VICTIM, announcement), SignedContribution)


def _spend(one_ledger: bool) -> tuple[int, float]:
    """Two studies ask for attempts; to how many the hospital contributes, and what all cost, in budgets."""
    from securefl.privacy import Budget, spent

    with staged(private=Private()) as stage:
        mechanism = stage.private.mechanism(stage.replica.state.model.size)
        budget = Budget(
            epsilon=1.05 * spent(mechanism, PAID, DELTA, COLLUDING).pld, delta=DELTA, unit="patient"
        )
        first = stage.sister("A study", private=Private(budget=budget))
        second = first.sister(
            "Another", private=Private(budget=budget), ledgers=first.folder if one_ledger else None
        )
        allowed = 0
        for study, attempts in ((first, 1), (second, PAID)):
            study.play_to_round_1()
            allowed += sum(_contributes(study, attempt) for attempt in range(1, attempts + 1))
        return allowed, spent(mechanism, allowed, DELTA, COLLUDING).pld / budget.epsilon


def _budget_breaks() -> Finding:
    allowed, share = _spend(one_ledger=False)
    said = (
        f"With a ledger for each study, {allowed} attempts of two studies spend {share:.2f} times the budget."
    )
    return Finding(share > 1, said, {"attempts": allowed, "budgets_spent": share})


def _budget_caught() -> Finding:
    allowed, share = _spend(one_ledger=True)
    said = (
        f"With one ledger the hospital contributes to {allowed} of {PAID + 1} attempts of two studies, and spends "
        f"{share:.2f} of its budget."
    )
    return Finding(allowed == PAID and share <= 1, said, {"attempts": allowed, "budgets_spent": share})


MUTANTS = (
    Mutant(
        "noise-forgotten",
        "noise-in-every-sum",
        "The honest parties forget their noise, and the colluding one subtracts its own.",
        _noise_breaks,
        _noise_caught,
    ),
    Mutant(
        "clip-then-round",
        "one-patient-is-bounded",
        "A gradient is clipped as a real vector and rounded to nearest afterwards.",
        _rounding_breaks,
        _rounding_caught,
    ),
    Mutant(
        "draws-from-the-seed",
        "draws-are-secret",
        "Patients are drawn with a generator seeded from the study.",
        _sampling_breaks,
        _sampling_caught,
    ),
    Mutant(
        "ledger-of-a-run",
        "budget-over-all-studies",
        "What was spent is kept with each run and not with the hospital.",
        _budget_breaks,
        _budget_caught,
    ),
)
