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
from syft.sync.connections.base_connection import ConnectionConfig, FileCollection, SyftboxPlatformConnection
from syft.sync.events.file_change_event import (
    FileChangeEvent,
    FileChangeEventsMessage,
    FileChangeEventsMessageFileName,
)
from syft.sync.messages.proposed_filechange import ProposedFileChange, ProposedFileChangesMessage
from syft.sync.utils.syftbox_utils import get_event_hash_from_content
from syft.sync.version.version_info import VersionInfo
from syft_job.migrations.registry import JOB_PROTOCOL_VERSION
from syft_rds.config import DATASET_COLLECTION_PREFIX

from protocols.canonical import Record
from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.cards import Card
from securefl.domain.errors import SyftMessageError
from securefl.domain.frames import Letter
from securefl.domain.home_only import HomeOnly
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.syft_rules import TAG, check_collection, read_changes, read_job
from securefl.domain.syft_state import Collection, Incoming, Item, Label, Shelf, Spool
from securefl.errors import EngineError

JOBS, EVENTS, VERSION = "syft/job", "syft/events", "syft/version"
COLLECTION, GONE = "syft/collection", "syft/collection-gone"
LONGEST_VERSION = 16384
MOST_TRIES = 2
"""How often Syft may have a message that it does not get done with."""


class SharedCollection(Record):
    """A dataset's mock files on their way to a peer."""

    kind = "syft-shared-collection"
    tag: str
    content_hash: str
    files: dict[str, bytes]


class SealedConnection(HomeOnly):
    """One person's connection; Syft's parts share it.

    Args:
        mail: the person's letters.
        peers: whom the person has pinned.
        syftbox: Syft's local folder; its caches lie beside it.
    """

    _mail: Mail = PrivateAttr()
    _peers: Peers = PrivateAttr()
    _syftbox: Path = PrivateAttr()
    _owner: bool = PrivateAttr()

    def __init__(self, mail: Mail, peers: Peers, syftbox: Path, owner: bool) -> None:
        super().__init__()
        self._mail, self._peers, self._syftbox, self._owner = mail, peers, syftbox, owner
        self._me = mail.identity.email
        state = mail.home / "syft-state"
        self._jobs, self._events = Spool(state / "jobs"), Spool(state / "events")
        self._own, self._theirs, self._shelves = Shelf(state / "own"), state / "theirs", {}
        self._versions, self._told = state / "versions", state / "told"

    _me: str = PrivateAttr()
    _jobs: Spool = PrivateAttr()
    _events: Spool = PrivateAttr()
    _own: Shelf = PrivateAttr()
    _theirs: Path = PrivateAttr()
    _shelves: dict[str, Shelf] = PrivateAttr()
    _versions: Path = PrivateAttr()
    _told: Path = PrivateAttr()

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
                self._take(letter)
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

    def _take(self, letter: Letter) -> None:
        key = f"{letter.number:012d}-{letter.keys.hex()[:8]}"
        if letter.topic == JOBS and self._owner:
            job = read_job(letter.body, letter.sender, self._me, JOB_PROTOCOL_VERSION)
            changes = [
                ProposedFileChange(path_in_datasite=Path(path), content=text, datasite_email=self._me)
                for path, text in job.files.items()
            ]
            message = ProposedFileChangesMessage(sender_email=letter.sender, proposed_file_changes=changes)
            data = message.as_compressed_data()
            self._jobs.put(letter.sender, key, Incoming(name=key, job=job.folder, data=data))
        elif letter.topic == EVENTS and not self._owner:
            self._events.put(letter.sender, key, self._incoming_events(letter))
        elif letter.topic == COLLECTION and not self._owner:
            shared = SharedCollection.from_bytes(letter.body)
            check_collection(letter.sender, shared.tag, shared.content_hash, shared.files)
            self._shelf(letter.sender).put(Collection(**shared.model_dump(), any=False, users=[], sent={}))
        elif letter.topic == GONE and not self._owner:
            tag = letter.body.decode(errors="replace")
            if not TAG.fullmatch(tag):
                raise SyftMessageError(f"{letter.sender} withdrew a dataset without a plain name.")
            self._shelf(letter.sender).remove(tag)
        elif letter.topic == VERSION:
            durable.write(self._versions / f"{letter.sender}.json", _version(letter.body))
        elif letter.topic in (EVENTS, COLLECTION, GONE) and self._owner:
            pass  # a hospital tells all whom it knows, other stewards too: it is of no use here, and no offence
        else:
            raise SyftMessageError(f"{letter.sender} sent what Syft does not take here ({letter.topic}).")

    def _shelf(self, sender: str) -> Shelf:
        return self._shelves.setdefault(sender, Shelf(self._theirs / sender))

    def _incoming_events(self, letter: Letter) -> Incoming:
        """Events with this computer's times: Syft orders by time, and letters are ordered by number."""
        changes = read_changes(letter.body, letter.sender)
        last = max(
            (float(i.message.name.split("_")[1]) for i in self._events.items(letter.sender)), default=0
        )
        now = max(float(self._mail.log.now()), last + 0.001)
        events = [
            FileChangeEvent(
                id=uuid4(),
                path_in_datasite=Path(change.path),
                datasite_email=letter.sender,
                content=change.content,
                new_hash=None if change.content is None else get_event_hash_from_content(change.content),
                is_deleted=change.content is None,
                submitted_timestamp=now,
                timestamp=now,
            )
            for change in changes
        ]
        message = FileChangeEventsMessage(
            events=events, message_filepath=FileChangeEventsMessageFileName(timestamp=now)
        )
        name = message.message_filepath.as_string()
        return Incoming(name=name, job="", data=message.as_compressed_data())

    def _tell_version(self) -> None:
        version = VersionInfo.current().to_json()
        told = VersionInfo.current().syft_client_version.encode()
        for card in self._peers.all():
            path = self._told / f"{card.email}.{_keys(card)}"
            if not path.exists() or path.read_bytes() != told:
                durable.write(path, told)
                self._mail.send(card.email, VERSION, version.encode())

    def _deliver(self) -> None:
        for label in self._own.labels():
            due = [] if label.empty else [card for card in self._peers.all() if _is_due(label, card)]
            collection = self._own.get(label.tag) if due else None
            if collection is None:
                continue
            shared = SharedCollection(
                tag=label.tag, content_hash=label.content_hash, files=collection.files
            ).to_bytes()
            for card in due:
                sent = {**collection.sent, _keys(card): label.content_hash}
                collection = collection.model_copy(update={"sent": sent})
                self._own.put(collection)
                self._mail.send(card.email, COLLECTION, shared)

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

    # ---- collections: mock data only ----

    def owner_create_collection_folder(
        self, prefix: str, tag: str, content_hash: str, owner_email: str
    ) -> str:
        """Begin a collection.

        Raises:
            SyftMessageError: it is one of private data, which stay where they are.
        """
        if prefix != DATASET_COLLECTION_PREFIX or not TAG.fullmatch(tag):
            raise SyftMessageError("Only mock data, under a plain name, leave a hospital: private data stay.")
        if (old := self._own.get(tag)) is None or old.content_hash != content_hash:
            sent = {} if old is None else old.sent
            self._own.put(
                Collection(tag=tag, content_hash=content_hash, files={}, any=False, users=[], sent=sent)
            )
        return f"own/{tag}"

    def owner_upload_collection_files(
        self, prefix: str, tag: str, content_hash: str, files: dict[str, bytes]
    ) -> None:
        """Give it its files.

        Raises:
            SyftMessageError: too much, or a file without a plain name.
        """
        collection = self._collection(tag, content_hash)
        files = {Path(name).name: data for name, data in files.items()}
        check_collection(self._me, tag, content_hash, files)
        self._own.put(collection.model_copy(update={"files": files}))

    def owner_tag_collection_as_any(self, prefix: str, tag: str, content_hash: str) -> None:
        """Show it to all who are pinned, now and later."""
        self._own.put(self._collection(tag, content_hash).model_copy(update={"any": True}))
        self._deliver()

    def owner_share_collection(self, prefix: str, tag: str, content_hash: str, users: list[str]) -> None:
        """Show it to some; UnknownPeerError if one is not pinned."""
        for user in users:
            self._peers.get(user)
        collection = self._collection(tag, content_hash)
        all_users = sorted({*collection.users, *users})
        self._own.put(collection.model_copy(update={"users": all_users}))
        self._deliver()

    def owner_list_collections(self, prefix: str) -> list[str]:
        """The tags of the own ones."""
        return [c.tag for c in self._own.labels()] if prefix == DATASET_COLLECTION_PREFIX else []

    def owner_list_all_collections_with_permissions(self, prefix: str) -> list[FileCollection]:
        """The own ones."""
        return [
            FileCollection(
                folder_id=f"own/{c.tag}", tag=c.tag, content_hash=c.content_hash, has_any_permission=c.any
            )
            for c in self._own.labels()
            if prefix == DATASET_COLLECTION_PREFIX and not c.empty
        ]

    def owner_delete_collection(self, prefix: str, tag: str) -> None:
        """Withdraw one: those who have it are told."""
        collection = (
            self._own.get(tag) if prefix == DATASET_COLLECTION_PREFIX and TAG.fullmatch(tag) else None
        )
        if collection is None:
            return
        self._own.remove(tag)
        for card in self._peers.all():
            if _keys(card) in collection.sent:
                self._mail.send(card.email, GONE, tag.encode())

    def delete_file_by_id(self, file_id: str) -> None:
        """Withdraw a collection whose publishing failed."""
        self.owner_delete_collection(DATASET_COLLECTION_PREFIX, file_id.removeprefix("own/"))

    def watcher_list_collections(self, prefix: str) -> list[dict[str, str]]:
        """What pinned owners show."""
        return [
            {"owner_email": card.email, "tag": c.tag, "content_hash": c.content_hash}
            for card in self._peers.all()
            for c in self._shelf(card.email).labels()
            if prefix == DATASET_COLLECTION_PREFIX
        ]

    def watcher_download_collection(
        self, prefix: str, tag: str, content_hash: str, owner_email: str
    ) -> dict[str, bytes]:
        """The files of one, by name."""
        mine = owner_email == self._me
        shelf = self._own if mine else self._shelf(self._peers.get(owner_email).email)
        collection = shelf.get(tag) if TAG.fullmatch(tag) else None
        if collection is None or collection.content_hash != content_hash:
            raise SyftMessageError(f"{owner_email} does not show {tag} any more.")
        return dict(collection.files)

    def watcher_get_collection_file_metadatas(
        self, prefix: str, tag: str, content_hash: str, owner_email: str
    ) -> list[dict[str, str]]:
        """The names of one's files."""
        files = self.watcher_download_collection(prefix, tag, content_hash, owner_email)
        return [{"file_id": f"{owner_email}/{tag}/{content_hash}/{n}", "file_name": n} for n in files]

    def watcher_download_collection_file(self, file_id: str) -> bytes:
        """One file of one."""
        owner, tag, content_hash, name = file_id.split("/", 3)
        return self.watcher_download_collection(DATASET_COLLECTION_PREFIX, tag, content_hash, owner)[name]

    def _collection(self, tag: str, content_hash: str) -> Collection:
        collection = self._own.get(tag) if TAG.fullmatch(tag) else None
        if collection is None or collection.content_hash != content_hash:
            raise SyftMessageError(f"{tag} is not published with this content: publish it again.")
        return collection


class SealedConfig(ConnectionConfig):
    """How Syft's parts come by the connection that they share."""

    connection_type: ClassVar[type[SyftboxPlatformConnection]] = SealedConnection
    connection: SealedConnection


def _keys(card: Card) -> str:
    """A short name of a person with these keys."""
    return card.digest().hex()[:16]


def _is_due(label: Label, card: Card) -> bool:
    wanted = label.any or card.email in label.users
    return wanted and label.sent.get(_keys(card)) != label.content_hash


def _version(data: bytes) -> bytes:
    """What a peer says of its Syft, if it is that."""
    if len(data) > LONGEST_VERSION:
        raise SyftMessageError("A peer's word on its version of Syft is too long.")
    try:
        info = VersionInfo.from_json(data.decode())
        VersionInfo.current().compatibility_status_with(info)
    except (ValueError, RecursionError) as error:
        raise SyftMessageError("A peer's word on its version of Syft is malformed.") from error
    return info.to_json().encode()
