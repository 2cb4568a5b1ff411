"""What one peer has sent in a session and the party has not read yet: messages that arrive piece by piece.

Adversary: the peer; what it sends may be too long, out of turn, twice, cut wrongly, or more than is read.
Promise: messages come out whole, once and in the order of their numbers, or not at all. What waits here is bounded:
    eight messages, and 64 MiB beside the latest.

No lock and no clock of its own: :class:`~protocols.mesh_session.Mesh` holds its lock around every call.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

MAX_MESSAGE_BYTES = 2**30
MAX_TAG_BYTES = 4096
PIECE_BYTES = 8 << 20
"""Every piece of a message has this length, but the last. (Of 1 to 8 MiB the largest costs the least: 40 MB summed over
three parties took 220, 190, 170 and 150 ms of CPU time each with 1, 2, 4 and 8 MiB.)"""
_WAITING_MESSAGES = 8
_WAITING_BYTES = 64 << 20


class FaultError(Exception):
    """A peer broke the rules. The message says what it sent, to follow "Party j sent"."""


@dataclass(frozen=True)
class Header:
    """What precedes a payload.

    Attributes:
        source: the sender's nonce.
        target: the receiver's nonce, as the sender knows it.
        sequence: 0, 1, 2 ... from this sender to this receiver.
        size: the payload's length in bytes.
        tag: what the payload is; the receiver names the same one.
    """

    source: bytes
    target: bytes
    sequence: int
    size: int
    tag: bytes


@dataclass
class Incoming:
    """A message, perhaps not all of it yet.

    Attributes:
        tag: what it is.
        size: its length in bytes.
        have: bytes that have arrived.
        pieces: those of them that were not read yet.
    """

    tag: bytes
    size: int
    have: int = 0
    pieces: deque[memoryview] = field(default_factory=deque)
    _begun: bool = False

    @property
    def complete(self) -> bool:
        """Whether all of it has arrived."""
        return self._begun and self.have == self.size

    def add(self, piece: memoryview) -> None:
        """Append the next piece; an empty message has one, empty piece."""
        self._begun = True
        self.have += len(piece)
        if len(piece):
            self.pieces.append(piece)


class Inbox:
    """One peer's messages of one session."""

    def __init__(self) -> None:
        self.messages: deque[Incoming] = deque()
        """Unread, in order; only the last one may be incomplete, and the first one may be partly read."""
        self.next_sequence = 0
        """The number of the message that is arriving, or will arrive next."""
        self._arriving: Incoming | None = None
        self.admitting = False
        """Whether a piece stands at the door, waiting for room."""

    @property
    def has_room(self) -> bool:
        """Whether a further piece may come in. Of a message that has begun, all pieces may."""
        if self._arriving is not None or not self.messages:
            return True
        waiting = sum(len(piece) for message in self.messages for piece in message.pieces)
        return len(self.messages) < _WAITING_MESSAGES and waiting < _WAITING_BYTES

    def check(self, header: Header, offset: int, length: int) -> None:
        """Accept ``length`` bytes at ``offset`` as the next piece of the message that is due, or say what is wrong.

        Raises:
            FaultError: the peer sent something else.
        """
        if header.sequence != self.next_sequence:
            raise FaultError(f"message {header.sequence} instead of {self.next_sequence}")
        if not 0 <= header.size <= MAX_MESSAGE_BYTES or len(header.tag) > MAX_TAG_BYTES:
            raise FaultError("too large a message")
        arriving = self._arriving or Incoming(header.tag, header.size)
        if (header.tag, header.size) != (arriving.tag, arriving.size):
            raise FaultError("two messages under one number")
        if offset != arriving.have or length != min(PIECE_BYTES, header.size - offset):
            raise FaultError("a message of another length than it announced")

    def add(self, header: Header, piece: memoryview) -> None:
        """Take a piece that was checked."""
        if self._arriving is None:
            self._arriving = Incoming(header.tag, header.size)
            self.messages.append(self._arriving)
        self._arriving.add(piece)
        if self._arriving.complete:
            self._arriving = None
            self.next_sequence += 1
