"""The coordinator: it calls the rounds and carries the messages. Nobody has to trust it.

One round goes through the phases keys, collect, freeze, prepare and release; the last one is followed by close. When a
party is lost in any phase, the machine asks all parties where they are and goes on from there: a round that no party
has released is attempted anew, a round that one has released is finished from the parties' disks. A party that is gone
for good is waited for, unless the study allows a smaller committee.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from protocols.chain import Closing, SignedClosing, SignedOutcome, check_closing, total_digest
from protocols.contribution import FrozenList, RoundContext
from protocols.errors import ChainError, EncodingError
from securefl.errors import EngineError
from securefl.roles.collecting import MISSED_AT_ONCE, Attempt
from securefl.roles.effects import (
    Effect,
    Event,
    Finished,
    Gone,
    Lost,
    Persist,
    Received,
    RoundDone,
    Send,
    Start,
    Timeout,
)
from securefl.roles.messages import (
    Announcement,
    Behind,
    CloseRequest,
    ClosingSignature,
    CoinRevealed,
    Declined,
    Freeze,
    Held,
    KeyRequest,
    Message,
    Opened,
    PartyStatus,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedAnswer,
    SignedContribution,
    SignedPrepared,
    SignedRoundKey,
    SignedVote,
    StatusRequest,
    Verification,
)
from securefl.roles.records import CLOSING, receipt_name, sum_name
from securefl.roles.refusals import heard
from securefl.roles.replica import Replica
from securefl.roles.terms import STATISTICS, UPDATE, Terms
from securefl.roles.verifying import Verifying

HOSPITALS_FAULT = ("bad-contribution", "second-contribution")
HOPELESS = ("too-few-hospitals", "other-cohort")
"""Reasons for which a party will refuse any further attempt too."""
MAX_RECOVERIES = 8


_EXCLUDED = "The committee found its update longer than the study's norm bound."


def _digest(frozen: FrozenList | None) -> bytes:
    return frozen.digest() if frozen else b""


class CoordinatorMachine:
    """The coordinator's part in one study.

    Args:
        terms: the study's.
        sizes: elements of the statistics and of an update.
        replica: the model after the outcomes so far.
        follow: the replica after one more outcome.
        recall: the settled outcome of an earlier round, for members that are behind.
        record: the hospitals' check of a round's sum, if it was finished.
    """

    name = "coordinator"

    def __init__(
        self,
        terms: Terms,
        sizes: Mapping[str, int],
        replica: Replica,
        follow: Callable[[Replica, Settled], Replica],
        recall: Callable[[int], Settled],
        record: Callable[[int], Verification | None],
    ) -> None:
        self._terms, self._sizes, self._replica = terms, sizes, replica
        self._follow, self._recall = follow, recall
        self._verifying = Verifying(terms, recall, record)
        self._parties = list(terms.parties)
        self._asked: list[str] = []
        self._phase = "start"
        self._session = 0
        self._recoveries = 0
        self._caught_up = -1
        self._answers: dict[str, Message] = {}
        self._attempt: Attempt | None = None
        self._frozen: FrozenList | None = None

    @property
    def replica(self) -> Replica:
        """The model after the outcomes so far."""
        return self._replica

    def handle(self, event: Event) -> list[Effect]:
        """Take one event. Raises EngineError when the round cannot be brought to an end."""
        match event:
            case Start():
                return [*self._ask_status(), *self._verifying.resume(self._replica.place.round - 1)]
            case Lost(member) if member in self._terms.parties:
                return self._recover(f"{member} was lost")
            case Gone(member, explanation):
                return self._gone(member, explanation)
            case Lost(member):
                again = self._announce_again(member, "it was lost on its way")
                return [*self._verifying.again(member), *again]
            case Timeout(name) if ended := self._verifying.timeout(name):
                return [*ended, *self._close_if_checked()]
            case Timeout(name):
                # Timers are never taken back: one of an earlier attempt says nothing about this one.
                current = self._phase == "collect" and name == self._now().timer
                return self._deadline() if current else []
            case Received(sender, Declined() | Refusal() as said):
                return self._received(sender, heard(said))
            case Received(sender, message):
                return self._received(sender, message)
            case _:
                return []

    def _received(self, sender: str, message: Message) -> list[Effect]:
        if sender in self._terms.parties:
            return self._from_party(sender, message)
        return self._from_hospital(sender, message)

    def _from_party(self, party: str, message: Message) -> list[Effect]:
        if isinstance(message, Held | Refusal) and self._phase == "collect" and message.hospital:
            return self._part_answered(party, message)
        if isinstance(message, Refusal) and (
            self._phase in ("status", "done") or self._is_left_out(message.hospital)
        ):
            return []  # of something earlier; and a contribution that one party refused, others refuse too
        if isinstance(message, Refusal) and message.reason in HOPELESS:
            raise EngineError(f"Round {self._replica.place.round} cannot be opened. {message.explanation}")
        if isinstance(message, Refusal):
            return self._recover(f"{party} refused: {message.explanation}")
        if not self._awaited(message) or party not in self._asked:
            return []
        self._answers[party] = message
        if set(self._answers) != set(self._asked):
            return []
        # In the parties' order, whatever order they answered in.
        answers: dict[str, Any] = {name: self._answers[name] for name in self._asked}
        self._answers = {}
        match self._phase:
            case "status":
                return self._all_status(answers)
            case "keys":
                return self._all_keys(answers)
            case "freeze":
                return self._all_freeze(answers)
            case "prepare":
                return self._all_prepare(answers)
            case "release":
                return self._all_release(answers)
            case _:
                return self._all_close(answers)

    def _awaited(self, message: Message) -> bool:
        """Whether a party's message answers what this phase asked, and not something earlier."""
        match self._phase, message:
            case "status", PartyStatus():
                return True
            case "keys", SignedRoundKey():
                return message.key.context == self._now().context.digest()
            case "freeze", SignedVote():
                return message.vote.frozen == self._list().digest()
            case "prepare", SignedPrepared():
                return message.frozen == self._list().digest()
            case "release", Opened():
                return message.outcome.frozen.digest() == self._list().digest()
            case "close", ClosingSignature():
                return message.closing == self._closing().digest()
            case _:
                return False

    def _enter(self, phase: str, message: Message, parties: Sequence[str]) -> list[Effect]:
        """Go to a phase that begins with the same message to these parties, and ends with an answer from each."""
        self._phase, self._answers, self._asked = phase, {}, list(parties)
        return [Send(party, message) for party in parties]

    # -- status --------------------------------------------------------------------------------------------------

    def _ask_status(self) -> list[Effect]:
        self._session += 1
        self._attempt = None
        return self._enter("status", StatusRequest(study=self._terms.study), self._parties)

    def _gone(self, party: str, explanation: str) -> list[Effect]:
        self._parties = [name for name in self._parties if name != party]
        if len(self._parties) < self._terms.minimum_parties:
            raise EngineError(
                f"{explanation} The study wants {self._terms.minimum_parties} parties: mend {party}, and run again "
                "with --resume."
            )
        return self._recover(f"{party} is gone")

    def _recover(self, why: str) -> list[Effect]:
        self._recoveries += 1
        if self._recoveries > MAX_RECOVERIES:
            raise EngineError(
                f"Round {self._replica.place.round} failed {MAX_RECOVERIES} times, at last because "
                f"{why.removesuffix('.')}."
            )
        return self._ask_status()

    def _all_status(self, statuses: dict[str, PartyStatus]) -> list[Effect]:
        round_ = self._replica.place.round
        ahead = [p for p, s in statuses.items() if s.round > round_]
        if ahead:
            raise EngineError(
                f"{ahead[0]} has settled rounds of this study that this run folder lacks: go on with the run's own "
                "folder and --resume; for another run, give the study another seed."
            )
        missed: list[Effect] = []
        for party, status in statuses.items():
            missed += [Send(party, self._recall(r)) for r in range(status.round, round_)[:MISSED_AT_ONCE]]
        if missed:
            return self._catch_up(missed, min(status.round for status in statuses.values()))
        if any(status.released for status in statuses.values()):
            return self._finish_released(statuses)
        if round_ > self._terms.rounds:
            return self._ask_closing()
        return self._ask_keys(1 + max(status.attempt for status in statuses.values()))

    def _catch_up(self, missed: list[Effect], last: int) -> list[Effect]:
        # Counted as a recovery unless it went on: a party that refuses what it lacks would be sent it for ever.
        self._recoveries += last <= self._caught_up
        self._caught_up = last
        if self._recoveries > MAX_RECOVERIES:
            raise EngineError(
                f"A party does not take the outcomes before round {self._replica.place.round}: its memory belongs to "
                "another run, restore it."
            )
        return missed + self._enter("status", StatusRequest(study=self._terms.study), self._parties)

    def _finish_released(self, statuses: dict[str, PartyStatus]) -> list[Effect]:
        opening = next(status for status in statuses.values() if status.released)
        context, frozen = opening.context, opening.frozen
        shares = [statuses[p].prepared for p in context.parties if p in statuses] if context else []
        prepared = [share for share in shares if share is not None and share.frozen == _digest(frozen)]
        if context is None or frozen is None or len(prepared) < len(context.parties):
            raise EngineError(
                f"Round {self._replica.place.round} is void: its opening began and a party has lost its share for good."
            )
        self._frozen = frozen
        return self._ask_release(prepared, context.parties)

    # -- keys and contributions ----------------------------------------------------------------------------------

    def _ask_keys(self, attempt: int) -> list[Effect]:
        place = self._replica.place
        purpose = self._terms.purpose(place.round)
        context = RoundContext(
            study=self._terms.study,
            round=place.round,
            attempt=attempt,
            previous=place.previous,
            purpose=purpose,
            model=self._replica.state.digest(),
            parties=self._parties,
            width=self._terms.encoding(purpose).width,
            size=self._sizes[STATISTICS if place.round == 0 else UPDATE],
        )
        cohort = list(self._terms.hospitals)
        self._attempt = Attempt(context, cohort)
        request = KeyRequest(context=context, cohort=cohort, session=self._session)
        return self._enter("keys", request, self._parties)

    def _all_keys(self, keys: dict[str, SignedRoundKey]) -> list[Effect]:
        attempt = self._now()
        foreign = [party for party, key in keys.items() if key.key.party != party]
        if foreign:
            raise EngineError(
                f"{foreign[0]} gave a sealing key under another party's name: stop and audit it."
            )
        self._phase = "collect"
        return attempt.announce(list(keys.values()), self._terms.hospital_seconds)

    def _from_hospital(self, hospital: str, message: Message) -> list[Effect]:
        match message:
            case Behind() if self._pending(hospital) and message.round >= 0:
                missed = range(message.round, self._replica.place.round)
                again = self._now().catch_up(hospital, missed, self._recall)
                return [*again, *self._freeze_if_complete()]
            case SignedContribution() if self._phase == "collect":
                return [*self._now().contributed(hospital, message), *self._freeze_if_complete()]
            case CoinRevealed():
                return [*self._verifying.revealed(hospital, message), *self._close_if_checked()]
            case SignedAnswer():
                return [*self._verifying.answered(hospital, message), *self._close_if_checked()]
            case Declined() if self._pending(hospital) and message.context == self._now().context.digest():
                return self._leave_out(hospital, message.reason, message.explanation)
            case Refusal() if self._pending(hospital) and message.about == Announcement.kind:
                return self._leave_out(hospital, message.reason, message.explanation)
            case _:
                return []

    def _part_answered(self, party: str, answer: Held | Refusal) -> list[Effect]:
        attempt = self._now()
        if answer.hospital in attempt.absent or answer.hospital not in attempt.cohort:
            return []
        if isinstance(answer, Refusal) and answer.reason not in HOSPITALS_FAULT:
            return self._recover(f"{party} refused: {answer.explanation}")
        if isinstance(answer, Refusal):
            return self._leave_out(answer.hospital, answer.reason, answer.explanation)
        attempt.hold(party, answer)
        return self._freeze_if_complete()

    def _announce_again(self, hospital: str, why: str) -> list[Effect]:
        if self._phase != "collect":
            return []
        return [*self._now().announce_again(hospital, why), *self._freeze_if_complete()]

    def _deadline(self) -> list[Effect]:
        self._now().end()
        return self._freeze_if_complete()

    def _leave_out(self, hospital: str, reason: str, explanation: str) -> list[Effect]:
        self._now().leave_out(hospital, reason, explanation)
        return self._freeze_if_complete()

    def _is_left_out(self, hospital: str) -> bool:
        return self._attempt is not None and hospital in self._attempt.absent

    def _pending(self, hospital: str) -> bool:
        return self._phase == "collect" and self._now().is_pending(hospital)

    # -- freeze, prepare, release --------------------------------------------------------------------------------

    def _freeze_if_complete(self) -> list[Effect]:
        if self._now().pending:
            return []
        self._frozen = self._now().frozen(self._terms)
        return self._enter("freeze", Freeze(frozen=self._frozen), self._parties)

    def _all_freeze(self, votes: dict[str, SignedVote]) -> list[Effect]:
        prepare = Prepare(frozen=self._list(), votes=list(votes.values()))
        return self._enter("prepare", prepare, self._parties)

    def _all_prepare(self, prepared: dict[str, SignedPrepared]) -> list[Effect]:
        if len({p.session for p in prepared.values()}) != 1:
            return self._recover("the parties prepared in different sessions")
        return self._ask_release(list(prepared.values()), self._parties)

    def _ask_release(self, prepared: list[SignedPrepared], parties: Sequence[str]) -> list[Effect]:
        release = Release(frozen=self._list(), prepared=prepared, session=self._session)
        return self._enter("release", release, parties)

    # -- outcome and close ---------------------------------------------------------------------------------------

    def _all_release(self, opened: dict[str, Opened]) -> list[Effect]:
        outcomes = {answer.outcome.digest() for answer in opened.values()}
        first = next(iter(opened.values()))
        if len(outcomes) != 1 or any(total_digest(o.total) != first.outcome.total for o in opened.values()):
            raise EngineError(
                f"The parties do not agree on the sum of round {first.outcome.round}: stop and audit them."
            )
        signed = SignedOutcome(outcome=first.outcome, signatures=[o.signature for o in opened.values()])
        settled = Settled(signed=signed, total=first.total)
        self._replica = self._follow(self._replica, settled)
        absent = dict(self._attempt.absent) if self._attempt else {}
        absent |= {h: (reason, _EXCLUDED) for h, reason in first.outcome.excluded.items()}
        round_, self._recoveries = first.outcome.round, 0
        return [
            Persist(sum_name(round_), settled.total),
            Persist(receipt_name(round_), signed.to_bytes()),
            *(Send(member, settled) for member in (*self._parties, *self._terms.hospitals)),
            *self._verifying.begin(first.outcome),
            *self._next_round(),
            # Last: the members take the outcome and make new keys while the engine evaluates the model.
            RoundDone(settled, absent),
        ]

    def _next_round(self) -> list[Effect]:
        # Nobody waits for the outcome to be accepted: each member takes it before whatever follows it.
        self._attempt, self._frozen = None, None
        if self._replica.place.round > self._terms.rounds:
            return self._ask_closing()
        return self._ask_keys(1)

    def _closing(self) -> Closing:
        place = self._replica.place
        unverified, verifications = self._verifying.digest(place.round)
        return Closing(
            study=place.study,
            rounds=place.round,
            last=place.previous,
            model=self._replica.state.digest(),
            parties=self._parties,
            unverified=unverified,
            verifications=verifications,
        )

    def _ask_closing(self) -> list[Effect]:
        # The last rounds' checks come first: the closing says which sums were verified.
        self._phase = "checks"
        return self._close_if_checked()

    def _close_if_checked(self) -> list[Effect]:
        if self._phase != "checks" or self._verifying.pending:
            return []
        return self._enter("close", CloseRequest(closing=self._closing()), self._parties)

    def _all_close(self, signatures: dict[str, ClosingSignature]) -> list[Effect]:
        closing = SignedClosing(
            closing=self._closing(), signatures=[s.signature for s in signatures.values()]
        )
        place = self._replica.place
        try:
            check_closing(closing, place.study, place.round, place.previous, self._terms.signers)
        except ChainError as error:
            raise EngineError(f"The study cannot be closed: stop and audit the parties. {error}") from error
        self._phase = "done"
        return [Persist(CLOSING, closing.to_bytes()), Finished(closing)]

    # -- small things --------------------------------------------------------------------------------------------

    def _now(self) -> Attempt:
        if self._attempt is None:
            raise EncodingError("There is no attempt under way.")
        return self._attempt

    def _list(self) -> FrozenList:
        if self._frozen is None:
            raise EncodingError("There is no frozen list.")
        return self._frozen
