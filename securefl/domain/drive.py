"""Syft's own Google Drive connection as the carrier of our sealed letters, in place of a shared folder.

A person's letters to another lie in the folder of Syft's that the two share for that direction, and the card beside
them. Drive tells who owns a folder; that is not trusted, the frames' signatures are. Tried with Syft's own model of
Drive only: never against Google.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from securefl.domain.address import checked
from securefl.domain.cards import LONGEST_CARD
from securefl.domain.errors import FrameTooLargeError, RelayError
from securefl.domain.relay import CARD, Entry

T = TypeVar("T")


class DriveCarrier:
    """A person's Drive.

    Args:
        connection: Syft's ``GDriveConnection`` of that person's account.
        invited: who may see the card, and be written to; Drive has no place that all can read.
    """

    def __init__(self, connection: Any, invited: Iterable[str] = ()) -> None:
        self._drive, self._invited = connection, sorted({checked(email) for email in invited})

    def check(self) -> None:
        """Drive is asked when it is used."""

    def is_empty(self) -> bool:
        """Not known of a Drive."""
        return False

    def put_card(self, email: str, data: bytes) -> None:
        """Show the card to all who are invited."""
        for peer in self._invited:
            self._put_once(peer, CARD, data)

    def card(self, email: str) -> bytes | None:
        """The card that lies in the folder that ``email`` shares with this person; the own one is always put again."""
        entry = next((e for e in self._listed(email) if e.name == CARD), None)
        return None if entry is None else self.read(entry, LONGEST_CARD)

    def put(self, sender: str, recipient: str, name: str, data: bytes) -> None:
        """Write a frame for ``recipient``."""
        self._put_once(recipient, name, data)

    def frames(self, sender: str, recipient: str) -> list[Entry]:
        """What lies there from ``sender``."""
        return sorted((e for e in self._listed(sender) if e.name != CARD), key=lambda entry: entry.name)

    def head(self, entry: Entry, size: int) -> bytes | None:
        """Drive has files whole or not at all."""
        return None

    def read(self, entry: Entry, limit: int) -> bytes:
        """A file's bytes; FrameTooLargeError if they are more than ``limit``."""
        if entry.size > limit:
            raise FrameTooLargeError(f"A file of more than {limit:,} bytes is too long.")
        return bytes(_asked(lambda: self._drive.download_file(entry.key)))

    def _put_once(self, recipient: str, name: str, data: bytes) -> None:
        def put() -> None:
            folder = self._drive._get_peer_datasite_inbox_id(recipient)
            if folder is None:
                self._drive.add_peer(recipient)
                folder = self._drive._get_peer_datasite_inbox_id(recipient)
            if name not in {file["name"] for file in self._drive.get_file_metadatas_from_folder(folder)}:
                self._drive.watcher_send_raw_bytes_to_inbox(recipient, name, data)

        _asked(put)

    def _listed(self, sender: str) -> list[Entry]:
        def files() -> list[dict[str, Any]]:
            folder = self._drive._get_own_datasite_inbox_id(checked(sender))
            return [] if folder is None else self._drive.get_file_metadatas_from_folder(folder)

        return [
            Entry(file["name"], file["id"], int(file.get("size") or 0), _stamp(file), True)
            for file in _asked(files)
        ]


def _stamp(file: dict[str, Any]) -> int:
    written = f"{file['id']} {file.get('modifiedTime')}".encode()
    return int.from_bytes(hashlib.sha256(written).digest()[:7], "big")


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except Exception as error:  # Syft and Google's client raise whatever their layers do
        raise RelayError(
            f"Google Drive failed ({type(error).__name__}): try again later; nothing is lost."
        ) from error
