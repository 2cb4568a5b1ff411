"""What was taken from whom: the receiver's cursor, and the sender's numbers. Both durable, both bound to the keys."""

from __future__ import annotations

from collections.abc import Iterable
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

    def is_news(self, name: str, size: int, stamp: int) -> bool:
        """Whether a file was not looked at yet, or was refused and has changed since."""
        known = self.names.get(ascii(name))
        return known is None or (known[0] >= 0 and known != [size, stamp])

    def check(self, number: int) -> None:
        """Raise ReplayedFrameError or FarAheadError unless a letter of this number may be taken."""
        if number > self.highest + FARTHEST:
            raise FarAheadError(f"A letter has the number {number}, and {self.highest} was the last.")
        if number <= self.highest and number not in self.missing:
            raise ReplayedFrameError(
                f"A letter of the number {number} was taken before: this one is refused."
            )

    def taken(self, name: str, number: int, head: bytes) -> Seen:
        """After a letter was taken."""
        missing = [n for n in self.missing if n != number] + list(range(self.highest + 1, number))
        newer = bool(head) and number > self.head_of
        return self.model_copy(
            update={
                "highest": max(self.highest, number),
                "missing": missing,
                "names": {**self.names, ascii(name): [-1, -1]},
                "head": head if newer else self.head,
                "head_of": number if newer else self.head_of,
            }
        )

    def refused(self, name: str, size: int, stamp: int) -> Seen:
        """After a file was refused."""
        return self.model_copy(update={"names": {**self.names, ascii(name): [size, stamp]}})

    def only(self, names: Iterable[str]) -> Seen:
        """Without what is said of files that are no longer there."""
        there = {ascii(name) for name in names}
        return self.model_copy(update={"names": {n: s for n, s in self.names.items() if n in there}})


class Sent(Record):
    """The last number that a person gave to a letter for one recipient's keys."""

    kind = "sent"
    number: int


def read_seen(home: Path, sender: Card) -> Seen:
    """What was taken from these keys so far."""
    data = _read(_path(home, "seen", sender))
    nothing = Seen(highest=0, missing=[], names={}, head=b"", head_of=0)
    return nothing if data is None else _parsed(Seen, data, home)


def write_seen(home: Path, sender: Card, seen: Seen) -> None:
    """Keep it durably."""
    durable.write(_path(home, "seen", sender), seen.to_bytes())


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
