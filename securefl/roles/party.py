"""A party: it holds shares, agrees with its fellows on one list, and opens one sum a round.

Its discipline, in the order of a round: a key for each attempt, in memory only; parts checked against the hospital's
signature and put on disk still sealed; one vote an attempt, for one list; norms checked, if the study has a bound; the
share of the sum on disk before anyone may open (``SignedPrepared``); the release, and the cohort in the ledger, on disk
before the first opening share leaves. After the release it only ever sends those bytes again. A restart forgets the
keys of an unfinished attempt, and with them all that was sealed to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from protocols.chain import Outcome, check_link, total_digest
from protocols.contribution import (
    FrozenList,
    RoundKey,
    Vote,
    sign,
)
from protocols.errors import ProtocolError
from protocols.projection import commit
from protocols.signing import SigningKey
from securefl.errors import RefusedError
from securefl.roles.effects import (
    COORDINATOR,
    AddShares,
    CheckNorms,
    CommitteeFailed,
    Effect,
    Event,
    Keep,
    NormsChecked,
    OpenSum,
    Persist,
    RunCommittee,
    Send,
    SharesAdded,
    SumOpened,
    coin_context,
)
from securefl.roles.messages import (
    Accepted,
    CloseRequest,
    ClosingSignature,
    Freeze,
    Held,
    KeyRequest,
    Opened,
    Part,
    PartyStatus,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedPrepared,
    SignedRoundKey,
    SignedVote,
    StatusRequest,
)
from securefl.roles.party_checks import (
    check_closing_request,
    check_key_request,
    check_list,
    check_part,
    check_release,
    check_votes,
)
from securefl.roles.party_memory import MEMORY, SHARE, SPOOL, Attempt, Ledger, PartyMemory
from securefl.roles.records import receipt_name
from securefl.roles.terms import Terms

NORM_TOO_LARGE = "norm-too-large"


class PartyMachine:
    """One party's part in one study.

    Args:
        name: its name; its rank is its place among the terms' parties.
        terms: the study's.
        key: its signing key.
        stored: what it persisted before, by name; empty at first.
        ledger: what it entered before, in this study and in others.
    """

    def __init__(
        self,
        name: str,
        terms: Terms,
        key: SigningKey,
        stored: Mapping[str, bytes],
        ledger: Mapping[str, bytes],
    ) -> None:
        self.name = name
        self._terms, self._key, self._stored = terms, key, stored
        self._memory = PartyMemory.recalled(name, terms, stored)
        self._ledger = Ledger(ledger, terms.hospitals)
        self._attempt: Attempt | None = None
        self._spooled = {name for name in stored if name.startswith(SPOOL)}
        self._preparing: FrozenList | None = None
        self._excluded: dict[str, str] = {}

    def handle(self, event: Event) -> list[Effect]:
        """Take one message, or the result of a job of the committee."""
        match event:
            case StatusRequest():
                return [Send(COORDINATOR, self._status())]
            case KeyRequest():
                return self._key_request(event)
            case Part():
                return self._part(event)
            case Freeze():
                return self._freeze(event.frozen)
            case Prepare():
                return self._prepare(event)
            case NormsChecked():
                return self._checked(event)
            case SharesAdded():
                return self._added(event)
            case Release():
                return self._release(event)
            case SumOpened():
                return self._opened(event.total)
            case Settled():
                return self._settled(event)
            case CloseRequest():
                return self._close(event)
            case CommitteeFailed():
                self._preparing = None
                return [Send(COORDINATOR, self._refusal("committee-failed", event.explanation))]
            case _:
                raise RefusedError("unexpected", "A party does not take messages of this kind.")

    # -- the attempt ---------------------------------------------------------------------------------------------

    def _status(self) -> PartyStatus:
        m = self._memory
        return PartyStatus(
            party=self.name,
            round=m.round,
            attempt=m.attempt,
            previous=m.previous,
            released=m.released,
            context=m.context,
            frozen=m.frozen,
            prepared=m.prepared,
        )

    def _key_request(self, message: KeyRequest) -> list[Effect]:
        context, memory = message.context, self._memory
        check_key_request(self._terms, memory, self.name, message)
        forgotten = self._forget_spool()
        self._attempt = Attempt(context, message.cohort, message.session)
        self._preparing = None
        self._memory = self._waiting(memory.round, memory.previous, context.attempt)
        key = RoundKey(context=context.digest(), party=self.name, public=self._attempt.key.public)
        answer = SignedRoundKey(key=key, signature=sign(key, self._key))
        return [*forgotten, self._persist(), Keep(SHARE, b""), Send(COORDINATOR, answer)]

    def _part(self, message: Part) -> list[Effect]:
        attempt = self._current(message.contribution.context)
        check_part(self._terms, attempt, self.name, message)
        contribution, hospital = message.contribution, message.contribution.hospital
        digest = contribution.digest()
        self._attempt = replace(attempt, held={**attempt.held, hospital: digest})
        self._spooled.add(spool(hospital))
        answer = Held(party=self.name, context=contribution.context, hospital=hospital, contribution=digest)
        return [Keep(spool(hospital), message.envelope), Send(COORDINATOR, answer)]

    def _freeze(self, frozen: FrozenList) -> list[Effect]:
        attempt = self._current(frozen.context)
        check_list(self._terms, attempt, frozen)
        self._ledger.check(attempt.context, frozen.contributions)
        self._attempt = replace(attempt, frozen=frozen.digest())
        vote = self._vote(self._attempt)
        return [Send(COORDINATOR, SignedVote(party=self.name, vote=vote, signature=sign(vote, self._key)))]

    def _vote(self, attempt: Attempt) -> Vote:
        checked = self._terms.norm_check(attempt.context.purpose, attempt.context.size) is not None
        return Vote(
            frozen=attempt.frozen,
            commitment=commit(attempt.coin_part, coin_context(attempt.frozen, self.name)) if checked else b"",
        )

    # -- norms, and the share of the sum -------------------------------------------------------------------------

    def _prepare(self, message: Prepare) -> list[Effect]:
        frozen, attempt = message.frozen, self._current(message.frozen.context)
        check_votes(self._terms, attempt, self.name, self._vote(attempt), message)
        if self._memory.prepared is not None:
            return [Send(COORDINATOR, self._memory.prepared)]
        self._preparing, self._excluded = frozen, {}
        check = self._terms.norm_check(attempt.context.purpose, attempt.context.size)
        if check is None:
            return [self._add(attempt, frozen)]
        job = CheckNorms(
            attempt.context,
            self.name,
            attempt.frozen,
            {hospital: spool(hospital) for hospital in frozen.contributions},
            check,
            attempt.key,
            attempt.coin_part,
            [signed.vote.commitment for signed in message.votes],
            attempt.session,
        )
        return [RunCommittee(job)]

    def _checked(self, result: NormsChecked) -> list[Effect]:
        frozen, attempt = self._preparing, self._attempt
        if frozen is None or attempt is None:
            raise RefusedError("unexpected", "No norms were to be checked.")
        within = [hospital for hospital in frozen.contributions if hospital in result.within]
        try:
            self._terms.check_cohort(within, attempt.context.round)
            self._ledger.check(attempt.context, within)
        except RefusedError as error:
            self._preparing = None
            return [Send(COORDINATOR, self._refusal(error.reason, str(error)))]
        self._excluded = {h: NORM_TOO_LARGE for h in frozen.contributions if h not in result.within}
        return [self._add(attempt, frozen)]

    def _add(self, attempt: Attempt, frozen: FrozenList) -> RunCommittee:
        parts = {
            hospital: spool(hospital) for hospital in frozen.contributions if hospital not in self._excluded
        }
        variance = self._terms.noise_variance(attempt.context.round)
        return RunCommittee(
            AddShares(attempt.context, self.name, parts, attempt.key, attempt.session, variance)
        )

    def _added(self, result: SharesAdded) -> list[Effect]:
        frozen, attempt = self._preparing, self._attempt
        if frozen is None or attempt is None:
            raise RefusedError("unexpected", "No sum was asked for.")
        self._preparing = None
        prepared = SignedPrepared(
            party=self.name,
            frozen=frozen.digest(),
            excluded=self._excluded,
            session=result.session,
            signature=b"",
        )
        signed = prepared.model_copy(
            update={"signature": self._key.sign(SignedPrepared.kind, prepared.digest())}
        )
        self._memory = self._memory.model_copy(
            update={"context": attempt.context, "frozen": frozen, "prepared": signed}
        )
        return [Persist(SHARE, result.share), self._persist(), Send(COORDINATOR, signed)]

    # -- the opening ---------------------------------------------------------------------------------------------

    def _release(self, message: Release) -> list[Effect]:
        memory = self._memory
        context, frozen, mine = check_release(self._terms, memory, message)
        opening = RunCommittee(OpenSum(context, SHARE, message.session))
        if memory.released:
            return [opening]
        included = [hospital for hospital in frozen.contributions if hospital not in mine.excluded]
        self._ledger.check(context, included)
        self._memory = memory.model_copy(update={"released": True})
        return [*self._ledger.enter(context, included), self._persist(), opening]

    def _opened(self, total: bytes) -> list[Effect]:
        context, frozen, prepared = self._memory.context, self._memory.frozen, self._memory.prepared
        if context is None or frozen is None or prepared is None:
            raise RefusedError("unexpected", "No opening was asked for.")
        outcome = Outcome(
            context=context, frozen=frozen, excluded=prepared.excluded, total=total_digest(total)
        )
        signature = sign(outcome, self._key)
        return [Send(COORDINATOR, Opened(party=self.name, outcome=outcome, signature=signature, total=total))]

    def _settled(self, message: Settled) -> list[Effect]:
        outcome, memory = message.signed.outcome, self._memory
        accepted = Send(COORDINATOR, Accepted(member=self.name, round=outcome.round))
        if outcome.round < memory.round:
            return [accepted]
        if memory.closed:
            raise RefusedError("closed", "The study is closed.")
        try:
            check_link(message.signed, self._terms.study, memory.previous, memory.round, self._terms.signers)
        except ProtocolError as error:
            raise RefusedError("other-chain", str(error)) from error
        # A party that was in no committee yet: its memory comes before its receipts.
        first = [] if MEMORY in self._stored else [self._persist()]
        forgotten = self._forget_spool()
        self._attempt = self._preparing = None
        self._memory = self._waiting(outcome.round + 1, outcome.digest())
        # On disk with the next attempt or the closing, before the share is erased: a party that is killed until then is
        # behind, and is sent the outcome again.
        receipt = Keep(receipt_name(outcome.round), message.signed.to_bytes())
        return [*first, *forgotten, receipt, accepted]

    def _close(self, message: CloseRequest) -> list[Effect]:
        closing = message.closing
        end = check_closing_request(self._terms, self._memory, self.name, closing)
        # No attempt is under way: there are no keys for a round after the last.
        self._memory = self._memory.model_copy(update={"closed": end})
        # Spool and share are gone, unless the party was killed between the last outcome and erasing them.
        forgotten = [*self._forget_spool(), Keep(SHARE, b"")]
        answer = ClosingSignature(
            party=self.name, closing=closing.digest(), signature=sign(closing, self._key)
        )
        return [self._persist(), *forgotten, Send(COORDINATOR, answer)]

    # -- small things --------------------------------------------------------------------------------------------

    def _current(self, context: bytes) -> Attempt:
        if self._attempt is None or self._attempt.context.digest() != context:
            raise RefusedError(
                "other-attempt", "This party has no key for that attempt: it must be made anew."
            )
        return self._attempt

    def _waiting(self, round_: int, previous: bytes, attempt: int = 0) -> PartyMemory:
        return PartyMemory.waiting(self._terms.study, round_, previous, attempt)

    def _persist(self) -> Persist:
        return Persist(MEMORY, self._memory.to_bytes())

    def _forget_spool(self) -> list[Effect]:
        forgotten: list[Effect] = [Keep(name, b"") for name in sorted(self._spooled)]
        self._spooled = set()
        return forgotten

    def _refusal(self, reason: str, explanation: str) -> Refusal:
        return Refusal(
            member=self.name, about="committee", hospital="", reason=reason, explanation=explanation
        )


def spool(hospital: str) -> str:
    """Where a hospital's sealed part waits."""
    return SPOOL + hospital
