"""The committee's transport between threads of one process: for tests, measurements and the audit's replay.

Adversary: none; whoever is in the process can read its memory.
Promise: the sessions and messages of :mod:`protocols.mesh_session`, as between processes.
Source: none needed.
"""

from __future__ import annotations

import time

from protocols.errors import ChannelError
from protocols.mesh_handshake import NotReadyError
from protocols.mesh_inbox import PIECE_BYTES, Header
from protocols.mesh_session import Mesh


class InProcessMesh(Mesh):
    """One party among threads. Messages are copied, never shared.

    Args:
        hub: one list for all, of P places; each mesh takes its own (see :func:`in_process_meshes`).
        rank: this party.
        deadline: seconds an operation may take.
    """

    def __init__(self, hub: list[InProcessMesh | None], rank: int, deadline: float = 30.0) -> None:
        super().__init__(rank, len(hub), deadline)
        self._hub = hub
        hub[rank] = self

    def _drop_connections(self) -> None:
        """There are none."""

    def _say_hello(self, peer: int, nonce: bytes, timeout: float) -> bytes:
        other = self._hub[peer]
        if other is None or other._closed:
            raise NotReadyError("it is not there")
        return other._hear_hello(self.rank, nonce)

    def _transmit(self, peer: int, header: Header, payload: memoryview, timeout: float) -> None:
        other = self._hub[peer]
        if other is None or other._closed:
            raise ChannelError(f"Party {peer} is not there: connect anew.", peer)
        end = time.monotonic() + timeout
        for offset in range(0, max(len(payload), 1), PIECE_BYTES):
            # What is sent is copied: the sender may change its buffer afterwards.
            piece = memoryview(bytes(payload[offset : offset + PIECE_BYTES]))
            other._take(self.rank, header, offset, piece, end - time.monotonic())


def in_process_meshes(world_size: int, deadline: float = 30.0) -> list[InProcessMesh]:
    """P meshes, not yet connected: each party's thread calls ``connect()`` on its own."""
    hub: list[InProcessMesh | None] = [None] * world_size
    return [InProcessMesh(hub, rank, deadline) for rank in range(world_size)]
