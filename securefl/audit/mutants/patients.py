"""Mutants of what one patient does beyond its own gradient: to who else is trained on, and to what is asked next.

What ships loads a hospital's records from a file, and asks a hospital's ledger, as a hospital's process does.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage_cast import HOSPITALS, VICTIM

Reals = NDArray[np.float64]

# -- who else is trained on --------------------------------------------------------------------------------------------

PATIENTS, GONE = 60, 12
"""Patients of the file, of whom so many go, one at a time."""


def _study(held_out: str | None) -> dict[str, object]:
    data = {"source": "npz", "root": "{hospital}.npz"}
    return {
        "name": "Own files",
        "seed": 1,
        "consortium": {"hospitals": list(HOSPITALS)},
        "data": data if held_out is None else {**data, "held_out": held_out},
        "model": {"kind": "logistic"},
        "training": {"rounds": 1, "learning_rate": 0.1},
        "simulation": {},
    }


def _others_moved(naive: bool) -> int:
    """The most other patients that come into the training, or go out of it, when one patient's records go."""
    from securefl.data import load_hospital
    from securefl.study.schema import StudySettings

    privacy = {"epsilon": 1.0, "delta": 1e-5, "clip": 1.0, "patients": PATIENTS}
    settings = StudySettings.model_validate(
        _study("by-class") if naive else {**_study(None), "privacy": privacy}
    )
    names = np.arange(PATIENTS) * 5 + 2

    def trained_on(folder: Path, there: NDArray[np.int64]) -> set[int]:
        features = np.outer(there, np.ones(3)) / PATIENTS
        np.savez(folder / f"{VICTIM}.npz", x=features, y=there % 2, patients=there, classes=2)
        data = load_hospital(settings.data, folder, VICTIM, HOSPITALS, settings.seed)
        return set() if data.train.patients is None else set(data.train.patients.tolist())

    with tempfile.TemporaryDirectory(prefix="securefl-") as name:
        whole = trained_on(Path(name), names)
        moved = [
            len((whole ^ trained_on(Path(name), names[names != gone])) - {int(gone)}) for gone in names[:GONE]
        ]
    return max(moved)


def _split_breaks() -> Finding:
    moved = _others_moved(naive=True)
    said = f"One patient's going moved up to {moved} others into the training or out of it."
    return Finding(moved > 0, said, {"others": moved})


def _split_caught() -> Finding:
    moved = _others_moved(naive=False)
    said = f"One of {PATIENTS} patients went, {GONE} times another one; of the others {moved} moved."
    return Finding(moved == 0, said, {"others": moved})


# -- what is asked next ------------------------------------------------------------------------------------------------

EPSILON, DELTA = 3.0, 1e-5
FIRST = 1.6
"""Noise multiplier of the first study; nobody is drawn."""
CHOICES = ((1.0, 2.813), (0.1, 0.912), (0.01, 0.536), (1e-3, 0.366))
"""Sampling rates and multipliers of second studies, each of which composes with the first to just below the budget."""


def chosen_delta(first: float, choices: Sequence[tuple[float, float]], epsilon: float) -> float:
    """delta at epsilon of a Gaussian mechanism, after whose outcome that choice is made that loses most, or none.

    An integral over the outcome, without the accountant; continuous noise stands for the discrete.
    """
    x = np.linspace(-14 * first, 14 * first + 1, 20_001)
    loss = (2 * x - 1) / (2 * first**2)  # of "the patient is there" against "is not"
    worst = np.maximum(0.0, -np.expm1(epsilon - loss))
    for rate, multiplier in choices:
        worst = np.maximum(worst, _sampled_delta(rate, multiplier, epsilon - loss))
    there = np.exp(-((x - 1) ** 2) / (2 * first**2)) / (first * math.sqrt(2 * math.pi))
    return float(np.trapezoid(there * worst, x))


def _sampled_delta(rate: float, multiplier: float, epsilon: Reals) -> Reals:
    """delta, at each epsilon, of (1 - q) N(0, z^2) + q N(1, z^2) against N(0, z^2)."""
    from scipy.stats import norm

    ratio = np.exp(np.clip(epsilon, -700, 700))
    gain = (ratio - (1 - rate)) / rate
    edge = np.where(gain > 0, multiplier**2 * np.log(np.maximum(gain, 1e-300)) + 0.5, -np.inf)
    without, there = norm.sf(edge / multiplier), norm.sf((edge - 1) / multiplier)
    return np.asarray((1 - rate) * without + rate * there - ratio * without)


def _admitted(lets: Callable[[tuple[float, float]], bool]) -> tuple[int, float]:
    """How many of the choices a hospital lets follow the first study, and the delta that a chooser makes of them."""
    choices = [choice for choice in CHOICES if lets(choice)]
    return len(choices), chosen_delta(FIRST, choices, EPSILON) / DELTA


def _fixed(choice: tuple[float, float]) -> bool:
    """By the composition of two studies that were there from the beginning."""
    from securefl.privacy.accounting import Step, pld_epsilon

    rate, multiplier = choice
    steps = ((Step(1.0, FIRST, FIRST), 1), (Step(rate, multiplier, multiplier), 1))
    return pld_epsilon(steps, DELTA) <= EPSILON


def _by_the_ledger(choice: tuple[float, float]) -> bool:
    from protocols.noise import party_variance
    from securefl.errors import RefusedError
    from securefl.privacy import Budget, Mechanism, Occasion, PrivacyLedger

    entries: dict[str, bytes] = {}
    ledger = PrivacyLedger("records", entries, Budget(epsilon=EPSILON, delta=DELTA))
    for study, (rate, multiplier) in enumerate(((1.0, FIRST), choice)):
        units = 2**16
        mechanism = Mechanism("patient", rate, units, party_variance(units, multiplier, 3, 1), 3, 1, 100)
        occasion = Occasion(bytes([study]) * 32, 1, 1, bytes(32))
        try:
            ledger.check(mechanism, occasion)
        except RefusedError:
            return False
        entries.update([ledger.enter(mechanism, occasion)])
    return True


def _choice_breaks() -> Finding:
    count, times = _admitted(_fixed)
    said = f"Any of {count} studies may follow the first; chosen by what it gave, they make {times:.2f} times delta."
    return Finding(times > 2, said, {"studies": count, "deltas": times})


def _choice_caught() -> Finding:
    count, times = _admitted(_by_the_ledger)
    said = (
        f"The ledger lets {count} of {len(CHOICES)} studies follow; chosen by what the first gave, they make "
        f"{times:.2f} times delta."
    )
    return Finding(times <= 1, said, {"studies": count, "deltas": times})


MUTANTS = (
    Mutant(
        "split-by-class",
        "one-patient-is-bounded",
        "Held-out records are a rounded share of each class, so that one patient decides about others.",
        _split_breaks,
        _split_caught,
    ),
    Mutant(
        "budget-of-fixed-studies",
        "budget-over-all-studies",
        "A budget adds studies up as if none had been chosen by what the others gave.",
        _choice_breaks,
        _choice_caught,
    ),
)
