"""What comes for Syft in a letter, checked and built anew before Syft has it: jobs, events, collections, versions.

Importing this imports Syft (about a second).
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from syft.sync.events.file_change_event import (
    FileChangeEvent,
    FileChangeEventsMessage,
    FileChangeEventsMessageFileName,
)
from syft.sync.messages.proposed_filechange import ProposedFileChange, ProposedFileChangesMessage
from syft.sync.utils.syftbox_utils import get_event_hash_from_content
from syft.sync.version.version_info import VersionInfo
from syft_job.migrations.registry import JOB_PROTOCOL_VERSION

from protocols.canonical import Record
from securefl import durable
from securefl.domain.errors import SyftMessageError
from securefl.domain.frames import Letter
from securefl.domain.mail import Mail
from securefl.domain.syft_rules import TAG, check_collection, read_changes, read_job
from securefl.domain.syft_state import Collection, Incoming, Shelves, Spool

JOBS, EVENTS, VERSION = "syft/job", "syft/events", "syft/version"
COLLECTION, GONE = "syft/collection", "syft/collection-gone"
LONGEST_VERSION = 16384


class SharedCollection(Record):
    """A dataset's mock files on their way to a peer."""

    kind = "syft-shared-collection"
    tag: str
    content_hash: str
    files: dict[str, bytes]


class Arrivals:
    """Where letters about Syft's matters go.

    Args:
        mail: the person's letters.
        owner: whether the person is a hospital's steward; else a researcher.
        jobs, events: what waits until Syft asks for it.
        shelves: what owners show.
        versions: a folder, for each peer's word on its version of Syft.
    """

    def __init__(
        self, mail: Mail, owner: bool, jobs: Spool, events: Spool, shelves: Shelves, versions: Path
    ) -> None:
        self._mail, self._owner, self._me = mail, owner, mail.identity.email
        self._jobs, self._events, self._shelves, self._versions = jobs, events, shelves, versions

    def take(self, letter: Letter) -> None:
        """Put a letter where Syft will find it.

        Raises:
            SyftMessageError, EncodingError: it is not for Syft.
        """
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
            self._shelves.of(letter.sender).put(
                Collection(**shared.model_dump(), any=False, users=[], sent={})
            )
        elif letter.topic == GONE and not self._owner:
            tag = letter.body.decode(errors="replace")
            if not TAG.fullmatch(tag):
                raise SyftMessageError(f"{letter.sender} withdrew a dataset without a plain name.")
            self._shelves.of(letter.sender).remove(tag)
        elif letter.topic == VERSION:
            durable.write(self._versions / f"{letter.sender}.json", _version(letter.body))
        elif letter.topic in (EVENTS, COLLECTION, GONE) and self._owner:
            pass  # a hospital tells all whom it knows, other stewards too: it is of no use here, and no offence
        else:
            raise SyftMessageError(f"{letter.sender} sent what Syft does not take here ({letter.topic}).")

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
