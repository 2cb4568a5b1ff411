"""The chain of outcomes: what each round opened, agreed by every party, each link naming the one before.

Adversary: anyone but the parties, who may reorder, drop, change or invent outcomes; and a coordinator that would show
    different histories to different members.
Promise: whoever holds the parties' pinned keys verifies offline that every party signed every outcome, in this order,
    up to the closing record; a changed byte or a missing tail does not verify. It proves what was agreed, not that
    parties did not collude.
Source: hash chains as in Haber and Stornetta 1991, section 4.1 (linking).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from protocols.canonical import Record, digest
from protocols.contribution import check_signatures
from protocols.errors import ChainError, EncodingError, SignatureError


class Outcome(Record):
    """What a round ended with.

    Attributes:
        study: digest of the study.
        round, attempt, purpose, width, size: as in the round's context.
        previous: digest of the outcome before, or ``beginning(study)``.
        included: hospitals in the sum, in the order of their names.
        contributions: digest of the frozen list.
        total: SHA-256 of the opened sum's bytes (size elements of width bits, little-endian).
    """

    kind = "outcome"
    study: bytes
    round: int
    attempt: int
    purpose: str
    width: int
    size: int
    previous: bytes
    included: list[str]
    contributions: bytes
    total: bytes


class SignedOutcome(Record):
    """An outcome with the signature of every party, in the parties' order."""

    kind = "signed-outcome"
    outcome: Outcome
    signatures: list[bytes]


class Closing(Record):
    """The end of a study's chain.

    Attributes:
        study: digest of the study.
        rounds: outcomes in the chain, the statistics round included.
        last: digest of the last outcome.
        model: digest of the final model.
    """

    kind = "closing"
    study: bytes
    rounds: int
    last: bytes
    model: bytes


class SignedClosing(Record):
    """A closing record with the signature of every party, in the parties' order."""

    kind = "signed-closing"
    closing: Closing
    signatures: list[bytes]


def beginning(study: bytes) -> bytes:
    """What the first outcome names as its previous one."""
    return digest("beginning", study)


def total_digest(total: bytes) -> bytes:
    """How an outcome names the sum that was opened."""
    return hashlib.sha256(total).digest()


def check_link(
    signed: SignedOutcome, study: bytes, previous: bytes, round_: int, parties: Sequence[bytes]
) -> None:
    """Check that an outcome continues the chain.

    Args:
        signed: the outcome and its signatures.
        study: digest of the study.
        previous: digest of the outcome before it.
        round_: the round that it must be of.
        parties: the parties' pinned signing keys, in order.

    Raises:
        ChainError: it is of another study or round, follows another outcome, or is not signed by every party.
    """
    outcome = signed.outcome
    if outcome.study != study:
        raise ChainError(f"The outcome of round {outcome.round} belongs to another study.")
    if outcome.round != round_:
        raise ChainError(f"The outcome of round {outcome.round} stands where round {round_} belongs.")
    if outcome.previous != previous:
        raise ChainError(f"The outcome of round {outcome.round} does not follow the one before it.")
    try:
        check_signatures(outcome, parties, signed.signatures)
    except (SignatureError, EncodingError) as error:
        raise ChainError(f"The outcome of round {outcome.round} is not signed by every party.") from error


def check_chain(
    outcomes: Iterable[SignedOutcome], closing: SignedClosing, study: bytes, parties: Sequence[bytes]
) -> None:
    """Check a whole study, from its first outcome to its closing record.

    Raises:
        ChainError: names the first link that does not hold.
    """
    previous, count = beginning(study), 0
    for signed in outcomes:
        check_link(signed, study, previous, count, parties)
        previous, count = signed.outcome.digest(), count + 1
    end = closing.closing
    if (end.study, end.rounds, end.last) != (study, count, previous):
        raise ChainError(
            f"The closing record does not close these {count} outcomes: some are missing or changed."
        )
    try:
        check_signatures(end, parties, closing.signatures)
    except (SignatureError, EncodingError) as error:
        raise ChainError("The closing record is not signed by every party.") from error
