"""CrypTen's communicator over the committee's mesh.

Adversary: as for :mod:`protocols.mesh`; and a peer whose program is out of step with this one.
Promise: tensors go as raw little-endian bytes and nothing is ever unpickled; every message is bound to the context
    (round, attempt ...), the operation, its number, and the tensors' type and shapes, so that two parties in
    different operations get a ChannelError and never each other's numbers. A sum goes as :mod:`protocols.mesh_reduce`
    says.
Source: CrypTen 0.4.1, ``communicator/communicator.py`` (the interface) and ``distributed_communicator.py`` (the
    meaning of each operation).

Import this module after :func:`protocols.crypten_repairs.import_crypten`: it derives from CrypTen's own class.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

import crypten.communicator
import numpy as np
import torch
from crypten.communicator.communicator import Communicator
from numpy.typing import NDArray
from torch.distributed import ReduceOp

from protocols.canonical import encode
from protocols.errors import ChannelError
from protocols.mesh_group import Peers, Sending
from protocols.mesh_reduce import Words, all_reduce, as_bytes, receive_words

_WORD = np.dtype("<u8")


class MeshCommunicator(Communicator):  # type: ignore[misc]
    """One party's communicator. Each thread has the one that it activated, so that P parties fit into one process.

    Args:
        mesh: a connected mesh, or a group of its session; its ranks are CrypTen's.
        draw_zero: the party's zero sharing, ``size -> (size,) int64``, for CrypTen's own use of it.
    """

    BYTES_PER_ELEMENT = 8
    _of_thread: ClassVar[threading.local] = threading.local()

    def __init__(self, mesh: Peers, draw_zero: Callable[[int], NDArray[np.int64]] | None = None) -> None:
        self.mesh = mesh
        self.draw_zero = draw_zero
        self.context = b""
        self._collectives = 0
        self._name = f"rank{mesh.rank}"
        self.reset_communication_stats()

    @contextmanager
    def active(self, context: bytes) -> Iterator[None]:
        """For the length of the block, CrypTen in this thread talks through this communicator.

        Args:
            context: what the block is for; messages of another context are refused.

        Raises:
            ChannelError: the session has not all ranks of the mesh.
        """
        if len(self.mesh.peers) + 1 != self.mesh.world_size:
            raise ChannelError(
                "The session has fewer members than the mesh: give CrypTen a group of its members."
            )
        before = getattr(self._of_thread, "instance", None)
        crypten.communicator.DistributedCommunicator = MeshCommunicator
        self._of_thread.instance = self
        crypten.communicator._init(use_threads=False)
        self.context = context
        try:
            yield
        finally:
            self._of_thread.instance = before

    # What CrypTen asks of the class.

    @classmethod
    def is_initialized(cls) -> bool:
        """Whether this thread has an active communicator."""
        return cls.get() is not None

    @classmethod
    def get(cls) -> MeshCommunicator | None:
        """This thread's active communicator."""
        return getattr(cls._of_thread, "instance", None)

    @classmethod
    def initialize(cls, rank: int, world_size: int, init_ttp: bool = False) -> NoReturn:
        """Refused: a mesh is needed."""
        raise ChannelError("CrypTen has no communicator in this thread: activate a committee's first.")

    @classmethod
    def shutdown(cls) -> None:
        """Forget this thread's communicator. The mesh stays open."""
        cls._of_thread.instance = None

    def get_world_size(self) -> int:
        """P."""
        return self.mesh.world_size

    def get_rank(self) -> int:
        """This party, 0 .. P-1."""
        return self.mesh.rank

    def set_name(self, name: str) -> None:
        """A name for logs."""
        self._name = name

    def get_name(self) -> str:
        """The name for logs."""
        return self._name

    # One tensor to one party.

    def send(self, tensor: torch.Tensor, dst: int) -> None:
        """Send, and return when the peer holds it."""
        self.isend(tensor, dst).wait()

    def isend(self, tensor: torch.Tensor, dst: int) -> Sending:
        """Send without waiting; ``wait()`` on the result."""
        words = _words([tensor])
        self._count(words.nbytes)
        return self.mesh.start_send(dst, self._tag("send", None, [tensor]), as_bytes(words))

    def recv(self, tensor: torch.Tensor, src: int | None = None) -> torch.Tensor:
        """A new tensor of this one's shape, from ``src``, which must be named."""
        return self._receive("send", None, [tensor], src)[0]

    def irecv(self, tensor: torch.Tensor, src: int | None = None) -> Receiving:
        """Receive into ``tensor`` when ``wait()`` is called."""
        return Receiving(self, tensor, src)

    # Collectives: every party calls the same ones in the same order.

    def scatter(
        self, scatter_list: Sequence[torch.Tensor], src: int, size: Any = None, device: Any = None
    ) -> torch.Tensor:
        """Party ``src`` gives each party one tensor, all of one shape; each gets its own."""
        number = self._next()
        if self.mesh.rank != src:
            like = torch.empty(size, dtype=torch.int64) if size is not None else scatter_list[self.mesh.rank]
            return self._receive("scatter", number, [like], src)[0]
        if len(scatter_list) != self.mesh.world_size:
            raise ChannelError(f"A scatter needs one tensor a party: {len(scatter_list)} were given.")
        self._send_each("scatter", number, {peer: [scatter_list[peer]] for peer in self.mesh.peers})
        return scatter_list[src].clone()

    def broadcast(self, input: Any, src: int, group: None = None, batched: bool = False) -> Any:
        """Overwrite ``input`` (a tensor, or a list of them if ``batched``) by that of ``src``, and return it."""
        number = self._next()
        tensors = _listed(input, batched)
        if self.mesh.rank == src:
            self._send_each("broadcast", number, dict.fromkeys(self.mesh.peers, tensors))
        else:
            for tensor, other in zip(tensors, self._receive("broadcast", number, tensors, src), strict=True):
                tensor.copy_(other)
        return input

    def gather(self, tensor: torch.Tensor, dst: int) -> list[torch.Tensor | None]:
        """At ``dst`` the parties' tensors by rank, elsewhere ``[None]``."""
        number = self._next()
        if self.mesh.rank != dst:
            self._send_each("gather", number, {dst: [tensor]})
            return [None]
        return [
            tensor.clone() if rank == dst else self._receive("gather", number, [tensor], rank)[0]
            for rank in range(self.mesh.world_size)
        ]

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The parties' tensors by rank."""
        with self._timed():
            number = self._next()
            sendings = self._start_each("all_gather", number, {peer: [tensor] for peer in self.mesh.peers})
            gathered = [
                tensor.clone()
                if rank == self.mesh.rank
                else self._receive("all_gather", number, [tensor], rank)[0]
                for rank in range(self.mesh.world_size)
            ]
            for sending in sendings:
                sending.wait()
            return gathered

    def reduce(self, input: Any, dst: int, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """At ``dst`` the sum (or bitwise XOR) over the parties, elsewhere None."""
        number = self._next()
        tensors, combine = _listed(input, batched), _combining(op)
        if self.mesh.rank != dst:
            self._send_each("reduce", number, {dst: tensors})
            return None
        total, tag = _words(tensors).copy(), self._tag("reduce", number, tensors)
        for peer in self.mesh.peers:
            receive_words(self.mesh, peer, tag, total, combine)
        results = _shaped(total, tensors)
        return results if batched else results[0]

    def all_reduce(self, input: Any, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """The sum modulo 2^64 (or bitwise XOR) over the parties, for all of them; ``input`` stays as it is."""
        with self._timed():
            tensors, combine = _listed(input, batched), _combining(op)
            number = self._next()
            total, sent = all_reduce(
                self.mesh,
                lambda step: self._tag(f"all_reduce {step}", number, tensors),
                _words(tensors),
                combine,
            )
            self._count(sent)
            results = _shaped(total, tensors)
            return results if batched else results[0]

    def barrier(self) -> None:
        """Return when every party has entered."""
        with self._timed():
            tag = self._tag("barrier", self._next(), [])
            self._count(0)
            self.mesh.exchange(tag, dict.fromkeys(self.mesh.peers, b""), 0)

    # Objects would be pickled.

    def send_obj(self, obj: object, dst: int, group: None = None) -> NoReturn:
        """Refused."""
        raise ChannelError(
            "The committee's channel carries numbers only: no objects, which would be pickled."
        )

    def recv_obj(self, src: int, group: None = None) -> NoReturn:
        """Refused."""
        raise ChannelError(
            "The committee's channel carries numbers only: no objects, which would be unpickled."
        )

    def broadcast_obj(self, obj: object, src: int, group: None = None) -> NoReturn:
        """Refused."""
        raise ChannelError(
            "The committee's channel carries numbers only: no objects, which would be pickled."
        )

    # Below: bytes.

    def _next(self) -> int:
        self._collectives += 1
        return self._collectives

    def _tag(self, operation: str, number: int | None, tensors: Sequence[torch.Tensor]) -> bytes:
        return encode([self.context, operation, number, "int64", [list(tensor.shape) for tensor in tensors]])

    def _count(self, sent_bytes: int) -> None:
        self.comm_rounds += 1
        self.comm_bytes += sent_bytes

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._log_communication_time(time.monotonic() - began)

    def _receive(
        self, operation: str, number: int | None, like: Sequence[torch.Tensor], src: int | None
    ) -> list[torch.Tensor]:
        if src is None:
            raise ChannelError("A receive must name the party that it is from.")
        _check_kind(like)
        words = np.empty(sum(tensor.numel() for tensor in like), dtype=_WORD)
        receive_words(self.mesh, src, self._tag(operation, number, like), words)
        return _shaped(words, like)

    def _start_each(
        self, operation: str, number: int, tensors: dict[int, list[torch.Tensor]]
    ) -> list[Sending]:
        words = {peer: _words(its) for peer, its in tensors.items()}
        self._count(sum(its.nbytes for its in words.values()))
        return [
            self.mesh.start_send(peer, self._tag(operation, number, tensors[peer]), as_bytes(its))
            for peer, its in words.items()
        ]

    def _send_each(self, operation: str, number: int, tensors: dict[int, list[torch.Tensor]]) -> None:
        for sending in self._start_each(operation, number, tensors):
            sending.wait()


class Receiving:
    """A tensor that will be received when waited for."""

    def __init__(self, communicator: MeshCommunicator, tensor: torch.Tensor, src: int | None) -> None:
        self._communicator = communicator
        self._tensor = tensor
        self._src = src
        self._completed = False

    def is_completed(self) -> bool:
        """Whether it was waited for."""
        return self._completed

    def wait(self) -> None:
        """Block until the tensor holds what the peer sent."""
        if not self._completed:
            self._tensor.copy_(self._communicator.recv(self._tensor, self._src))
            self._completed = True


def _listed(input: Any, batched: bool) -> list[torch.Tensor]:
    tensors = list(input) if batched else [input]
    if any(not isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise ChannelError("The committee's channel carries tensors, and lists of them only if batched.")
    return tensors


def _combining(op: Any) -> np.ufunc:
    if op == ReduceOp.SUM:
        return np.add  # of unsigned numbers: wrapping around is what the ring means
    if op == ReduceOp.BXOR:
        return np.bitwise_xor
    raise ChannelError("The committee's channel reduces by sum or by bitwise XOR only.")


def _check_kind(tensors: Sequence[torch.Tensor]) -> None:
    for tensor in tensors:
        if tensor.dtype != torch.int64 or tensor.device.type != "cpu":
            raise ChannelError(
                f"The committee's channel carries 64-bit integers on the CPU, not {tensor.dtype}."
            )


def _words(tensors: Sequence[torch.Tensor]) -> Words:
    """The tensors' numbers one after the other; of a single tensor a view, if it lies in one piece."""
    _check_kind(tensors)
    arrays = [tensor.detach().contiguous().numpy().reshape(-1) for tensor in tensors]
    joined = arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, np.int64), *arrays])
    return joined.astype("<i8", copy=False).view(_WORD)


def _shaped(words: Words, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    values = torch.from_numpy(words.view("<i8").astype(np.int64, copy=False))
    parts = torch.split(values, [tensor.numel() for tensor in like])
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
