"""The norm check's public coin, and every share's product with the random matrix that it stands for.

Adversary: hospitals, whose vectors are fixed before the coin by the list that it is bound to; up to P - 1 parties that
    choose their openings in order to steer the coin, with the hospitals' help.
Promise: as long as one party's opening is random, the coin cannot be predicted before all commitments are known, nor
    chosen: who dislikes it can only refuse to open, and have the attempt repeated. Each attempt is a new chance, so
    that the bounds of :mod:`protocols.norm_bounds` are for each coin. The projection is linear and exact modulo 2^w:
    the parties' projections of their shares are shares of the vector's projection. Nothing is sent here.
Source: commit-and-open coin tossing (Blum 1981), with a hash for a commitment; random projections as in PINE
    (Rothblum, Omri, Chen and Talwar 2024).

The matrix R, m rows by D columns, is the expansion (:mod:`protocols.prg`) of the coin under the label "norm matrix" and
the context of D and m, in canonical CBOR, two bits an entry: 00 is -1, 01 and 10 are 0, 11 is +1. It comes in blocks of
512 columns, the last of which may have fewer: row after row of the block, four columns a byte, the first in the lowest
bits; a row of c columns has ceil(c / 4) bytes, the bits beyond the last column being skipped. It is never stored.

The product is computed in floating point, for its speed, but exactly: elements are cut into digits of at most 2^15,
whose sums over 512 columns stay within 2^24 (float32), and sums of those within 2^53 (float64). All are integers that
their type holds, so that the order of additions, the number of threads and the processor make no difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import digest, encode
from protocols.errors import EncodingError
from protocols.norm_bounds import NormCheck
from protocols.prg import Stream, ring_dtype
from protocols.sharing import Shape, ShareReader

OPENING_BYTES = 32
BLOCK = 512
"""Columns of the matrix that exist at a time: as many digits of 16 bits as a float32 sums exactly."""
PIECE = 16 * BLOCK
"""Elements that are read of each share at a time: enough to be worth a call, few enough for the cache."""
BATCH = 24
"""Shares that are projected together. The matrix is made anew for each batch, for the cost of about ten shares of 16
bits: hence many. A batch's explicit shares are in memory at once, one in P of them if all are honest: hence not all."""
_LABEL = "norm matrix"

Projections = NDArray[Any]
"""(n, m) elements of Z_2^w: uint16, uint32 or uint64, little-endian. A party's shares of n vectors' projections."""


def commit(opening: bytes, context: bytes) -> bytes:
    """The commitment to a party's 32 secret random bytes, to be sent before any opening is.

    Args:
        opening: from the operating system's source (:func:`protocols.prg.new_seed`), for this coin only.
        context: the digest of the frozen list, the session and the party's name or rank.

    Returns:
        32 bytes.
    """
    _check_opening(opening)
    return digest("norm-commitment", [context, opening])


def coin(context: bytes, openings: Sequence[bytes]) -> bytes:
    """The coin of all parties' openings, each of which the caller has checked against its commitment.

    Args:
        context: the digest of the frozen list and the session.
        openings: 32 bytes each, in the parties' order.

    Returns:
        32 bytes, public.

    Raises:
        EncodingError: fewer than two openings, or one that has not 32 bytes.
    """
    if len(openings) < 2:
        raise EncodingError("A coin is of at least two parties' openings.")
    for opening in openings:
        _check_opening(opening)
    return digest("norm-coin", [context, list(openings)])


def project(check: NormCheck, coin: bytes, shares: Iterable[ShareReader]) -> Projections:
    """R times each share modulo 2^w; for a direct check the shares themselves, and the coin is not used.

    Args:
        check: the norm check; its size and width are the shares'.
        coin: 32 bytes.
        shares: unread. An iterator may open them one by one: only one batch is held at a time.

    Returns:
        (n, m), in the order of the shares.

    Raises:
        EncodingError: a share of another size or width, or not a coin.
    """
    rest, done = iter(shares), []
    while batch := list(itertools.islice(rest, BATCH)):
        if any(share.shape != Shape(check.size, check.width) for share in batch):
            raise EncodingError("The norm check projects shares of its own size and width.")
        done.append(_whole(check, batch) if check.direct else _project_batch(check, coin, batch))
        del batch  # before the next one is opened
    if not done:
        return np.empty((0, check.rows), dtype=ring_dtype(check.width))
    return np.concatenate(done)


def matrix_blocks(size: int, rows: int, coin: bytes) -> Iterator[NDArray[np.float32]]:
    """The matrix in blocks of columns, from the first on.

    Yields:
        (m, c) float32, entries -1, 0 and +1; c is 512, but for the last block. Overwritten by the next.
    """
    stream = Stream(coin, _LABEL, encode([size, rows]))
    for start in range(0, size, BLOCK):
        columns = min(BLOCK, size - start)
        if start == 0 or columns < BLOCK:
            packed = np.empty((rows, -(-columns // 4)), dtype=np.uint8)
            block = np.empty((*packed.shape, 4), dtype=np.float32)
        stream.fill(packed.data.cast("B"))
        np.take(_ENTRIES, packed, axis=0, out=block, mode="clip")  # without a mode, `out` is buffered
        yield block.reshape(rows, -1)[:, :columns]


def _four_entries() -> NDArray[np.float32]:
    """(256, 4) float32: the entries that a byte stands for."""
    pairs = np.arange(256)[:, None] >> np.array([0, 2, 4, 6])
    entries: NDArray[np.float32] = ((pairs & 1) + (pairs >> 1 & 1) - 1).astype(np.float32)
    return entries


_ENTRIES = _four_entries()


def _project_batch(check: NormCheck, coin: bytes, shares: Sequence[ShareReader]) -> Projections:
    dtype, limbs = ring_dtype(check.width), check.width // 16
    sums = np.zeros((len(shares) * limbs, check.rows), dtype=np.float64)
    part = np.empty(sums.shape, dtype=np.float32)
    for block, x in zip(matrix_blocks(check.size, check.rows, coin), _limb_blocks(shares), strict=True):
        np.matmul(x, block.T, out=part)
        sums += part
    # Below 2^53, since D is below 2^38: the conversion is exact, and what follows wraps.
    digits = sums.astype(np.int64).view(np.uint64).reshape(len(shares), limbs, check.rows)
    total = np.zeros((len(shares), check.rows), dtype=np.uint64)
    for i in range(limbs):
        total += digits[:, i] << np.uint64(16 * i)
    return total.astype(dtype)


def _limb_blocks(shares: Sequence[ShareReader]) -> Iterator[NDArray[np.float32]]:
    """The shares' balanced digits to the base 2^16, from -2^15 to 2^15 - 1, for one block of columns after another.

    Yields:
        (n w/16, c) float32, a share's lowest digit first. Overwritten by the next.
    """
    shape = shares[0].shape
    limbs = shape.width // 16
    middle = np.array(0x8000_8000_8000_8000).astype(ring_dtype(shape.width))
    piece = np.empty((len(shares), min(PIECE, shape.size)), dtype=middle.dtype)
    x = np.empty((len(shares), limbs, piece.shape[1]), dtype=np.float32)
    for start in range(0, shape.size, PIECE):
        columns = min(PIECE, shape.size - start)
        for share, row in zip(shares, piece, strict=True):
            share.read_into(row[:columns])
        # 2^15 is added to every digit with carries, and taken off without (flipping the top bit): digits with signs.
        piece += middle
        piece ^= middle
        digits = piece.view("<i2").reshape(len(shares), -1, limbs)
        x[:] = digits.transpose(0, 2, 1)
        flat = x.reshape(len(shares) * limbs, -1)
        for first in range(0, columns, BLOCK):
            yield flat[:, first : min(first + BLOCK, columns)]


def _whole(check: NormCheck, shares: Sequence[ShareReader]) -> Projections:
    whole = np.empty((len(shares), check.size), dtype=ring_dtype(check.width))
    for share, row in zip(shares, whole, strict=True):
        share.read_into(row)
    return whole


def _check_opening(opening: bytes) -> None:
    if len(opening) != OPENING_BYTES:
        raise EncodingError(f"An opening has {OPENING_BYTES} bytes, this one has {len(opening)}.")
