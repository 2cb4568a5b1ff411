"""The coordinator's side of the check of each sum: it carries coins and answers, and keeps the finished record.

It runs beside the next round. Whoever does not answer in time leaves the sum unverified, and the closing says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.chain import Outcome, digest_of_verifications
from protocols.errors import ChainError, WrongSumError
from securefl.roles.effects import Effect, Persist, RoundVerified, Send, SetTimer, Stop
from securefl.roles.messages import Challenge, CoinRevealed, Settled, SignedAnswer, Verification
from securefl.roles.pledges import REMEMBERED
from securefl.roles.records import verification_name
from securefl.roles.sum_check import check_verification, checked_challenge
from securefl.roles.terms import Terms


@dataclass
class Check:
    """The check of one sum under way."""

    outcome: Outcome
    coins: dict[str, CoinRevealed] = field(default_factory=dict)
    answers: dict[str, SignedAnswer] = field(default_factory=dict)


class Verifying:
    """The checks under way, of at most a few rounds.

    Args:
        terms: the study's.
        recall: the settled outcome of an earlier round.
        record: a round's finished check, if there is one.
    """

    def __init__(
        self, terms: Terms, recall: Callable[[int], Settled], record: Callable[[int], Verification | None]
    ) -> None:
        self._terms, self._recall, self._record = terms, recall, record
        self._checks: dict[int, Check] = {}
        self._finished: dict[int, bytes] = {}

    @property
    def pending(self) -> bool:
        """Whether a check is under way."""
        return bool(self._checks)

    def begin(self, outcome: Outcome) -> list[Effect]:
        """The hospitals of this outcome will reveal their coins as soon as they have accepted it."""
        if not self._terms.checks_sums:
            return []
        self._checks[outcome.round] = Check(outcome)
        return [SetTimer(_timer(outcome.round), self._terms.hospital_seconds)]

    def resume(self, last: int) -> list[Effect]:
        """After a restart: the checks that the hospitals still remember are made again, unless they are finished.

        Finished ones are judged again, all of them: a wrong sum may have been found long after its round.
        """
        effects: list[Effect] = []
        for round_ in range(last + 1) if self._terms.checks_sums else ():
            record = self._record(round_)
            if record is None and round_ <= last - REMEMBERED:
                continue
            settled = self._recall(round_)
            outcome = settled.signed.outcome
            if record is not None:
                effects += self._judged(record, outcome, settled.total)
                continue
            effects += [*self.begin(outcome), *(Send(hospital, settled) for hospital in outcome.included)]
        return effects

    def revealed(self, hospital: str, message: CoinRevealed) -> list[Effect]:
        """A hospital's coin."""
        check = self._find(message.outcome, hospital)
        # A second coin counts for nothing: all would be sent the challenge again.
        if check is None or message.hospital != hospital or hospital in check.coins:
            return []
        check.coins[hospital] = message
        if len(check.coins) < len(check.outcome.included):
            return []
        try:
            challenge = self._challenge(check)
        except ChainError as error:
            return self._give_up(check, str(error).rstrip("."))
        return [Send(name, challenge) for name in check.outcome.included if name not in check.answers]

    def answered(self, hospital: str, message: SignedAnswer) -> list[Effect]:
        """A hospital's answer; the last one ends the check."""
        check = self._find(message.answer.outcome, hospital)
        if check is None or message.answer.hospital != hospital:
            return []
        check.answers.setdefault(hospital, message)
        return self._finish(check) if len(check.answers) == len(check.outcome.included) else []

    def again(self, hospital: str) -> list[Effect]:
        """What a hospital that was lost still has to answer."""
        effects: list[Effect] = []
        for check in self._checks.values():
            included = check.outcome.included
            if hospital not in included or hospital in check.answers:
                continue
            challenge = self._challenge(check) if len(check.coins) == len(included) else None
            effects.append(Send(hospital, challenge or self._recall(check.outcome.round)))
        return effects

    def timeout(self, name: str) -> list[Effect]:
        """The check whose timer this is has taken too long."""
        check = next((c for c in self._checks.values() if _timer(c.outcome.round) == name), None)
        if check is None:
            return []
        included = check.outcome.included
        answered = check.answers if len(check.coins) == len(included) else check.coins
        return self._give_up(check, *(f"{h} did not answer" for h in included if h not in answered))

    def digest(self, rounds: int) -> tuple[list[int], bytes]:
        """The unverified rounds among the first ``rounds``, and the digest over the records of all checks."""
        records = [self._digest_of(round_) for round_ in range(rounds)]
        unverified = [round_ for round_, record in enumerate(records) if not record]
        return unverified, digest_of_verifications(records)

    def _digest_of(self, round_: int) -> bytes:
        record = None if round_ in self._finished else self._record(round_)
        return record.digest() if record else self._finished.get(round_, b"")

    def _judged(self, record: Verification, outcome: Outcome, total: bytes) -> list[Effect]:
        """A record that was found on disk: a wrong sum ends the run again."""
        try:
            check_verification(record, outcome, total, self._terms)
        except ChainError as error:
            return [Stop(f"Round {outcome.round}: {error}")]
        return []

    def _find(self, outcome: bytes, hospital: str) -> Check | None:
        found = (c for c in self._checks.values() if c.outcome.digest() == outcome)
        check = next(found, None)
        return check if check is not None and hospital in check.outcome.included else None

    def _challenge(self, check: Check) -> Challenge:
        coins = [check.coins[name] for name in check.outcome.included]
        checked_challenge(check.outcome, coins)
        return Challenge(outcome=check.outcome.digest(), coins=coins)

    def _finish(self, check: Check) -> list[Effect]:
        outcome, included = check.outcome, check.outcome.included
        record = Verification(
            round=outcome.round,
            outcome=outcome.digest(),
            coins=[check.coins[name] for name in included],
            answers=[check.answers[name] for name in included],
        )
        total = self._recall(outcome.round).total
        kept: list[Effect] = [Persist(verification_name(outcome.round), record.to_bytes())]
        told: list[Effect] = [Send(name, record) for name in included]
        try:
            check_verification(record, outcome, total, self._terms)
        except WrongSumError as error:
            return [*kept, *told, Stop(f"Round {outcome.round}: {error}")]
        except ChainError as error:
            return self._give_up(check, str(error).rstrip("."))
        del self._checks[outcome.round]
        self._finished[outcome.round] = record.digest()
        return [*kept, *told, RoundVerified(outcome.round, ())]

    def _give_up(self, check: Check, *missing: str) -> list[Effect]:
        del self._checks[check.outcome.round]
        return [RoundVerified(check.outcome.round, missing)]


def _timer(round_: int) -> str:
    return f"check-{round_}"
