"""Sealed envelopes: only the named recipient opens one, and only where and when it was meant.

Adversary: carries, stores, reorders, replays and changes envelopes; later seizes the recipient and all it still holds.
Promise: without the recipient's key the content stays secret (also against a quantum adversary as long as ML-KEM-768
    holds, and against a classical one as long as X25519 does); an envelope opens only under the context it was sealed
    with; once a one-round key is gone, what was sealed to it stays sealed. HPKE's base mode does not authenticate the
    sender: the digest of every envelope is signed beside it.
Source: HPKE, RFC 9180, sections 5.1 and 6.1 (base mode, one shot); its hybrid KEM MLKEM768-X25519, HKDF-SHA256 and
    AES-256-GCM from the ``cryptography`` library. Digests: BLAKE3 (O'Connor et al. 2020).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.canonical import Record, encode
from protocols.errors import EncodingError, SealError

_MLKEM_PUBLIC, _X25519 = 1184, 32
_MLKEM_SEED = 64
PUBLIC_BYTES = _MLKEM_PUBLIC + _X25519
PRIVATE_BYTES = _MLKEM_SEED + _X25519
OVERHEAD_BYTES = 1088 + 32 + 16
"""What an envelope is longer than its content: both encapsulations and the tag."""


@cache
def _suite() -> Any:
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Bound(Protocol):
    """What an envelope is bound to: its bytes go into HPKE's ``info``, and name their kind."""

    @property
    def sender(self) -> str: ...
    @property
    def recipient(self) -> str: ...
    def to_bytes(self) -> bytes: ...


class Binding(Record):
    """What a share's envelope is bound to."""

    kind = "envelope"
    study: bytes
    round: int
    attempt: int
    previous: bytes
    sender: str
    recipient: str
    content: str
    width: int
    size: int


class SealingKey:
    """A recipient's key pair: ML-KEM-768 with X25519. Its bytes never appear in a ``repr``."""

    def __init__(self, private: bytes) -> None:
        if len(private) != PRIVATE_BYTES:
            raise EncodingError(f"A sealing key has {PRIVATE_BYTES} bytes, this one has {len(private)}.")
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(private[:_MLKEM_SEED])
        self._x25519 = X25519PrivateKey.from_private_bytes(private[_MLKEM_SEED:])
        self._key = MLKEM768X25519PrivateKey(self._mlkem, self._x25519)

    @classmethod
    def generate(cls) -> SealingKey:
        """A new key from the operating system's source."""
        seed = MLKEM768PrivateKey.generate().private_bytes_raw()
        return cls(seed + X25519PrivateKey.generate().private_bytes_raw())

    def private_bytes(self) -> bytes:
        """The 96 secret bytes: ML-KEM's seed, then X25519's scalar."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """The 1,216 public bytes: ML-KEM's encapsulation key, then X25519's point."""
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()

    def open(self, envelope: bytes, binding: Bound) -> bytes:
        """The content.

        Raises:
            SealError: sealed to another key, under another binding, or changed since.
        """
        try:
            return bytes(_suite().decrypt(envelope, self._key, binding.to_bytes()))
        except (InvalidTag, ValueError) as error:
            raise SealError(
                f"The envelope from {binding.sender} to {binding.recipient} does not open."
            ) from error

    def agree(self, peer: bytes, info: bytes) -> bytes:
        """32 secret bytes that this key's owner and a peer share for one purpose, without a message.

        RFC 7748, section 6.1, of the X25519 halves; then HKDF-SHA256, RFC 5869, whose info holds ``info`` and both
        points. HPKE uses the same X25519 key through another function (SHA3-256 over a label of its own), so that the
        two are independent as long as both behave as random functions. There is no ML-KEM in it, which needs a
        message: the bytes are not safe from a quantum adversary. They are the same whenever the two ask for the same.

        Args:
            peer: the peer's pinned public bytes.
            info: the purpose and all that it is bound to, the same at both ends.

        Raises:
            EncodingError: the peer's public key is not one.
        """
        _check_public(peer)
        own = self._x25519.public_key().public_bytes_raw()
        other = peer[_MLKEM_PUBLIC:]
        try:
            shared = self._x25519.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError as error:  # a point of small order
            raise EncodingError("This is not a public sealing key.") from error
        bound = encode(["securefl-agreement-1", info, *sorted((own, other))])
        return HKDF(SHA256(), length=32, salt=None, info=bound).derive(shared)


def _check_public(public: bytes) -> None:
    if len(public) != PUBLIC_BYTES:
        raise EncodingError(f"A public sealing key has {PUBLIC_BYTES} bytes, this one has {len(public)}.")


def seal(public: bytes, content: bytes | bytearray, binding: Bound) -> bytes:
    """Seal ``content`` to a public key; the result is ``OVERHEAD_BYTES`` longer.

    Raises:
        EncodingError: the public key is not one.
    """
    _check_public(public)
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]),
        )
        # A point of small order is found out only here.
        return bytes(_suite().encrypt(content, key, binding.to_bytes()))
    except ValueError as error:
        raise EncodingError("This is not a public sealing key.") from error


def envelope_digest(envelope: bytes) -> bytes:
    """What a hospital signs for an envelope: 32 bytes.

    The tag of AES-GCM would not do: who knows the key, and the sealing hospital does, finds other contents with the
    same tag. BLAKE3 and not SHA-256, because it reads a large envelope 2.5 times as fast.
    """
    return blake3(envelope).digest()
