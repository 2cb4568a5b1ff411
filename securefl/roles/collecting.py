"""The contributions to one attempt: which parts go to the parties, who is left out, and the list that comes of it.

A hospital is waited for until every party holds its part, or until it is left out: it declined, its contribution was no
good, it could not be reached, or the deadline passed. Being left out is for the whole attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.contribution import FrozenList, RoundContext
from securefl.errors import EngineError
from securefl.roles.effects import Effect, Send, SetTimer
from securefl.roles.messages import Announcement, Held, Part, Settled, SignedContribution, SignedRoundKey
from securefl.roles.terms import Terms

MAX_HOSPITAL_TRIES = 3
MISSED_AT_ONCE = 16
"""Outcomes that a member that is behind is sent before it is asked again: each is as long as the model."""


@dataclass
class Attempt:
    """What has come in for the attempt under way.

    Attributes:
        announced: what the hospitals were sent; None while the parties make their keys.
        digests: the contribution of each hospital that sent one.
        held: by hospital, the parties that hold its part.
        absent: by hospital that is left out, the reason in a fixed word and a sentence.
        tries: by hospital, how often the announcement was sent again.
    """

    context: RoundContext
    cohort: list[str]
    announced: Announcement | None = None
    digests: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, set[str]] = field(default_factory=dict)
    absent: dict[str, tuple[str, str]] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    @property
    def timer(self) -> str:
        """The name of this attempt's deadline."""
        return f"contributions-{self.context.round}-{self.context.attempt}"

    def announce(self, keys: list[SignedRoundKey], seconds: float) -> list[Effect]:
        """Ask every hospital of the cohort for its contribution, until a deadline."""
        self.announced = Announcement(context=self.context, cohort=self.cohort, keys=keys)
        return [*(Send(hospital, self.announced) for hospital in self.cohort), SetTimer(self.timer, seconds)]

    def announce_again(self, hospital: str, why: str) -> list[Effect]:
        """Ask a hospital once more that has sent nothing; after some tries it is left out."""
        if not self.is_pending(hospital) or hospital in self.digests or self.announced is None:
            return []
        self.tries[hospital] = self.tries.get(hospital, 0) + 1
        if self.tries[hospital] > MAX_HOSPITAL_TRIES:
            self.leave_out(hospital, "unreachable", f"It did not contribute: {why}.")
            return []
        return [Send(hospital, self.announced)]

    def catch_up(self, hospital: str, missed: range, recall: Callable[[int], Settled]) -> list[Effect]:
        """Send a hospital that is behind the next few outcomes, and ask it once more, as often as any other."""
        again = self.announce_again(hospital, "it stays behind")
        return [*(Send(hospital, recall(round_)) for round_ in missed[:MISSED_AT_ONCE] if again), *again]

    def contributed(self, hospital: str, message: SignedContribution) -> list[Effect]:
        """Pass a hospital's parts on to the parties, which check them."""
        contribution, parties = message.contribution, self.context.parties
        if not self.is_pending(hospital) or contribution.context != self.context.digest():
            return []
        if contribution.hospital != hospital or len(message.envelopes) != len(parties):
            self.leave_out(
                hospital, "bad-contribution", "Its contribution is not one envelope for each party."
            )
            return []
        digest, known = contribution.digest(), self.digests.get(hospital)
        if known is not None:
            # The parties have the first; were the second passed on, some might hold one and some the other.
            if digest != known:
                second = "It sent two different contributions to one attempt."
                self.leave_out(hospital, "second-contribution", second)
            return []
        self.digests[hospital] = digest
        return [
            Send(party, Part(contribution=contribution, signature=message.signature, envelope=envelope))
            for party, envelope in zip(parties, message.envelopes, strict=True)
        ]

    def hold(self, party: str, answer: Held) -> None:
        """A party holds its part of a contribution."""
        mine = (self.context.digest(), self.digests.get(answer.hospital))
        if (answer.context, answer.contribution) == mine:
            self.held.setdefault(answer.hospital, set()).add(party)

    def leave_out(self, hospital: str, reason: str, explanation: str) -> None:
        """Do without a hospital in this attempt."""
        self.absent[hospital] = (reason, explanation)

    def end(self) -> None:
        """The deadline: do without all that are still waited for."""
        for hospital in self.pending:
            self.leave_out(hospital, "no-answer", "It did not answer before the deadline.")

    def is_pending(self, hospital: str) -> bool:
        """Whether this hospital is still waited for."""
        everywhere = self.held.get(hospital, set()) >= set(self.context.parties)
        return hospital in self.cohort and hospital not in self.absent and not everywhere

    @property
    def pending(self) -> list[str]:
        """The hospitals that are still waited for."""
        return [hospital for hospital in self.cohort if self.is_pending(hospital)]

    def frozen(self, terms: Terms) -> FrozenList:
        """The list for the parties to sign.

        Raises:
            EngineError: too few hospitals are left.
        """
        included = [hospital for hospital in self.cohort if hospital not in self.absent]
        round_, least = self.context.round, terms.least(self.context.round)
        if len(included) < least:
            reasons = "; ".join(f"{h}: {text.rstrip('.')}" for h, (_, text) in self.absent.items())
            raise EngineError(
                f"Round {round_} has {len(included)} contributions and needs {least} ({reasons}): "
                "mend the hospitals that are missing and run again with --resume."
            )
        return FrozenList(
            context=self.context.digest(),
            cohort=self.cohort,
            contributions={hospital: self.digests[hospital] for hospital in included},
            absent={hospital: reason for hospital, (reason, _) in self.absent.items()},
        )
