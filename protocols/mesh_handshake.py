"""How the members of a mesh meet: sessions that all of them know of, formed anew after one was killed.

Adversary: the network (everything below is over an authenticated, private transport, :mod:`protocols.mesh`); peers
    that crash, stall, restart, or say anything at any time. Ranks outside a session cannot touch it.
Promise: a session stands for a party when each of its peers has told its own number and knows this party's. A failure
    ends the session for good; the first one is the cause that every later call names.
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
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from protocols.errors import ChannelError
from protocols.mesh_inbox import Inbox

NONCE_BYTES = 16
_POLL_SECONDS = 0.02
_HELLO_SECONDS = 1.0


class NotReadyError(Exception):
    """A peer cannot be reached at the moment; it may only be starting. The message says what was seen."""


class Meeting(ABC):
    """The state of one party's session. :class:`~protocols.mesh_session.Mesh` adds the messages.

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
        self._others = tuple(peer for peer in range(world_size) if peer != rank)
        self.peers = self._others
        """The other members of the session, or of the one that is being formed."""
        self._changed = threading.Condition()
        self._heard: dict[int, bytes] = {}
        """The latest nonce that each peer said to us."""
        self._senders: dict[int, ThreadPoolExecutor] = {}
        self._closed = False
        self._new_incarnation()

    @abstractmethod
    def _say_hello(self, peer: int, nonce: bytes, timeout: float) -> bytes:
        """Say our nonce; the peer's nonce, or nothing if its last session has not been given up yet.

        Raises:
            NotReadyError: the peer may answer later.
            ChannelError: whoever answers is not the peer, or refuses this party.
        """

    @abstractmethod
    def _drop_connections(self) -> None:
        """Called before a session is formed in place of an earlier one: no connection of that one is used again."""

    def _hear_hello(self, peer: int, nonce: bytes) -> bytes:
        with self._changed:
            if self._closed:
                return b""
            if self._heard.get(peer) != nonce:
                self._heard[peer] = nonce
                if peer not in self.peers:
                    return b""
                if self._established:
                    self._fail(f"Party {peer} left the session: connect anew.", peer)
                else:
                    self._met.pop(peer, None)
                    self._inbox[peer] = Inbox()
                self._changed.notify_all()
            return b"" if self._failure or peer not in self.peers else self._nonce

    # State, under the lock.

    def _new_incarnation(self) -> None:
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._established = False
        self._failure: tuple[str, int | None] | None = None
        self._met: dict[int, bytes] = {}
        """The nonce that each peer answered our hello with."""
        self._inbox = {peer: Inbox() for peer in self.peers}
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

    def connect(self, deadline: float | None = None, peers: Iterable[int] | None = None) -> None:
        """Form a new session. Call it first, and again after any ChannelError; unread messages of the former session
        are dropped. Every peer has to call it too; it may be repeated if it runs out of time.

        Args:
            deadline: seconds to wait for the peers, if not the mesh's own.
            peers: the ranks to form it with, at least one; all others if not given. Every member has to name the same
                members. Whoever is not among them can neither send into the session nor fail it.

        Raises:
            ChannelError: a peer was not there in time, or is not who it should be; or the peers are no ranks of others.
        """
        limit = self.deadline if deadline is None else deadline
        end = time.monotonic() + limit
        chosen = self._others if peers is None else tuple(sorted(set(peers)))
        if not chosen or set(chosen) - set(self._others):
            raise ChannelError(
                f"Party {self.rank} of {self.world_size} forms no session with {list(chosen)}: name other ranks."
            )
        with self._changed:
            if self._closed:
                raise ChannelError("This mesh is closed: make a new one.")
            renewed = self._established or chosen != self.peers
            if renewed:
                self.peers = chosen
                self._new_incarnation()
            self._stop_senders()
            nonce = self._nonce
        if renewed:
            self._drop_connections()
        seen: dict[int, str] = {}
        while missing := self._missing():
            for peer in missing:
                remaining = end - time.monotonic()
                if remaining > 0:
                    seen[peer] = self._greet(peer, nonce, min(remaining, _HELLO_SECONDS))
            with self._changed:
                self._changed.wait(_POLL_SECONDS)
            if time.monotonic() > end and (missing := self._missing()):
                reason = seen.get(missing[0], "it has not answered")
                raise ChannelError(
                    f"No session with party {missing[0]} within {limit:g} s ({reason}): try again.",
                    missing[0],
                )

    def _greet(self, peer: int, nonce: bytes, timeout: float) -> str:
        """Say hello once; what keeps the session from standing if nothing more comes."""
        try:
            answer = self._say_hello(peer, nonce, timeout)
        except NotReadyError as error:
            return str(error)
        if not answer:
            return "it is in a session, or is forming one without this party"
        if len(answer) != NONCE_BYTES:
            raise ChannelError(
                f"Party {peer} answered with something else than a nonce: it needs our version.", peer
            )
        with self._changed:
            self._met[peer] = answer
        return "it has not called back"

    def _missing(self) -> list[int]:
        with self._changed:
            if self._closed:
                raise ChannelError("This mesh is closed: make a new one.")
            missing = [p for p in self.peers if p not in self._met or self._met[p] != self._heard.get(p)]
            if not missing:
                self._senders = {p: ThreadPoolExecutor(1, f"mesh-{self.rank}-to-{p}") for p in self.peers}
                self._established = True
            return missing

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
