"""What the committee's programs need of a channel, and a view of some members of a session under ranks of their own.

Adversary: as for :mod:`protocols.mesh_session`.
Promise: a group of n members looks to a program like a mesh of n parties; a member outside the group is neither read
    nor written by it. Errors name the rank in the mesh, which is the one that certificates and people know.

Used where a dealer is a member of the mesh but not of the committee, and where a committee is smaller than the mesh.
Messages between two members are in one order, whichever views of the session they are sent through: a program and its
peers have to use the views in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Protocol

from protocols.errors import ChannelError

Buffer = bytes | bytearray | memoryview
TakePiece = Callable[[int, memoryview], None]
"""Takes bytes of a message that begin at an offset."""


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


class Peers(Protocol):
    """A session of n members, ranks 0 .. n-1: a :class:`~protocols.mesh_session.Mesh`, or a :class:`Group` of one."""

    @property
    def rank(self) -> int:
        """This member."""

    @property
    def world_size(self) -> int:
        """n, this member included."""

    @property
    def peers(self) -> tuple[int, ...]:
        """The other members of the session, in ascending order."""

    @property
    def deadline(self) -> float:
        """Seconds that an operation may take."""

    def start_send(self, peer: int, tag: bytes, payload: Buffer) -> Sending:
        """Send without waiting. See :meth:`protocols.mesh_session.Mesh.start_send`."""

    def send(self, peer: int, tag: bytes, payload: Buffer) -> None:
        """Send, and return when the peer holds the message."""

    def receive(self, peer: int, tag: bytes, max_bytes: int, seconds: float | None = None) -> bytes:
        """The next message of a peer. See :meth:`protocols.mesh_session.Mesh.receive`."""

    def receive_pieces(
        self, peer: int, tag: bytes, size: int, take: TakePiece, seconds: float | None = None
    ) -> None:
        """The next message of a peer, piece by piece. See :meth:`protocols.mesh_session.Mesh.receive_pieces`."""

    def exchange(self, tag: bytes, payloads: Mapping[int, Buffer], max_bytes: int) -> dict[int, bytes]:
        """Send to several peers at once and receive one message from each of them."""


class Group:
    """Some members of a session, renumbered. Make it with :meth:`protocols.mesh_session.Mesh.group`.

    It is good for as long as its members are in the session: after ``connect`` with the same members it may be used on.

    Args:
        mesh: the session that it is a view of.
        ranks: (n,) distinct ranks in the mesh, this party's among them; the member ``ranks[i]`` has rank i here.

    Raises:
        ChannelError: fewer than two ranks, one twice, one that is not in the session, or not this party's own.
    """

    def __init__(self, mesh: Peers, ranks: Sequence[int]) -> None:
        members = {mesh.rank, *mesh.peers}
        if len(ranks) < 2 or len(set(ranks)) != len(ranks) or mesh.rank not in ranks or set(ranks) - members:
            raise ChannelError(
                f"A group needs party {mesh.rank} and others of its session, each once: "
                f"{list(ranks)} is not of {sorted(members)}."
            )
        self._mesh = mesh
        self.ranks = tuple(ranks)
        self.rank = self.ranks.index(mesh.rank)
        self.world_size = len(self.ranks)
        self.peers = tuple(rank for rank in range(self.world_size) if rank != self.rank)

    @property
    def deadline(self) -> float:
        """Seconds that an operation may take: the mesh's."""
        return self._mesh.deadline

    def start_send(self, peer: int, tag: bytes, payload: Buffer) -> Sending:
        """Send without waiting, as the mesh does.

        Raises:
            ChannelError: there is no such member or no session, or the payload or tag is too large.
        """
        return self._mesh.start_send(self._in_mesh(peer), tag, payload)

    def send(self, peer: int, tag: bytes, payload: Buffer) -> None:
        """Send, and return when the peer holds the message.

        Raises:
            ChannelError: it could not be delivered within the deadline.
        """
        self.start_send(peer, tag, payload).wait()

    def receive(self, peer: int, tag: bytes, max_bytes: int, seconds: float | None = None) -> bytes:
        """The next message of a member, as the mesh gives it.

        Raises:
            ChannelError: none came in time, the session failed, or it is another message than the one due.
        """
        return self._mesh.receive(self._in_mesh(peer), tag, max_bytes, seconds)

    def receive_pieces(
        self, peer: int, tag: bytes, size: int, take: TakePiece, seconds: float | None = None
    ) -> None:
        """The next message of a member, piece by piece, as the mesh gives it.

        Raises:
            ChannelError: as for :meth:`receive`, or the message has another length.
        """
        self._mesh.receive_pieces(self._in_mesh(peer), tag, size, take, seconds)

    def exchange(self, tag: bytes, payloads: Mapping[int, Buffer], max_bytes: int) -> dict[int, bytes]:
        """Send to several members at once and receive one message from each of them, under one tag.

        Raises:
            ChannelError: as for :meth:`send` and :meth:`receive`.
        """
        of_mesh = {self._in_mesh(peer): payload for peer, payload in payloads.items()}
        received = self._mesh.exchange(tag, of_mesh, max_bytes)
        return {peer: received[self.ranks[peer]] for peer in payloads}

    def _in_mesh(self, peer: int) -> int:
        if peer not in self.peers:
            raise ChannelError(
                f"Member {self.rank} of a group of {self.world_size} has no peer {peer}: name another."
            )
        return self.ranks[peer]
