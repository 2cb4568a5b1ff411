"""One person's side of a domain: keys, pinned peers, mail over the shared folder, audit log, and Syft's client.

A session may be open while another of the same person is (a notebook beside ``serve``): what both write is behind one
lock, and nothing is kept in memory that stands on disk.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from securefl.domain.cards import Card
from securefl.domain.errors import ChangedKeyError, RelayError, UnknownPeerError
from securefl.domain.identity import Identity
from securefl.domain.lock import exclusive
from securefl.domain.log import AuditLog
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.relay import Carrier
from securefl.errors import EngineError

if TYPE_CHECKING:
    from syft_rds import SyftRDSClient

Clock = Callable[[], float]


class Session:
    """What owner, researcher and operator have in common.

    Args:
        email: whose session it is.
        home: its private folder, made if it is not there.
        relay: the folder that all share, on whatever carries it; or another carrier, such as ``drive.DriveCarrier``.
        clock: seconds since 1970.

    Raises:
        DomainError: the home is another person's.
    """

    owns: ClassVar[bool] = False
    """Whether this person publishes datasets: a data owner in Syft's words, otherwise a data scientist."""

    def __init__(
        self, email: str, home: str | Path, relay: str | Path | Carrier, clock: Clock = time.time
    ) -> None:
        self.home, self.clock = Path(home).absolute(), clock
        self.relay = Path(relay).absolute() if isinstance(relay, (str, Path)) else relay
        self._own, self._depth = threading.RLock(), 0
        self.identity = Identity.open(self.home, email)
        self.email = email
        self.log = AuditLog(self.home, self.identity, clock)
        self._peers = Peers(self.home)
        self._mail = Mail(self.identity, self._peers, self.relay, self.log, clock)
        self._introduced = False
        # Whoever writes the share must not keep a steward from what needs no mail, such as a revocation.
        try:
            self._introduce()
        except (RelayError, ChangedKeyError) as error:
            self.log.append("securefl", "not-introduced", None, str(error))
        self._client: SyftRDSClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the session holds open."""

    @property
    def fingerprint(self) -> str:
        """Read it out over the telephone: whoever accepts this person compares it."""
        return self.identity.card.fingerprint

    @property
    def peers(self) -> list[Card]:
        """Whom this person has accepted."""
        return self._peers.all()

    @property
    def mail(self) -> Mail:
        """This person's letters.

        Raises:
            RelayError: the share is not there, or does not take the own card.
            ChangedKeyError: another card of this name lies there.
        """
        if not self._introduced:
            self._introduce()
        return self._mail

    def _introduce(self) -> None:
        with self.alone():
            self._mail.introduce()
        self._introduced = True

    def tell(self, person: str, topic: str, body: bytes) -> None:
        """Write to somebody. What the share does not take now waits; who is not pinned is told nothing."""
        with suppress(UnknownPeerError):
            self._mail.queue(person, topic, body)
        self.send_waiting()

    def post(self, person: str, topic: str, bodies: Iterable[bytes]) -> None:
        """Put many letters into the outbox; where the disk has no place for the next, those that wait go first.

        Raises:
            UnknownPeerError: the person is not pinned.
            EngineError: the disk is full, and the share takes nothing now.
        """
        for body in bodies:
            try:
                self._mail.queue(person, topic, body)
            except EngineError:
                self.send_waiting()
                self._mail.queue(person, topic, body)

    def send_waiting(self) -> None:
        """Bring what waits to the share, as far as that can be done now."""
        with suppress(RelayError, ChangedKeyError):
            self.mail.flush()

    @property
    def client(self) -> SyftRDSClient:
        """Syft's own client, for those who know it. What it approves runs nothing."""
        if self._client is None:
            # Late: Syft takes seconds to import.
            from securefl.domain.syft_client import build

            self._client = build(self.identity, self._peers, self.mail, self.home, self.owns)
        return self._client

    @contextmanager
    def syft(self) -> Iterator[SyftRDSClient]:
        """The same, while its chatter goes to a file."""
        from securefl.domain.syft_client import quietly

        with quietly(self.home):
            yield self.client

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep this person's other sessions, and this one's other threads, out for a moment. May be nested."""
        with self._own:
            self._depth += 1
            try:
                if self._depth > 1:
                    yield
                    return
                with exclusive(self.home / "session.lock"):
                    yield
            finally:
                self._depth -= 1

    def accept(self, peer: str, fingerprint: str) -> None:
        """Take somebody in, by hand, after comparing the fingerprint over another channel.

        Args:
            peer: an email.
            fingerprint: as the peer read it out; spaces and capitals do not count.

        Raises:
            UnknownPeerError: no card of this name lies in the relay, or its fingerprint is another.
            ChangedKeyError: this peer was accepted before, with other keys.
            RevokedError: one of its keys was removed before.
        """
        with self.alone():
            card = self.mail.card_of(peer)
            said = "".join(fingerprint.split()).lower()
            if not hmac.compare_digest(said.encode(), "".join(card.fingerprint.split()).encode()):
                self.log.append(self.email, "peer-refused", None, "the fingerprint differs", peer=peer)
                raise UnknownPeerError(
                    f"The card of {peer} in the shared folder has the fingerprint {card.fingerprint}, not that one: "
                    f"ask {peer} again over the telephone, somebody may have put another card there."
                )
            self.log.append(
                self.email, "peer-accepted", card.digest(), "fingerprint compared", peer=peer,
                fingerprint=card.fingerprint,
            )  # fmt: skip
            self._peers.pin(card)
            self._peer_accepted(peer)

    def remove(self, peer: str, reason: str) -> None:
        """Put somebody out: nothing that its keys sign is taken any more."""
        with self.alone():
            card = self._peers.get(peer)
            self.log.append(self.email, "peer-removed", card.digest(), reason, peer=peer)
            self._peers.remove(peer)

    def _peer_accepted(self, peer: str) -> None:
        """Tell Syft."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.email}, {self.fingerprint})"

    def _repr_html_(self) -> str:
        from securefl.domain.show import table

        rows: list[list[Any]] = [[card.email, card.fingerprint] for card in self.peers]
        return table(f"{self.email} · {self.fingerprint}", ["peer", "fingerprint"], rows).html()
