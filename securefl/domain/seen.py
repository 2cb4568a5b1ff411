"""What was taken from whom: the receiver's cursor, and the sender's numbers. Both durable, both bound to the keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from protocols.canonical import Record
from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.cards import Card
from securefl.domain.errors import FrameError, IdentityError

R = TypeVar("R", bound=Record)
FARTHEST = 10_000
"""How far ahead of the highest number the next may be."""
MOST_MISSING = 10_000
"""Missing numbers of one sender that can still come; the oldest beyond that are given up."""


class ReplayedFrameError(FrameError):
    """A letter whose number was taken before."""

    reason = "replay"


class FarAheadError(FrameError):
    """A letter whose number cannot be one of the next."""

    reason = "far-ahead"


class Seen(Record):
    """What a person has taken from one sender's keys.

    Attributes:
        highest: of the numbers taken.
        missing: numbers below it that were not.
        names: files that are done with, and their size and stamp; -1 for both where it does not matter any more.
        head: the sender's newest word on its audit log, as it came.
        head_of: the number of the letter it came with.
    """

    kind = "seen"
    highest: int
    missing: list[int]
    names: dict[str, list[int]]
    head: bytes
    head_of: int


class Cursor:
    """What was taken from one sender's keys, while a person looks at what lies there; ``kept`` is for its disk."""

    def __init__(self, seen: Seen) -> None:
        self._highest, self._head, self._head_of = seen.highest, seen.head, seen.head_of
        self._names, self._missing = dict(seen.names), set(seen.missing)
        self._were_missing = frozenset(seen.missing)

    def is_news(self, name: str, size: int, stamp: int) -> bool:
        """Whether a file was not looked at yet, or was refused and has changed since."""
        known = self._names.get(ascii(name))
        return known is None or (known[0] >= 0 and known != [size, stamp])

    def check(self, number: int) -> None:
        """Raise ReplayedFrameError or FarAheadError unless a letter of this number may be taken."""
        if number > self._highest + FARTHEST:
            raise FarAheadError(f"A letter has the number {number}, and {self._highest} was the last.")
        if number <= self._highest and number not in self._missing:
            raise ReplayedFrameError(
                f"A letter of the number {number} was taken before, or given up: this one is refused."
            )

    def taken(self, name: str, number: int, head: bytes) -> None:
        """After a letter was taken."""
        self._missing.discard(number)
        self._missing.update(range(self._highest + 1, number))
        if len(self._missing) > MOST_MISSING:
            self._missing = set(sorted(self._missing)[-MOST_MISSING:])
        self._highest = max(self._highest, number)
        self._names[ascii(name)] = [-1, -1]
        if head and number > self._head_of:
            self._head, self._head_of = head, number

    def refused(self, name: str, size: int, stamp: int) -> None:
        """After a file was refused."""
        self._names[ascii(name)] = [size, stamp]

    def new_gaps(self) -> list[int]:
        """The numbers that are missing now, and were not before."""
        return sorted(self._missing - self._were_missing)

    def kept(self, there: Sequence[str]) -> Seen:
        """What stays of it; nothing that is said of files that are no longer there."""
        names = {ascii(name) for name in there}
        return Seen(
            highest=self._highest,
            missing=sorted(self._missing),
            names={name: known for name, known in self._names.items() if name in names},
            head=self._head,
            head_of=self._head_of,
        )


class Sent(Record):
    """The last number that a person gave to a letter for one recipient's keys."""

    kind = "sent"
    number: int


def seen_path(home: Path, sender: Card) -> Path:
    """Where it is kept what was taken from these keys."""
    return _path(home, "seen", sender)


def read_seen(home: Path, sender: Card) -> Seen:
    """What was taken from these keys so far."""
    data = _read(seen_path(home, sender))
    nothing = Seen(highest=0, missing=[], names={}, head=b"", head_of=0)
    return nothing if data is None else _parsed(Seen, data, home)


def write_seen(home: Path, sender: Card, seen: Seen) -> None:
    """Keep it durably."""
    durable.write(seen_path(home, sender), seen.to_bytes())


def read_sent(home: Path, recipient: Card) -> int:
    """The last number given to a letter to these keys; 0 if none."""
    data = _read(_path(home, "sent", recipient))
    return 0 if data is None else _parsed(Sent, data, home).number


def write_sent(home: Path, recipient: Card, number: int) -> None:
    """Keep it durably."""
    durable.write(_path(home, "sent", recipient), Sent(number=number).to_bytes())


def _path(home: Path, kind: str, card: Card) -> Path:
    return home / kind / f"{card.email}.{card.digest().hex()[:16]}.cbor"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parsed(kind: type[R], data: bytes, home: Path) -> R:
    try:
        return kind.from_bytes(data)
    except EncodingError as error:
        raise IdentityError(f"{home} is damaged ({kind.kind}): restore it from its backup.") from error
