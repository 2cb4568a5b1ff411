"""What hostile members write: a coordinator that chooses whatever it may, and signers that sign whatever they like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.chain import Closing
from protocols.contribution import FrozenList, RoundContext, binding, sign
from protocols.envelope import envelope_digest, seal
from securefl.roles.messages import (
    Announcement,
    CloseRequest,
    Freeze,
    KeyRequest,
    Message,
    Part,
    Prepare,
    Release,
    Settled,
    SignedAnswer,
    SignedPrepared,
    StatusRequest,
    Verification,
)

from .facts import HospitalFacts, PartyFacts
from .points import Point
from .tree import Pick

FORGED = ("status-request", "key-request", "freeze", "close-request", "announcement")
"""The kinds that are the coordinator's own."""
SIGNED = ("announcement", "part", "prepare", "release", "settled", "verification")
"""The kinds that carry signed things to somebody who verifies them."""


def forged(pick: Pick, point: Point, kind: str) -> bytes:
    """A message of the coordinator's own making that fits the point, or nearly."""
    facts, terms = point.facts, point.world.terms
    if not isinstance(facts, PartyFacts | HospitalFacts):
        return point.due

    def some(names: Any) -> list[str]:
        kept = [name for name in names if pick((True, True, True, False))]
        return pick((kept, kept, kept, kept[::-1], [*kept, "nobody"], kept + kept[:1]))

    purpose = terms.purpose(facts.round)
    context = RoundContext(
        study=terms.study, round=facts.round, attempt=pick((1, 2, 3, 0, 2**63)), previous=facts.previous,
        purpose=purpose, model=bytes(32), parties=some(terms.parties), width=terms.encoding(purpose).width,
        size=pick((24, 3, 0, 2**31, 2**31 + 1)),
    )  # fmt: skip
    match kind:
        case "status-request":
            made: Message = StatusRequest(study=terms.study)
        case "freeze" if isinstance(facts, PartyFacts) and facts.context:
            listed = {name: digest for name, digest in facts.held.items() if pick((True, True, False))}
            absent = {name: pick(("no-answer", "")) for name in facts.cohort if name not in listed}
            empty = {} if pick(range(6)) == 0 else absent
            made = Freeze(
                frozen=FrozenList(
                    context=facts.context.digest(),
                    cohort=list(facts.cohort),
                    contributions=listed,
                    absent=empty,
                )
            )
        case "close-request":
            closing = Closing(
                study=terms.study, rounds=facts.round, last=facts.previous, model=bytes(32),
                parties=some(terms.parties), unverified=[], verifications=bytes(32),
            )  # fmt: skip
            made = CloseRequest(closing=closing)
        case "announcement" if isinstance(facts, HospitalFacts):
            real = [m for m in point.world.genuine.by_kind[kind] if m.context.round >= facts.round]
            if not real:
                return point.due
            announced = pick(real)
            made = Announcement(
                context=announced.context, cohort=some(sorted(terms.hospitals)), keys=announced.keys
            )
        case "key-request":
            made = KeyRequest(context=context, cohort=some(sorted(terms.hospitals)), session=pick((1, 2, -1)))
        case _:
            return point.due
    return made.to_bytes()


def resigned(message: Message, keys: Mapping[str, Any]) -> Message:
    """The message with everything in it signed, by whom it names, as it now is; strangers have no keys."""

    def by(name: str, record: Any, otherwise: bytes) -> bytes:
        return sign(record, keys[name].signing) if name in keys else otherwise

    def answers(given: list[SignedAnswer]) -> list[SignedAnswer]:
        return [
            a.model_copy(update={"signature": by(a.answer.hospital, a.answer, a.signature)}) for a in given
        ]

    match message:
        case Announcement():
            made = [
                k.model_copy(update={"signature": by(k.key.party, k.key, k.signature)}) for k in message.keys
            ]
            return message.model_copy(update={"keys": made})
        case Part():
            signature = by(message.contribution.hospital, message.contribution, message.signature)
            return message.model_copy(update={"signature": signature})
        case Prepare():
            votes = [
                v.model_copy(update={"signature": by(v.party, v.vote, v.signature)}) for v in message.votes
            ]
            return message.model_copy(update={"votes": votes})
        case Release():
            prepared = [_prepared(p, keys) for p in message.prepared]
            return message.model_copy(update={"prepared": prepared})
        case Settled():
            outcome = message.signed.outcome
            names = outcome.context.parties
            signed = message.signed.model_copy(
                update={"signatures": [by(name, outcome, b"") for name in names]}
            )
            return message.model_copy(update={"signed": signed})
        case Verification():
            return message.model_copy(update={"answers": answers(message.answers)})
        case _:
            return message


def _prepared(word: SignedPrepared, keys: Mapping[str, Any]) -> SignedPrepared:
    if word.party not in keys:
        return word
    unsigned = word.model_copy(update={"signature": b""}).digest()
    return word.model_copy(update={"signature": keys[word.party].signing.sign(SignedPrepared.kind, unsigned)})


def with_content(pick: Pick, point: Point, part: Part) -> Part:
    """The part with something in the envelope that is no share, or nearly one; sealed to the party that gets it."""
    keys = [
        made.key.public
        for made in point.world.genuine.by_kind["signed-round-key"]
        if (made.key.context, made.key.party) == (part.contribution.context, point.name)
    ]
    contexts = [m.context for m in point.world.genuine.by_kind["key-request"]]
    context = next((c for c in contexts if c.digest() == part.contribution.context), None)
    if not keys or context is None or point.name not in context.parties:
        return part
    size = context.size * context.width // 8
    content = pick(
        (
            b"",
            b"\x00",
            b"\x01",
            bytes(33),
            bytes(32),
            bytes(34),
            bytes(size) + b"\x01",
            bytes(size),
            b"\x02" * 33,
        )
    )
    if not part.contribution.hospital:
        return part
    envelope = seal(keys[0], content, binding(context, part.contribution.hospital, point.name))
    digests = list(part.contribution.envelopes)
    rank = context.parties.index(point.name)
    if rank < len(digests):
        digests[rank] = envelope_digest(envelope)
    contribution = part.contribution.model_copy(update={"envelopes": digests})
    return part.model_copy(update={"contribution": contribution, "envelope": envelope})
