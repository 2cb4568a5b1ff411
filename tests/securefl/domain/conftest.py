"""People around one shared folder, with real keys, real files and a clock that a test sets."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from securefl.domain.identity import Identity
from securefl.domain.log import AuditLog, Entry
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers

STEWARD, RESEARCHER, OTHER = "steward@north.example", "researcher@lab.example", "other@south.example"


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Person:
    identity: Identity
    peers: Peers
    log: AuditLog
    mail: Mail
    clock: Clock

    @property
    def email(self) -> str:
        return self.identity.email

    @property
    def home(self) -> Path:
        return self.identity.home

    def logged(self, action: str) -> list[Entry]:
        return [entry for entry in self.log.entries() if entry.action == action]


@dataclass
class World:
    folder: Path
    relay: Path
    people: dict[str, Person] = field(default_factory=dict)

    def person(self, email: str, home: str | None = None, introduce: bool = True) -> Person:
        clock = Clock()
        identity = Identity.open(self.folder / (home or email), email)
        peers = Peers(identity.home)
        log = AuditLog(identity.home, identity, clock)
        person = Person(identity, peers, log, Mail(identity, peers, self.relay, log), clock)
        if introduce:
            person.mail.introduce()
        self.people[email] = person
        return person

    def meet(self, *people: Person) -> None:
        """Everybody pins everybody, as after a telephone call."""
        for one in people:
            for other in people:
                if one is not other:
                    one.peers.pin(one.mail.card_of(other.email))

    def pair(self) -> tuple[Person, Person]:
        steward, researcher = self.person(STEWARD), self.person(RESEARCHER)
        self.meet(steward, researcher)
        return steward, researcher

    def lane(self, sender: Person, recipient: Person) -> Path:
        return self.relay / sender.email / "to" / recipient.email

    def frames(self, sender: Person, recipient: Person) -> list[Path]:
        return sorted(self.lane(sender, recipient).glob("*.frame"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    relay = tmp_path / "relay"
    relay.mkdir()
    return World(tmp_path, relay)


@pytest.fixture
def tiny_relay(tmp_path: Path):
    """A share of 64 KiB."""
    relay = tmp_path / "relay"
    relay.mkdir()
    if os.geteuid() != 0:
        pytest.skip("Only root can mount a small file system.")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(relay)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("This computer does not let root mount a file system.")
    yield World(tmp_path, relay)
    subprocess.run(["umount", str(relay)], check=True)
