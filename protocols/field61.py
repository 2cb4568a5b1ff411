"""Inner products over the field of 2^61 - 1 elements, with a random vector that is expanded piece by piece.

Adversary: fixes a vector of differences before the stream's seed is drawn.
Promise: the result is exact. A vector of integers that are not all multiples of the prime has inner product 0 with
    probability at most 2^-60: whatever the other random elements are, the one beside such an integer must take one
    value. (A random element is the low 61 bits of a word, where all ones stand for 0, so that 0 comes twice and no
    value more often. That costs one bit of 2^-61 and saves the rejection of words. The stream in place of uniform
    words changes the probability by no more than what tells AES from a random permutation.)
Source: universal hashing modulo a prime, Carter and Wegman 1979, section 3; by an inner product: Halevi and Krawczyk
    1997, section 3 (MMH*); the arithmetic here.

Words and values are cut into limbs of 16 bits. Products of two limbs are below 2^32 in size, so that float64 adds
2^21 of them exactly, in any order, which leaves the work to one matrix product of BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.errors import EncodingError
from protocols.prg import Stream

BITS = 61
PRIME = (1 << BITS) - 1
_PIECE = 1 << 14
_LIMBS = 4
_SIGNED = (np.dtype("<i2"), np.dtype("<i4"), np.dtype("<i8"))


def inner_product(stream: Stream, values: NDArray[Any], bits: int = BITS) -> int:
    """The inner product of the stream's next D elements with ``values``, modulo 2^bits - 1.

    Args:
        stream: gives 8 bytes for each value, of which the low ``bits`` bits count.
        values: (D,) signed integers of 16, 32 or 64 bits, any values; D at least 1.
        bits: 61, or in a test a smaller Mersenne exponent, so that failures are frequent enough to be counted.

    Returns:
        0 to 2^bits - 2.

    Raises:
        EncodingError: ``values`` is something else (unsigned ring elements are read with ``ring.signed``).
    """
    if values.ndim != 1 or values.size < 1 or values.dtype not in _SIGNED:
        raise EncodingError(
            f"An inner product is with a vector of signed integers, not {values.dtype}{values.shape}."
        )
    prime = (1 << bits) - 1
    size = min(_PIECE, values.size)
    words = np.empty(size, dtype="<u8")
    left, right = np.empty((size, _LIMBS)), np.empty((size, _LIMBS))
    total = 0
    for start in range(0, values.size, _PIECE):
        piece = np.ascontiguousarray(values[start : start + _PIECE], dtype="<i8")
        drawn = words[: piece.size]
        stream.fill(drawn.data.cast("B"))
        drawn &= np.uint64(prime)
        left[: piece.size] = drawn.view("<u2").reshape(-1, _LIMBS)
        right[: piece.size] = piece.view("<u2").reshape(-1, _LIMBS)
        right[: piece.size, -1] = piece.view("<i2")[_LIMBS - 1 :: _LIMBS]  # the top limb carries the sign
        products = left[: piece.size].T @ right[: piece.size]
        total += sum(int(product) << (16 * (a + b)) for (a, b), product in np.ndenumerate(products))
    return total % prime
