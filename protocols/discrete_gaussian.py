"""Exact samples of the discrete Gaussian N_Z(0, σ²), in NumPy, from the operating system's randomness.

Adversary: sees sums that the samples are part of, any number of them, and knows σ². It does not see how long one call
    took: rejection takes a random time.
Promise: P[X = x] is proportional to exp(-x²/2σ²) on all integers, exactly, up to the expansion of 32 secret bytes
    (:mod:`protocols.prg`) being as good as uniform bits. No rounding error of a floating-point number enters the law.
Source: Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy", algorithms 1 to 3.

One trial, with t = floor(σ) + 1 (algorithms 2 and 3 for an integer scale t):

    U uniform on 0 .. t-1;  V with P[V >= v] = exp(-v);  Y = U + t V;  a fair bit B for the sign;
    accept with exp(-U/t) · exp(-(Y - σ²/t)²/2σ²), unless B = 1 and Y = 0;  the sample is (1 - 2B) Y.

The paper's two coins, exp(-U/t) and the other, are one here: independent events with probabilities exp(-a) and exp(-b)
both happen with probability exp(-(a + b)). Trials are independent, and a failed one is thrown away whole, so that the
order of its tests does not matter.

Algorithm 1 decides an event of probability exp(-γ); here it is decided lazily. It happens if u < exp(-γ) for a uniform
real number u, of which as many binary digits are drawn as the comparison needs. Floating point only says where u
certainly lies: with 64 bits of u it gives the answer when u is farther from exp(-γ) than all rounding errors together,
and otherwise says that it does not know. That, about three trials in 2^30, is decided with integers: an
enclosure of exp(-γ), of which γ is rational, and further digits of u, until u is outside of it. That ends with
probability 1, as exp(-γ) is irrational for γ ≠ 0. So both ways give the one answer that u has, and u is uniform.

The errors: a V that is taken from floating point is at most 22, hence y²/2σ² < 2^11 and γ is off by less than 2^-39,
exp(-γ) and u together by less than 2^-37, -log u by less than 2^-31. What is left to the margins of 2^-32 and 2^-30
covers errors of NumPy's exp and log up to 2^-33; those documented are below 2^-48.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError
from protocols.prg import Stream, new_seed

MAX_VARIANCE = 2**80
"""Larger noise has no use in a ring of 64 bits. Up to here |X| < 2^63 but for a chance below exp(-2^44)."""
_TRIALS = 1 << 13
"""Trials at a time: few enough that their arrays stay in the cache."""
_PER_SEED = 1 << 32
"""Bytes that are expanded from one seed."""
_EXP_MARGIN = 2.0**-32
_LOG_MARGIN = 2.0**-30
_SURE_WORD = 1 << 32
"""From here on, the first 64 bits of u say what log u is to within 2^-32."""
_LOG_2_64 = 64 * math.log(2)
_WORD = 64

Words = NDArray[np.uint64]


class ByteSource(Protocol):
    """Where uniform bytes come from."""

    def fill(self, out: memoryview) -> None:
        """Overwrite a writable, contiguous buffer of bytes with the next bytes."""


class _SystemBytes:
    """Expansions of fresh seeds of the operating system, which are stored nowhere."""

    def __init__(self) -> None:
        self._left = 0

    def fill(self, out: memoryview) -> None:
        if len(out) > self._left:
            self._stream = Stream(new_seed(), "discrete gaussian", b"")
            self._left = _PER_SEED
        self._left -= len(out)
        self._stream.fill(out)


def discrete_gaussian(size: int, variance: int) -> NDArray[np.int64]:
    """Independent exact samples of N_Z(0, variance).

    Args:
        size: how many, from 0.
        variance: σ², a whole number from 1 to 2^80. (The variance of the samples is σ² up to a relative
            difference of about exp(-2π²σ²); it is smaller.)

    Returns:
        (size,) int64.

    Raises:
        EncodingError: size or variance is out of range.
    """
    return sample(size, variance, _SystemBytes())


def sample(size: int, variance: int, source: ByteSource) -> NDArray[np.int64]:
    """:func:`discrete_gaussian` from a given source of bytes. For tests: what protects somebody is not drawn so."""
    if size < 0:
        raise EncodingError(f"The number of samples must be at least 0, not {size}.")
    trials = Trials(variance)
    out = np.empty(size, dtype=np.int64)
    words = np.empty((3, _TRIALS), dtype="<u8")
    done = 0
    while done < size:
        # Three words a trial, of which a little less than half succeed.
        count = min(_TRIALS, 2 * (size - done) + 16)
        batch = words.reshape(-1)[: 3 * count].reshape(3, count)
        source.fill(batch.data.cast("B"))
        values, accepted, unsure = trials.decide(batch)
        for i in np.flatnonzero(unsure):
            first, second, third = batch[:, i].tolist()
            value = trials.decide_exactly(first, second, third, source)
            accepted[i] = value is not None
            values[i] = value or 0
        found = values[accepted][: size - done]
        out[done : done + len(found)] = found
        done += len(found)
    return out


class Trials:
    """The trials for one variance. A trial is a function of three uniform words of 64 bits, and more when in doubt.

    The first gives U, by its remainder modulo t, if it is below the largest multiple of t. The second is the first 64
    digits of the u for V. Of the third, the last bit is B, the others are the first 63 digits of the u for accepting.
    """

    def __init__(self, variance: int) -> None:
        if isinstance(variance, bool) or int(variance) != variance or not 1 <= variance <= MAX_VARIANCE:
            raise EncodingError(f"The variance must be a whole number from 1 to 2^80, not {variance}.")
        self.variance = int(variance)
        self.t = math.isqrt(self.variance) + 1
        self.limit = (1 << _WORD) - (1 << _WORD) % self.t
        self._scale = 1 / (2 * float(self.variance))
        self._shift = self.variance / (2 * self.t**2)

    def decide(self, words: Words) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Floating point's answer to n trials.

        Args:
            words: (3, n), uniform.

        Returns:
            values int64, accepted and unsure, (n,) each. Where ``unsure``, the other two mean nothing; where not, they
            are what :meth:`decide_exactly` says.
        """
        # log u for the V; a half, lest u be 0.
        fraction = words[1].astype(np.float64)
        fraction += 0.5
        np.log(fraction, out=fraction)
        np.subtract(_LOG_2_64, fraction, out=fraction)
        v = np.floor(fraction)
        fraction -= v
        fraction -= 0.5
        np.abs(fraction, out=fraction)
        unsure = fraction > 0.5 - _LOG_MARGIN
        unsure |= words[1] < _SURE_WORD

        # Whole numbers below 2^53: exact.
        remainder = words[0] // np.uint64(self.t)
        remainder *= np.uint64(self.t)
        np.subtract(words[0], remainder, out=remainder)
        y = remainder.view(np.int64).astype(np.float64)
        y += float(self.t) * v

        # U/t + (Y - σ²/t)²/2σ² = Y²/2σ² - V + σ²/2t²
        gap = np.multiply(y, y)
        gap *= -self._scale
        gap += v
        gap -= self._shift
        np.exp(gap, out=gap)
        u = (words[2] >> np.uint64(1)).view(np.int64).astype(np.float64)
        u *= 2.0**-63
        gap -= u
        accepted = gap > 0
        np.abs(gap, out=gap)
        unsure |= gap <= _EXP_MARGIN

        if self.limit < 1 << _WORD:
            accepted &= words[0] < np.uint64(self.limit)
            unsure &= words[0] < np.uint64(self.limit)
        # -Y for B = 1, in two's complement.
        values = y.astype(np.int64)
        minus = -(words[2].view(np.int64) & 1)
        accepted &= (values | ~minus) != 0
        values ^= minus
        values -= minus
        return values, accepted, unsure

    def decide_exactly(self, first: int, second: int, third: int, source: ByteSource) -> int | None:
        """The outcome of one trial by exact arithmetic: the sample, or None if the trial failed."""
        if first >= self.limit:
            return None
        v, uniform = 0, LazyUniform(second, _WORD, source)
        while uniform.below_exp(Fraction(v + 1)):
            v += 1
        y = first % self.t + self.t * v
        from_centre = y - Fraction(self.variance, self.t)
        exponent = Fraction(first % self.t, self.t) + from_centre**2 / (2 * self.variance)
        if not LazyUniform(third >> 1, _WORD - 1, source).below_exp(exponent):
            return None
        negative = third & 1
        if negative and y == 0:
            return None
        return -y if negative else y


class LazyUniform:
    """A uniform real number u in [0, 1), of which as many binary digits are drawn as questions about it need.

    Args:
        digits: the first ``count`` digits, as an integer: u is in [digits, digits + 1) / 2^count.
        source: where further digits come from, 64 at a time.
    """

    def __init__(self, digits: int, count: int, source: ByteSource) -> None:
        self.digits = digits
        self.count = count
        self._source = source

    def below_exp(self, exponent: Fraction) -> bool:
        """Whether u < exp(-exponent), for a rational exponent >= 0."""
        if exponent == 0:
            return True
        while True:
            # Sixteen places more than u has: the enclosure is then seldom what hinders.
            places = self.count + 16
            low, high = exp_enclosure(exponent, places)
            if self.digits + 1 << 16 <= low:
                return True
            if self.digits << 16 >= high:
                return False
            more = bytearray(_WORD // 8)
            self._source.fill(memoryview(more))
            self.digits = self.digits << _WORD | int.from_bytes(more, "little")
            self.count += _WORD


def exp_enclosure(exponent: Fraction, places: int) -> tuple[int, int]:
    """Integers low and high with low <= exp(-exponent) 2^places <= high, of a small distance, for exponent >= 0.

    The Taylor series of exp(-x) for x = exponent / 2^m <= 1, all roundings outwards, then m squarings.
    """
    m = math.ceil(exponent).bit_length()
    # A squaring doubles the error, a term adds two units.
    extra = m + 16
    work = places + extra
    x = exponent * Fraction(1 << work, 1 << m)
    x_low, x_high = math.floor(x), math.ceil(x)
    term_low = term_high = low = high = 1 << work
    k = 0
    # Invariant: low and high enclose the series up to its k-th term, which is between term_low and term_high.
    while term_high > 1:
        k += 1
        term_low = term_low * x_low // (k << work)
        term_high = -(-term_high * x_high // (k << work))
        low, high = (low - term_high, high - term_low) if k % 2 else (low + term_low, high + term_high)
    # The terms fall and alternate: what is left out is no larger than the last of them.
    low, high = max(0, low - term_high), high + term_high
    for _ in range(m):
        low, high = low * low >> work, -(-high * high >> work)
    return low >> extra, -(-high >> extra)
