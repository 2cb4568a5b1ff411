"""The finished check of a sum, as anyone can repeat it: hospitals, coordinator, and whoever has the record."""

from __future__ import annotations

from collections.abc import Sequence

from protocols import integrity
from protocols.chain import Outcome, total_digest
from protocols.contribution import check_signature
from protocols.errors import ChainError, EncodingError, SignatureError
from protocols.ring import from_bytes, signed
from securefl.roles.messages import CoinRevealed, Verification
from securefl.roles.terms import Terms


def checked_challenge(outcome: Outcome, coins: Sequence[CoinRevealed]) -> bytes:
    """The challenge that these coins make, all of them checked against the contributions that the outcome names.

    Raises:
        ChainError: a coin is missing, comes twice, or is not the committed one.
    """
    digest, contributions = outcome.digest(), outcome.frozen.contributions
    by_name = {revealed.hospital: revealed for revealed in coins}
    if len(by_name) != len(coins):
        raise ChainError("A hospital's coin comes twice.")
    for name, revealed in by_name.items():
        contribution = revealed.contribution
        if revealed.outcome != digest or contribution.hospital != name:
            raise ChainError(f"The coin of {name} is for another outcome.")
        if contribution.digest() != contributions.get(name):
            raise ChainError(f"The coin of {name} is not of the contribution that was added.")
    missing = [name for name in outcome.included if name not in by_name]
    if missing:
        raise ChainError(f"{missing[0]} did not reveal its coin: this sum stays unverified.")
    revealed_coins = {name: by_name[name].coin for name in outcome.included}
    integrity.check_coins(
        {name: revealed.coin for name, revealed in by_name.items()},
        {name: by_name[name].contribution.coin for name in outcome.included},
        outcome.context.digest(),
    )
    return integrity.challenge(digest, revealed_coins)


def check_verification(record: Verification, outcome: Outcome, total: bytes, terms: Terms) -> None:
    """Check a sum by the hospitals' coins and answers.

    Raises:
        WrongSumError: everything is in order, and the sum is not that of the hospitals' updates.
        ChainError: the record is not a complete check of this outcome and this sum.
    """
    context = outcome.context
    if record.outcome != outcome.digest() or record.round != outcome.round:
        raise ChainError("The check is of another outcome.")
    if total_digest(total) != outcome.total:
        raise ChainError("The sum is not the one that the parties signed.")
    chi = checked_challenge(outcome, record.coins)
    for given in record.answers:
        try:
            check_signature(given.answer, terms.hospitals[given.answer.hospital], given.signature)
        except (SignatureError, KeyError) as error:
            raise ChainError(f"An answer is not signed by {given.answer.hospital}.") from error
    try:
        values = signed(from_bytes(total, context.width, context.size))
    except EncodingError as error:
        raise ChainError("The sum has another size than the outcome says.") from error
    answers = [given.answer for given in record.answers]
    integrity.check_answers(record.outcome, chi, values, answers, outcome.included)
