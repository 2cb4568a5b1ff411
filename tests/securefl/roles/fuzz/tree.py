"""Places in a message as a tree of plain values, ``[kind, fields]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Place = tuple[Any, ...]
Pick = Callable[[Sequence[Any]], Any]
"""Draws one of some things."""


def places(value: Any, place: Place = ()) -> list[Place]:
    """Every place in a tree, the root's first."""
    found = [place]
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, entry in entries:
        found += places(entry, (*place, key))
    return found


def at(value: Any, place: Place) -> Any:
    """What stands at a place."""
    for key in place:
        value = value[key]
    return value


def replaced(value: Any, place: Place, new: Any) -> Any:
    """A copy of the tree with something else at a place."""
    if not place:
        return new
    copied = list(value) if isinstance(value, list) else dict(value)
    copied[place[0]] = replaced(copied[place[0]], place[1:], new)
    return copied


def field_of(place: Place) -> str:
    """The name of the field that a place is in; an entry of a list or a map has the list's or the map's."""
    names = [key for key in place if isinstance(key, str)]
    return names[-1] if names else ""
