"""What stock CrypTen 0.4.1 needs before it may be used here, applied when asked for and never by an import.

Adversary: one party and any number of others that it works with, who can predict torch's generator. Its state is a
    seed of 32 bits (``manual_seed`` drops the upper half of 64), expanded by a Mersenne Twister that is linear:
    outputs reveal it.
Promise: inside :func:`guarded_randomness`, CrypTen draws nothing from torch. Its zero sharings, by sum and by XOR, are
    the all-pairs ones of :mod:`protocols.zero_sharing`; its correlated randomness is the dealer's
    (:mod:`protocols.dealer`), if the committee has one. Every other draw, and every tuple of its default provider
    (which rank 0 makes up and therefore knows), raises :class:`~protocols.errors.CommitteeError` instead.
Source: CrypTen 0.4.1, ``crypten/__init__.py`` (generators), ``mpc/primitives/arithmetic.py`` and ``binary.py`` (PRZS,
    PRSS), ``mpc/provider/provider.py`` (the interface of a provider), ``mpc/provider/tfp_provider.py``.

CrypTen's parts are the process's, and several parties may live in one process, each in its thread. So whoever asks is
looked up: the party's own draws hang on the communicator that is active in the thread (``draw_zero``,
``draw_zero_bits``, ``draw_tuple``).
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from protocols.errors import CommitteeError

if TYPE_CHECKING:
    from protocols.dealer import Kind

_MOVED_REGISTRATION = "torch.onnx._internal.registration"
_REGISTRATION = "torch.onnx._internal.torchscript_exporter.registration"


def import_crypten() -> ModuleType:
    """CrypTen, importable on today's torch. Idempotent; costs about two CPU-seconds the first time.

    Repairs, each with its reason:

    * ``torch.onnx._internal.registration``: torch 2.9 moved the module into ``torchscript_exporter``;
      ``crypten.nn.onnx_converter`` imports the old name, so that without an alias even ``import crypten`` fails.

    ``crypten.load`` and ``crypten.nn.from_pytorch`` are broken on this torch as well and stay so: the one unpickles
    and the other is not used.
    """
    if _MOVED_REGISTRATION not in sys.modules:
        try:
            importlib.import_module(_MOVED_REGISTRATION)
        except ModuleNotFoundError:
            sys.modules[_MOVED_REGISTRATION] = importlib.import_module(_REGISTRATION)
    return importlib.import_module("crypten")


class RefusingGenerators:
    """Stands where CrypTen keeps its torch generators, and gives out none.

    Every draw of CrypTen begins with a look-up here: arithmetic and binary, shared and public.

    Raises:
        CommitteeError: at every access.
    """

    def __getitem__(self, key: object) -> NoReturn:
        raise CommitteeError(
            "CrypTen asked for torch's random generator: use the committee's own keys instead."
        )

    def keys(self) -> NoReturn:
        """Refused as well: this is how CrypTen begins to make generators."""
        raise CommitteeError(
            "CrypTen wants to seed torch's generators: use the committee's own keys instead."
        )


class DealtProvider:
    """Stands where CrypTen keeps its provider, and gives out the dealer's tuples: those that our programs use.

    Args:
        draw: the calling party's end, ``(kind, size) -> (size,) int64`` shares of each part of the tuple
            (:meth:`protocols.dealer.DealtTuples.draw`).
    """

    def __init__(self, draw: Callable[[Kind, int], Sequence[NDArray[np.int64]]]) -> None:
        self._draw = draw

    def square(self, size: Any, device: object = None) -> tuple[Any, ...]:
        """Additive shares of r and r^2, r uniform over Z_2^64."""
        primitives = importlib.import_module("crypten").mpc.primitives
        return self._shares("square", size, device, [primitives.ArithmeticSharedTensor] * 2)

    def generate_binary_triple(self, size0: Any, size1: Any, device: object = None) -> tuple[Any, ...]:
        """XOR shares of a, b and a & b, a and b uniform words."""
        if size0 != size1:
            raise CommitteeError(
                "CrypTen asked for a triple of two sizes: give both operands of an AND one shape."
            )
        primitives = importlib.import_module("crypten").mpc.primitives
        return self._shares("binary-triple", size0, device, [primitives.BinarySharedTensor] * 3)

    def B2A_rng(self, size: Any, device: object = None) -> tuple[Any, ...]:  # noqa: N802 - CrypTen's name
        """Additive and XOR shares of the same random bits, the additive ones first."""
        primitives = importlib.import_module("crypten").mpc.primitives
        kinds = [primitives.BinarySharedTensor, primitives.ArithmeticSharedTensor]
        binary, arithmetic = self._shares("bit", size, device, kinds)
        return arithmetic, binary

    def generate_additive_triple(self, *_: object, **__: object) -> NoReturn:
        """Refused: no program of ours multiplies two secrets."""
        raise CommitteeError(
            "CrypTen asked for a multiplication triple: the committee's programs only square."
        )

    def wrap_rng(self, *_: object, **__: object) -> NoReturn:
        """Refused: CrypTen's truncation is not exact."""
        raise CommitteeError("CrypTen asked for a truncation: the committee's programs are of integers only.")

    def _shares(self, kind: Kind, size: Any, device: object, classes: Sequence[Any]) -> tuple[Any, ...]:
        torch = importlib.import_module("torch")
        _check_device(device)
        shape = torch.Size(size)
        return tuple(
            # Precision 0: CrypTen would otherwise take the integers for fractions with 16 bits.
            of.from_shares(torch.from_numpy(part).reshape(shape), precision=0)
            for of, part in zip(classes, self._draw(kind, shape.numel()), strict=True)
        )


def _party_s(name: str) -> Any:
    """What hangs under that name on the communicator that is active in this thread; None if nothing does."""
    communicator = importlib.import_module("crypten").communicator
    return getattr(communicator.get(), name, None) if communicator.is_initialized() else None


def _check_device(device: object) -> None:
    if device is not None and importlib.import_module("torch").device(device).type != "cpu":
        raise CommitteeError("The committee computes on the CPU: share a CPU tensor.")


def _dealt_provider() -> DealtProvider:
    draw = _party_s("draw_tuple")
    if draw is None:
        raise CommitteeError(
            "CrypTen asked its provider for a tuple: join a committee that has a dealer first."
        )
    return DealtProvider(draw)


def _zero_shared(name: str, kind: str, size: tuple[Any, ...], device: object) -> Any:
    torch = importlib.import_module("torch")
    _check_device(device)
    draw = _party_s(name)
    if draw is None:
        raise CommitteeError("Zero shares need the committee's pairwise keys: join a committee first.")
    shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
    shared = getattr(importlib.import_module("crypten").mpc.primitives, kind)
    tensor = shared(src=-1)  # CrypTen's sentinel for "no source"
    tensor.share = torch.from_numpy(draw(shape.numel())).reshape(shape)
    return tensor


def _zero_shared_sum(*size: Any, device: object = None) -> Any:
    """In place of ``ArithmeticSharedTensor.PRZS``: the calling party's all-pairs zero share, precision as stock."""
    return _zero_shared("draw_zero", "ArithmeticSharedTensor", size, device)


def _zero_shared_bits(*size: Any, device: object = None) -> Any:
    """In place of ``BinarySharedTensor.PRZS``: the same, where shares are joined by XOR."""
    return _zero_shared("draw_zero_bits", "BinarySharedTensor", size, device)


@contextmanager
def guarded_randomness() -> Iterator[None]:
    """For the length of a ``with`` block, CrypTen draws nothing from torch, in any thread of the process.

    Blocks may nest and overlap (one for each party, where several live in one process); the end of the last one
    gives CrypTen its own parts back.
    """
    crypten = import_crypten()
    _GUARD.enter(crypten)
    try:
        yield
    finally:
        _GUARD.leave()


class _Guard:
    """Counts the blocks. CrypTen's parts are the process's, so this has to be the process's as well."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._stock: list[tuple[Any, str, Any]] | None = None

    def enter(self, crypten: Any) -> None:
        """Replace the generators, the provider and the zero sharings, unless another block has."""
        primitives = crypten.mpc.primitives
        ours = [
            (crypten, "generators", RefusingGenerators()),
            (crypten.mpc, "get_default_provider", _dealt_provider),
            (primitives.ArithmeticSharedTensor, "PRZS", staticmethod(_zero_shared_sum)),
            (primitives.BinarySharedTensor, "PRZS", staticmethod(_zero_shared_bits)),
        ]
        with self._lock:
            self._blocks += 1
            if self._stock is None:
                # From __dict__, since an attribute look-up would take a static method out of its wrapper.
                self._stock = [(owner, name, vars(owner)[name]) for owner, name, _ in ours]
                for owner, name, part in ours:
                    setattr(owner, name, part)

    def leave(self) -> None:
        """Give the stock parts back, if this was the last block."""
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0 and self._stock is not None:
                for owner, name, part in self._stock:
                    setattr(owner, name, part)
                self._stock = None


_GUARD = _Guard()
