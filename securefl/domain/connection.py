"""Syft's carrier, made of sealed letters: every method that Syft 0.10 calls on a connection, over mail and the home.

Syft's own peer list, encryption and sharing are off in it: who is a peer, the pinned cards say; every letter is sealed;
and nothing of a letter reaches Syft but what ``syft_rules`` lets through. What does not goes to quarantine, once.

Importing this imports Syft (about a second).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from pydantic import PrivateAttr
from syft.sync.connections.base_connection import ConnectionConfig, SyftboxPlatformConnection
from syft.sync.events.file_change_event import FileChangeEventsMessage
from syft.sync.messages.proposed_filechange import ProposedFileChangesMessage
from syft.sync.version.version_info import VersionInfo
from syft_job.migrations.registry import JOB_PROTOCOL_VERSION

from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.errors import SyftMessageError
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.syft_collections import MockCollections, keys_of
from securefl.domain.syft_letters import EVENTS, JOBS, VERSION, Arrivals
from securefl.domain.syft_rules import read_job
from securefl.domain.syft_state import Item, Spool
from securefl.errors import EngineError

MOST_TRIES = 2
"""How often Syft may have a message that it does not get done with."""


class SealedConnection(MockCollections):
    """One person's connection; Syft's parts share it.

    Args:
        mail: the person's letters.
        peers: whom the person has pinned.
        syftbox: Syft's local folder; its caches lie beside it.
    """

    _syftbox: Path = PrivateAttr()
    _owner: bool = PrivateAttr()
    _jobs: Spool = PrivateAttr()
    _events: Spool = PrivateAttr()
    _versions: Path = PrivateAttr()
    _told: Path = PrivateAttr()
    _arrivals: Arrivals = PrivateAttr()

    def __init__(self, mail: Mail, peers: Peers, syftbox: Path, owner: bool) -> None:
        state = mail.home / "syft-state"
        super().__init__(mail, peers, state)
        self._syftbox, self._owner = syftbox, owner
        self._jobs, self._events = Spool(state / "jobs"), Spool(state / "events")
        self._versions, self._told = state / "versions", state / "told"
        self._arrivals = Arrivals(mail, owner, self._jobs, self._events, self._shelves, self._versions)

    @classmethod
    def from_config(cls, config: ConnectionConfig) -> SealedConnection:
        """The connection that a ``SealedConfig`` carries."""
        if not isinstance(config, SealedConfig):
            raise TypeError("A sealed connection needs its own configuration.")
        return config.connection

    def get_authenticated_email(self) -> str:
        """This person's name."""
        return self._me

    # ---- letters ----

    def pump(self) -> None:
        """Take what has come, and send what is due. Syft's every sync begins with it.

        Raises:
            RelayError: the share is full or not there; nothing is lost.
        """
        for letter in self._mail.each(("syft/",)):
            try:
                self._arrivals.take(letter)
            except (EngineError, OSError):
                raise  # this computer's fault: the letter waits
            except Exception as error:  # whatever a letter does to a parser, the next one is read
                ours = isinstance(error, (SyftMessageError, EncodingError))
                why = str(error) if ours else f"A message of Syft's is malformed ({type(error).__name__})."
                where = f"letter {letter.number} about {letter.topic}"
                self._mail.quarantine.put(letter.body, letter.sender, "syft-message", why, where)
        self._clear_away()
        self._tell_version()
        self._deliver()

    def _tell_version(self) -> None:
        version = VersionInfo.current().to_json()
        told = VersionInfo.current().syft_client_version.encode()
        for card in self._peers.all():
            path = self._told / f"{card.email}.{keys_of(card)}"
            if not path.exists() or path.read_bytes() != told:
                durable.write(path, told)
                self._mail.send(card.email, VERSION, version.encode())

    def _clear_away(self) -> None:
        """After a crash in Syft: half a job. And what is left of people who were removed: their datasites."""
        known = {card.email for card in self._peers.all()}
        for sender in known if self._owner else ():
            for item in self._jobs.items(sender):
                if item.tries:
                    self._set_aside(self._syftbox / self._me / item.message.job)
        if not self._owner and self._syftbox.is_dir():
            for folder in sorted(self._syftbox.iterdir()):
                if "@" in folder.name and folder.name not in known | {self._me}:
                    self._set_aside(folder)

    def _set_aside(self, folder: Path) -> None:
        if folder.exists():
            aside = durable.private_folder(self._mail.home / "syft-aside")
            folder.rename(aside / f"{folder.name}.{uuid4().hex[:8]}")
            self._mail.log.append(
                self._me, "set-aside", None, "Syft's copy is not used any more", folder=folder.name
            )

    # ---- peers: the pinned cards, and nothing else ----

    def _get_peers_json(self, force_download: bool = False) -> dict[str, dict[str, Any]]:
        self.pump()
        return {card.email: {"state": "accepted"} for card in self._peers.all()}

    def get_peer_requests(self) -> list[str]:
        """None, ever: a person is let in by pinning its card."""
        return []

    def add_peer(self, peer_email: str) -> None:
        """Nothing for a pinned person; UnknownPeerError for anybody else."""
        self._peers.get(peer_email)

    def _update_peer_state(self, peer_email: str, state: str, public_encryption_bundle: Any = None) -> None:
        self._peers.get(peer_email)

    def write_version_file(self, version_info: VersionInfo) -> None:
        """Peers get it with the next sync."""

    def share_version_file_with_peer(self, peer_email: str) -> None:
        """Peers get it with the next sync."""

    def read_own_version_file(self) -> VersionInfo:
        """This installation's."""
        return VersionInfo.current()

    def read_peer_version_file(self, peer_email: str) -> VersionInfo | None:
        """What the peer's last letter about it said."""
        path = self._versions / f"{peer_email}.json"
        return VersionInfo.from_json(path.read_text()) if path.exists() else None

    # ---- jobs, from a researcher to an owner ----

    def watcher_send_raw_bytes_to_inbox(self, recipient: str, filename: str, data: bytes) -> None:
        """Send a job."""
        read_job(data, self._me, recipient, JOB_PROTOCOL_VERSION)  # what the owner would refuse is told here
        self._mail.send(recipient, JOBS, data)

    def watcher_send_proposed_file_changes_message(
        self, recipient: str, proposed_file_changes_message: ProposedFileChangesMessage
    ) -> None:
        """As Syft's older interface."""
        data = proposed_file_changes_message.as_compressed_data()
        self.watcher_send_raw_bytes_to_inbox(recipient, "", data)

    def owner_download_next_raw_proposed_message_from_inbox(
        self, sender_email: str
    ) -> tuple[bytes, str] | None:
        """The next job of a pinned person, and a name for it; None if there is none."""
        self._peers.get(sender_email)
        for item in list(self._jobs.items(sender_email)):
            folder = self._syftbox / self._me / item.message.job
            if item.tries >= MOST_TRIES:
                self._drop(item, sender_email, "Syft failed at this message.")
            elif folder.exists():
                self._drop(
                    item, sender_email, f"The job {folder.name!r} is there already: a job stays as it is."
                )
            else:
                self._jobs.tried(item)
                return item.message.data, f"{sender_email}/{item.message.name}"
        return None

    def owner_remove_proposed_filechange_message_from_inbox(
        self, message: ProposedFileChangesMessage
    ) -> None:
        """Syft is done with a job's message."""
        sender, _, name = str(message.platform_id).partition("/")
        self._jobs.item(sender, name).path.unlink()

    def _drop(self, item: Item, sender: str, why: str) -> None:
        self._mail.quarantine.put(
            item.message.data, sender, "syft-job", why, item.message.job or item.message.name
        )
        item.path.unlink()

    # ---- events, from an owner to a researcher ----

    def owner_write_raw_bytes_to_outbox(self, recipient: str, filename: str, data: bytes) -> None:
        """Send a researcher what has changed."""
        self._mail.send(recipient, EVENTS, data)

    def watcher_get_outbox_file_metadatas(
        self, peer_email: str, since_timestamp: float | None
    ) -> list[dict[str, Any]]:
        """What has come from an owner and Syft does not have yet; Syft's own idea of since when is not used."""
        self._peers.get(peer_email)
        found = []
        for item in list(self._events.items(peer_email)):
            name = item.message.name
            if (
                item.tries
                and (self._syftbox.with_name(f"{self._syftbox.name}-event-messages") / name).exists()
            ):
                item.path.unlink()  # Syft wrote it down, so it had it
            elif item.tries >= MOST_TRIES:
                self._drop(item, peer_email, "Syft failed at this message.")
            elif not self._fits(peer_email, item):
                self._drop(
                    item, peer_email, "A file of this message stands where a folder is, or the other way."
                )
            else:
                self._events.tried(item)
                stamp = float(name.split("_")[1])
                found.append({"file_id": f"{peer_email}/{name}", "file_name": name, "timestamp": stamp})
        return found

    def _fits(self, sender: str, item: Item) -> bool:
        root = self._syftbox / sender
        for event in FileChangeEventsMessage.from_compressed_data(item.message.data).events:
            path = root / event.path_in_datasite
            above = [parent for parent in path.parents if parent.is_relative_to(root)]
            if path.is_dir() or any(parent.exists() and not parent.is_dir() for parent in above):
                return False
        return True

    def watcher_download_raw_events_from_outbox(
        self, peer_email: str, since_timestamp: float | None
    ) -> list[bytes]:
        """All of them at once."""
        found = self.watcher_get_outbox_file_metadatas(peer_email, since_timestamp)
        return [self.download_file(entry["file_id"]) for entry in found]

    def download_file(self, file_id: str) -> bytes:
        """An events message that ``watcher_get_outbox_file_metadatas`` has named."""
        sender, _, name = file_id.partition("/")
        return self._events.item(sender, name).message.data


class SealedConfig(ConnectionConfig):
    """How Syft's parts come by the connection that they share."""

    connection_type: ClassVar[type[SyftboxPlatformConnection]] = SealedConnection
    connection: SealedConnection
