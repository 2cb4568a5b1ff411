"""Stock Syft 0.10 on one storage that several people share, for the controls: its own code, nothing patched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OWNER = "steward@north.example"
RESEARCHER = "researcher@lab.example"
MALLORY = "mallory@evil.example"


@dataclass
class StockSyft:
    """An owner and the researcher whom she has approved, over Syft's Drive connection on Syft's own mock of Drive."""

    researcher: Any
    owner: Any
    store: Any
    folder: Path
    encryption: bool

    def job(self, script: str, name: str = "study") -> None:
        """The researcher submits a job."""
        self.researcher.submit_bash_job(OWNER, script, name)

    def sync_to_herself(self) -> None:
        """The owner's sync when a message claims to be hers: all is taken, then the answer to the sender fails.

        Drive has no folder in which she would answer herself. The next sync is as if nothing had been.
        """
        with pytest.raises(ValueError, match=f"Outbox folder for {OWNER} not found"):
            self.owner.sync()
        self.owner.sync()

    def listed(self, name: str = "study") -> Any:
        """The job as the owner's client lists it."""
        return self.owner.job_client.jobs[name]

    def run(self) -> None:
        """The owner runs what is approved."""
        self.owner.job_runner.process_approved_jobs(stream_output=False)

    def joins(self, email: str) -> Any:
        """Somebody else with an account on the same storage, who asks the owner to be let in."""
        from syft.sync.connections.drive.gdrive_transport import GDriveConnection
        from syft.sync.connections.drive.mock_drive_service import MockDriveService
        from syft.sync.syftbox_manager import SyftboxManager
        from syft_datasets.dataset_manager import SyftDatasetManager
        from syft_job.client import JobClient
        from syft_rds.client import SyftRDSClient
        from syft_rds.config import SyftRDSClientConfig

        config = SyftRDSClientConfig._base_config_for_testing(
            email=email,
            syftbox_folder=self.folder / email,
            has_ds_role=True,
            use_in_memory_cache=False,
        )
        engine = SyftboxManager.from_config(config.sync)
        engine._add_connection(GDriveConnection.from_service(email, MockDriveService(self.store, email)))
        if self.encryption:
            engine._init_encrypted_peer_store()
        engine.peer_manager.write_own_version()
        engine.add_peer(OWNER, sync=False, verbose=False)
        return SyftRDSClient(
            sync_engine=engine,
            job_client=JobClient.from_config(config.job),
            dataset_manager=SyftDatasetManager.from_config(config.dataset),
        )


def send(client: Any, sender: str, changes: dict[str, str], replaces: dict[str, str] | None = None) -> None:
    """One of Syft's messages to the owner, as any client can send it: the sender's name is what the client writes."""
    from syft.sync.messages.proposed_filechange import ProposedFileChange, ProposedFileChangesMessage

    message = ProposedFileChangesMessage(
        sender_email=sender,
        proposed_file_changes=[
            ProposedFileChange(
                datasite_email=OWNER,
                path_in_datasite=Path(path),
                content=content,
                old_hash=(replaces or {}).get(path),
            )
            for path, content in changes.items()
        ],
    )
    client.sync_engine._connection_router.watcher_send_proposed_file_changes_message(OWNER, message)


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StockSyft:
    """Encryption is on where the test says so by an indirect parameter."""
    from syft_rds.client import SyftRDSClient

    monkeypatch.setenv("PRE_SYNC", "false")  # Syft's switch: its lists do not sync by themselves
    monkeypatch.setenv("HOME", str(tmp_path))
    encryption = bool(getattr(request, "param", False))
    researcher, owner = SyftRDSClient.pair_with_mock_drive_service_connection(
        email1=OWNER,
        email2=RESEARCHER,
        base_path1=tmp_path / "owner",
        base_path2=tmp_path / "researcher",
        use_in_memory_cache=False,
        encryption=encryption,
    )
    store = owner.sync_engine._connection_router.connections[0].drive_service._backing_store
    return StockSyft(researcher, owner, store, tmp_path, encryption)
