"""A mutant that reads messages on trust: whatever names a kind is taken for a message of that kind."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import cbor2

from protocols.canonical import Record, decode, encode
from protocols.errors import ProtocolError
from securefl.audit.hostile import context, try_round
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import PARTIES
from securefl.errors import RefusedError
from securefl.roles import messages
from securefl.roles.effects import CommitteeFailed
from securefl.roles.host import Answering, Store
from securefl.roles.messages import Refusal, read_message

PARTY, CHANGES = PARTIES[0], 300
KINDS: dict[str, type[Record]] = {
    cls.kind: cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, Record)
}


def read_on_trust(data: bytes) -> Record:
    """The naive reader: the fields that came, under the names of the kind that was said."""
    kind, fields = cbor2.loads(data)
    return _trusted(KINDS[kind], fields)


def _trusted(kind: type[Record], fields: dict[str, Any]) -> Record:
    return kind.model_construct(**{name: _value(kind, name, value) for name, value in fields.items()})


def _value(kind: type[Record], name: str, value: Any) -> Any:
    known = kind.model_fields.get(name)
    inner = (
        [a for a in (known.annotation, *get_args(known.annotation)) if isinstance(a, type)] if known else []
    )
    record = next((a for a in inner if issubclass(a, Record)), None)
    if record is not None and isinstance(value, dict):
        return _trusted(record, value)
    if record is not None and isinstance(value, list):
        return [_trusted(record, entry) for entry in value]
    return value


def _round_of(stage: Stage) -> list[bytes]:
    """A round's messages to one party, as far as its outcome, which the party is not told yet."""
    stage.play_to_round_1()
    before = len(stage.wire)
    tried = try_round(stage, context(stage))
    sent = [m for _, to, m in stage.wire[before:] if to == PARTY]
    if tried.settled is not None:
        sent.append(tried.settled)
    return [m.to_bytes() for m in sent]


def _changed(genuine: Sequence[bytes]) -> list[bytes]:
    """Many changed messages, the same ones for the same genuine ones."""
    draw = random.Random(1)
    return [_change(draw, draw.choice(genuine)) for _ in range(CHANGES)]


def _change(draw: random.Random, data: bytes) -> bytes:
    """A bit, or a field that is left out or has a value of another kind, at any depth."""
    if draw.random() < 0.2:
        at = draw.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    value: Any = decode(data)
    table = value[1]
    while inner := [v for v in table.values() if isinstance(v, dict) and v]:
        if draw.random() < 0.4:
            break
        table = draw.choice(inner)
    name = draw.choice(sorted(table))
    if draw.random() < 0.3:
        del table[name]
    else:
        table[name] = draw.choice(
            [None, -1, 2**63, 1.5, "", "x", b"", bytes(32), [], {}, [None], {"x": 1}, True]
        )
    return encode(value)


@dataclass
class Fed:
    """What became of the messages: how many ended the party, were refused, or were taken."""

    ended: int = 0
    refused: int = 0
    taken: int = 0
    left_traces: int = 0
    kinds: set[str] = field(default_factory=set)


def _feed_naive(stage: Stage, changed: Sequence[bytes]) -> Fed:
    fed = Fed()
    for data in changed:
        machine = stage.party(PARTY)  # as it was started last, from its disk
        try:
            with warnings.catch_warnings(action="ignore"):  # pydantic's, when such a record is encoded again
                machine.handle(read_on_trust(data))
            fed.taken += 1
        except (ProtocolError, RefusedError):
            fed.refused += 1
        except Exception as error:  # nobody is prepared for it: the party's process ends here
            fed.ended += 1
            fed.kinds.add(type(error).__name__)
    return fed


def _feed_shipped(stage: Stage, changed: Sequence[bytes]) -> Fed:
    fed, original = Fed(), dict(stage.store(PARTY))
    store = Store(stage.folder / "fed")
    for data in changed:
        _restore(store, original)
        seat = Answering(
            stage.party(PARTY),
            store,
            lambda _job: CommitteeFailed("Nobody is there."),
            Store(stage.folder / "fed-ledger"),
        )
        try:
            answers = [read_message(answer) for answer in seat.answer(data)]
        except Exception as error:
            fed.ended += 1
            fed.kinds.add(type(error).__name__)
            continue
        if any(isinstance(answer, Refusal) and answer.about != "committee" for answer in answers):
            fed.refused += 1
            fed.left_traces += dict(store) != original
        else:
            fed.taken += 1
    return fed


def _restore(store: Store, original: dict[str, bytes]) -> None:
    for name in {*store, *original}:
        if store.get(name) != original.get(name, b""):
            store.keep(name, original.get(name, b""))


def _trust_breaks() -> Finding:
    with staged() as stage:
        genuine = _round_of(stage)
        alike = sum(read_on_trust(data) == read_message(data) for data in genuine)
        fed = _feed_naive(stage, _changed(genuine))
    said = (
        f"{fed.ended} of {CHANGES} changed messages end the party's process ({', '.join(sorted(fed.kinds))}); the "
        f"{alike} genuine ones are read well."
    )
    holds = fed.ended > 0 and alike == len(genuine) > 0
    return Finding(holds, said, {"ended": fed.ended, "messages": CHANGES})


def _trust_caught() -> Finding:
    with staged() as stage:
        genuine = _round_of(stage)
        fed = _feed_shipped(stage, _changed(genuine))
    said = (
        f"{fed.ended} of {CHANGES} end it: {fed.refused} were refused, {fed.left_traces} of them with traces on its "
        f"disk, and {fed.taken} were messages that it may take."
    )
    holds = fed.ended == 0 and fed.left_traces == 0 and fed.refused > CHANGES / 2
    return Finding(holds, said, {"ended": fed.ended, "refused": fed.refused, "taken": fed.taken})


MUTANTS = (
    Mutant(
        "messages-on-trust",
        "any-bytes-are-answered",
        "A message is read into a record without a look at its fields.",
        _trust_breaks,
        _trust_caught,
    ),
)
