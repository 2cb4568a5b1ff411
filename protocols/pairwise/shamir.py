"""Shares of a 256-bit secret: any t of n give it back, fewer tell nothing.

Adversary: holds up to t - 1 shares.
Promise: they are independent of the secret. Nothing tells a wrong share from a right one: whoever combines checks the
    secret against something public.
Source: Shamir 1979, over GF(2^128), from pycryptodome; a secret is two blocks, shared with independent polynomials
    whose coefficients come from the operating system.
"""

from __future__ import annotations

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

from protocols.errors import EncodingError

SECRET_BYTES = 32
_BLOCK = 16
MAX_SHARES = 2**16 - 1


def split(secret: bytes, t: int, n: int) -> list[bytes]:
    """n shares of 32 bytes; the share at position i belongs to the point i + 1.

    Raises:
        EncodingError: the secret has not 32 bytes, or not 2 <= t <= n < 2^16: a threshold of 1 would hand out the
            secret itself.
    """
    if len(secret) != SECRET_BYTES:
        raise EncodingError(f"A shared secret has {SECRET_BYTES} bytes, this one has {len(secret)}.")
    if not 2 <= t <= n <= MAX_SHARES:
        raise EncodingError(f"A secret is shared with 2 <= t <= n <= {MAX_SHARES}, not t = {t} and n = {n}.")
    left, right = (Shamir.split(t, n, secret[at : at + _BLOCK], False) for at in (0, _BLOCK))
    return [a + b for (_, a), (_, b) in zip(left, right, strict=True)]


def combine(shares: Mapping[int, bytes], t: int) -> bytes:
    """The secret, from the first t shares by point (from 1 on).

    Raises:
        EncodingError: fewer than t shares, a point outside the range, or a share of another length.
    """
    if t < 2 or len(shares) < t:
        raise EncodingError(f"{len(shares)} shares are too few: {max(t, 2)} are needed.")
    chosen = sorted(shares.items())[:t]
    # The point 0 would be the secret itself.
    if any(not 1 <= x <= MAX_SHARES or len(share) != SECRET_BYTES for x, share in chosen):
        raise EncodingError("These are not shares of a secret of 32 bytes.")
    blocks = (Shamir.combine([(x, s[at : at + _BLOCK]) for x, s in chosen], False) for at in (0, _BLOCK))
    return b"".join(blocks)
