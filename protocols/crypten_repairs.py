"""What stock CrypTen 0.4.1 needs before it may be used here, applied when asked for and never by an import.

Adversary: one party and any number of others that it works with, who can predict torch's generator. Its state is a
    seed of 32 bits (``manual_seed`` drops the upper half of 64), expanded by a Mersenne Twister that is linear:
    outputs reveal it.
Promise: inside :func:`guarded_randomness`, CrypTen draws nothing from torch. Its zero sharing is the all-pairs one of
    :mod:`protocols.zero_sharing`; every other draw, and every tuple of its default provider (which rank 0 makes up
    and therefore knows), raises :class:`~protocols.errors.CommitteeError` instead.
Source: CrypTen 0.4.1, ``crypten/__init__.py`` (generators), ``mpc/primitives/arithmetic.py`` (PRZS, PRSS),
    ``mpc/provider/tfp_provider.py``.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

from protocols.errors import CommitteeError

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


def _refuse_provider() -> NoReturn:
    raise CommitteeError(
        "CrypTen asked its provider for a tuple: the committee multiplies nothing in this program."
    )


def _zero_shared_tensor(*size: Any, device: object = None) -> Any:
    """In place of ``ArithmeticSharedTensor.PRZS``: the calling party's all-pairs zero share, precision as stock."""
    crypten = importlib.import_module("crypten")
    torch = importlib.import_module("torch")
    if device is not None and torch.device(device).type != "cpu":
        raise CommitteeError("The committee computes on the CPU: share a CPU tensor.")
    communicator = crypten.communicator
    draw = getattr(communicator.get(), "draw_zero", None) if communicator.is_initialized() else None
    if draw is None:
        raise CommitteeError("Zero shares need the committee's pairwise keys: join a committee first.")
    shape = torch.Size(size[0] if len(size) == 1 and not isinstance(size[0], int) else size)
    tensor = crypten.mpc.primitives.ArithmeticSharedTensor(src=-1)  # -1: CrypTen's sentinel for "no source"
    tensor.share = torch.from_numpy(draw(shape.numel())).reshape(shape)
    return tensor


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
        _GUARD.leave(crypten)


class _Guard:
    """Counts the blocks. CrypTen's parts are the process's, so this has to be the process's as well."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._stock: tuple[Any, Any, Any] | None = None

    def enter(self, crypten: Any) -> None:
        """Replace the generators, the provider and the zero sharing, unless another block has."""
        arithmetic = crypten.mpc.primitives.ArithmeticSharedTensor
        with self._lock:
            self._blocks += 1
            if self._stock is None:
                self._stock = (
                    crypten.generators,
                    crypten.mpc.get_default_provider,
                    arithmetic.__dict__["PRZS"],
                )
                crypten.generators = RefusingGenerators()
                crypten.mpc.get_default_provider = _refuse_provider
                arithmetic.PRZS = staticmethod(_zero_shared_tensor)

    def leave(self, crypten: Any) -> None:
        """Give the stock parts back, if this was the last block."""
        with self._lock:
            self._blocks -= 1
            if self._blocks == 0 and self._stock is not None:
                crypten.generators, crypten.mpc.get_default_provider, zero_sharing = self._stock
                crypten.mpc.primitives.ArithmeticSharedTensor.PRZS = zero_sharing
                self._stock = None


_GUARD = _Guard()
