"""Key pairs of one exchange, what two of them agree on, and shares sealed to one peer.

Adversary: the server, which carries all public keys and sealed shares, and every client but the two.
Promise: with true public keys, a pair's key is known to the two alone, and a sealed share opens only for its
    recipient, from its sender, under its roster. HPKE's base mode (``protocols.envelope``) would not authenticate the
    sender, which the proof needs; the agreed key does.
Source: X25519, RFC 7748, section 6.1; HKDF-SHA256, RFC 5869; AES-256-GCM. Keys are of 256 bits, and X25519 is
    believed to take about 2^128 steps to break; it falls to a quantum computer.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.canonical import encode
from protocols.errors import EncodingError, SealError
from protocols.pairwise.messages import Keys
from protocols.pairwise.shamir import SECRET_BYTES

KEY_BYTES = 32
_NONCE = 12
SEALED_BYTES = _NONCE + 2 * SECRET_BYTES + 16


def new_secret() -> bytes:
    """A new X25519 private key, 32 bytes from the operating system's source."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_of(secret: bytes) -> bytes:
    """The public key of a private one."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def check_public(public: bytes) -> None:
    """Raise EncodingError unless these bytes are a public key with which a secret can be agreed on.

    Whether a point is of small order shows in any exchange with it.
    """
    _agree(new_secret(), public, ["trial"])


def _agree(secret: bytes, peer: bytes, info: Sequence[object]) -> bytes:
    try:
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError as error:  # another length, or a point of small order
        raise EncodingError("This is not a public key.") from error
    return HKDF(SHA256(), length=KEY_BYTES, salt=None, info=encode(list(info))).derive(shared)


def mask_seed(secret: bytes, roster: bytes, u: Keys, v: Keys) -> bytes:
    """s_{u,v}: 32 bytes that u and v share, from either's s^SK; bound to the roster, both names and both keys."""
    first, second = sorted((u, v), key=lambda keys: keys.name)
    ours, theirs = (u, v) if public_of(secret) == u.s_public else (v, u)
    if public_of(secret) != ours.s_public:
        raise EncodingError("This key belongs to neither of the two clients.")
    info = ["pairwise-mask-1", roster, first.name, second.name, first.s_public, second.s_public]
    return _agree(secret, theirs.s_public, info)


def _seal_info(roster: bytes, sender: Keys, recipient: Keys) -> Sequence[object]:
    return ["pairwise-seal-1", roster, sender.name, recipient.name, sender.c_public, recipient.c_public]


def seal_shares(
    secret: bytes, roster: bytes, sender: Keys, recipient: Keys, s_share: bytes, b_share: bytes
) -> bytes:
    """e_{u,v}: the two shares, sealed with the sender's c^SK and the recipient's c^PK."""
    key = _agree(secret, recipient.c_public, _seal_info(roster, sender, recipient))
    # A key seals once; the nonce is random for the case that a client's memory is set back and it seals again.
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, s_share + b_share, None)


def open_shares(
    secret: bytes, roster: bytes, sender: Keys, recipient: Keys, sealed: bytes
) -> tuple[bytes, bytes]:
    """The shares of s_u^SK and of b_u, opened with the recipient's c^SK.

    Raises:
        SealError: sealed by or to another, under another roster, or changed since.
    """
    key = _agree(secret, sender.c_public, _seal_info(roster, sender, recipient))
    if len(sealed) != SEALED_BYTES:
        raise SealError("A sealed share has the wrong length.")
    try:
        opened = AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except InvalidTag as error:
        raise SealError("A sealed share does not open: it was changed, or meant for another.") from error
    return opened[:SECRET_BYTES], opened[SECRET_BYTES:]
