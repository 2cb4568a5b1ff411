"""What has happened in a run so far, told by its messages alone: nothing here asks a machine what it thinks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.chain import Closing
from protocols.contribution import FrozenList, RoundContext
from securefl.roles.messages import (
    Announcement,
    CloseRequest,
    CoinRevealed,
    Declined,
    Freeze,
    Held,
    KeyRequest,
    Message,
    Opened,
    Part,
    PartyStatus,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedContribution,
    SignedPrepared,
    SignedVote,
    StatusRequest,
    Verification,
)


@dataclass(frozen=True)
class PartyFacts:
    """What a party has been told and has said.

    Attributes:
        round, previous: what it waits for.
        attempt: the highest attempt of that round.
        context, cohort: the attempt under way; None after a restart.
        held: digest of the contribution by hospital.
        voted: the list that it has voted for.
        prepared: the list that its share on disk is of.
        released: that share may have left.
        closed: it has signed this closing record, or one that names the same chain and model.
        opened: purpose, model and hospitals of every sum that it has opened.
    """

    round: int
    previous: bytes
    attempt: int = 0
    context: RoundContext | None = None
    cohort: tuple[str, ...] = ()
    held: Mapping[str, bytes] = field(default_factory=dict)
    voted: FrozenList | None = None
    prepared: FrozenList | None = None
    released: bool = False
    closed: Closing | None = None
    opened: tuple[tuple[str, bytes, frozenset[str]], ...] = ()

    def told(self, message: Message, answers: list[Message]) -> PartyFacts:
        """After a message that it did not refuse."""
        if any(isinstance(answer, Refusal) for answer in answers):
            return self
        match message:
            case KeyRequest():
                return PartyFacts(
                    self.round, self.previous, message.context.attempt, message.context, tuple(message.cohort),
                    opened=self.opened,
                )  # fmt: skip
            case Part():
                name = message.contribution.hospital
                return replace(self, held={**self.held, name: message.contribution.digest()})
            case Freeze():
                return replace(self, voted=message.frozen)
            case Prepare():
                return replace(self, prepared=message.frozen)
            case Release():
                (opened,) = answers
                assert isinstance(opened, Opened)
                context = opened.outcome.context
                entry = (context.purpose, context.model, frozenset(opened.outcome.included))
                return replace(self, released=True, opened=(*self.opened, entry))
            case Settled() if message.signed.outcome.round == self.round:
                digest = message.signed.outcome.digest()
                return PartyFacts(self.round + 1, digest, opened=self.opened, closed=self.closed)
            case CloseRequest():
                return replace(self, closed=message.closing)
            case _:
                return self

    def restarted(self) -> PartyFacts:
        """Its process has ended and begun anew."""
        return replace(self, context=None, cohort=(), held={}, voted=None)


@dataclass(frozen=True)
class HospitalFacts:
    """What a hospital has been told and has said.

    Attributes:
        round, previous: what it waits for.
        revealed: outcomes for which it has revealed its coin, and their rounds.
        unverified: rounds of which it waits for the finished check.
    """

    round: int
    previous: bytes
    revealed: Mapping[bytes, int] = field(default_factory=dict)
    unverified: frozenset[int] = frozenset()

    def told(self, message: Message, answers: list[Message]) -> HospitalFacts:
        """After a message that it did not refuse."""
        if any(isinstance(answer, Refusal) for answer in answers):
            return self
        match message:
            case Settled() if message.signed.outcome.round == self.round:
                digest = message.signed.outcome.digest()
                revealed, waits = dict(self.revealed), self.unverified
                if any(isinstance(answer, CoinRevealed) for answer in answers):
                    waits = waits if digest in revealed else waits | {self.round}
                    revealed[digest] = self.round
                return HospitalFacts(self.round + 1, digest, revealed, waits)
            case Verification():
                return replace(self, unverified=self.unverified - {message.round})
            case _:
                return self


@dataclass(frozen=True)
class CoordinatorFacts:
    """What the coordinator has asked and has been told.

    Attributes:
        phase: what it asked last.
        asked: the parties that it asked.
        answered: those of whom it knows where they are.
        round: the round that is not settled yet.
        context, cohort: the attempt under way.
        frozen: the list under way.
        digests: the contributions of this attempt that it has passed on.
        out: hospitals that it has left out of this attempt.
        held: who holds whose contribution.
        checks: the hospitals of the outcomes that are being checked.
        closing: what it wants closed.
    """

    phase: str = "start"
    asked: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    round: int = 0
    context: RoundContext | None = None
    cohort: tuple[str, ...] = ()
    frozen: FrozenList | None = None
    digests: Mapping[str, bytes] = field(default_factory=dict)
    out: frozenset[str] = frozenset()
    held: frozenset[tuple[str, str]] = frozenset()
    checks: Mapping[bytes, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    closing: bytes = b""

    def posted(self, to: str, message: Message) -> CoordinatorFacts:
        """It has written to somebody."""
        asks = {
            StatusRequest: "status", KeyRequest: "keys", Announcement: "collect", Freeze: "freeze",
            Prepare: "prepare", Release: "release", CloseRequest: "close",
        }  # fmt: skip
        match message:
            case Settled():
                outcome = message.signed.outcome
                if outcome.round < self.round:
                    return self
                checks = {**self.checks, outcome.digest(): (outcome.round, tuple(outcome.included))}
                return CoordinatorFacts("checks", round=outcome.round + 1, checks=checks)
            case Part():
                name = message.contribution.hospital
                return replace(self, digests={**self.digests, name: message.contribution.digest()})
            case _ if type(message) not in asks:
                return self
        phase = asks[type(message)]
        facts = self if phase == self.phase else replace(self, phase=phase, asked=frozenset())
        match message:
            case StatusRequest():
                facts = replace(facts, context=None, cohort=(), digests={}, out=frozenset(), held=frozenset())
                facts = replace(facts, answered=frozenset())
            case KeyRequest():
                facts = replace(facts, context=message.context, cohort=tuple(message.cohort))
            case Freeze() | Prepare() | Release():
                facts = replace(facts, frozen=message.frozen)
            case CloseRequest():
                facts = replace(facts, closing=message.closing.digest())
        return replace(facts, asked=facts.asked | {to})

    def told(self, sender: str, message: Message) -> CoordinatorFacts:
        """It has read this."""
        current = self.context.digest() if self.context else b""
        match message:
            case PartyStatus() if self.phase == "status":
                return replace(self, answered=self.answered | {sender})
            case Held() if message.context == current:
                return replace(self, held=self.held | {(sender, message.hospital)})
            case Refusal() if self.phase == "collect" and (
                message.hospital or message.about == Announcement.kind
            ):
                return replace(self, out=self.out | {message.hospital or sender})
            case Declined() if self.phase == "collect":
                return replace(self, out=self.out | {sender})
            case _:
                return self

    def verified(self, round_: int) -> CoordinatorFacts:
        """A check has ended."""
        return replace(self, checks={d: check for d, check in self.checks.items() if check[0] != round_})


Facts = PartyFacts | HospitalFacts | CoordinatorFacts


@dataclass
class Genuine:
    """What the members of a run really made, each as it left its author."""

    contributions: dict[tuple[bytes, str], list[SignedContribution]] = field(
        default_factory=lambda: defaultdict(list)
    )
    votes: dict[bytes, list[SignedVote]] = field(default_factory=lambda: defaultdict(list))
    prepared: dict[bytes, list[SignedPrepared]] = field(default_factory=lambda: defaultdict(list))
    by_kind: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))

    def add(self, message: Message) -> None:
        """Take a message from its author."""
        if message in self.by_kind[message.kind]:
            return
        self.by_kind[message.kind].append(message)
        match message:
            case SignedContribution():
                made = message.contribution
                self.contributions[made.context, made.hospital].append(message)
            case SignedVote():
                self.votes[message.vote.frozen].append(message)
            case SignedPrepared():
                self.prepared[message.frozen].append(message)
