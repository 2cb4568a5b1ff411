"""Real vectors as elements of Z_2^w, so that sums in the ring are sums of the numbers.

Adversary: none; this module is about honest arithmetic. What a hospital may claim as its update is another matter.
Promise: for at most K summands, each encoded here, the sum in Z_2^w read as a signed number is exactly the sum of
    the encoded integers: there is no wrap-around, by construction of the range. NaN, infinity and numbers beyond the
    bound are refused, never silently turned into something else.
Source: fixed-point representation as in CrypTen (Knott et al. 2021, section 4.2), with rounding to nearest in place
    of truncation; range analysis here.

With S = 2^f the scale and B the bound, an encoded coordinate is x' = round(x S), and |x'| <= B S. No sum of K of them
leaves the signed range when K B S <= 2^(w-1) - 1; f is the largest such exponent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError
from protocols.prg import RingVector, ring_dtype

_PIECE = 1 << 15


@dataclass(frozen=True)
class Encoding:
    """How numbers stand in the ring.

    Attributes:
        width: w, bits of the ring: 16, 32 or 64.
        fraction_bits: f, so that one unit in the ring is 2^-f. From -20 to 62.
        summands: K, the largest number of vectors that may be added.
    """

    width: int
    fraction_bits: int
    summands: int

    def __post_init__(self) -> None:
        ring_dtype(self.width)
        if not -20 <= self.fraction_bits <= 62:
            raise EncodingError(f"fraction_bits must be from -20 to 62, not {self.fraction_bits}.")
        if self.summands < 1 or self.limit < 1:
            raise EncodingError(f"{self.summands} summands do not fit into a ring of {self.width} bits.")

    @classmethod
    def for_bound(cls, width: int, bound: float, summands: int) -> Encoding:
        """The finest encoding in which ``summands`` vectors of coordinates up to ``bound`` cannot overflow.

        Example:
            >>> Encoding.for_bound(32, 4.0, 5)
            Encoding(width=32, fraction_bits=26, summands=5)
        """
        ring_dtype(width)
        if not (math.isfinite(bound) and bound > 0 and summands >= 1):
            raise EncodingError("The bound must be a positive number and there must be at least one summand.")
        largest = ((1 << (width - 1)) - 1) // summands
        # An exact rational: a float would overflow for the largest bounds.
        fitting = (f for f in range(62, -21, -1) if math.ceil(Fraction(bound) * Fraction(2) ** f) <= largest)
        fraction_bits = next(fitting, None)
        if fraction_bits is None:
            raise EncodingError(
                f"{summands} summands of up to {bound:.4g} do not fit into a ring of {width} bits: take a wider ring."
            )
        return cls(width, fraction_bits, summands)

    @property
    def limit(self) -> int:
        """The largest absolute value of an encoded coordinate: floor((2^(w-1) - 1) / K)."""
        return int(((1 << (self.width - 1)) - 1) // self.summands)

    @property
    def resolution(self) -> float:
        """The distance of two neighbouring numbers, 2^-f."""
        return math.ldexp(1.0, -self.fraction_bits)

    def encode(self, x: NDArray[np.float64]) -> RingVector:
        """Round to the grid (half to even) and enter the ring.

        Args:
            x: (D,) finite numbers, float64; float32 is taken as it is.

        Returns:
            (D,) unsigned integers of the ring's width.

        Raises:
            EncodingError: an entry is NaN or infinite, or larger than the range; nothing is encoded then.
        """
        out = np.empty(x.size, dtype=f"<i{self.width // 8}")
        scale = math.ldexp(1.0, self.fraction_bits)
        scratch = np.empty(min(_PIECE, x.size), dtype=np.float64)
        # Cache-sized pieces: a float64 image of a large model would cost more memory traffic than the arithmetic.
        for start in range(0, x.size, _PIECE):
            piece = x[start : start + _PIECE]
            scaled = scratch[: piece.size]
            with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused below
                np.multiply(piece, scale, out=scaled)  # by a power of two: exact
            np.rint(scaled, out=scaled)
            self._check(scaled)
            out[start : start + _PIECE] = scaled
        return out.view(ring_dtype(self.width))

    def _check(self, scaled: NDArray[np.float64]) -> None:
        largest = max(
            float(scaled.max()), -float(scaled.min())
        )  # NumPy's max and min are NaN if any entry is
        if math.isnan(largest):
            raise EncodingError("The vector has an entry that is not a number.")
        if largest > self.limit:
            raise EncodingError(
                f"The vector has an entry of size {math.ldexp(largest, -self.fraction_bits):.4g}, "
                f"beyond the agreed range of {math.ldexp(self.limit, -self.fraction_bits):.4g}."
            )

    def decode_sum(self, total: NDArray[np.int64]) -> NDArray[np.float64]:
        """Read a sum back: (D,) signed integers to (D,) float64.

        Exact while the integers stay below 2^53; beyond that (only w = 64) rounded to the nearest float64.
        """
        return np.ldexp(total.astype(np.float64), -self.fraction_bits)


def signed(vector: RingVector) -> NDArray[np.int64]:
    """Ring elements as the signed integers in [-2^(w-1), 2^(w-1)), widened to int64."""
    return vector.view(f"<i{vector.dtype.itemsize}").astype(np.int64)


def from_signed(values: NDArray[Any], width: int) -> RingVector:
    """The ring elements of signed integers; reduction modulo 2^w."""
    return values.astype(np.int64).view(np.uint64).astype(ring_dtype(width))


def from_bytes(data: bytes | memoryview, width: int, size: int) -> RingVector:
    """Read ``size`` little-endian ring elements; a read-only view of ``data``.

    Raises:
        EncodingError: the number of bytes is not size * width / 8.
    """
    dtype = ring_dtype(width)
    if len(data) != size * dtype.itemsize:
        raise EncodingError(f"A vector of {size} elements of {width} bits has {size * dtype.itemsize} bytes.")
    return np.frombuffer(data, dtype=dtype)
