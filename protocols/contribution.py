"""One hospital's contribution to one round: shared, sealed, signed; and the list of contributions that is frozen.

Adversary: a coordinator and a network that pick, delay, replay and mix messages; up to P - 1 parties that tell all.
Promise: every envelope is bound to its study, round, attempt, previous outcome, sender, recipient, width and size, and
    the hospital's signature covers the digests of all P envelopes and of the whole context (model and committee too):
    no party can be given another contribution than its fellows without this being seen at the freeze, where all
    parties sign one list.
Source: the server-mediated round of Bonawitz et al. 2017, section 4 and figure 4 (consistency check), with a committee
    in place of the pairwise masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import field_validator

from protocols.canonical import Record, encode
from protocols.envelope import Binding, SealingKey, envelope_digest, seal
from protocols.errors import EncodingError, SignatureError
from protocols.prg import RingVector, width_of
from protocols.sharing import share
from protocols.signing import SigningKey, verify

T = TypeVar("T")


class RoundContext(Record):
    """What everything in a round is bound to.

    Attributes:
        study: digest of the study, 32 bytes.
        round: 0 for the statistics, then 1, 2, ...
        attempt: 1, 2, ...: each attempt has its own keys.
        previous: digest of the previous outcome, or of the beginning, 32 bytes.
        purpose: "statistics" or "update".
        model: digest of the global model that the vectors start from, 32 bytes; hospitals compute it by themselves.
        parties: the committee of this attempt, in the order of the ranks.
        width: w, bits of the ring.
        size: D, elements of a vector.
    """

    kind = "round"
    study: bytes
    round: int
    attempt: int
    previous: bytes
    purpose: str
    model: bytes
    parties: list[str]
    width: int
    size: int


class RoundKey(Record):
    """A party's sealing key for one attempt of one round, to be signed by the party's pinned key."""

    kind = "round-key"
    context: bytes
    party: str
    public: bytes


class Contribution(Record):
    """What a hospital signs: the digests of its envelopes, in the parties' order.

    ``coin`` commits it to 32 random bytes (:func:`protocols.integrity.commit_coin`), with which it will check the sum.
    """

    kind = "contribution"
    context: bytes
    hospital: str
    envelopes: list[bytes]
    coin: bytes


class FrozenList(Record):
    """The contributions that will be added: digests by hospital, in the order of the hospitals' names.

    A map's order is not part of its encoding; it is restored here, so that all who read the list add and name the
    hospitals in one order.

    Attributes:
        context: digest of the round's context.
        cohort: the hospitals that were asked.
        contributions: what will be added.
        absent: why the others of the cohort are not in it, as a fixed word each; the parties refuse longer reasons.
    """

    kind = "frozen-list"
    context: bytes
    cohort: list[str]
    contributions: dict[str, bytes]
    absent: dict[str, str]

    @field_validator("contributions", "absent")
    @classmethod
    def _in_order(cls, by_name: dict[str, T]) -> dict[str, T]:
        return dict(sorted(by_name.items()))


class Vote(Record):
    """What a party signs at the freeze: this list, and its commitment to its part of the norm check's coin.

    ``commitment`` is empty where no norm is checked.
    """

    kind = "vote"
    frozen: bytes
    commitment: bytes


def binding(context: RoundContext, hospital: str, party: str) -> Binding:
    """What the envelope from a hospital to a party is bound to."""
    return Binding(
        study=context.study,
        round=context.round,
        attempt=context.attempt,
        previous=context.previous,
        sender=hospital,
        recipient=party,
        content=context.purpose,
        width=context.width,
        size=context.size,
    )


def share_context(context: RoundContext, hospital: str) -> bytes:
    """What the masks of one hospital's shares are bound to."""
    return encode([context.digest(), hospital])


def vector_holder(context: RoundContext, hospital: str, parties: int) -> int:
    """The party that gets the explicit share; it rotates by hospital and round, so that the load is even."""
    first = hashlib.sha256(encode([context.study, hospital])).digest()
    return (int.from_bytes(first[:8], "big") + context.round) % parties


def contribute(
    x: RingVector, context: RoundContext, hospital: str, round_keys: Mapping[str, bytes], coin: bytes
) -> tuple[Contribution, list[bytes]]:
    """Share x among the parties and seal each share.

    Args:
        x: (D,) ring elements.
        context: the round; its size and width are those of x.
        hospital: the sender.
        round_keys: each party's public key for this attempt, in the parties' order; the caller has verified them.
        coin: the hospital's commitment for the check of the sum.

    Returns:
        The contribution to sign, and the envelopes in the parties' order.
    """
    if x.size != context.size or width_of(x) != context.width:
        raise EncodingError(
            f"The vector has {x.size} elements, the round wants {context.size} of {context.width} bits."
        )
    holder = vector_holder(context, hospital, len(round_keys))
    shares = share(x, len(round_keys), holder, share_context(context, hospital))
    envelopes = [
        seal(public, plaintext, binding(context, hospital, party))
        for (party, public), plaintext in zip(round_keys.items(), shares, strict=True)
    ]
    digests = [envelope_digest(envelope) for envelope in envelopes]
    contribution = Contribution(context=context.digest(), hospital=hospital, envelopes=digests, coin=coin)
    return contribution, envelopes


def open_share(envelope: bytes, key: SealingKey, context: RoundContext, hospital: str, party: str) -> bytes:
    """The share in an envelope, still compressed; raises SealError if it was not meant for here and now."""
    return key.open(envelope, binding(context, hospital, party))


def sign(record: Record, key: SigningKey) -> bytes:
    """The signature over a record's digest, as its kind."""
    return key.sign(type(record).kind, record.digest())


def check_signature(record: Record, public: bytes, signature: bytes) -> None:
    """Raise SignatureError unless ``signature`` is by ``public`` over this record."""
    verify(public, type(record).kind, record.digest(), signature)


def check_signatures(record: Record, publics: Sequence[bytes], signatures: Sequence[bytes]) -> None:
    """Raise SignatureError unless there is one valid signature for each key, in order."""
    if len(publics) != len(signatures):
        raise SignatureError(
            f"This {type(record).kind} needs {len(publics)} signatures and has {len(signatures)}."
        )
    for public, signature in zip(publics, signatures, strict=True):
        check_signature(record, public, signature)
