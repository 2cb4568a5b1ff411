"""What a private study computes, in one process: DP-SGD over the union of the hospitals, by the toolkit's own pieces.

Each round, every patient is drawn with the public rate; each drawn patient's gradient is rounded to integers of which
the norm is at most the clip; the integers are added; each party's noise is added; the sum, over a public denominator,
is the server's step. Sharing, sealing and opening, which change no number, are left out. So shadow models, audits and
comparisons see the mechanism that the federation runs, and not an imitation.

The pieces stand in ``Pieces``. ``honest`` gives the toolkit's own; there is no switch here that weakens one.

Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1; the parties' noise as in Kairouz, Liu
    and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from securefl.data import Records
from securefl.data.records import Indices
from securefl.models import Layout
from securefl.study.training_settings import ServerSettings
from securefl.training.server import ServerState, Vector

Integers = NDArray[np.int64]
Rate = Callable[[int], float]
"""The learning rate of a round, 1 to the number of rounds."""
_BATCH = 256
"""Records that pass through a model at a time."""


class Patients(Protocol):
    """Whose gradients are summed, at the present parameters of the model that they were made with."""

    def __len__(self) -> int: ...

    def of(self, patients: Indices) -> Iterator[Vector]:
        """The gradient of each of these patients, before clipping: float64 (D_trainable,), one at a time."""


@dataclass(frozen=True)
class Pieces:
    """What a round is made of.

    Attributes:
        sample: (patients, rate) to the positions drawn, int64; called once a round.
        gradients: (model, records) to their patients' gradients.
        bound: (gradient float64 (D,), clip in units, fraction bits) to int64 (D,) of at most that norm.
        noise: (size, variance) to int64 (size,), one party's.
    """

    sample: Callable[[int, float], Indices]
    gradients: Callable[[nn.Module, Records], Patients]
    bound: Callable[[Vector, int, int], Integers]
    noise: Callable[[int, int], Integers]


def honest() -> Pieces:
    """The toolkit's own pieces, as hospitals and parties run them."""
    from protocols.bounded_rounding import bounded_rounding
    from protocols.discrete_gaussian import discrete_gaussian
    from securefl.training.patient_gradients import PatientGradients
    from securefl.training.sampling import poisson_sample

    gradients = partial(PatientGradients, batch_size=_BATCH)
    return Pieces(poisson_sample, gradients, bounded_rounding, discrete_gaussian)


@dataclass(frozen=True)
class Plan:
    """How a model is trained; the meaning of a study's settings for one process.

    Attributes:
        rounds: 1 or more.
        rate: q, probability with which a patient is drawn in a round.
        clip: largest L2 norm of one patient's gradient, in real units.
        fraction_bits: f, so that one unit is 2^-f.
        party_variance: of each party's noise on each coordinate, in units squared, 0 for none.
        parties: how many add noise.
        denominator: public number that sums are divided by, q times the public number of patients.
        learning_rate: of each round.
        momentum: of the server, 0 for none.
    """

    rounds: int
    rate: float
    clip: float
    fraction_bits: int
    party_variance: int
    parties: int
    denominator: float
    learning_rate: Rate
    momentum: float = 0.0

    @property
    def clip_units(self) -> int:
        """C, the clip in units."""
        return math.floor(Fraction(self.clip) * Fraction(2) ** self.fraction_bits)


@dataclass(frozen=True, eq=False)
class Release:
    """What everybody learns of one round.

    Attributes:
        round: 1 to the number of rounds.
        total: (D,) int64, the opened noisy sum, in units.
        before: the model that the gradients were taken at; it changes with the next release.
        after: the state of the server after the round.
    """

    round: int
    total: Integers
    before: nn.Module
    after: ServerState


def releases(
    model: nn.Module, patients_of: Callable[[nn.Module], Patients], plan: Plan, pieces: Pieces
) -> Iterator[Release]:
    """Train, and give each round's release before the next one is computed.

    model: at which training begins; it is not changed. patients_of: whose gradients, at the model it is given.
    """
    working = copy.deepcopy(model)
    patients = patients_of(working)
    layout = Layout.of(working)
    size = layout.trainable_size
    state = ServerState.initial(layout.flatten(working))
    server = ServerSettings(optimizer="fedavgm", momentum=plan.momentum)
    for round_ in range(1, plan.rounds + 1):
        layout.load(working, state.model)
        drawn = pieces.sample(len(patients), plan.rate)
        total = noisy_sum(patients.of(drawn), size, plan, pieces)
        step = np.zeros(layout.size)
        step[:size] = np.ldexp(total.astype(np.float64), -plan.fraction_bits) / plan.denominator
        step *= -plan.learning_rate(round_)
        state = state.step(step, size, server)
        yield Release(round_, total, working, state)


def noisy_sum(vectors: Iterable[Vector], size: int, plan: Plan, pieces: Pieces) -> Integers:
    """The sum of the bounded vectors and of each party's noise: int64 (size,), in units."""
    total = np.zeros(size, dtype=np.int64)
    for vector in vectors:
        total += pieces.bound(vector, plan.clip_units, plan.fraction_bits)
    for _ in range(plan.parties if plan.party_variance else 0):
        total += pieces.noise(size, plan.party_variance)
    return total


def train_private(
    model: nn.Module,
    records: Records,
    *,
    rounds: int,
    rate: float,
    clip: float,
    fraction_bits: int,
    party_variance: int,
    parties: int,
    denominator: float,
    learning_rate_schedule: Rate,
    momentum: float = 0.0,
    pieces: Pieces | None = None,
) -> nn.Module:
    """A model trained as the private study would; a copy, in evaluation mode. See ``Plan`` for the arguments.

    records: the union's. Sampling and noise come from the operating system's source, so that no two runs agree.
    """
    pieces = pieces or honest()
    plan = Plan(
        rounds,
        rate,
        clip,
        fraction_bits,
        party_variance,
        parties,
        denominator,
        learning_rate_schedule,
        momentum,
    )
    return last_model(model, releases(model, lambda m: pieces.gradients(m, records), plan, pieces))


def last_model(model: nn.Module, rounds: Iterator[Release]) -> nn.Module:
    """The model after the last release, a copy of ``model`` in evaluation mode."""
    trained, layout = copy.deepcopy(model), Layout.of(model)
    for release in rounds:
        state = release.after
    layout.load(trained, state.model)
    return trained.eval()
