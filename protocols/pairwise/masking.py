"""A client's masks, expanded and added.

y_u = x_u + PRG(b_u) + sum over v in U2 of Δ_{u,v} PRG(s_{u,v}), where Δ is 1 for u > v and -1 for u < v: in the sum
over U3 the pairs' masks cancel, but for those with clients of U2 that are not in U3.
"""

from __future__ import annotations

import hashlib

from protocols.canonical import encode
from protocols.prg import RingVector, Stream, width_of


def add_own(vector: RingVector, b: bytes, roster: bytes, u: str, sign: int) -> None:
    """Add (or with sign -1 subtract) PRG(b_u), in place."""
    _add(vector, Stream(b, "pairwise-own", encode([roster, u])), sign)


def add_pair(vector: RingVector, s: bytes, roster: bytes, u: str, v: str, sign: int) -> None:
    """Add ``sign`` times Δ_{u,v} PRG(s_{u,v}), in place."""
    delta = 1 if u > v else -1
    _add(vector, Stream(s, "pairwise-pair", encode([roster, *sorted((u, v))])), sign * delta)


def _add(vector: RingVector, stream: Stream, sign: int) -> None:
    mask = stream.ring_vector(vector.size, width_of(vector))
    if sign > 0:
        vector += mask
    else:
        vector -= mask


def commit_own(b: bytes, roster: bytes, u: str) -> bytes:
    """A commitment to b_u: SHA-256; it hides since b_u has 256 bits of its own."""
    return hashlib.sha256(encode(["pairwise-commitment-1", roster, u, b])).digest()
