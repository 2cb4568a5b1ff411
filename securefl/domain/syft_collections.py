"""Datasets' mock files at Syft's carrier: what an owner shows, to whom, and what a researcher is shown.

Importing this imports Syft (about a second).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import PrivateAttr
from syft.sync.connections.base_connection import FileCollection
from syft_rds.config import DATASET_COLLECTION_PREFIX

from securefl.domain.cards import Card
from securefl.domain.errors import SyftMessageError
from securefl.domain.home_only import HomeOnly
from securefl.domain.mail import Mail
from securefl.domain.peers import Peers
from securefl.domain.syft_letters import COLLECTION, GONE, SharedCollection
from securefl.domain.syft_rules import TAG, check_collection
from securefl.domain.syft_state import Collection, Label, Shelf, Shelves


class MockCollections(HomeOnly):
    """The half of a carrier that shows mock data. Private data have no way into it.

    Args:
        mail: the person's letters.
        peers: whom the person has pinned.
        state: the folder of what Syft would keep at its carrier.
    """

    _mail: Mail = PrivateAttr()
    _peers: Peers = PrivateAttr()
    _me: str = PrivateAttr()
    _own: Shelf = PrivateAttr()
    _shelves: Shelves = PrivateAttr()

    def __init__(self, mail: Mail, peers: Peers, state: Path) -> None:
        super().__init__()
        self._mail, self._peers, self._me = mail, peers, mail.identity.email
        self._own, self._shelves = Shelf(state / "own"), Shelves(state / "theirs")

    def _deliver(self) -> None:
        """Send each collection to those who may have it and do not have it yet."""
        for label in self._own.labels():
            due = [] if label.empty else [card for card in self._peers.all() if _is_due(label, card)]
            collection = self._own.get(label.tag) if due else None
            if collection is None:
                continue
            shared = SharedCollection(
                tag=label.tag, content_hash=label.content_hash, files=collection.files
            ).to_bytes()
            for card in due:
                sent = {**collection.sent, keys_of(card): label.content_hash}
                collection = collection.model_copy(update={"sent": sent})
                self._own.put(collection)
                self._mail.send(card.email, COLLECTION, shared)

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
            if keys_of(card) in collection.sent:
                self._mail.send(card.email, GONE, tag.encode())

    def delete_file_by_id(self, file_id: str) -> None:
        """Withdraw a collection whose publishing failed."""
        self.owner_delete_collection(DATASET_COLLECTION_PREFIX, file_id.removeprefix("own/"))

    def watcher_list_collections(self, prefix: str) -> list[dict[str, str]]:
        """What pinned owners show."""
        return [
            {"owner_email": card.email, "tag": c.tag, "content_hash": c.content_hash}
            for card in self._peers.all()
            for c in self._shelves.of(card.email).labels()
            if prefix == DATASET_COLLECTION_PREFIX
        ]

    def watcher_download_collection(
        self, prefix: str, tag: str, content_hash: str, owner_email: str
    ) -> dict[str, bytes]:
        """The files of one, by name."""
        mine = owner_email == self._me
        shelf = self._own if mine else self._shelves.of(self._peers.get(owner_email).email)
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


def keys_of(card: Card) -> str:
    """A short name of a person with these keys."""
    return card.digest().hex()[:16]


def _is_due(label: Label, card: Card) -> bool:
    wanted = label.any or card.email in label.users
    return wanted and label.sent.get(keys_of(card)) != label.content_hash
