"""The model that anyone computes who has the outcomes: hospitals to train it, the coordinator to announce it.

Nobody takes the model from somebody else. A replica starts from the study's seed and follows the chain; each outcome
is checked against the parties' pinned keys before it changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from protocols.canonical import Record
from protocols.chain import check_link, total_digest
from protocols.errors import ChainError, EncodingError, ProtocolError
from protocols.ring import from_bytes, signed
from securefl.errors import RefusedError, StatisticsError
from securefl.roles.messages import Settled
from securefl.roles.terms import Terms
from securefl.study.training_settings import ServerSettings
from securefl.training.server import ServerState, Vector


class Place(Record):
    """A place in the chain: ``round`` is awaited, ``previous`` is the last outcome's digest."""

    kind = "place"
    study: bytes
    round: int
    previous: bytes


@dataclass(frozen=True)
class Replica:
    """The model after some outcomes.

    Attributes:
        place: where it stands in the chain.
        state: the global model.
        statistics: the opened sums of round 0, float64; empty before.
    """

    place: Place
    state: ServerState
    statistics: Vector

    @classmethod
    def initial(cls, terms: Terms, model: Vector) -> Replica:
        """Before the first outcome."""
        place = Place(study=terms.study, round=0, previous=terms.beginning)
        return cls(place, ServerState.initial(model), np.zeros(0))

    def follow(self, message: Settled, terms: Terms, server: ServerSettings, trainable: int) -> Replica:
        """The replica after one more outcome.

        Args:
            server: how an opened sum becomes the next model.
            trainable: leading coordinates of the model that are parameters.

        Raises:
            RefusedError: the outcome does not continue the chain, or the sum is not the one that was signed.
            StatisticsError: no hospitals of this study have as many records as round 0 counts.
        """
        outcome = message.signed.outcome
        context = outcome.context
        try:
            check_link(message.signed, terms.study, self.place.previous, self.place.round, terms.signers)
            if total_digest(message.total) != outcome.total:
                raise ChainError("The sum is not the one that the parties signed.")
            if context.model != self.state.digest():
                raise ChainError("The outcome is of another model.")
            terms.check_context(context)
            if context.round > 0 and context.size != self.state.model.size:
                raise ChainError("The sum is not of the model's size.")
            encoding = terms.encoding(context.purpose)
            total = encoding.decode_sum(signed(from_bytes(message.total, encoding.width, context.size)))
            total *= terms.factor(context.round) if context.round > 0 else 1.0
        except ProtocolError as error:
            raise RefusedError("other-chain", str(error)) from error
        terms.check_cohort(outcome.included, context.round)
        place = Place(study=terms.study, round=outcome.round + 1, previous=outcome.digest())
        if outcome.round == 0:
            _check_count(float(total[0]), terms)
            return Replica(place, self.state, total)
        return Replica(place, self.state.step(total, trainable, server), self.statistics)

    def to_bytes(self) -> bytes:
        """One safetensors file, so that its parts cannot drift apart."""
        return save(
            {
                "place": np.frombuffer(self.place.to_bytes(), dtype=np.uint8),
                "model": self.state.model,
                "velocity": self.state.velocity,
                "training_round": np.array([self.state.round], dtype=np.int64),
                "statistics": self.statistics,
            }
        )

    @classmethod
    def recovered(cls, data: bytes) -> Replica | None:
        """Read it back, or None if these bytes are not a whole replica."""
        try:
            return cls.from_bytes(data)
        except (SafetensorError, EncodingError, KeyError):
            return None

    @classmethod
    def from_bytes(cls, data: bytes) -> Replica:
        """Read it back.

        Raises:
            SafetensorError, EncodingError, KeyError: these bytes are not a whole replica.
        """
        tensors = load(data)
        shapes = {(v.ndim, v.dtype.str) for v in (tensors[n] for n in ("model", "velocity", "statistics"))}
        round_ = tensors["training_round"]
        if shapes != {(1, "<f8")} or (round_.shape, round_.dtype.str) != ((1,), "<i8"):
            raise EncodingError("These bytes are not a replica: its vectors have another shape or type.")
        state = ServerState(tensors["model"], tensors["velocity"], int(round_[0]))
        return cls(Place.from_bytes(tensors["place"].tobytes()), state, tensors["statistics"])


def _check_count(count: float, terms: Terms) -> None:
    """Refuse a total number of records that cannot be.

    It is the denominator of every update, and one hospital alone can make it anything, since nobody sees its own
    number. What some hospitals could have together is believed.
    """
    if terms.records is None:
        return  # nothing depends on a roll call
    hospitals = len(terms.hospitals)
    least, most = (hospitals * number for number in terms.records)
    if not (least <= count <= most and count.is_integer()):
        raise StatisticsError(
            f"they count {count:.12g} records, and {hospitals} hospitals have {least} to {most}, in whole numbers"
        )
