"""One place that makes arithmetic repeat: one thread, deterministic algorithms, seeds from names.

A network trained on one, two and four threads gives three different models; on one thread it repeats exactly across
processes of one CPU class. A process that trains calls ``settle`` before its first tensor operation, any other that
computes calls ``single_thread``: only gradients need deterministic algorithms.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping

from protocols.canonical import encode

ENVIRONMENT: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Keep freed memory: returned to the system and taken again, a page costs more than what is computed in it.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
"""For the environment of a process that will compute; libraries read it when they are first loaded."""


def single_thread() -> None:
    """Make this process compute on one thread. May be called again."""
    os.environ.update(ENVIRONMENT)
    import torch

    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def settle() -> None:
    """Make this process train repeatably: one thread, deterministic algorithms. May be called again."""
    single_thread()
    import torch

    # As torch.use_deterministic_algorithms(True), without the compiler, which nothing here uses and takes 3 s to load.
    torch.set_deterministic_debug_mode("error")
    # No operation of ours reads memory that it has not written; filling it first costs a tenth of the training.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed_for(study_seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose, from the study's seed and the purpose's names.

    It makes training repeat. It never reaches a mask, a key or privacy noise.
    """
    return int.from_bytes(hashlib.sha256(encode(["training", study_seed, *names])).digest()[:8], "big") >> 1


def fingerprint() -> str:
    """What bit-identity is promised for: CPU class and versions, as one line."""
    import numpy
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{platform.machine()} {capability}, torch {torch.__version__}, numpy {numpy.__version__}, "
        f"Python {platform.python_version()}"
    )
