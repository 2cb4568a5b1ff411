"""Sessions of a full mesh: who is who, which message comes next, and how parties meet again after one was killed.

Adversary: the network (everything below is over an authenticated, private transport, :mod:`protocols.mesh`); peers
    that crash, stall, restart or run out of step.
Promise: what ``receive`` returns was sent by that peer, in this session, under this tag, in this order, once. What
    goes wrong becomes a :class:`~protocols.errors.ChannelError` naming the peer, at the latest at the deadline.
Source: handshake by fresh incarnation numbers as in TCP (RFC 9293, section 3.5: both ends acknowledge the other's
    number), so that no message of a former incarnation is taken for one of this.

A party draws a nonce for each incarnation and says it to all peers (``hello``). Its session stands when every peer has
told its own nonce and has heard this one. A peer that says a new nonce into a standing session has restarted: the
session fails at once, and ``connect`` forms the next. A message carries both nonces, so that old ones are refused.
"""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from protocols.errors import ChannelError

Buffer = bytes | bytearray | memoryview

MAX_MESSAGE_BYTES = 2**30
MAX_TAG_BYTES = 4096
_NONCE_BYTES = 16
_WAITING_MESSAGES = 8
"""Messages that one peer may be ahead; then its send waits."""
_POLL_SECONDS = 0.02


class NotReadyError(Exception):
    """A peer cannot be reached at the moment; it may only be starting. The message says what was seen."""


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


class Sending:
    """A message on its way."""

    def __init__(self, future: Future[None], peer: int, limit: float) -> None:
        self._future = future
        self._peer = peer
        self._limit = limit

    def is_completed(self) -> bool:
        """Whether it has arrived, or failed."""
        return self._future.done()

    def wait(self) -> None:
        """Block until the peer holds the message.

        Raises:
            ChannelError: it could not be delivered.
        """
        try:
            self._future.result(timeout=self._limit)
        except (TimeoutError, CancelledError) as error:
            raise ChannelError(
                f"Party {self._peer} took no message in time: connect anew.", self._peer
            ) from error


class Mesh(ABC):
    """One party's end of the mesh. A transport derives from it and brings ``_say_hello`` and ``_transmit``.

    Args:
        rank: this party, 0 .. P-1.
        world_size: P, at least 2.
        deadline: seconds that any single operation may take, more than 0.
    """

    def __init__(self, rank: int, world_size: int, deadline: float) -> None:
        if world_size < 2 or not 0 <= rank < world_size or deadline <= 0:
            raise ChannelError(
                "A mesh needs at least two parties, a rank among them and a deadline above 0 s."
            )
        self.rank = rank
        self.world_size = world_size
        self.deadline = deadline
        self.peers = tuple(peer for peer in range(world_size) if peer != rank)
        self._changed = threading.Condition()
        self._heard: dict[int, bytes] = {}
        """The latest nonce that each peer said to us."""
        self._senders: dict[int, ThreadPoolExecutor] = {}
        self._closed = False
        self._new_incarnation()

    # What a transport brings, and calls.

    @abstractmethod
    def _say_hello(self, peer: int, nonce: bytes, timeout: float) -> bytes:
        """Say our nonce; the peer's nonce, or nothing if its last session has not been given up yet."""

    @abstractmethod
    def _transmit(self, peer: int, header: Header, payload: memoryview, timeout: float) -> None:
        """Hand the payload to the peer's :meth:`_take`, in one piece or several, or raise ChannelError."""

    def _hear_hello(self, peer: int, nonce: bytes) -> bytes:
        with self._changed:
            if self._closed:
                return b""
            if self._heard.get(peer) != nonce:
                self._heard[peer] = nonce
                if self._established:
                    self._fail(f"Party {peer} left the session: connect anew.", peer)
                else:
                    self._met.pop(peer, None)
                    self._inbox[peer].clear()
                    self._pieces[peer].clear()
                    self._accepted[peer] = 0
                self._changed.notify_all()
            return b"" if self._failure else self._nonce

    def _take(self, peer: int, header: Header, offset: int, piece: memoryview, timeout: float) -> None:
        """The next piece of the next message of this session; waits while too many messages are unread."""
        end = time.monotonic() + timeout
        with self._changed:
            self._check_header(peer, header)
            while len(self._inbox[peer]) >= _WAITING_MESSAGES:
                remaining = end - time.monotonic()
                if remaining <= 0:
                    raise ChannelError(
                        f"Party {self.rank} does not read its messages: connect anew.", self.rank
                    )
                self._changed.wait(remaining)
                self._check_header(peer, header)
            pieces = self._pieces[peer]
            have = sum(map(len, pieces))
            if offset != have or have + len(piece) > header.size or (header.size and not len(piece)):
                self._fail(
                    f"Party {peer} sent a message of another length than it announced: connect anew.", peer
                )
                raise ChannelError("The message has another length than its header says.", self.rank)
            pieces.append(piece)
            if have + len(piece) == header.size:
                self._inbox[peer].append((header.tag, b"".join(pieces)))
                self._accepted[peer] += 1
                pieces.clear()
                self._changed.notify_all()

    def _check_header(self, peer: int, header: Header) -> None:
        if self._closed or header.target != self._nonce or header.source != self._heard.get(peer):
            raise ChannelError(f"Party {self.rank} is in another session: connect anew.", self.rank)
        if self._failure:
            raise ChannelError(f"Party {self.rank} gave the session up: connect anew.", self.rank)
        wrong = header.sequence != self._accepted[peer]
        if wrong or not 0 <= header.size <= MAX_MESSAGE_BYTES or len(header.tag) > MAX_TAG_BYTES:
            what = (
                f"message {header.sequence} instead of {self._accepted[peer]}"
                if wrong
                else "too large a message"
            )
            self._fail(f"Party {peer} sent {what}: connect anew.", peer)
            raise ChannelError(f"Party {self.rank} refused {what}.", self.rank)

    def _is_current(self, header: Header) -> bool:
        """Whether a message that is being sent still belongs to the session."""
        return not self._closed and header.source == self._nonce

    # State, under the lock.

    def _new_incarnation(self) -> None:
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._established = False
        self._failure: tuple[str, int | None] | None = None
        self._met: dict[int, bytes] = {}
        """The nonce that each peer answered our hello with."""
        self._inbox: dict[int, deque[tuple[bytes, bytes]]] = {peer: deque() for peer in self.peers}
        self._pieces: dict[int, list[memoryview]] = {peer: [] for peer in self.peers}
        self._accepted = dict.fromkeys(self.peers, 0)
        self._sent = dict.fromkeys(self.peers, 0)

    def _fail(self, message: str, peer: int | None) -> None:
        # The first failure is the cause, and what all waiting calls should say.
        if self._established and self._failure is None:
            self._failure = (message, peer)
        self._changed.notify_all()

    def _check_usable(self) -> None:
        if self._closed:
            raise ChannelError("This mesh is closed: make a new one.")
        if self._failure:
            raise ChannelError(*self._failure)
        if not self._established:
            raise ChannelError("This mesh has no session: connect first.")

    def _check_peer(self, peer: int) -> None:
        if peer not in self.peers:
            raise ChannelError(
                f"Party {self.rank} of {self.world_size} has no peer {peer}: name another rank.", peer
            )

    def _stop_senders(self) -> None:
        for sender in self._senders.values():
            sender.shutdown(wait=False, cancel_futures=True)
        self._senders = {}

    # What a party calls.

    def connect(self, deadline: float | None = None) -> None:
        """Form a new session with all peers. Call it first, and again after any ChannelError; unread messages of the
        former session are dropped. Every peer has to call it too; it may be repeated if it runs out of time.

        Args:
            deadline: seconds to wait for the peers, if not the mesh's own.

        Raises:
            ChannelError: a peer was not there in time, or is not who it should be.
        """
        limit = self.deadline if deadline is None else deadline
        end = time.monotonic() + limit
        with self._changed:
            if self._closed:
                raise ChannelError("This mesh is closed: make a new one.")
            if self._established:
                self._new_incarnation()
            self._stop_senders()
            nonce = self._nonce
        seen: dict[int, str] = {}
        while missing := self._missing():
            for peer in missing:
                remaining = end - time.monotonic()
                if remaining <= 0:
                    reason = seen.get(peer, "it has not answered")
                    raise ChannelError(
                        f"No session with party {peer} within {limit:g} s ({reason}): try again.", peer
                    )
                try:
                    answer = self._say_hello(peer, nonce, min(remaining, 1.0))
                except NotReadyError as error:
                    seen[peer] = str(error)
                    continue
                seen[peer] = (
                    "it has not given up its last session" if not answer else "it has not called back"
                )
                with self._changed:
                    if answer:
                        self._met[peer] = answer
            with self._changed:
                self._changed.wait(_POLL_SECONDS)

    def _missing(self) -> list[int]:
        with self._changed:
            missing = [p for p in self.peers if p not in self._met or self._met[p] != self._heard.get(p)]
            if not missing:
                self._senders = {p: ThreadPoolExecutor(1, f"mesh-{self.rank}-to-{p}") for p in self.peers}
                self._established = True
            return missing

    def start_send(self, peer: int, tag: bytes, payload: Buffer) -> Sending:
        """Send without waiting; messages to one peer arrive in the order of the calls. The payload must not change
        until the sending is completed.

        Raises:
            ChannelError: there is no session, or the payload or tag is too large.
        """
        view = memoryview(payload).cast("B")
        if len(view) > MAX_MESSAGE_BYTES or len(tag) > MAX_TAG_BYTES:
            raise ChannelError(
                f"A message of {len(view)} bytes is too large for the mesh: send it in parts.", peer
            )
        with self._changed:
            self._check_usable()
            self._check_peer(peer)
            header = Header(self._nonce, self._met[peer], self._sent[peer], len(view), tag)
            self._sent[peer] += 1
            end = time.monotonic() + self.deadline
            future = self._senders[peer].submit(self._send_by, peer, header, view, end)
        return Sending(future, peer, self.deadline + 5.0)

    def _send_by(self, peer: int, header: Header, payload: memoryview, end: float) -> None:
        try:
            remaining = end - time.monotonic()
            if remaining <= 0:
                raise ChannelError(
                    f"Party {peer} took no message within {self.deadline:g} s: connect anew.", peer
                )
            self._transmit(peer, header, payload, remaining)
        except ChannelError as error:
            with self._changed:
                if header.source == self._nonce:
                    self._fail(str(error), peer)
            raise

    def send(self, peer: int, tag: bytes, payload: Buffer) -> None:
        """Send, and return when the peer holds the message.

        Raises:
            ChannelError: it could not be delivered within the deadline.
        """
        self.start_send(peer, tag, payload).wait()

    def receive(self, peer: int, tag: bytes, max_bytes: int) -> bytes:
        """The next message of a peer, which must bear this tag. What had arrived before a failure is still returned.

        Raises:
            ChannelError: none came within the deadline, the session failed, or the message has another tag or more
                than ``max_bytes`` bytes.
        """
        self._check_peer(peer)
        end = time.monotonic() + self.deadline
        with self._changed:
            while not self._inbox[peer]:
                self._check_usable()
                remaining = end - time.monotonic()
                if remaining <= 0:
                    self._fail(f"Party {peer} sent nothing within {self.deadline:g} s: connect anew.", peer)
                else:
                    self._changed.wait(remaining)
            got, payload = self._inbox[peer].popleft()
            self._changed.notify_all()
            wrong = None
            if got != tag:
                wrong = f"Party {peer} is out of step, it sent {got!r} where {tag!r} was due: connect anew."
            elif len(payload) > max_bytes:
                wrong = f"Party {peer} sent {len(payload)} bytes where at most {max_bytes} were due: connect anew."
            if wrong:
                self._fail(wrong, peer)
                raise ChannelError(wrong, peer)
        return payload

    def exchange(self, tag: bytes, payloads: Mapping[int, Buffer], max_bytes: int) -> dict[int, bytes]:
        """Send to several peers at once and receive one message from each of them, under one tag.

        Raises:
            ChannelError: as for :meth:`send` and :meth:`receive`.
        """
        sendings = [self.start_send(peer, tag, payload) for peer, payload in payloads.items()]
        received = {peer: self.receive(peer, tag, max_bytes) for peer in payloads}
        for sending in sendings:
            sending.wait()
        return received

    def close(self) -> None:
        """Leave for good. Waiting calls end with a ChannelError."""
        with self._changed:
            self._closed = True
            self._stop_senders()
            self._changed.notify_all()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
