"""Rounding a real vector to integers of which the norm is bounded exactly.

Adversary: none; this is what an honest hospital does to each patient's gradient. The noise on a sum is measured
    against one patient's largest integer norm, so that a bound that rounding exceeds, by whatever little, is a claim of
    privacy that does not hold.
Promise: the sum of the squares of the returned integers is at most C², for every input, in exact arithmetic; so adding
    or removing one patient moves the sum of all by at most C in L2 norm. A vector within the bound is rounded to the
    nearest integers, unless those are beyond it.
Source: clipping as in Abadi et al. 2016, section 3.1. Kairouz, Liu and Steinke 2021 round at random, repeat until the
    norm is small, and enlarge the bound; shrinking needs neither, and what it costs is accuracy only.

In units of 2^-f let y be the vector, clipped: |y| <= C. Rounding to nearest moves a coordinate by at most 1/2, and so
may leave the ball by up to √D/2. Typically it adds D/12 to the square of the norm, with a standard deviation of C/√3:
to aim at a sphere that is smaller by that and six deviations, about two units of the norm, is nearly always enough. If
not, coordinates are rounded towards zero, which makes none larger, hence no norm: |trunc(y)| <= |y| <= C. The last step
is then a guard against errors of floating point only: it takes 1 from each coordinate's size.

Why the bound always holds: only :func:`_is_within` lets a vector out, and it computes with integers without rounding or
overflow. Why something is always returned: the last step, repeated, ends at the zero vector, which is within.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError

MAX_CLIP = 2**62
_DIGIT = 21
"""Bits of a digit of a 63-bit size, of which three make it up."""
_PIECE = 1 << 20
"""Products of digits that are summed at a time: 2^(20 + 2 · 21) fits into int64."""


def bounded_rounding(gradient: NDArray[np.float64], clip_units: int, fraction_bits: int) -> NDArray[np.int64]:
    """Clip a vector to the L2 norm C 2^-f and round it to multiples of 2^-f, of which the norm is at most C 2^-f too.

    Args:
        gradient: (D,) float64 (float32 is taken as it is), of any values. A vector with an entry that is NaN or
            infinite counts as zero: refusing it would tell that there is one.
        clip_units: C, the bound in units of 2^-f, from 1 to 2^62.
        fraction_bits: f, from -20 to 62 as in :class:`protocols.ring.Encoding`.

    Returns:
        (D,) int64, in units of 2^-f. The sum of squares is at most C².

    Raises:
        EncodingError: not a vector of floating-point numbers, or C or f is out of range.
    """
    if gradient.ndim != 1 or gradient.dtype.kind != "f" or gradient.dtype.itemsize > 8:
        raise EncodingError(
            f"A gradient is a vector of float64 or float32, not {gradient.dtype}{gradient.shape}."
        )
    if not 1 <= clip_units <= MAX_CLIP:
        raise EncodingError(f"The norm bound must be from 1 to 2^62 units, not {clip_units}.")
    if not -20 <= fraction_bits <= 62:
        raise EncodingError(f"fraction_bits must be from -20 to 62, not {fraction_bits}.")
    clip_units = int(clip_units)  # its square has no room in NumPy's integers
    x = gradient.astype(np.float64)
    largest = float(np.abs(x).max(initial=0.0))
    if largest == 0 or not math.isfinite(largest):
        return np.zeros(x.size, dtype=np.int64)
    return next(r for r in _candidates(x, largest, clip_units, fraction_bits) if _is_within(r, clip_units))


def squared_norm(vector: NDArray[np.int64]) -> int:
    """The sum of squares of integers in (-2^63, 2^63), exactly."""
    size = np.abs(vector)
    largest = int(size.max(initial=0))
    if largest**2 * vector.size < 2**63:
        return int(np.dot(vector, vector))
    total = 0
    for start in range(0, size.size, _PIECE):
        piece = size[start : start + _PIECE]
        digits = [(piece >> (_DIGIT * i)) & ((1 << _DIGIT) - 1) for i in range(3)]
        total += sum(
            int(np.dot(a, b)) << (_DIGIT * (i + j))
            for i, a in enumerate(digits)
            for j, b in enumerate(digits)
        )
    return total


def _is_within(vector: NDArray[np.int64], clip_units: int) -> bool:
    return squared_norm(vector) <= clip_units**2


def _candidates(
    x: NDArray[np.float64], largest: float, clip_units: int, fraction_bits: int
) -> Iterator[NDArray[np.int64]]:
    """Roundings of the clipped vector, the best one first. There is no last one, but the zero vector comes."""
    # Divided by its largest entry, a vector has a norm from 1 to √D: neither 1e300 nor a denormal disturbs it.
    shape = x / largest
    norm = math.sqrt(float(np.dot(shape, shape)))
    with np.errstate(over="ignore"):  # infinity is beyond the bound, as it should be
        units = float(np.ldexp(largest, fraction_bits))
    clip = float(clip_units)
    if units * norm <= clip:
        yield _nearest(np.ldexp(x, fraction_bits))
        reach = units * norm
    else:
        yield _nearest(shape * (clip / norm))
        reach = clip
    margin = min(math.sqrt(x.size) / 2, x.size / (24 * clip) + 2)
    if margin < reach:
        yield _nearest(shape * (min(reach, clip - margin) / norm))
    # D squares and their sum are off by a part of D 2^-53 at most, in any order of additions.
    rounding_errors = (x.size + 16) * 2.0**-52
    towards_zero = _integers(np.trunc(shape * (reach * (1 - rounding_errors) / norm)))
    while True:
        yield towards_zero
        towards_zero = towards_zero - np.sign(towards_zero)


def _nearest(y: NDArray[np.float64]) -> NDArray[np.int64]:
    return _integers(np.rint(y))


def _integers(y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers as int64. No entry exceeds 2^62 by more than rounding errors."""
    return y.astype(np.int64)
