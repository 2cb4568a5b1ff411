"""A party: it holds shares, agrees with its fellows on one list, and opens one sum a round.

Its discipline, in the order of a round: a key for each attempt, in memory only; parts checked against the hospital's
signature and put on disk still sealed; one signed list an attempt; the share of the sum on disk before anyone may
open (``Prepared``); the release on disk before the first opening share leaves. After the release it only ever sends
those bytes again. A restart forgets the keys of an unfinished attempt, and with them all that was sealed to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protocols.canonical import Record
from protocols.chain import Outcome, check_link, total_digest
from protocols.contribution import (
    Contribution,
    FrozenList,
    RoundContext,
    RoundKey,
    check_signature,
    check_signatures,
    open_share,
    sign,
)
from protocols.envelope import SealingKey, envelope_digest
from protocols.errors import EncodingError, ProtocolError
from protocols.sharing import Shape, check_share
from protocols.signing import SigningKey, verify
from securefl.errors import RefusedError
from securefl.roles.effects import (
    COORDINATOR,
    AddShares,
    CommitteeDone,
    CommitteeFailed,
    Effect,
    Event,
    Keep,
    OpenSum,
    Persist,
    RunCommittee,
    Send,
)
from securefl.roles.messages import (
    Accepted,
    CloseRequest,
    ClosingSignature,
    Freeze,
    FrozenSignature,
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
    StatusRequest,
)
from securefl.roles.terms import Terms

MEMORY, SHARE, SPOOL = "memory", "share", "spool-"


class PartyMemory(Record):
    """What a party keeps across a restart.

    Attributes:
        round, previous: the round it waits for, and the last outcome's digest.
        attempt: the highest attempt of that round it has given a key for.
        context, frozen, prepared: what its share on disk belongs to, if there is one.
        released: its opening share may have left; nothing but these bytes may leave in this round.
        closed: digest of the closing record it signed; empty while the study is open.
    """

    kind = "party-memory"
    study: bytes
    round: int
    previous: bytes
    attempt: int
    context: RoundContext | None
    frozen: FrozenList | None
    prepared: SignedPrepared | None
    released: bool
    closed: bytes


@dataclass(frozen=True)
class Attempt:
    """An unfinished attempt: what a restart forgets."""

    context: RoundContext
    cohort: list[str]
    session: int
    key: SealingKey = field(repr=False)
    held: Mapping[str, bytes] = field(default_factory=dict)
    frozen: bytes = b""


class PartyMachine:
    """One party's part in one study.

    Args:
        name: its name; its rank is its place among the terms' parties.
        terms: the study's.
        key: its signing key.
        stored: what it persisted before, by name; empty at first.
    """

    def __init__(self, name: str, terms: Terms, key: SigningKey, stored: Mapping[str, bytes]) -> None:
        self.name = name
        self._terms, self._key = terms, key
        self._memory = (
            PartyMemory.from_bytes(stored[MEMORY])
            if MEMORY in stored
            else _waiting(terms, 0, terms.beginning)
        )
        if self._memory.study != terms.study:
            raise RefusedError(
                "other-study", f"The memory of {name} belongs to another study: give it another folder."
            )
        self._attempt: Attempt | None = None
        self._spooled = {name for name in stored if name.startswith(SPOOL)}
        self._adding: Prepare | None = None

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
            case Release():
                return self._release(event)
            case Settled():
                return self._settled(event)
            case CloseRequest():
                return self._close(event)
            case CommitteeDone():
                return self._added(event) if self._adding else self._opened(event.result)
            case CommitteeFailed():
                self._adding = None
                return [Send(COORDINATOR, self._failure(event.explanation))]
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
        self._terms.check_context(context)
        self._terms.check_cohort(message.cohort, context.round)
        if context.round != memory.round or context.previous != memory.previous:
            raise RefusedError("other-chain", "The round does not continue the chain that this party has.")
        if memory.closed:
            raise RefusedError("closed", "The study is closed.")
        if memory.released:
            raise RefusedError(
                "already-opened", "The sum of this round is being opened: it is finished or it is void."
            )
        if context.attempt <= memory.attempt:
            raise RefusedError(
                "old-attempt", f"Attempt {context.attempt} of this round has been made already."
            )
        forgotten = self._forget_spool()
        self._attempt = Attempt(context, message.cohort, message.session, SealingKey.generate())
        self._memory = _waiting(self._terms, memory.round, memory.previous, context.attempt)
        key = RoundKey(context=context.digest(), party=self.name, public=self._attempt.key.public)
        answer = SignedRoundKey(key=key, signature=sign(key, self._key))
        return [*forgotten, self._persist(), Keep(SHARE, b""), Send(COORDINATOR, answer)]

    def _part(self, message: Part) -> list[Effect]:
        attempt = self._current(message.contribution.context)
        contribution = message.contribution
        hospital, digest = contribution.hospital, contribution.digest()
        if hospital not in attempt.cohort:
            raise RefusedError("unknown-hospital", f"{hospital} is not in this round's cohort.")
        held = attempt.held.get(hospital)
        if held is not None and held != digest:
            raise RefusedError("second-contribution", f"{hospital} has contributed to this attempt already.")
        if attempt.frozen and held is None:
            raise RefusedError("frozen", "The list of contributions is frozen.")
        self._check_part(attempt, contribution, message)
        self._attempt = replace(attempt, held={**attempt.held, hospital: digest})
        self._spooled.add(spool(hospital))
        answer = Held(party=self.name, context=contribution.context, hospital=hospital, contribution=digest)
        return [Keep(spool(hospital), message.envelope), Send(COORDINATOR, answer)]

    def _check_part(self, attempt: Attempt, contribution: Contribution, message: Part) -> None:
        hospital, parties = contribution.hospital, list(self._terms.parties)
        try:
            check_signature(contribution, self._terms.hospitals[hospital], message.signature)
            if len(contribution.envelopes) != len(parties):
                raise EncodingError("There is not one envelope for each party.")
            if contribution.envelopes[parties.index(self.name)] != envelope_digest(message.envelope):
                raise EncodingError("The envelope is not the one that the hospital signed.")
            content = open_share(message.envelope, attempt.key, attempt.context, hospital, self.name)
            check_share(content, Shape(attempt.context.size, attempt.context.width))
        except ProtocolError as error:
            raise RefusedError(
                "bad-contribution", f"The contribution of {hospital} is not valid. {error}"
            ) from error

    def _freeze(self, frozen: FrozenList) -> list[Effect]:
        attempt = self._current(frozen.context)
        digest = frozen.digest()
        if attempt.frozen and attempt.frozen != digest:
            raise RefusedError("second-list", "Another list has been signed in this attempt.")
        self._terms.check_cohort(list(frozen.contributions), attempt.context.round)
        if any(attempt.held.get(name) != d for name, d in frozen.contributions.items()):
            raise RefusedError("not-held", "The list names a contribution that this party does not hold.")
        self._attempt = replace(attempt, frozen=digest)
        answer = FrozenSignature(party=self.name, frozen=digest, signature=sign(frozen, self._key))
        return [Send(COORDINATOR, answer)]

    def _prepare(self, message: Prepare) -> list[Effect]:
        attempt = self._current(message.frozen.context)
        if attempt.frozen != message.frozen.digest():
            raise RefusedError("other-list", "This is not the list that this party signed.")
        try:
            check_signatures(message.frozen, list(self._terms.parties.values()), message.signatures)
        except ProtocolError as error:
            raise RefusedError("not-agreed", "The list is not signed by every party.") from error
        if self._memory.prepared is not None:
            return [Send(COORDINATOR, self._memory.prepared)]
        self._adding = message
        parts = {hospital: spool(hospital) for hospital in message.frozen.contributions}
        return [RunCommittee(AddShares(attempt.context, self.name, parts, attempt.key, attempt.session))]

    def _added(self, done: CommitteeDone) -> list[Effect]:
        message, attempt = self._adding, self._attempt
        if message is None or attempt is None:
            raise RefusedError("unexpected", "No sum was asked for.")
        self._adding = None
        frozen = message.frozen.digest()
        prepared = SignedPrepared(party=self.name, frozen=frozen, session=done.session, signature=b"")
        signed = prepared.model_copy(
            update={"signature": self._key.sign(SignedPrepared.kind, prepared.digest())}
        )
        self._memory = self._memory.model_copy(
            update={"context": attempt.context, "frozen": message.frozen, "prepared": signed}
        )
        return [Persist(SHARE, done.result), self._persist(), Send(COORDINATOR, signed)]

    # -- the opening ---------------------------------------------------------------------------------------------

    def _release(self, message: Release) -> list[Effect]:
        memory, frozen = self._memory, message.frozen.digest()
        if memory.prepared is None or memory.context is None or memory.prepared.frozen != frozen:
            raise RefusedError("not-prepared", "This party has no share of that sum on its disk.")
        if [p.party for p in message.prepared] != list(self._terms.parties):
            raise RefusedError(
                "not-agreed", "The release does not bring every party's word that it is prepared."
            )
        for prepared in message.prepared:
            if (prepared.frozen, prepared.session) != (frozen, memory.prepared.session):
                raise RefusedError("not-agreed", f"{prepared.party} has prepared another sum.")
            unsigned = prepared.model_copy(update={"signature": b""}).digest()
            try:
                verify(self._terms.parties[prepared.party], SignedPrepared.kind, unsigned, prepared.signature)
            except ProtocolError as error:
                raise RefusedError(
                    "not-agreed", f"{prepared.party} did not sign that it is prepared."
                ) from error
        opening = RunCommittee(OpenSum(memory.context, SHARE, message.session))
        if memory.released:
            return [opening]
        self._memory = memory.model_copy(update={"released": True})
        return [self._persist(), opening]

    def _opened(self, total: bytes) -> list[Effect]:
        context, frozen = self._memory.context, self._memory.frozen
        if context is None or frozen is None:
            raise RefusedError("unexpected", "No opening was asked for.")
        outcome = Outcome(
            study=context.study,
            round=context.round,
            attempt=context.attempt,
            purpose=context.purpose,
            width=context.width,
            size=context.size,
            previous=context.previous,
            included=list(frozen.contributions),
            contributions=frozen.digest(),
            total=total_digest(total),
        )
        signature = sign(outcome, self._key)
        return [Send(COORDINATOR, Opened(party=self.name, outcome=outcome, signature=signature, total=total))]

    def _settled(self, message: Settled) -> list[Effect]:
        outcome, memory = message.signed.outcome, self._memory
        accepted = Send(COORDINATOR, Accepted(member=self.name, round=outcome.round))
        if outcome.round < memory.round:
            return [accepted]
        try:
            check_link(
                message.signed,
                self._terms.study,
                memory.previous,
                memory.round,
                list(self._terms.parties.values()),
            )
        except ProtocolError as error:
            raise RefusedError("other-chain", str(error)) from error
        forgotten = self._forget_spool()
        self._attempt = None
        self._memory = _waiting(self._terms, outcome.round + 1, outcome.digest())
        # On disk with the next attempt or the closing, before the share is erased: a party that is killed until then is
        # behind, and is sent the outcome again.
        return [*forgotten, accepted]

    def _close(self, message: CloseRequest) -> list[Effect]:
        closing = message.closing
        if (closing.study, closing.last) != (self._terms.study, self._memory.previous):
            raise RefusedError(
                "other-chain", "The closing record does not close the chain that this party has."
            )
        if closing.rounds != self._memory.round:
            raise RefusedError(
                "other-chain", "The closing record does not count the rounds that this party has seen."
            )
        digest = closing.digest()
        if self._memory.closed not in (b"", digest):
            raise RefusedError("closed", "This party has signed another closing record.")
        self._memory = self._memory.model_copy(update={"closed": digest})
        # Spool and share are gone, unless the party was killed between the last outcome and erasing them.
        forgotten = [*self._forget_spool(), Keep(SHARE, b"")]
        answer = ClosingSignature(party=self.name, closing=digest, signature=sign(closing, self._key))
        return [self._persist(), *forgotten, Send(COORDINATOR, answer)]

    # -- small things --------------------------------------------------------------------------------------------

    def _current(self, context: bytes) -> Attempt:
        if self._attempt is None or self._attempt.context.digest() != context:
            raise RefusedError(
                "other-attempt", "This party has no key for that attempt: it must be made anew."
            )
        return self._attempt

    def _persist(self) -> Persist:
        return Persist(MEMORY, self._memory.to_bytes())

    def _forget_spool(self) -> list[Effect]:
        forgotten: list[Effect] = [Keep(name, b"") for name in sorted(self._spooled)]
        self._spooled = set()
        return forgotten

    def _failure(self, explanation: str) -> Refusal:
        return Refusal(
            member=self.name,
            about="committee",
            hospital="",
            reason="committee-failed",
            explanation=explanation,
        )


def spool(hospital: str) -> str:
    """Where a hospital's sealed part waits."""
    return SPOOL + hospital


def _waiting(terms: Terms, round_: int, previous: bytes, attempt: int = 0) -> PartyMemory:
    return PartyMemory(
        study=terms.study,
        round=round_,
        previous=previous,
        attempt=attempt,
        context=None,
        frozen=None,
        prepared=None,
        released=False,
        closed=b"",
    )
