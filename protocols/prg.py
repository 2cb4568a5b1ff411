"""A seed becomes as many pseudo-random ring elements as needed.

Adversary: sees any number of expansions under other labels, contexts or seeds.
Promise: without the 256-bit seed, an expansion cannot be told from uniform bytes (AES-256 as a pseudo-random
    permutation; at most 2^32 blocks a key keep the distinguishing advantage of counter mode below 2^-65).
    Label and context go into the key, so that one seed never yields the same stream for two purposes.
Source: AES in counter mode, NIST SP 800-38A, section 6.5; HKDF with SHA-256, RFC 5869.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.canonical import encode
from protocols.errors import EncodingError

SEED_BYTES = 32
_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)
_MAX_BYTES = 2**36
"""2^32 AES blocks."""

RingVector = NDArray[Any]
"""A vector over Z_2^w: a one-dimensional NumPy array of uint16, uint32 or uint64, little-endian."""


def new_seed() -> bytes:
    """32 bytes from the operating system's cryptographic source."""
    return secrets.token_bytes(SEED_BYTES)


class Stream:
    """The keystream of one seed for one purpose. It can be drawn from once, in one piece or several.

    Args:
        seed: 32 secret bytes.
        label: the purpose, a fixed string in the code.
        context: what this use is bound to (study, round, sender ...), any bytes.
    """

    def __init__(self, seed: bytes, label: str, context: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise EncodingError(f"A seed has {SEED_BYTES} bytes, this one has {len(seed)}.")
        key = HKDF(SHA256(), length=32, salt=None, info=encode(["securefl-prg-1", label, context])).derive(
            seed
        )
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._drawn = 0

    def fill(self, out: memoryview) -> None:
        """Overwrite a writable, contiguous buffer of bytes with the next keystream bytes."""
        self._drawn += len(out)
        if self._drawn > _MAX_BYTES:
            raise EncodingError(
                "One seed is asked for more than 2^36 bytes: split the vector over several seeds."
            )
        # Encrypting zeros in cache-sized pieces gives the keystream without a second large buffer.
        for start in range(0, len(out), _BLOCK):
            piece = out[start : start + _BLOCK]
            self._encryptor.update_into(_ZEROS[: len(piece)], piece)

    def ring_vector(self, size: int, width: int) -> RingVector:
        """The next ``size`` elements of Z_2^width, uniform. Width is 16, 32 or 64 bits."""
        vector = np.empty(size, dtype=ring_dtype(width))
        self.fill(vector.data.cast("B"))
        return vector


def ring_dtype(width: int) -> np.dtype[Any]:
    """The NumPy type of Z_2^width: additions wrap by themselves.

    Raises:
        EncodingError: width is not 16, 32 or 64.
    """
    if width not in (16, 32, 64):
        raise EncodingError(f"A ring has 16, 32 or 64 bits, not {width}.")
    return np.dtype(f"<u{width // 8}")


def width_of(vector: RingVector) -> int:
    """The bits of the ring that a vector is over.

    Raises:
        EncodingError: not a vector over one of our rings, but of floats, of signed integers, or empty.
    """
    width = 8 * vector.dtype.itemsize
    if (
        vector.ndim != 1
        or vector.size < 1
        or vector.dtype not in (np.dtype("<u2"), np.dtype("<u4"), np.dtype("<u8"))
    ):
        raise EncodingError(f"This is not a vector over Z_2^w: {vector.dtype}{vector.shape}.")
    return width
