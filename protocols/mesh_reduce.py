"""Sums of a vector over the members of a session, by the shorter of two ways.

Adversary: as for :mod:`protocols.mesh`, and semi-honest members; a lying one as said below.
Promise: every member that follows the program ends with the sum (or XOR) of what all of them put in, bit for bit the
    same by either way, or with a ChannelError.
Source: reduce-scatter and all-gather, Rabenseifner 2004; 2 (n-1)/n of the vector sent by each of n members is the
    least that any sum takes (Patarasuk and Yuan 2009, section 3).

A short vector is exchanged directly: each member sends all of it to all others, in one message round. Of a long one,
each member adds up one of n segments, to which all others send theirs, and sends the total to all: two rounds, and
2 (n-1)/n of the vector in place of n-1 times it. With two members both are the same, and the direct way is taken.

What the second way changes:

- For semi-honest members, nothing. A member sees of the others' vectors one segment each, and of the rest the total:
  a part of what it sees directly, and computable from it.
- A lying member can, either way, change the total by what it likes, after it has seen everybody's numbers, and give
  two members different totals. The parties' signatures over the outcome show that two totals differ. But directly each
  number comes from its owner, and a member who keeps what it received can say who sent what; here the total of a
  segment is the word of whoever added it up.
- An opening that is repeated after a crash is the same vector again. Its segments are the same bytes, also when the
  members and so the segments' bounds are others; and a total is a function of vectors that were sent before. If a
  liar puts in another vector the second time, the total that an honest member then sends moves by the difference,
  which the liar knows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from protocols.mesh_group import Buffer, Peers, Sending

Words = NDArray[np.uint64]
"""(D,) uint64, little-endian: elements of Z_2^64, or 64 bits each."""

SCATTER_BYTES = 2 << 20
"""Vectors of at least this many bytes go by segments, if there are more than two members."""
_WORD = np.dtype("<u8")


def all_reduce(
    peers: Peers, tag: Callable[[str], bytes], vector: Words, combine: np.ufunc
) -> tuple[Words, int]:
    """The sum of everybody's vector, for everybody. Collective.

    Args:
        peers: the members.
        tag: what the messages of a step are called, the same at all members; the step is "sum", "segment" or "total".
        vector: (D,) this member's; all have the same D. Not changed, and must not change meanwhile.
        combine: ``np.add``, which wraps around modulo 2^64, or ``np.bitwise_xor``.

    Returns:
        (D,) a new vector, and the bytes that were sent.

    Raises:
        ChannelError: a member did not answer in time, or sent something else.
    """
    if peers.world_size > 2 and vector.nbytes >= SCATTER_BYTES:
        return _by_segments(peers, tag, vector, combine)
    sendings = [peers.start_send(peer, tag("sum"), as_bytes(vector)) for peer in peers.peers]
    total = vector.copy()
    for peer in peers.peers:
        receive_words(peers, peer, tag("sum"), total, combine)
    _wait(sendings)
    return total, len(sendings) * vector.nbytes


def _by_segments(
    peers: Peers, tag: Callable[[str], bytes], vector: Words, combine: np.ufunc
) -> tuple[Words, int]:
    n, rank = peers.world_size, peers.rank
    segments = [slice(vector.size * k // n, vector.size * (k + 1) // n) for k in range(n)]
    # The next one first, so that no member is everybody's first.
    others = [(rank + step) % n for step in range(1, n)]
    sendings = [peers.start_send(k, tag("segment"), as_bytes(vector[segments[k]])) for k in others]
    total = np.empty_like(vector)
    mine = total[segments[rank]]
    mine[:] = vector[segments[rank]]
    for k in reversed(others):
        receive_words(peers, k, tag("segment"), mine, combine)
    sendings += [peers.start_send(k, tag("total"), as_bytes(mine)) for k in others]
    for k in reversed(others):
        receive_words(peers, k, tag("total"), total[segments[k]])
    _wait(sendings)
    return total, (n - 1) * mine.nbytes + vector.nbytes - mine.nbytes


def receive_words(
    peers: Peers, peer: int, tag: bytes, target: Words, combine: np.ufunc | None = None
) -> None:
    """Receive a vector of the target's length, into it or combined with what is in it, as it arrives.

    Raises:
        ChannelError: it did not come in time, or is another message.
    """

    def take(offset: int, piece: memoryview) -> None:
        words = np.frombuffer(piece, dtype=_WORD)  # pieces end between numbers
        part = target[offset // _WORD.itemsize :][: words.size]
        if combine is None:
            part[:] = words
        else:
            combine(part, words, out=part)

    peers.receive_pieces(peer, tag, target.nbytes, take)


def as_bytes(vector: Words) -> Buffer:
    """The vector as it lies in memory. (A view of nothing has no bytes to cast.)"""
    return vector.data.cast("B") if vector.size else b""


def _wait(sendings: list[Sending]) -> None:
    for sending in sendings:
        sending.wait()
