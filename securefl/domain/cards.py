"""A person's public card: the name and the two public keys that others pin.

On the share a card stands with its own signature, which shows that whoever wrote it holds the signing key. It does not
show whose key that is: that is what the fingerprint is for, read out over the telephone.
"""

from __future__ import annotations

from protocols.canonical import Record
from protocols.envelope import PUBLIC_BYTES
from protocols.errors import EncodingError, SignatureError
from protocols.signing import KEY_BYTES, SigningKey, verify
from securefl.domain.address import is_email
from securefl.domain.errors import CardError

LONGEST_CARD = 4096
"""Bytes. A file that is longer is no card, and is not read."""


class Card(Record):
    """Who somebody is: an email, an Ed25519 key of 32 bytes and a sealing key of 1,216."""

    kind = "card"
    email: str
    signing: bytes
    sealing: bytes

    @property
    def fingerprint(self) -> str:
        """A short name of all that is on the card, to read out over the telephone."""
        hexed = self.digest().hex()[:24]
        return " ".join(hexed[i : i + 4] for i in range(0, 24, 4))

    def check(self) -> Card:
        """This card; CardError if it is none."""
        if not is_email(self.email):
            raise CardError("This card names nobody: it must carry an email address in lower case.")
        if (len(self.signing), len(self.sealing)) != (KEY_BYTES, PUBLIC_BYTES):
            raise CardError(f"The keys on the card of {self.email} have the wrong size: ask for a new one.")
        return self


class SignedCard(Record):
    """A card and its own key's signature over its digest."""

    kind = "signed-card"
    card: Card
    signature: bytes


def sign_card(card: Card, key: SigningKey) -> bytes:
    """What lies on the share."""
    return SignedCard(card=card, signature=key.sign("card", card.digest())).to_bytes()


def read_card(data: bytes) -> Card:
    """The card in these bytes.

    Raises:
        CardError: they are none, or its own key did not sign it.
    """
    try:
        signed = SignedCard.from_bytes(data)
        card = signed.card.check()
        verify(card.signing, "card", card.digest(), signed.signature)
    except (EncodingError, SignatureError) as error:
        raise CardError(
            "This is not a card that its own key has signed: ask its owner for a new one."
        ) from error
    return card
