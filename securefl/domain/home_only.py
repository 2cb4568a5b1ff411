"""The part of Syft's carrier that is empty here: a second copy of an owner's state, and what is tidied up on it.

Syft would bring a lost computer back from that copy, and puts its files over the present ones at every start. Here a
person's home is the only copy, and is backed up like any other folder.
"""

from __future__ import annotations

from syft.sync.connections.base_connection import SyftboxPlatformConnection


class HomeOnly(SyftboxPlatformConnection):
    """A carrier that keeps nothing of its owner's state."""

    # ---- Syft's second copy of an owner's state: there is none, the home is the only one ----

    def owner_write_raw_bytes_to_syftbox(self, filename: str, data: bytes) -> str:
        """Not kept a second time."""
        return filename

    def owner_download_all_raw_events_from_syftbox(self) -> list[bytes]:
        """No second copy."""
        return []

    def owner_get_all_accepted_event_file_ids(self, since_timestamp: float | None = None) -> list[str]:
        """No second copy."""
        return []

    def download_raw_events_since_timestamp(self, since_timestamp: float) -> list[bytes]:
        """No second copy."""
        return []

    def get_events_count_since_checkpoint(self, checkpoint_timestamp: float | None) -> int:
        """No second copy."""
        return 0

    def upload_raw_checkpoint(self, filename: str, data: bytes) -> str:
        """Not kept a second time."""
        return filename

    def download_raw_latest_checkpoint(self) -> bytes | None:
        """No second copy."""
        return None

    def upload_raw_incremental_checkpoint(self, filename: str, data: bytes) -> str:
        """Not kept a second time."""
        return filename

    def download_all_raw_incremental_checkpoints(self) -> list[bytes]:
        """No second copy."""
        return []

    def get_incremental_checkpoint_count(self) -> int:
        """No second copy."""
        return 0

    def get_next_incremental_sequence_number(self) -> int:
        """The first, always."""
        return 1

    def delete_all_incremental_checkpoints(self) -> None:
        """No second copy."""

    def upload_raw_rolling_state(self, filename: str, data: bytes) -> str:
        """Not kept a second time."""
        return filename

    def download_raw_rolling_state(self) -> bytes | None:
        """No second copy."""
        return None

    def delete_rolling_state(self) -> None:
        """No second copy."""

    # ---- what Syft asks when it tidies up ----

    def _get_own_datasite_outbox_id(self, peer_email: str) -> str:
        return peer_email

    def get_file_metadatas_from_folder(
        self, folder_id: str, since_timestamp: float | None = None
    ) -> list[dict[str, str]]:
        """Nothing that could be merged: letters stay as they were sent."""
        return []

    def gather_all_file_and_folder_ids(self) -> list[str]:
        """Nothing of Syft's lies on the share."""
        return []

    def find_orphaned_message_files(self) -> list[str]:
        """Nothing of Syft's lies on the share."""
        return []

    def delete_multiple_files_by_ids(self, file_ids: list[str], **options: bool) -> None:
        """Nothing of Syft's lies on the share."""

    def reset_caches(self) -> None:
        """There are none."""
