"""A person's own keys, made at first use, and its home folder.

``home/`` has mode 0700; the private keys lie in ``home/identity/``, mode 0600, and go nowhere. A home is one person's:
opening it under another name is an error.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from protocols.envelope import SealingKey
from protocols.errors import EncodingError
from protocols.signing import SigningKey
from securefl import durable
from securefl.domain.address import checked
from securefl.domain.cards import Card, read_card, sign_card
from securefl.domain.errors import CardError, IdentityError
from securefl.domain.lock import exclusive

SIGNING_FILE, SEALING_FILE, CARD_FILE = "signing.key", "sealing.key", "card.cbor"
K = TypeVar("K", SigningKey, SealingKey)


@dataclass(frozen=True)
class Identity:
    """Who somebody is, with the keys that prove it. Nothing secret shows in a ``repr``."""

    home: Path
    card: Card
    signing: SigningKey = field(repr=False)
    sealing: SealingKey = field(repr=False)

    @property
    def email(self) -> str:
        """The person's name."""
        return self.card.email

    @property
    def fingerprint(self) -> str:
        """What the others compare before they pin this person's card."""
        return self.card.fingerprint

    @property
    def signed_card(self) -> bytes:
        """The card as it lies on the share."""
        return sign_card(self.card, self.signing)

    @classmethod
    def open(cls, home: Path, email: str) -> Identity:
        """The identity in ``home``; at first use its keys are made.

        Raises:
            AddressError: the name cannot be a folder's.
            IdentityError: the home is somebody else's, or a key is missing, damaged or readable by others.
            EngineError: the home cannot be written.
        """
        checked(email)
        home = Path(home).absolute()
        durable.private_folder(home)
        if home.stat().st_mode & 0o077:
            os.chmod(home, durable.PRIVATE_FOLDER)
        folder = home / "identity"
        with exclusive(home / "identity.lock"):
            # The card is written last: an interrupted beginning leaves none, and is begun again.
            if not (folder / CARD_FILE).exists():
                _make(folder, email)
            return cls._read(home, folder, email)

    @classmethod
    def _read(cls, home: Path, folder: Path, email: str) -> Identity:
        try:
            card = read_card((folder / CARD_FILE).read_bytes())
        except (CardError, OSError) as error:
            raise IdentityError(
                f"{folder / CARD_FILE} is damaged: restore {folder} from its backup."
            ) from error
        if card.email != email:
            raise IdentityError(f"{home} is the home of {card.email}: give {email} a home of its own.")
        signing = _key(SigningKey, folder / SIGNING_FILE)
        sealing = _key(SealingKey, folder / SEALING_FILE)
        if (signing.public, sealing.public) != (card.signing, card.sealing):
            raise IdentityError(
                f"The keys in {folder} are not the ones on its card: restore both from one backup."
            )
        return cls(home, card, signing, sealing)


def _make(folder: Path, email: str) -> None:
    signing, sealing = SigningKey.generate(), SealingKey.generate()
    card = Card(email=email, signing=signing.public, sealing=sealing.public)
    durable.write(folder / SIGNING_FILE, base64.b64encode(signing.private_bytes()))
    durable.write(folder / SEALING_FILE, base64.b64encode(sealing.private_bytes()))
    durable.write(folder / CARD_FILE, sign_card(card, signing))


def _key(kind: type[K], path: Path) -> K:
    try:
        if path.stat().st_mode & 0o077:
            raise IdentityError(
                f"{path} can be read by others: run `chmod 600 {path}`, and begin a new home if it was copied."
            )
        return kind(base64.b64decode(path.read_bytes(), validate=True))
    except FileNotFoundError as error:
        raise IdentityError(f"{path} is missing: restore the folder from its backup.") from error
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {(error.strerror or 'unknown').lower()}.") from error
    except (ValueError, EncodingError) as error:
        raise IdentityError(f"{path} is damaged: restore the folder from its backup.") from error
