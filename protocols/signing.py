"""Signatures under pinned keys.

Adversary: everyone without the signing key, with as many signatures on other messages as it likes.
Promise: what verifies under a pinned key was signed by its owner, as this kind of thing and no other: the kind goes
    into the signed bytes.
Source: Ed25519, RFC 8032, section 5.1.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocols.canonical import encode
from protocols.errors import EncodingError, SignatureError

KEY_BYTES = 32
SIGNATURE_BYTES = 64


def _message(kind: str, digest: bytes) -> bytes:
    return encode(["securefl-signature-1", kind, digest])


class SigningKey:
    """A member's Ed25519 key. Its bytes never appear in a ``repr``."""

    def __init__(self, private: bytes) -> None:
        if len(private) != KEY_BYTES:
            raise EncodingError(f"A signing key has {KEY_BYTES} bytes, this one has {len(private)}.")
        self._key = Ed25519PrivateKey.from_private_bytes(private)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's source."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def private_bytes(self) -> bytes:
        """The 32 secret bytes, for a file of mode 0600."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """The 32 public bytes that others pin."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, kind: str, digest: bytes) -> bytes:
        """64 bytes of signature over a digest of the given kind."""
        return self._key.sign(_message(kind, digest))


def verify(public: bytes, kind: str, digest: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        SignatureError: it is not this key's signature over this digest as this kind.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _message(kind, digest))
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"The signature on this {kind} is not its sender's.") from error
