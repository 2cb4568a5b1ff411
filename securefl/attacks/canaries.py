"""A lower bound on epsilon that is measured, in one training run, with canaries.

Adversary: knows the mechanism, the model of every round, all records but whether each canary took part, and each opened
    noisy sum. It does not see who was drawn, nor any noise.
Promise: if the mechanism is (epsilon, delta)-DP for adding or removing a patient, the bound exceeds epsilon with a
    probability of at most 1 - confidence, whatever the canaries and the scores. A bound below the claim proves nothing;
    one above it refutes the claim.
Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run": algorithm 1 (the audit), theorem
    5.2 (the p-value), section 6 (gradient canaries, "Dirac", in the white-box setting).

Each of m canaries takes part if a coin of the operating system says so. A canary's gradient is one coordinate of its
own, longer than the clip, so that a clip that is forgotten shows. Its score is the sum, over the rounds, of that
coordinate of the opened sum, less what the other patients are expected to add. The k canaries of the highest scores are
guessed in, the k of the lowest out; nothing is said of the others.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from securefl.attacks.central import Patients, Pieces, Plan, honest, releases
from securefl.attacks.released import plan_of, rebuilt
from securefl.data import Records
from securefl.data.records import Indices
from securefl.errors import DataError, RunError
from securefl.models import Layout
from securefl.training.server import Vector

CONFIDENCE = 0.95
OVER_CLIP = 50.0
"""A canary's gradient over the clip."""
_BACKGROUND = 256
"""Patients from whom the expected sum of the others is estimated, at most."""
_REFRESHES = 10
"""How often in a training, at most: the models of neighbouring rounds hardly differ."""
KnownDraws = Callable[[int], Indices]
"""What an attacker who can predict the sampling knows: a round to the positions that are drawn in it."""
CANARIES = 300
"""Made-up patients of an audit, where the model has so many parameters."""


def p_value(m: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Largest probability of so many correct guesses against an (epsilon, delta)-DP mechanism. Theorem 5.2.

    m: canaries; guesses: r of them; correct: v of these. With B ~ Binomial(r, e^eps / (1 + e^eps)):
    P[B >= v] + 2 m delta max over i = 1..v of P[v > B >= v - i] / i.

    Raises:
        DataError: not 0 <= correct <= guesses <= m, a negative epsilon, or a delta outside 0..1.
    """
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= m or not epsilon >= 0 or not 0 <= delta <= 1:
        raise DataError("An audit needs 0 <= correct <= guesses <= m, epsilon >= 0 and delta from 0 to 1.")
    probability = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, probability))
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, probability))
    slope = float((below / np.arange(1, correct + 1)).max(initial=0.0))
    return min(1.0, tail + 2 * m * delta * slope)


def epsilon_lower_bound(
    m: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest epsilon below which every mechanism is refuted by so many correct guesses; 0 if none is.

    Args:
        m: canaries, each included by a fair coin.
        guesses: how many were guessed, a number fixed before scores are seen.
        correct: how many of them rightly.
        delta: of the claim, 0 to 1.
        confidence: 0 to 1.

    Raises:
        DataError: as ``p_value``, or the confidence is not between 0 and 1.
    """
    from scipy.stats import beta

    if not 0 < confidence < 1:
        raise DataError("The confidence of a bound lies between 0 and 1.")
    level = 1 - confidence
    if correct == 0 or p_value(m, guesses, correct, 0.0, delta) >= level:
        return 0.0
    # The answer for delta = 0 is Clopper and Pearson's bound on the share of correct guesses; delta only lowers it.
    share = float(beta.ppf(level, correct, guesses - correct + 1))
    low, high = 0.0, max(0.0, math.log(share / (1 - share)))
    if delta == 0:
        return high
    # Up to there P[B >= v] is at most the level, so v lies above the mean of B and the p-value rises with epsilon.
    for _ in range(40):
        middle = (low + high) / 2
        if p_value(m, guesses, correct, middle, delta) < level:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True)
class AuditResult:
    """What an audit measured.

    Attributes:
        lower_bound: on epsilon, at ``confidence``, with ``delta`` accounted for.
        claimed_epsilon: at ``delta``, by the accounting.
        canaries: m.
        correct, guesses: of the number of guesses that gave the bound.
        delta, confidence: of the claim and of the bound.
        rounds: of the training.
    """

    lower_bound: float
    claimed_epsilon: float
    canaries: int
    correct: int
    guesses: int
    delta: float
    confidence: float
    rounds: int

    @property
    def refuted(self) -> bool:
        """Whether the measured bound is above the claim."""
        return self.lower_bound > self.claimed_epsilon

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "refuted": self.refuted}


class WithCanaries:
    """Some patients, and canaries behind them: position n + j is canary j, which gives zeros unless it takes part.

    A patient who is drawn and adds nothing is a patient who is not there: each is drawn by a coin of its own.

    Args:
        patients: the others.
        included: (m,) bool, which canaries take part.
        coordinates: (m,) int64, each canary's own.
        size: D.
        length: L2 norm of a canary's gradient.
    """

    def __init__(
        self, patients: Patients, included: NDArray[np.bool_], coordinates: Indices, size: int, length: float
    ) -> None:
        self._patients, self._included = patients, included
        self._coordinates, self._size, self._length = coordinates, size, length

    def __len__(self) -> int:
        return len(self._patients) + len(self._included)

    def of(self, patients: Indices) -> Iterator[Vector]:
        """See ``central.Patients``."""
        n = len(self._patients)
        yield from self._patients.of(patients[patients < n])
        for canary in patients[patients >= n] - n:
            if self._included[canary]:
                vector = np.zeros(self._size)
                vector[self._coordinates[canary]] = self._length
                yield vector


def audit_mechanism(
    pieces: Pieces,
    model: nn.Module,
    records: Records,
    plan: Plan,
    *,
    canaries: int,
    claimed_epsilon: float,
    delta: float,
    known_draws: KnownDraws | None = None,
    confidence: float = CONFIDENCE,
) -> AuditResult:
    """Train once with canaries and bound epsilon from below by what the opened sums tell of them.

    Args:
        pieces: the mechanism's; the audit neither knows nor asks whether they are sound.
        model: at which training begins; unchanged. At least as many parameters as canaries.
        records: of the other patients.
        plan: see ``central.Plan``.
        canaries: m, 8 or more.
        claimed_epsilon: what the accounting says for this plan at ``delta``.
        known_draws: for an attacker who predicts the sampling (positions as in ``WithCanaries``); else None.

    Raises:
        DataError: too few canaries, or more than the model has parameters.
    """
    layout = Layout.of(model)
    size = layout.trainable_size
    if not 8 <= canaries <= size:
        raise DataError(f"An audit of a model with {size} parameters takes from 8 to {size} canaries.")
    included = np.unpackbits(np.frombuffer(secrets.token_bytes(canaries), np.uint8))[:canaries].astype(bool)
    # Spread over the layers, in a fixed order: a coordinate is not what hides a canary.
    coordinates = np.linspace(0, size - 1, canaries).round().astype(np.int64)
    others = len(records.patient_groups())

    def patients_of(working: nn.Module) -> Patients:
        union = pieces.gradients(working, records)
        return WithCanaries(union, included, coordinates, size, OVER_CLIP * plan.clip)

    scores, expected = np.zeros(canaries), np.zeros(canaries)
    for release in releases(model, patients_of, plan, pieces):
        if (release.round - 1) % math.ceil(plan.rounds / _REFRESHES) == 0:
            expected = _expected(pieces.gradients(release.before, records), plan)[coordinates]
        gain = np.ldexp(release.total[coordinates].astype(np.float64), -plan.fraction_bits) - expected
        if known_draws is not None:
            drawn = known_draws(release.round)
            gain[~np.isin(np.arange(canaries), drawn - others)] = 0.0
        scores += gain
    return judge(scores, included, claimed_epsilon, delta, confidence, plan.rounds)


def judge(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    claimed_epsilon: float,
    delta: float,
    confidence: float,
    rounds: int,
) -> AuditResult:
    """Guess by the scores, for several numbers of guesses, and take the best bound.

    All, a half, a quarter and an eighth of the canaries are guessed: each bound holds at a quarter of the allowed
    error, so that the best of them holds at the whole of it (Bonferroni).

    scores: (m,), higher for those taken to be in; included: (m,) bool, the truth.
    """
    m = len(scores)
    order = np.argsort(scores, kind="stable")
    tried = [max(1, m // (2 * part)) for part in (1, 2, 4, 8)]
    each = 1 - (1 - confidence) / len(tried)
    best: tuple[float, int, int] = (-1.0, 0, 0)
    for half in tried:
        correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        best = max(best, (epsilon_lower_bound(m, 2 * half, correct, delta, each), correct, 2 * half))
    bound, correct, guesses = best
    return AuditResult(bound, claimed_epsilon, m, correct, guesses, delta, confidence, rounds)


def _expected(patients: Patients, plan: Plan) -> Vector:
    """The sum that the other patients are expected to add in a round, (D,) in real units, from some of them."""
    count = min(len(patients), _BACKGROUND)
    some = np.linspace(0, len(patients) - 1, count).round().astype(np.int64)
    clipped = (g * min(1.0, plan.clip / max(float(np.linalg.norm(g)), 1e-300)) for g in patients.of(some))
    return np.asarray(sum(clipped, start=np.zeros(())) * (plan.rate * len(patients) / count))


@dataclass(frozen=True)
class AuditReport:
    """An audit by the settings of a study.

    Attributes:
        study: its name.
        result: what was measured; the claim is that against onlookers who collude with no party.
        patients: of the study, who trained beside the canaries.
        parameters: of the model.
        seconds: that it took.
    """

    study: str
    result: AuditResult
    patients: int
    parameters: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The result for a reader."""
        r = self.result
        verdict = "above the claim: the mechanism does not keep it" if r.refuted else "not above the claim"
        return (
            f"With {r.canaries} canary patients in one training of {r.rounds} rounds, {r.correct} of {r.guesses} "
            f"guesses were right: epsilon is at least {r.lower_bound:.3g} ({r.confidence:.0%} confidence, "
            f"delta {r.delta:g}), claimed {r.claimed_epsilon:.3g}; {verdict}."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "study": self.study, "patients": self.patients, "parameters": self.parameters, "seconds": self.seconds,
            "sentence": self.sentence, **self.result.to_json(),
        }  # fmt: skip


def run_canaries(run: Path, canaries: int | None = None) -> AuditReport:
    """Train once more by the study's settings, in this process and with canaries, and bound epsilon from below.

    The claim is the one that a run's summary states for so many attempts as there are rounds, and no colluding party.

    Args:
        run: folder of a simulation's run, private by patient.
        canaries: m, from 8 to the model's number of parameters; by default ``CANARIES``, or as many as there may be.

    Raises:
        RunError: no run, no simulation, or nothing is claimed for a patient.
        DataError: as ``audit_mechanism``.
    """
    from securefl.privacy.accounting import spent

    began = time.monotonic()
    found = rebuilt(run)
    world = found.world
    private = world.terms.private
    if private is None or private.settings.unit != "patient":
        raise RunError(
            "An audit tests a claim for a patient; this study makes none: give it [privacy] by patient."
        )
    records = found.members
    delta = private.settings.delta
    mechanism = private.mechanism(world.layout.size)
    claimed = spent(mechanism, world.terms.rounds, delta, 0, private.refusal_delta).pld
    world.layout.load(world.model, world.initial)
    result = audit_mechanism(
        honest(),
        world.model,
        records,
        plan_of(world),
        canaries=min(CANARIES, world.layout.trainable_size) if canaries is None else canaries,
        claimed_epsilon=claimed,
        delta=delta,
    )
    return AuditReport(
        world.study.settings.name,
        result,
        len(records.patient_groups()),
        world.layout.trainable_size,
        time.monotonic() - began,
    )
