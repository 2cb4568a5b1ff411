"""Whom a person knows: cards that it pinned by its own hand, after comparing fingerprints.

Nothing on the share adds, changes or removes a pinned card. A card that differs from the pinned one is an error. Who
was removed stays removed: neither of its keys is ever pinned again, under whatever name; new keys only by hand.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from protocols.canonical import Record
from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.address import checked, is_email
from securefl.domain.cards import Card
from securefl.domain.errors import ChangedKeyError, IdentityError, RevokedError, UnknownPeerError
from securefl.domain.remembered import Remembered


class Pinned(Record):
    """What ``peers/EMAIL.cbor`` holds. ``gone`` has the SHA-256 of all keys of that name that were removed."""

    kind = "pinned-peer"
    card: Card
    removed: bool
    gone: list[bytes]


class Peers:
    """The pinned cards in ``home/peers/``; asked for at every question, since other processes write them too."""

    def __init__(self, home: Path) -> None:
        self._folder = durable.private_folder(Path(home) / "peers")
        self._read_files = Remembered(lambda path: Pinned.from_bytes(path.read_bytes()))

    def pin(self, card: Card) -> None:
        """Pin a card whose fingerprint a person has compared. Pinning the same again changes nothing.

        Raises:
            ChangedKeyError: another card of that name is pinned.
            RevokedError: one of its keys was removed before.
        """
        card.check()
        self.check(card)
        old = self._read(card.email)
        if old is not None and not old.removed:
            return
        self._write(Pinned(card=card, removed=False, gone=[] if old is None else old.gone))

    def check(self, card: Card) -> None:
        """Raise as ``pin`` does if the card could not be pinned; an unknown name passes."""
        if any(key in pinned.gone for pinned in self._all() for key in _keys(card)):
            raise RevokedError(
                f"The keys of {card.email} ({card.fingerprint}) were removed here: they stay so, ask for new ones."
            )
        old = self._read(card.email)
        if old is not None and not old.removed and old.card != card:
            raise ChangedKeyError(
                f"The card of {card.email} has changed: pinned is {old.card.fingerprint}, this one is "
                f"{card.fingerprint}. Ask its owner in person; only if the keys were really renewed, remove the "
                "old card and accept the new one."
            )

    def get(self, email: str) -> Card:
        """The pinned card; UnknownPeerError if there is none or it was removed."""
        pinned = self._read(checked(email))
        if pinned is None:
            raise UnknownPeerError(f"{email} is not known here: compare its fingerprint and accept it first.")
        if pinned.removed:
            raise UnknownPeerError(f"{email} was removed here.")
        return pinned.card

    def all(self) -> list[Card]:
        """The cards that are pinned and not removed, in the order of their names."""
        return [pinned.card for pinned in self._all() if not pinned.removed]

    def remove(self, email: str) -> None:
        """Forget a person for good: what its keys sign is nothing from now on; UnknownPeerError if it is not known."""
        card = self.get(email)
        old = self._read(email)
        gone = [] if old is None else old.gone
        self._write(Pinned(card=card, removed=True, gone=[*gone, *_keys(card)]))

    def _all(self) -> list[Pinned]:
        known = (self._read(path.stem) for path in sorted(self._folder.glob("*.cbor")) if is_email(path.stem))
        return [pinned for pinned in known if pinned is not None]

    def _path(self, email: str) -> Path:
        return self._folder / f"{email}.cbor"

    def _write(self, pinned: Pinned) -> None:
        durable.write(self._path(pinned.card.email), pinned.to_bytes())

    def _read(self, email: str) -> Pinned | None:
        path = self._path(email)
        try:
            pinned = self._read_files.get(path)
        except FileNotFoundError:
            return None
        except (OSError, EncodingError) as error:
            raise IdentityError(
                f"{path} is damaged: restore it from its backup, or pin the card again."
            ) from error
        if pinned.card.email != email:
            raise IdentityError(f"{path} holds the card of {pinned.card.email}: restore it from its backup.")
        return pinned


def _keys(card: Card) -> list[bytes]:
    return [hashlib.sha256(key).digest() for key in (card.signing, card.sealing)]
