"""What a role may accept at a point of a run, written from the design and not from the machines.

A message is rightful if it is one that its author really wrote for this point, in all fields but those named in
``FREE``: each with the reason why the recipient cannot know it, or need not. Where the coordinator is the author, what
it may choose is limited by ``_limits``. No signature is verified here: a signed thing is rightful if it is among those
that its signer made in the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocols.chain import Closing
from protocols.contribution import FrozenList, RoundContext
from securefl.roles.messages import (
    Accepted,
    Announcement,
    Behind,
    CloseRequest,
    CoinRevealed,
    Declined,
    Freeze,
    KeyRequest,
    Message,
    Part,
    Prepare,
    Release,
    Settled,
    StatusRequest,
)
from securefl.roles.terms import MAX_SIZE, Terms

from .facts import CoordinatorFacts, HospitalFacts, PartyFacts
from .free import FREE, Path
from .points import Point


def wrong(point: Point, sender: str, message: Message, answers: list[Message], unchanged: bool) -> str:
    """Why this message should not have been accepted here; empty if it should.

    Args:
        answers: what the recipient answered.
        unchanged: whether its state is what it was.
    """
    if point.role == "party":
        idle, candidates = _to_party(point, message)
    elif point.role == "hospital":
        idle, candidates = _to_hospital(point, message)
    else:
        idle, candidates = False, _to_coordinator(point, sender, message)
    if idle:
        return _idle(point, message, answers, unchanged)
    candidates = list(candidates)
    if not candidates:
        return f"no {message.kind} is due here"
    free = FREE.get((message.kind, point.role), {})
    bare = _bare(message.body(), free)
    if not any(_bare(candidate.body(), free) == bare for candidate in candidates):
        return f"this is another {message.kind} than was written for this point, in: {_difference(message, candidates)}"
    return _limits(point, sender, message, candidates)


def _bare(body: Any, free: Iterable[Path]) -> Any:
    for path in free:
        body = _without(body, path)
    return body


def _without(body: Any, path: Path) -> Any:
    if not path or not isinstance(body, dict):
        return None
    return {key: _without(entry, path[1:]) if key == path[0] else entry for key, entry in body.items()}


def _difference(message: Message, candidates: list[Message]) -> str:
    return min(
        (", ".join(_differing(message.body(), candidate.body())) for candidate in candidates),
        key=len,
        default="",
    )


def _differing(one: Any, other: Any, place: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in _differing(one[key], other[key], f"{place}.{key}")]
    return [] if one == other else [place]


# -- a message that changes nothing ---------------------------------------------------------------------------


def _idle(point: Point, message: Message, answers: list[Message], unchanged: bool) -> str:
    """A message of which one number is read, and that is answered with what the sender has or may have anyway."""
    facts = point.facts
    if not unchanged:
        return "a message from elsewhere changed something"
    if isinstance(message, Announcement):
        right: list[Message] = [Behind(hospital=point.name, round=facts.round)]
    elif isinstance(message, Settled):
        right = [Accepted(member=point.name, round=message.signed.outcome.round)]
        answers = [
            a for a in answers
            if not (isinstance(a, CoinRevealed) and a in point.world.genuine.by_kind[CoinRevealed.kind])
        ]  # fmt: skip
    else:
        return ""
    return "" if answers == right else f"it answered {answers}"


# -- parties ---------------------------------------------------------------------------------------------------


def _to_party(point: Point, message: Message) -> tuple[bool, Iterable[Message]]:
    facts, terms, genuine = point.facts, point.world.terms, point.world.genuine
    assert isinstance(facts, PartyFacts)
    current = facts.context.digest() if facts.context else b""
    # What belongs to a party that is done, or whose opening began, may only be repeated.
    over = facts.closed is not None
    match message:
        case StatusRequest():
            return False, [StatusRequest(study=terms.study)]
        case KeyRequest() if not over and not facts.released:
            context = RoundContext(
                study=terms.study, round=facts.round, attempt=0, previous=facts.previous,
                purpose=terms.purpose(facts.round), model=b"", parties=[],
                width=terms.encoding(terms.purpose(facts.round)).width, size=0,
            )  # fmt: skip
            return False, [KeyRequest(context=context, cohort=[], session=0)]
        case Part() if facts.context and not over:
            hospital = message.contribution.hospital
            if facts.voted and hospital not in facts.held:
                return False, []
            rank = facts.context.parties.index(point.name)
            made = genuine.contributions[current, hospital]
            parts = [
                Part(contribution=m.contribution, signature=m.signature, envelope=m.envelopes[rank])
                for m in made
            ]
            return False, [
                p
                for p in parts
                if facts.held.get(hospital, p.contribution.digest()) == p.contribution.digest()
            ]
        case Freeze() if facts.context and not over:
            if facts.voted:
                return False, [Freeze(frozen=facts.voted)] if message.frozen == facts.voted else []
            empty = FrozenList(context=current, cohort=list(facts.cohort), contributions={}, absent={})
            return False, [Freeze(frozen=empty)]
        case Prepare() if facts.context and facts.voted and not over:
            made = genuine.votes[facts.voted.digest()]
            votes = [vote for name in facts.context.parties for vote in made if vote.party == name]
            return False, [Prepare(frozen=facts.voted, votes=votes)]
        case Release() if facts.prepared and not over:
            return False, _releases(point, facts.prepared)
        case Settled() if message.signed.outcome.round < facts.round:
            return True, []
        case Settled() if not over:
            return False, [m for m in genuine.by_kind[Settled.kind] if m.signed.outcome.round == facts.round]
        case CloseRequest() if facts.round == terms.rounds + 1:
            closing = Closing(
                study=terms.study, rounds=facts.round, last=facts.previous, model=b"", parties=[], unverified=[],
                verifications=b"",
            )  # fmt: skip
            return False, [CloseRequest(closing=closing)]
        case _:
            return False, []


def _releases(point: Point, frozen: FrozenList) -> Iterable[Message]:
    """A release that brings every party's word, given in one session."""
    made = point.world.genuine.prepared[frozen.digest()]
    contexts = [
        m.context
        for m in point.world.genuine.by_kind[KeyRequest.kind]
        if m.context.digest() == frozen.context
    ]
    for session in {prepared.session for prepared in made}:
        together = {prepared.party: prepared for prepared in made if prepared.session == session}
        for context in contexts[:1]:
            if set(context.parties) <= set(together):
                yield Release(frozen=frozen, prepared=[together[name] for name in context.parties], session=0)


# -- hospitals -------------------------------------------------------------------------------------------------


def _to_hospital(point: Point, message: Message) -> tuple[bool, Iterable[Message]]:
    facts, genuine = point.facts, point.world.genuine
    assert isinstance(facts, HospitalFacts)
    match message:
        case Announcement() if message.context.round > facts.round:
            return True, []
        case Announcement():
            return False, [m for m in genuine.by_kind[message.kind] if m.context.round == facts.round]
        case Settled() if message.signed.outcome.round < facts.round:
            return True, []
        case Settled():
            return False, [m for m in genuine.by_kind[message.kind] if m.signed.outcome.round == facts.round]
        case _ if message.kind == "challenge":
            return False, [m for m in genuine.by_kind[message.kind] if m.outcome in facts.revealed]
        case _ if message.kind == "verification":
            waited = {d for d, round_ in facts.revealed.items() if round_ in facts.unverified}
            return False, [m for m in genuine.by_kind[message.kind] if m.outcome in waited]
        case _:
            return False, []


# -- the coordinator -------------------------------------------------------------------------------------------

_ANSWERS = {
    "status": "party-status", "keys": "signed-round-key", "freeze": "signed-vote", "prepare": "signed-prepared",
    "release": "opened", "close": "closing-signature",
}  # fmt: skip


def _to_coordinator(point: Point, sender: str, message: Message) -> Iterable[Message]:
    facts, terms, genuine = point.facts, point.world.terms, point.world.genuine
    assert isinstance(facts, CoordinatorFacts)
    current = facts.context.digest() if facts.context else b""
    frozen = facts.frozen.digest() if facts.frozen else b""
    pending = (
        facts.phase == "collect"
        and facts.context is not None
        and sender in facts.cohort
        and sender not in facts.out
        and not {(party, sender) for party in facts.context.parties} <= facts.held
    )
    made = genuine.by_kind[message.kind]
    if sender in terms.parties:
        match message.kind:
            case "refusal":
                return [message] if facts.phase not in ("status", "done") else []
            case "held" if facts.phase == "collect":
                return [
                    m for m in made
                    if m.context == current and facts.digests.get(m.hospital) == m.contribution
                    and m.hospital not in facts.out
                ]  # fmt: skip
            case kind if _ANSWERS.get(facts.phase) != kind or sender not in facts.asked:
                return []
            case "party-status":
                return made
            case "signed-round-key":
                return [m for m in made if m.key.context == current]
            case "signed-vote":
                return [m for m in made if m.vote.frozen == frozen]
            case "signed-prepared":
                return [m for m in made if m.frozen == frozen]
            case "opened":
                return [m for m in made if m.outcome.frozen == facts.frozen]
            case _:
                return [m for m in made if m.closing == facts.closing]
    match message.kind:
        case "behind":
            return [Behind(hospital=sender, round=0)] if pending else []
        case "signed-contribution" if pending:
            return [m for m in made if m.contribution.context == current]
        case "declined" if pending:
            return [Declined(context=current, hospital=sender, reason="", explanation="")]
        case "refusal":
            return [message] if pending and message.about == Announcement.kind else []
        case "coin-revealed":
            rounds = facts.checks
            due = message.outcome in rounds and sender in rounds[message.outcome][1]
            return [m for m in made if due and m.hospital == sender and m.outcome == message.outcome]
        case "signed-answer":
            outcome = message.answer.outcome
            due = outcome in facts.checks and sender in facts.checks[outcome][1]
            return [m for m in made if due and m.answer.hospital == sender and m.answer.outcome == outcome]
        case _:
            return []


# -- what the author may choose ----------------------------------------------------------------------------------


def _limits(point: Point, sender: str, message: Message, candidates: list[Message]) -> str:
    facts, terms = point.facts, point.world.terms
    match message:
        case KeyRequest():
            context = message.context
            if not facts.attempt < context.attempt:
                return "the attempt is not a new one"
            if not 1 <= context.size <= MAX_SIZE:
                return "there is no such size"
            return _committee(terms, context.parties, point.name) or _cohort(
                terms, message.cohort, context.round
            )
        case Announcement():
            if point.name not in message.cohort:
                return "the hospital is not asked"
            return _cohort(terms, message.cohort, message.context.round)
        case Freeze():
            return "" if message.frozen == facts.voted else _list(facts, terms, message.frozen)
        case CloseRequest():
            if facts.closed and message.closing.model != facts.closed.model:
                return "it closes the study with a second model"
            return _committee(terms, message.closing.parties, point.name)
        case _ if message.kind in ("challenge", "verification"):
            for name in ("coins", "answers"):
                ordered = [sorted(m.to_bytes() for m in getattr(c, name, [])) for c in candidates]
                if sorted(m.to_bytes() for m in getattr(message, name, [])) not in ordered:
                    return f"these are other {name}"
            return ""
        case _ if message.kind == "party-status":
            return "" if message.round >= 0 <= message.attempt else "there is no such round or attempt"
        case Behind():
            return "" if message.round >= 0 else "there is no such round"
        case _ if message.kind == "refusal" and message.hospital and sender in terms.parties:
            known = message.hospital in terms.hospitals or facts.phase != "collect"
            return "" if known else "nobody of that name was asked"
        case _:
            return ""


def _committee(terms: Terms, names: list[str], own: str) -> str:
    if names != [name for name in terms.parties if name in names]:
        return "the committee has strangers in it, or another order"
    return (
        ""
        if len(names) >= terms.minimum_parties and own in names
        else "the committee is too small, or lacks this party"
    )


def _cohort(terms: Terms, names: list[str], round_: int) -> str:
    if names != [name for name in sorted(terms.hospitals) if name in names]:
        return "the cohort has strangers in it, or another order"
    least = len(terms.hospitals) if round_ == 0 else terms.minimum
    return "" if len(names) >= least else "the cohort is too small"


def _list(facts: PartyFacts, terms: Terms, frozen: FrozenList) -> str:
    included = frozenset(frozen.contributions)
    if any(facts.held.get(name) != digest for name, digest in frozen.contributions.items()):
        return "the list names a contribution that the party does not hold"
    if included & set(frozen.absent) or included | set(frozen.absent) != set(facts.cohort):
        return "the list does not account for the cohort"
    assert facts.context is not None
    for purpose, model, opened in facts.opened:
        same = (purpose, model) == (facts.context.purpose, facts.context.model)
        if same and 0 < len(opened ^ included) <= terms.colluding + 1:
            return "its sum and an opened one would give a hospital's update away"
    return _cohort(terms, sorted(included), facts.context.round)
