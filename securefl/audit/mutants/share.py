"""The shared folder, and people around it whom an attack may play: homes, keys, letters and logs as shipped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from securefl.domain.frames import Letter
from securefl.domain.identity import Identity
from securefl.domain.log import AuditLog
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.relay import Relay

STEWARD, SOUTH = "steward@north.example", "steward@south.example"
RESEARCHER, MALLORY = "researcher@lab.example", "mallory@evil.example"
NOW = 1_800_000_000
"""The time on everybody's clock, in seconds since 1970."""


@dataclass(frozen=True)
class Person:
    """Somebody with a home of its own."""

    mail: Mail

    @classmethod
    def at(cls, folder: Path, email: str) -> Person:
        """The home in ``folder/EMAIL``, made at first, before the share ``folder/relay``."""
        home, relay = folder / email, folder / "relay"
        relay.mkdir(exist_ok=True)
        identity = Identity.open(home, email)
        mail = Mail(identity, Peers(home), Relay(relay), AuditLog(home, identity, lambda: NOW))
        mail.introduce()
        return cls(mail)

    @property
    def identity(self) -> Identity:
        """Whose keys these are."""
        return self.mail.identity

    @property
    def email(self) -> str:
        """The person's name."""
        return self.identity.email

    def knows(self, *others: Person) -> None:
        """Pin others' cards, as after comparing fingerprints."""
        for other in others:
            self.mail.peers.pin(other.identity.card)

    def takes(self) -> list[Letter]:
        """The letters that have come."""
        return self.mail.receive()


@dataclass(frozen=True)
class Share:
    """Four people; all can write the whole share.

    Attributes:
        steward, south: stewards of two hospitals, who know each other and the researcher.
        researcher: knows both.
        mallory: knows the steward, and nobody knows her.
    """

    folder: Path
    steward: Person
    south: Person
    researcher: Person
    mallory: Person

    @property
    def relay(self) -> Path:
        """The shared folder."""
        return self.folder / "relay"

    def lay(self, sender: str, number: int, data: bytes) -> None:
        """Put a file where the letters of ``sender`` to the steward lie."""
        folder = self.relay / sender / "to" / STEWARD
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:012d}-{'0' * 16}.frame").write_bytes(data)

    def laid(self, sender: str) -> list[bytes]:
        """All that lies there."""
        return [path.read_bytes() for path in sorted((self.relay / sender / "to" / STEWARD).iterdir())]


@contextmanager
def shared() -> Iterator[Share]:
    """Such people in a temporary folder, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        emails = (STEWARD, SOUTH, RESEARCHER, MALLORY)
        steward, south, researcher, mallory = (Person.at(Path(name), email) for email in emails)
        steward.knows(researcher, south)
        south.knows(researcher, steward)
        researcher.knows(steward, south)
        mallory.knows(steward)
        yield Share(Path(name), steward, south, researcher, mallory)
