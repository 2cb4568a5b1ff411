"""Messages of a session: what was sent comes out once, in order, under its tag, or the session fails.

Adversary: as for :mod:`protocols.mesh_handshake`; peers that run out of step, and any message at any time.
Promise: what ``receive`` returns was sent by that peer, in this session, under this tag, in this order, once. What
    goes wrong becomes a :class:`~protocols.errors.ChannelError` naming the peer, at the latest at the deadline.
Source: in-order delivery by sequence numbers, which are checked and never put right: the transport is reliable, so
    that a wrong number is a fault of the peer.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from protocols.errors import ChannelError
from protocols.mesh_group import Buffer, Group, Sending, TakePiece
from protocols.mesh_handshake import Meeting
from protocols.mesh_inbox import MAX_MESSAGE_BYTES, MAX_TAG_BYTES, FaultError, Header, Inbox

_GRACE_SECONDS = 5.0


class Mesh(Meeting):
    """One party's end of the mesh. A transport derives from it and brings ``_say_hello`` and ``_transmit``.

    Args:
        rank: this party, 0 .. P-1.
        world_size: P, at least 2; a dealer counts.
        deadline: seconds that any single operation may take, more than 0.
    """

    # What a transport brings, and calls.

    @abstractmethod
    def _transmit(self, peer: int, header: Header, payload: memoryview, timeout: float) -> None:
        """Hand the payload to the peer's :meth:`_take`, in one piece or several, or raise ChannelError."""

    def _take(self, peer: int, header: Header, offset: int, piece: memoryview, timeout: float) -> None:
        """The next piece of the next message of this session; waits while too much is unread."""
        end = time.monotonic() + timeout
        with self._changed:
            self._check_session(peer, header)
            inbox = self._inbox[peer]
            try:
                inbox.check(header, offset, len(piece))
                if not inbox.has_room:
                    self._wait_for_room(peer, inbox, header, end)
                    inbox.check(header, offset, len(piece))
            except FaultError as fault:
                self._fail(f"Party {peer} sent {fault}: connect anew.", peer)
                raise ChannelError(f"Party {self.rank} refused {fault}.", self.rank) from fault
            inbox.add(header, piece)
            self._changed.notify_all()

    def _wait_for_room(self, peer: int, inbox: Inbox, header: Header, end: float) -> None:
        # A peer sends one piece at a time. One that sends several must not occupy several of our threads.
        if inbox.admitting:
            raise FaultError("a message while its last one was waiting")
        inbox.admitting = True
        try:
            while not inbox.has_room:
                remaining = end - time.monotonic()
                if remaining <= 0:
                    raise ChannelError(
                        f"Party {self.rank} does not read its messages: connect anew.", self.rank
                    )
                self._changed.wait(remaining)
                self._check_session(peer, header)
        finally:
            inbox.admitting = False

    def _check_session(self, peer: int, header: Header) -> None:
        foreign = peer not in self.peers or header.target != self._nonce
        if self._closed or foreign or header.source != self._heard.get(peer):
            raise ChannelError(f"Party {self.rank} is in another session: connect anew.", self.rank)
        if self._failure:
            raise ChannelError(f"Party {self.rank} gave the session up: connect anew.", self.rank)

    def _is_current(self, header: Header) -> bool:
        """Whether a message that is being sent still belongs to the session."""
        return not self._closed and header.source == self._nonce

    # What a party calls.

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
        # The transport ends a sending at its deadline; this limit is for one that does not.
        return Sending(future, peer, self.deadline + _GRACE_SECONDS)

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

    def receive(self, peer: int, tag: bytes, max_bytes: int, seconds: float | None = None) -> bytes:
        """The next message of a peer, which must bear this tag. What had arrived before a failure is still returned.

        Args:
            peer: whose.
            tag: what it must be.
            max_bytes: its greatest length.
            seconds: how long to wait for it, if not the mesh's deadline. A failure of the session ends any wait.

        Raises:
            ChannelError: it did not come in time, the session failed, or the message has another tag or more than
                ``max_bytes`` bytes.
        """
        pieces: list[memoryview] = []
        self._read(peer, tag, range(max_bytes + 1), lambda _, piece: pieces.append(piece), seconds)
        return b"".join(pieces)

    def receive_pieces(
        self,
        peer: int,
        tag: bytes,
        size: int,
        take: TakePiece,
        seconds: float | None = None,
    ) -> None:
        """As :meth:`receive`, but each piece is handed over when it arrives, and nothing is put together.

        Args:
            peer: whose.
            tag: what it must be.
            size: its exact length in bytes.
            take: called with the offset in bytes and the piece, in order, for ``size`` bytes in all. A piece is good
                only during the call. After a ChannelError, some pieces may have been handed over.
            seconds: how long all of it may take, if not the mesh's deadline.

        Raises:
            ChannelError: it did not come in time, the session failed, or the message has another tag or length.
        """
        self._read(peer, tag, range(size, size + 1), take, seconds)

    def _read(
        self,
        peer: int,
        tag: bytes,
        sizes: range,
        take: TakePiece,
        seconds: float | None,
    ) -> None:
        limit = self.deadline if seconds is None else seconds
        end = time.monotonic() + limit
        offset, complete = 0, False
        with self._changed:
            self._check_peer(peer)
            inbox = self._inbox[peer]
        while not complete:
            with self._changed:
                while not (inbox.messages and (inbox.messages[0].pieces or inbox.messages[0].complete)):
                    self._wait_for_peer(peer, inbox, limit, end)
                message = inbox.messages[0]
                if message.tag != tag or message.size not in sizes:
                    self._refuse_message(peer, message.tag, tag, message.size, sizes)
                pieces, complete = list(message.pieces), message.complete
                message.pieces.clear()
                if complete:
                    inbox.messages.popleft()
                self._changed.notify_all()
            for piece in pieces:
                take(offset, piece)
                offset += len(piece)

    def _wait_for_peer(self, peer: int, inbox: Inbox, limit: float, end: float) -> None:
        self._check_usable()
        if inbox is not self._inbox.get(peer):
            raise ChannelError("The session was given up while a message was due: connect anew.", peer)
        remaining = end - time.monotonic()
        if remaining <= 0:
            what = "not all of a message" if inbox.messages else "nothing"
            self._fail(f"Party {peer} sent {what} within {limit:g} s: connect anew.", peer)
        else:
            self._changed.wait(remaining)

    def _refuse_message(self, peer: int, got: bytes, tag: bytes, size: int, sizes: range) -> None:
        wrong = f"{size} bytes where at most {sizes[-1]} were due"
        if got != tag:
            wrong = f"{got!r} where {tag!r} was due, it is out of step"
        self._fail(f"Party {peer} sent {wrong}: connect anew.", peer)
        raise ChannelError(f"Party {peer} sent {wrong}: connect anew.", peer)

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

    def group(self, ranks: Sequence[int]) -> Group:
        """Some members of the session as a mesh of their own: ``ranks[i]`` has rank i there. Local, sends nothing.

        Raises:
            ChannelError: fewer than two ranks, one twice, one that is not in the session, or not this party's own.
        """
        return Group(self, ranks)
