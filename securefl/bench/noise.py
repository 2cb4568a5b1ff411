"""What a party's noise and a hospital's rounding cost, in CPU time.

Floors: a sample of N_Z(0, σ²) has log2(σ √(2πe)) bits of entropy, which must come from the expansion of a seed and be
written once; a rounded vector must be read once and written once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from protocols.bounded_rounding import bounded_rounding
from protocols.discrete_gaussian import discrete_gaussian
from protocols.noise import noisy
from protocols.prg import Stream, new_seed, ring_dtype
from securefl.training.determinism import single_thread

Figures = dict[str, Any]


def measure_noise(samples: int, variance: int, width: int, repeats: int) -> Figures:
    """Measure ``samples`` samples of this variance, and noise and rounding for a vector of as many coordinates.

    Returns:
        Medians over ``repeats``, of CPU time: ``samples_per_cpu_second``; ``floor_samples_per_cpu_second``, to expand
        and write as many bytes as the samples have entropy; ``noisy_cpu_ms``, to add the noise to a share of so many
        elements of ``width`` bits; ``rounding_cpu_ms``, to clip and round one vector; ``floor_rounding_cpu_ms``, to
        copy it.
    """
    single_thread()
    entropy_bits = 0.5 * math.log2(2 * math.pi * math.e * variance)
    entropy = bytearray(math.ceil(samples * entropy_bits / 8))
    share = np.zeros(samples, dtype=ring_dtype(width))
    gradient = np.random.default_rng(1).normal(size=samples)
    copy = np.empty_like(gradient)

    def expand() -> None:
        Stream(new_seed(), "bench", b"").fill(memoryview(entropy))

    seconds = _cpu_seconds(lambda: discrete_gaussian(samples, variance), repeats)
    return {
        "samples": samples,
        "variance": variance,
        "width": width,
        "entropy_bits": round(entropy_bits, 2),
        "samples_per_cpu_second": round(samples / seconds),
        "floor_samples_per_cpu_second": round(samples / _cpu_seconds(expand, repeats)),
        "noisy_cpu_ms": round(1e3 * _cpu_seconds(lambda: noisy(share, variance), repeats), 3),
        "rounding_cpu_ms": round(
            1e3 * _cpu_seconds(lambda: bounded_rounding(gradient, 2**20, 20), repeats), 3
        ),
        "floor_rounding_cpu_ms": round(1e3 * _cpu_seconds(lambda: np.copyto(copy, gradient), repeats), 3),
    }


def _cpu_seconds(action: Callable[[], Any], repeats: int) -> float:
    """The median, after one turn that fills caches."""
    action()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    return max(median(seconds), 1e-9)
