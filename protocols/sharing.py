"""Additive secret sharing with P - 1 of the shares compressed to seeds.

Adversary: any P - 1 of the P parties, reading everything they were sent.
Promise: their view can be simulated from the vector's size alone. Each seed's expansion is computationally
    indistinguishable from uniform (``prg``); whichever share is missing acts as a one-time pad on the rest, also when
    the adversary holds the explicit share: that one is x minus P - 1 expansions, of which one stays unknown.
Source: Bonawitz et al. 2017, section 3 (additive masking), Corrigan-Gibbs and Boneh 2017 (Prio), appendix I
    (shares compressed by a PRG).

A vector x over Z_2^w is split as x = v + sum over i of G(seed_i) mod 2^w, where v is the explicit share. Which party
holds v is chosen by the caller, and rotates, so that the load is even.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from protocols.errors import EncodingError
from protocols.prg import SEED_BYTES, RingVector, Stream, new_seed, ring_dtype, width_of
from protocols.ring import from_bytes

_LABEL = "share"
_PIECE = 1 << 15
SEED = b"\x00"
VECTOR = b"\x01"


@dataclass(frozen=True)
class Shape:
    """What both sides know about a shared vector: D elements of w bits."""

    size: int
    width: int

    @property
    def bytes(self) -> int:
        """Length of the explicit share."""
        return self.size * ring_dtype(self.width).itemsize


def share(x: RingVector, parties: int, vector_holder: int, context: bytes) -> list[bytes | bytearray]:
    """Split x among the parties.

    Args:
        x: (D,) ring elements.
        parties: P, at least 2.
        vector_holder: the party, 0 to P - 1, that gets the explicit share.
        context: what these shares are bound to; reconstruction needs the same bytes.

    Returns:
        One plaintext for each party, to be sealed: 32 bytes of seed or D w/8 bytes of share, then one byte of kind.

    Raises:
        EncodingError: fewer than two parties, no such holder, or x is not over a ring (masks hide nothing elsewhere).
    """
    width_of(x)
    if parties < 2 or not 0 <= vector_holder < parties:
        raise EncodingError(
            "A vector is shared among at least two parties, one of which holds the explicit share."
        )
    seeds = {party: new_seed() for party in range(parties) if party != vector_holder}
    # One buffer from mask to envelope: for a large model a fresh copy costs more than the arithmetic.
    explicit = bytearray(x.nbytes + 1)
    explicit[-1:] = VECTOR
    rest = np.frombuffer(explicit, dtype=x.dtype, count=x.size)
    for piece, part, masks in _masked_pieces(rest, x, [_stream(s, j, context) for j, s in seeds.items()]):
        np.subtract(part, masks[0], out=piece)
        for mask in masks[1:]:
            piece -= mask
    plaintexts: dict[int, bytes | bytearray] = {party: seed + SEED for party, seed in seeds.items()}
    plaintexts[vector_holder] = explicit
    return [plaintexts[party] for party in range(parties)]


def add_share(total: RingVector, plaintext: bytes | bytearray, party: int, context: bytes) -> None:
    """Add one hospital's share for ``party`` to ``total`` in place.

    Raises:
        EncodingError: the plaintext is neither a seed nor an explicit share of the right size; ``total`` is unchanged.
    """
    width = width_of(total)
    check_share(plaintext, Shape(total.size, width))
    rest = memoryview(plaintext)[:-1]
    if plaintext[-1:] == VECTOR:
        total += from_bytes(rest, width, total.size)
        return
    for piece, _, (mask,) in _masked_pieces(total, total, [_stream(bytes(rest), party, context)]):
        piece += mask


def check_share(plaintext: bytes | bytearray, shape: Shape) -> None:
    """Raise EncodingError unless the plaintext is a seed or an explicit share of this shape."""
    form, length = plaintext[-1:], len(plaintext) - 1
    if not ((form == SEED and length == SEED_BYTES) or (form == VECTOR and length == shape.bytes)):
        raise EncodingError("A share is neither a seed nor a vector of the agreed size.")


class ShareReader:
    """One party's share of one vector, read once from front to back in pieces of any size: a seed is never expanded
    as a whole.

    Args:
        plaintext: what :func:`share` made for the party; kept, not copied.
        shape: D and w.
        party: 0 to P - 1.
        context: what the shares are bound to.

    Raises:
        EncodingError: the plaintext is neither a seed nor an explicit share of the right size.
    """

    def __init__(self, plaintext: bytes | bytearray, shape: Shape, party: int, context: bytes) -> None:
        check_share(plaintext, shape)
        self.shape = shape
        self._read = 0
        content = memoryview(plaintext)[:-1]
        self._explicit: RingVector | None = None
        if plaintext[-1:] == VECTOR:
            self._explicit = from_bytes(content, shape.width, shape.size)
        else:
            self._masks = _stream(bytes(content), party, context)

    def read_into(self, out: RingVector) -> None:
        """Overwrite ``out``, contiguous and of the share's width, with the next ``out.size`` elements.

        Raises:
            EncodingError: another width, or more elements than are left.
        """
        start, end = self._read, self._read + out.size
        if out.dtype != ring_dtype(self.shape.width) or end > self.shape.size:
            raise EncodingError("A share is read in its own width, and to its end at most.")
        self._read = end
        if self._explicit is None:
            self._masks.fill(out.data.cast("B"))
        else:
            out[:] = self._explicit[start:end]


def zeros(shape: Shape) -> RingVector:
    """The empty sum."""
    return np.zeros(shape.size, dtype=ring_dtype(shape.width))


def _stream(seed: bytes, party: int, context: bytes) -> Stream:
    return Stream(seed, _LABEL, party.to_bytes(2, "big") + context)


def _masked_pieces(
    out: RingVector, x: RingVector, streams: Sequence[Stream]
) -> Iterator[tuple[RingVector, RingVector, list[RingVector]]]:
    """Walk two vectors beside the expansions of some seeds, in pieces that stay in the cache.

    The masks are overwritten by the next step.
    """
    masks = [np.empty(min(_PIECE, x.size), dtype=x.dtype) for _ in streams]
    for start in range(0, x.size, _PIECE):
        piece, part = out[start : start + _PIECE], x[start : start + _PIECE]
        for stream, mask in zip(streams, masks, strict=True):
            stream.fill(mask[: part.size].data.cast("B"))
        yield piece, part, [mask[: part.size] for mask in masks]
