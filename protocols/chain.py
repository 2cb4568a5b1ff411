"""The chain of outcomes: what each round opened, agreed by every party, each link naming the one before.

Adversary: anyone but the parties, who may reorder, drop, change or invent outcomes; and a coordinator that would show
    different histories to different members.
Promise: whoever holds the parties' pinned keys verifies offline that every party of each round's committee signed its
    outcome, in this order, up to the closing record; a changed byte or a missing tail does not verify. It proves what
    was agreed, not that parties did not collude.
Source: hash chains as in Haber and Stornetta 1991, section 4.1 (linking).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import field_validator

from protocols.canonical import Record, digest
from protocols.contribution import FrozenList, RoundContext, check_signatures
from protocols.errors import ChainError, EncodingError, SignatureError


class Outcome(Record):
    """What a round ended with: the receipt that every party signs.

    Attributes:
        context: study, round, attempt, committee, model and the outcome before.
        frozen: who was asked, whose contributions were agreed on, and why the others' were not.
        excluded: hospitals on the list that were not added after all, and why, as a fixed word each.
        total: SHA-256 of the opened sum's bytes (size elements of width bits, little-endian).
    """

    kind = "outcome"
    context: RoundContext
    frozen: FrozenList
    excluded: dict[str, str]
    total: bytes

    @field_validator("excluded")
    @classmethod
    def _in_order(cls, excluded: dict[str, str]) -> dict[str, str]:
        return dict(sorted(excluded.items()))

    @property
    def round(self) -> int:
        """Which round this is the outcome of."""
        return self.context.round

    @property
    def included(self) -> list[str]:
        """The hospitals in the sum, in the order of their names."""
        return [hospital for hospital in self.frozen.contributions if hospital not in self.excluded]

    @property
    def absent(self) -> dict[str, str]:
        """The hospitals of the cohort that are not in the sum, and why."""
        return dict(sorted({**self.frozen.absent, **self.excluded}.items()))


class SignedOutcome(Record):
    """An outcome with the signature of every party of its committee, in the parties' order."""

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
        parties: who signs it: those of the committee who are there at the end.
        unverified: rounds whose sum the hospitals did not check, in order.
        verifications: digest over the records of all checks (``digest_of_verifications``).
    """

    kind = "closing"
    study: bytes
    rounds: int
    last: bytes
    model: bytes
    parties: list[str]
    unverified: list[int]
    verifications: bytes


class SignedClosing(Record):
    """A closing record with the signatures of its parties, in order."""

    kind = "signed-closing"
    closing: Closing
    signatures: list[bytes]


@dataclass(frozen=True)
class Signers:
    """Whose signatures a study's chain needs.

    Attributes:
        parties: pinned signing keys by name, in the order of the ranks.
        minimum: fewest parties of a round's committee, at least 2.

    Raises:
        ChainError: a smaller minimum.
    """

    parties: Mapping[str, bytes]
    minimum: int

    def __post_init__(self) -> None:
        if self.minimum < 2:
            raise ChainError("A committee has two parties at least.")

    def check_members(self, names: Sequence[str]) -> None:
        """Raise ChainError unless these are enough of the parties, in the order of their ranks, each once."""
        if list(names) != [name for name in self.parties if name in set(names)]:
            raise ChainError(
                "The committee names someone who is not a party, or not in the order of the ranks."
            )
        if len(names) < self.minimum:
            raise ChainError(f"A committee of {len(names)} is too small: the study wants {self.minimum}.")

    def keys(self, names: Sequence[str]) -> list[bytes]:
        """The pinned keys of these parties."""
        return [self.parties[name] for name in names]


def beginning(study: bytes) -> bytes:
    """What the first outcome names as its previous one."""
    return digest("beginning", study)


def total_digest(total: bytes) -> bytes:
    """How an outcome names the sum that was opened."""
    return hashlib.sha256(total).digest()


def digest_of_verifications(records: Sequence[bytes]) -> bytes:
    """How a closing names the checks: one digest for each round, empty where there is none."""
    return digest("verifications", list(records))


def check_link(signed: SignedOutcome, study: bytes, previous: bytes, round_: int, signers: Signers) -> None:
    """Check that an outcome continues the chain.

    Args:
        signed: the outcome and its signatures.
        study: digest of the study.
        previous: digest of the outcome before it.
        round_: the round that it must be of.
        signers: the pinned parties.

    Raises:
        ChainError: it is of another study or round, follows another outcome, contradicts itself, or is not signed by
            every party of its committee.
    """
    context, outcome = signed.outcome.context, signed.outcome
    if context.study != study:
        raise ChainError(f"The outcome of round {context.round} belongs to another study.")
    if context.round != round_:
        raise ChainError(f"The outcome of round {context.round} stands where round {round_} belongs.")
    if context.previous != previous:
        raise ChainError(f"The outcome of round {context.round} does not follow the one before it.")
    try:
        signers.check_members(context.parties)
        check_signatures(outcome, signers.keys(context.parties), signed.signatures)
    except (SignatureError, EncodingError, ChainError) as error:
        raise ChainError(f"The outcome of round {context.round} is not signed by every party.") from error
    frozen = outcome.frozen
    if frozen.context != context.digest() or not set(outcome.excluded) <= set(frozen.contributions):
        raise ChainError(f"The outcome of round {context.round} contradicts itself.")
    named = sorted([*frozen.contributions, *frozen.absent])
    if named != sorted(frozen.cohort) or len(set(named)) != len(named):
        raise ChainError(f"The outcome of round {context.round} does not account for every hospital asked.")


def check_closing(closing: SignedClosing, study: bytes, count: int, last: bytes, signers: Signers) -> None:
    """Check that a closing record ends a chain of ``count`` outcomes, the last of which has the digest ``last``.

    Raises:
        ChainError: it closes another chain, or is not signed by its parties.
    """
    end = closing.closing
    if (end.study, end.rounds, end.last) != (study, count, last):
        raise ChainError(
            f"The closing record does not close these {count} outcomes: some are missing or changed."
        )
    try:
        signers.check_members(end.parties)
        check_signatures(end, signers.keys(end.parties), closing.signatures)
    except (SignatureError, EncodingError, ChainError) as error:
        raise ChainError("The closing record is not signed by every party.") from error


def check_chain(
    outcomes: Iterable[SignedOutcome], closing: SignedClosing, study: bytes, signers: Signers
) -> None:
    """Check a whole study, from its first outcome to its closing record.

    Raises:
        ChainError: names the first link that does not hold.
    """
    previous, count = beginning(study), 0
    for signed in outcomes:
        check_link(signed, study, previous, count, signers)
        previous, count = signed.outcome.digest(), count + 1
    check_closing(closing, study, count, previous, signers)
