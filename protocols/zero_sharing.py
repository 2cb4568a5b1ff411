"""Shares of zero over Z_2^64, by sum and by XOR, from one key for every pair of parties.

Adversary: semi-honest, up to P-1 parties together; they know every key that one of them holds. The network between
    two honest parties is private and authenticated (:mod:`protocols.mesh`).
Promise: the P shares sum (or XOR) to zero, and with a set of corrupt parties, the honest parties' shares are uniform
    but for their sum: each pair of honest parties has a key that nobody else knows. (CrypTen's ring of seeds promises
    less: there, a party's two neighbours know its share, whatever P.) One context draws once of each kind: a second
    draw would let the difference of two masked vectors be read.
Source: pseudo-random zero sharing, Cramer, Damgård, Ishai 2005 (the additive case); the pairwise form is that of
    Bonawitz et al. 2017, section 4, "masking with one-time pads". HKDF, RFC 5869.

    z_i = sum over j > i of F(k_ij, context)  -  sum over j < i of F(k_ij, context)   mod 2^64
    b_i = XOR over j != i of G(k_ij, context)                                         bit by bit
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from protocols.canonical import DIGEST_BYTES, digest, encode
from protocols.errors import CommitteeError
from protocols.prg import SEED_BYTES, Stream

if TYPE_CHECKING:
    from protocols.mesh_group import Peers

NONCE_BYTES = 32
_SUM_LABEL, _XOR_LABEL = "committee-zero-share", "committee-zero-bits"


class PairwiseKeys:
    """One party's keys, one for each other party, of one session.

    Args:
        rank: this party, 0 .. P-1.
        keys: peer's rank -> 32 secret bytes, for every rank but this one. They never appear in a ``repr``.
        session_id: 32 public bytes that name the session; equal at all parties.

    Raises:
        CommitteeError: the ranks are not 0 .. P-1 without this one, or a key or the id has not 32 bytes.
    """

    def __init__(self, rank: int, keys: Mapping[int, bytes], session_id: bytes) -> None:
        if not keys or sorted([rank, *keys]) != list(range(len(keys) + 1)):
            raise CommitteeError(
                f"Party {rank} needs one key for each other party: it has keys for {sorted(keys)}."
            )
        if any(len(key) != SEED_BYTES for key in keys.values()) or len(session_id) != DIGEST_BYTES:
            raise CommitteeError("Pairwise keys and session ids have 32 bytes each: agree on new ones.")
        self.rank = rank
        self.session_id = session_id
        self._keys = dict(keys)
        self._used: set[tuple[str, bytes]] = set()

    @property
    def world_size(self) -> int:
        """P, the number of parties."""
        return len(self._keys) + 1

    @classmethod
    def agree(cls, mesh: Peers) -> PairwiseKeys:
        """Agree with every peer over the mesh, or a group of it. Collective; two message rounds of less than 100 bytes.

        Each side of a pair gives 32 random bytes, so that one bad source alone does not spoil the key. The second
        round compares the session ids: a peer that told its nonce differently to two parties is found here.

        Raises:
            ChannelError: a peer did not answer in time, or out of step.
            CommitteeError: a peer derived another session id.
        """
        peers = [peer for peer in range(mesh.world_size) if peer != mesh.rank]
        nonce = secrets.token_bytes(NONCE_BYTES)
        halves = {peer: secrets.token_bytes(SEED_BYTES) for peer in peers}
        length = NONCE_BYTES + SEED_BYTES
        got = mesh.exchange(b"zero-sharing/keys", {peer: nonce + halves[peer] for peer in peers}, length)
        if any(len(message) != length for message in got.values()):
            raise CommitteeError(
                "A party sent a key message of the wrong length: all parties need the same version."
            )
        nonces = {mesh.rank: nonce} | {peer: got[peer][:NONCE_BYTES] for peer in peers}
        session_id = digest("committee-session", [nonces[rank] for rank in range(mesh.world_size)])
        for peer, other in mesh.exchange(
            b"zero-sharing/session", dict.fromkeys(peers, session_id), DIGEST_BYTES
        ).items():
            if other != session_id:
                raise CommitteeError(f"Party {peer} is in another session: form the committee anew.")
        return cls(
            mesh.rank,
            {
                peer: pair_key(mesh.rank, peer, halves[peer], got[peer][NONCE_BYTES:], session_id)
                for peer in peers
            },
            session_id,
        )

    def streams(self, label: str, context: bytes) -> dict[int, Stream]:
        """The keystreams of one purpose and context, by peer; each once.

        Raises:
            CommitteeError: the context was drawn from before.
        """
        if (label, context) in self._used:
            raise CommitteeError("A zero share was already drawn for this context: give each draw its own.")
        self._used.add((label, context))
        return {peer: Stream(key, label, context) for peer, key in sorted(self._keys.items())}


def pair_key(rank: int, peer: int, own_half: bytes, peer_half: bytes, session_id: bytes) -> bytes:
    """HKDF-SHA256 of both halves, the lower rank's first, bound to the session and the pair. The same at both ends."""
    (low, first), (high, second) = sorted([(rank, own_half), (peer, peer_half)])
    info = encode(["securefl-pair-key-1", low, high])
    return HKDF(SHA256(), length=SEED_BYTES, salt=session_id, info=info).derive(first + second)


def zero_share(keys: PairwiseKeys, context: bytes, size: int) -> NDArray[np.uint64]:
    """This party's share of zero for ``context``.

    Args:
        keys: this party's pairwise keys.
        context: what the draw is for; all parties give the same one, and each only once a session.
        size: D, the length, at least 1.

    Returns:
        (D,) uint64; over all parties the sum is 0 modulo 2^64.

    Raises:
        CommitteeError: the context was used before.
    """
    total = np.zeros(size, dtype=np.uint64)
    for peer, stream in keys.streams(_SUM_LABEL, context).items():
        mask = stream.ring_vector(size, 64)
        if peer > keys.rank:
            total += mask
        else:
            total -= mask
    return total


def zero_bits(keys: PairwiseKeys, context: bytes, size: int) -> NDArray[np.uint64]:
    """This party's XOR share of zero for ``context``: for values that are shared bit by bit.

    Args:
        keys: this party's pairwise keys.
        context: what the draw is for; all parties give the same one, and each only once a session.
        size: D, the length, at least 1.

    Returns:
        (D,) uint64; over all parties the bitwise XOR is 0.

    Raises:
        CommitteeError: the context was used before.
    """
    total = np.zeros(size, dtype=np.uint64)
    for stream in keys.streams(_XOR_LABEL, context).values():
        total ^= stream.ring_vector(size, 64)
    return total
