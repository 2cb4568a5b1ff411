"""What four onlookers see of one record's gradient in one round, made by the functions that a round really uses.

======================  ==================================================================================
``plaintext``           the update itself, as a server of plain federated learning would get it
``coordinator``         the bytes of the sealed envelope that holds the explicit share
``parties``             the sum of the shares of all parties but one; the explicit share is among them
``sum``                 the opened sum over all hospitals, with each party's noise in it if the study is private
======================  ==================================================================================

Each view ends as a vector of numbers that the attacker takes for a gradient. Ring elements are read as the signed
fixed-point numbers that they are in this study, and an envelope's ciphertext as ring elements: no better reading of
bytes that look uniform is known. All keys, masks, noise and draws come from the operating system's source, as in a real
round, so that two calls give two views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from protocols.bounded_rounding import bounded_rounding
from protocols.contribution import RoundContext, contribute, open_share, share_context, vector_holder
from protocols.envelope import OVERHEAD_BYTES, SealingKey
from protocols.noise import noisy
from protocols.prg import RingVector
from protocols.ring import Encoding, from_bytes, from_signed, signed
from protocols.sharing import Shape, add_share, share, zeros
from securefl.attacks.inversion import Vector
from securefl.data import Records
from securefl.training.patient_gradients import PatientGradients
from securefl.training.sampling import poisson_sample

PLAINTEXT, COORDINATOR, PARTIES, SUM = "plaintext", "coordinator", "parties", "sum"
VIEWS = (PLAINTEXT, COORDINATOR, PARTIES, SUM)
TITLES: Mapping[str, str] = {
    PLAINTEXT: "one plaintext update",
    COORDINATOR: "the coordinator",
    PARTIES: "all parties but one",
    SUM: "the opened sum",
}
_CONTENT = OVERHEAD_BYTES - 16
"""Where an envelope's ciphertext begins: after both encapsulations."""


@dataclass(frozen=True, eq=False)
class Round:
    """The round that is looked at.

    Attributes:
        context: study, parties, width and size of the vectors.
        hospital: whose contribution is attacked.
        encoding: how an update stands in the ring.
        factor: an update is this times a gradient, before clipping; not 0.
        sum_factor: the sum is read as this times a gradient.
        clip_units: largest L2 norm of the encoded update, in units; None if it is not clipped so.
        party_variance: of each party's noise, in units squared; 0 for none.
    """

    context: RoundContext
    hospital: str
    encoding: Encoding
    factor: float
    sum_factor: float
    clip_units: int | None = None
    party_variance: int = 0

    @property
    def clip(self) -> float | None:
        """The norm beyond which a gradient is scaled down."""
        return (
            None if self.clip_units is None else self.clip_units * self.encoding.resolution / abs(self.factor)
        )

    def encoded(self, gradient: Vector) -> RingVector:
        """The update that a hospital makes of a gradient (d,), d up to D: (D,) ring elements. The rest is zero.

        Raises:
            EncodingError: the update is not finite, or beyond the study's bound.
        """
        update = np.zeros(self.context.size)
        update[: gradient.size] = self.factor * gradient
        if self.clip_units is None:
            return self.encoding.encode(update)
        units = bounded_rounding(update, self.clip_units, self.encoding.fraction_bits)
        return from_signed(units, self.encoding.width)

    def read(self, vector: RingVector, count: int) -> Vector:
        """What an onlooker takes for a gradient: the first ``count`` ring elements as numbers."""
        return self.encoding.decode_sum(signed(vector[:count])) / self.factor


def views(
    round_: Round, gradient: Vector, others: RingVector | None = None, opened: RingVector | None = None
) -> dict[str, Vector]:
    """What each of ``VIEWS`` makes of one contribution.

    Args:
        round_: the round.
        gradient: (d,) of the model's parameters, for the attacked record.
        others: (D,) sum of the other contributions of the round; None if there is none.
        opened: (D,) a sum that was really opened, in place of one that is made here.

    Returns:
        By name, (d,) float64 each, in the order of ``VIEWS``.
    """
    x = round_.encoded(gradient)
    keys = {party: SealingKey.generate() for party in round_.context.parties}
    publics = {party: key.public for party, key in keys.items()}
    _, envelopes = contribute(x, round_.context, round_.hospital, publics, bytes(32))
    if opened is None:
        opened = opened_sum(x if others is None else x + others, round_)
    seen = {
        PLAINTEXT: x,
        COORDINATOR: ciphertext(envelopes, round_.context),
        PARTIES: coalition(envelopes, round_, keys),
    }
    read = {name: round_.read(vector, gradient.size) for name, vector in seen.items()}
    return {**read, SUM: round_.read(opened, gradient.size) * (round_.factor / round_.sum_factor)}


def ciphertext(envelopes: Sequence[bytes], context: RoundContext) -> RingVector:
    """The longest envelope's sealed content, read as ring elements (D,)."""
    longest = max(envelopes, key=len)
    content = longest[_CONTENT : _CONTENT + context.size * context.width // 8]
    return from_bytes(content, context.width, context.size)


def coalition(envelopes: Sequence[bytes], round_: Round, keys: Mapping[str, SealingKey]) -> RingVector:
    """The sum of P - 1 shares, opened with their owners' keys: (D,). The party that is left out holds a seed."""
    context, hospital = round_.context, round_.hospital
    parties = list(context.parties)
    left_out = (vector_holder(context, hospital, len(parties)) + 1) % len(parties)
    total = zeros(Shape(context.size, context.width))
    for rank, party in enumerate(parties):
        if rank != left_out:
            content = open_share(envelopes[rank], keys[party], context, hospital, party)
            add_share(total, content, rank, share_context(context, hospital))
    return total


def opened_sum(total: RingVector, round_: Round) -> RingVector:
    """What the committee opens of a sum (D,): the parties share it, each adds its noise, the shares are added."""
    context = round_.context
    bound = share_context(context, round_.hospital)
    opened = zeros(Shape(context.size, context.width))
    for rank, content in enumerate(share(total, len(context.parties), 0, bound)):
        own = zeros(Shape(context.size, context.width))
        add_share(own, content, rank, bound)
        if round_.party_variance:
            own = noisy(own, round_.party_variance)
        opened += own
    return opened


def other_patients(
    model: nn.Module,
    hospitals: Mapping[str, Records],
    left_out: Mapping[str, Sequence[int]],
    sampling_rate: float,
    round_: Round,
) -> RingVector:
    """The sum of the clipped gradients of a round's patients but some, as hospitals compute and draw them. (D,)

    Args:
        hospitals: training records as the model takes them, by hospital.
        left_out: places of patients in ``Records.patient_groups()`` that are not drawn, by hospital.
        sampling_rate: 0 to 1.
        round_: the round; it clips.
    """
    training = model.training
    total = round_.encoded(np.zeros(round_.context.size))
    for name, records in hospitals.items():
        skipped = set(left_out.get(name, ()))
        patients = PatientGradients(model, records, batch_size=len(records))
        drawn = [int(p) for p in poisson_sample(len(patients), sampling_rate) if int(p) not in skipped]
        for gradient in patients.of(drawn):
            total += round_.encoded(gradient)
    model.train(training)
    return total
