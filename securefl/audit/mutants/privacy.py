"""Mutants of a patient's privacy: noise that is missing, a clip that rounding undoes, draws that can be guessed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.bounded_rounding import bounded_rounding, squared_norm
from protocols.noise import noisy, party_variance
from protocols.ring import from_signed, signed
from securefl.audit.registry import Finding, Mutant
from securefl.errors import RefusedError
from securefl.privacy import Budget, Mechanism, Occasion, PrivacyLedger, spent
from securefl.training.determinism import seed_for
from securefl.training.sampling import poisson_sample

SIZE, UNITS, BITS, WIDTH, PARTIES, COLLUDING = 400, 1 << 16, 16, 32, 3, 1
MULTIPLIER = 2.0
PATIENTS, RATE, ROUNDS = 60, 0.25, 20
DELTA = 1e-5

Integers = NDArray[np.int64]


def _patient() -> Integers:
    """One patient's clipped gradient."""
    vector = np.zeros(SIZE)
    vector[::2] = np.linspace(0.5, 1.0, SIZE // 2)
    return bounded_rounding(vector, UNITS, BITS)


def _colluder_reads(honest_noise: bool) -> float:
    """How surely the colluding party tells whether the patient took part: a distance in standard deviations.

    It knows everything but the patient and the honest parties' noise, and projects what is left on the patient.
    """
    target, variance = _patient(), party_variance(UNITS, MULTIPLIER, PARTIES, COLLUDING)
    left = from_signed(target, WIDTH)
    for _ in range(PARTIES - COLLUDING if honest_noise else 0):
        left = noisy(left, variance)
    found = signed(left).astype(np.float64) - target
    spread = float(np.std(found)) * math.sqrt(squared_norm(target))
    return math.inf if spread == 0 else squared_norm(target) / spread


def _noise_breaks() -> Finding:
    distance = _colluder_reads(honest_noise=False)
    said = "Without the honest parties' noise the sum tells for certain whether the patient took part."
    return Finding(math.isinf(distance), said, {"standard_deviations": str(distance)})


def _noise_caught() -> Finding:
    distance = _colluder_reads(honest_noise=True)
    wanted = 1 / MULTIPLIER
    said = f"With the honest parties' noise the patient moves the sum by {distance:.2f} standard deviations."
    return Finding(abs(distance - wanted) < 0.2 * wanted, said, {"standard_deviations": distance})


def _long() -> NDArray[np.float64]:
    """A gradient whose coordinates all lie just above a half, so that rounding to nearest makes each longer."""
    return np.full(SIZE, 10.6 / 2**BITS)


def _rounding_breaks() -> Finding:
    """Clip first, round to nearest afterwards."""
    clip = math.floor(10.6 * math.sqrt(SIZE))
    scaled = _long() * min(1.0, clip / 2**BITS / float(np.linalg.norm(_long())))
    excess = squared_norm(np.rint(scaled * 2**BITS).astype(np.int64)) / clip**2
    said = f"After rounding, the clipped vector's squared norm is {excess:.3f} times the bound's."
    return Finding(excess > 1, said, {"squared_ratio": excess})


def _rounding_caught() -> Finding:
    clip = math.floor(10.6 * math.sqrt(SIZE))
    vectors = [_long() * factor for factor in (1, 2, 1e6)] + [np.full(SIZE, 1e300)]
    ratio = max(squared_norm(bounded_rounding(v, clip, BITS)) / clip**2 for v in vectors)
    said = f"The largest squared norm of {len(vectors)} such vectors is {ratio:.3f} times the bound's."
    return Finding(0 < ratio <= 1, said, {"squared_ratio": ratio})


def _guessed(draws: list[set[int]], guesses: list[set[int]]) -> float:
    """Share of (patient, round) pairs that the guesses have right."""
    right = sum(PATIENTS - len(a ^ b) for a, b in zip(draws, guesses, strict=True))
    return right / (PATIENTS * len(draws))


def _seeded(round_: int) -> set[int]:
    """A draw from the study's seed, which every member knows."""
    random = np.random.default_rng(seed_for(7, "sampling", "hospital", round_))
    return set(np.flatnonzero(random.random(PATIENTS) < RATE).tolist())


def _sampling_breaks() -> Finding:
    share = _guessed([_seeded(r) for r in range(ROUNDS)], [_seeded(r) for r in range(ROUNDS)])
    said = f"Whoever knows the study's seed names who was drawn in {ROUNDS} rounds: {share:.0%} right."
    return Finding(share == 1, said, {"right": share})


def _sampling_caught() -> Finding:
    draws = [set(poisson_sample(PATIENTS, RATE).tolist()) for _ in range(ROUNDS)]
    share = _guessed(draws, [_seeded(r) for r in range(ROUNDS)])
    chance = RATE**2 + (1 - RATE) ** 2
    # Five standard deviations of that many coins.
    room = 5 * math.sqrt(chance * (1 - chance) / (PATIENTS * ROUNDS))
    said = f"The seed's draws agree with the real ones in {share:.1%} of the cases; chance is {chance:.1%}."
    return Finding(abs(share - chance) < room, said, {"right": share, "chance": chance})


def _spend(ledgers: list[dict[str, bytes]]) -> tuple[int, float]:
    """Ask for a round in one study after another, each with its ledger; rounds that were allowed, and all they cost."""
    variance = party_variance(UNITS, MULTIPLIER, PARTIES, COLLUDING)
    mechanism = Mechanism("patient", RATE, UNITS, variance, PARTIES, COLLUDING, SIZE)
    budget = Budget(epsilon=1.05 * spent(mechanism, 2, DELTA, COLLUDING).pld, delta=DELTA, unit="patient")
    allowed = 0
    for study, entries in enumerate(ledgers):
        ledger = PrivacyLedger("records", entries, budget)
        occasion = Occasion(bytes([study]) * 32, 1, 1, bytes([study]) * 32)
        try:
            ledger.check(mechanism, occasion)
        except RefusedError:
            continue
        name, data = ledger.enter(mechanism, occasion)
        entries[name] = data
        allowed += 1
    return allowed, spent(mechanism, allowed, DELTA, COLLUDING).pld / budget.epsilon


def _budget_breaks() -> Finding:
    allowed, share = _spend([{} for _ in range(6)])
    said = f"With a ledger for each study, {allowed} studies spend {share:.2f} times the hospital's budget."
    return Finding(share > 1, said, {"studies": allowed, "budgets_spent": share})


def _budget_caught() -> Finding:
    one: dict[str, bytes] = {}
    allowed, share = _spend([one] * 6)
    said = f"With one ledger, {allowed} of 6 studies are let in and spend {share:.2f} of the budget."
    return Finding(allowed == 2 and share <= 1, said, {"studies": allowed, "budgets_spent": share})


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
