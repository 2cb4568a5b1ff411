"""Mutants of messages: of their fields, and of their bytes. Whoever calls brings the choices, drawn by hypothesis.

A message is changed as a tree of plain values, ``[kind, fields]``, at a place that is drawn; or it is written down in
CBOR other than the canonical one, by a writer of its own; or its bytes are damaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from protocols.canonical import decode, encode

from .encodings import damaged, irregular
from .tree import Pick, Place, at, field_of, places, replaced

_POWERS = (0, 7, 8, 16, 31, 32, 53, 61, 63)
EXTREME = [sign * 2**power + step for power in _POWERS for sign in (1, -1) for step in (-1, 0, 1)]
EXTREME += [2**64 - 1, -(2**64)]
WRONG = (None, True, False, 0, -1, 1.0, float("nan"), "", "text", b"", b"bytes", [], [0], {}, {"a": 1})


@dataclass
class Pool:
    """What real messages hold, by the field it stands in."""

    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    seen: set[tuple[str, bytes]] = field(default_factory=set)

    def add(self, tree: Any) -> None:
        """Take a real message's values."""
        for place in places(tree):
            name, value = field_of(place), at(tree, place)
            mark = (name, encode(value))
            if mark not in self.seen:
                self.seen.add(mark)
                self.values[name].append(value)


def changed_tree(pick: Pick, tree: Any, pool: Pool) -> Any:
    """The message with one place changed; most changes leave the type as it was."""
    place = pick(places(tree)[1:])
    old = at(tree, place)
    changes = _CHANGES.get(type(old), ())
    how = pick((*changes, *changes, _of_another, _of_another, _of_another_field, _wrong_type))
    if isinstance(place[-1], str) and how is _wrong_type and pick((True, False)):
        return replaced(tree, place[:-1], _record(pick, at(tree, place[:-1]), place[-1]))
    return replaced(tree, place, deepcopy(how(pick, old, pool, tree, place)))


def _record(pick: Pick, fields: dict[str, Any], name: str) -> dict[str, Any]:
    """A record with a field too few, too many or under another name."""
    rest = {key: value for key, value in fields.items() if key != name}
    return pick(
        (rest, {**rest, name + "_": fields[name]}, {**fields, "extra": fields[name]}, {**fields, "": None})
    )


def _of_another(pick: Pick, old: Any, pool: Pool, tree: Any, place: Place) -> Any:
    return pick(pool.values[field_of(place)] or [old])


def _of_another_field(pick: Pick, old: Any, pool: Pool, tree: Any, place: Place) -> Any:
    same = [at(tree, other) for other in places(tree)[2:] if type(at(tree, other)) is type(old)]
    return pick(same or [old])


def _wrong_type(pick: Pick, old: Any, pool: Pool, tree: Any, place: Place) -> Any:
    return pick([value for value in WRONG if type(value) is not type(old)])


def _number(pick: Pick, old: int, *_: Any) -> int:
    changed = int(pick([old + 1, old - 1, -old, old ^ 1, 0, *EXTREME]))
    return min(max(changed, -(2**64)), 2**64 - 1)  # there are no others in CBOR without a tag


def _flag(pick: Pick, old: bool, *_: Any) -> bool:
    return not old


def _bytes(pick: Pick, old: bytes, *_: Any) -> bytes:
    position = pick(range(len(old) or 1))
    flipped = (
        old[:position]
        + bytes(b ^ (1 << pick(range(8))) for b in old[position : position + 1])
        + old[position + 1 :]
    )
    return bytes(
        pick(
            (
                flipped,
                flipped,
                b"",
                old[:-1],
                old[1:],
                old + b"\x00",
                bytes(len(old)),
                old[::-1],
                b"\xff" * 5000,
            )
        )
    )


def _text(pick: Pick, old: str, *_: Any) -> str:
    return str(
        pick((
            "", old + " ", old.upper(), old[:-1], "\x00", old + "\x00", "../" + old, "nobody", "é" + old,
            "statistics", "update", "x" * 5000,
        ))
    )  # fmt: skip


def _list(pick: Pick, old: list[Any], pool: Pool, tree: Any, place: Place) -> list[Any]:
    more = pick(pool.values[field_of(place)] or [0])
    return list(
        pick((
            old[::-1], old[1:], old[:-1], [], [*old, *old[:1]], [*old[:1], *old], old[1:] + old[:1],
            [*old, more], more if isinstance(more, list) else [more], old * 40,
        ))
    )  # fmt: skip


def _map(pick: Pick, old: dict[str, Any], pool: Pool, tree: Any, place: Place) -> dict[str, Any]:
    if not old:
        others = [value for value in pool.values[field_of(place)] if isinstance(value, dict)]
        return dict(pick([*others, {"nobody": ""}]))
    one, two = pick(list(old)), pick(list(old))
    rest = {key: value for key, value in old.items() if key != one}
    return dict(
        pick((
            rest, {**rest, "nobody": old[one]}, {**rest, one + "x": old[one]}, {**old, "nobody": old[one]},
            {**old, one: old[two], two: old[one]}, {},
        ))
    )  # fmt: skip


_CHANGES: dict[type, tuple[Callable[..., Any], ...]] = {
    int: (_number,), bool: (_flag,), bytes: (_bytes,), str: (_text,), list: (_list,), dict: (_map,),
}  # fmt: skip


# -- both ----------------------------------------------------------------------------------------------------


def mutant(pick: Pick, data: bytes, others: Sequence[bytes], pool: Pool) -> bytes:
    """Bytes that differ from a real message's in a way that is drawn; ``others`` are real messages too."""
    way = pick(
        (
            "fields",
            "fields",
            "fields",
            "fields",
            "fields",
            "fields twice",
            "irregular",
            "irregular",
            "bytes",
            "other",
        )
    )
    if way == "bytes":
        return damaged(pick, data, pick(others))
    tree = decode(pick(others) if way == "other" else data)
    if way == "irregular":
        return irregular(pick, tree)
    for _ in range({"fields": 1, "fields twice": 2, "other": pick((0, 0, 1))}[way]):
        tree = changed_tree(pick, tree, pool)
    return encode(tree)
