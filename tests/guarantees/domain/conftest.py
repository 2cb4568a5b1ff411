"""Stock Syft 0.10 on one storage that several people share, for the controls: its own code, nothing patched."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
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


def syft_message(sender: str, changes: dict[str, str], replaces: dict[str, str] | None = None) -> Any:
    """One of Syft's messages to the owner, as any client can write it: the sender's name is what the client says."""
    from syft.sync.messages.proposed_filechange import ProposedFileChange, ProposedFileChangesMessage

    return ProposedFileChangesMessage(
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


def send(client: Any, sender: str, changes: dict[str, str], replaces: dict[str, str] | None = None) -> None:
    """Send one through stock Syft."""
    message = syft_message(sender, changes, replaces)
    client.sync_engine._connection_router.watcher_send_proposed_file_changes_message(OWNER, message)


def stock_approval() -> str:
    """The file that Syft's owner writes when she approves, word for word, written by somebody else."""
    import yaml
    from syft_job.models import JobState, JobStatus

    now = datetime.now(UTC)
    state = JobState(status=JobStatus.APPROVED, received_at=now, approved_by=OWNER, approved_at=now)
    return yaml.dump(state.disk_dict())


def hash_of(content: str) -> str:
    from syft.sync.utils.syftbox_utils import get_event_hash_from_content

    return str(get_event_hash_from_content(content))


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


# ------------------------------------------------------------------- securefl

SOUTH, OPERATOR = "steward@south.example", "ops@uni.example"
HOSPITALS = {"north": OWNER, "south": SOUTH}
CANARY = "the record of Ada Lovelace"
NOW = int(time.time())  # a node that is started looks at the real time


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The members' folders of a consortium of two hospitals and two parties. Only to be read."""
    from securefl import deploy

    out = tmp_path_factory.mktemp("domain") / "consortium"
    deploy.init(
        out,
        list(HOSPITALS),
        ["uni", "lab"],
        "hub.example:8000",
        {"uni": "uni.example:7000", "lab": "lab.example:7001"},
        None,
    )
    return out


def study_of(folder: Path, deployed: Path, **changed: str) -> Path:
    """A study for that consortium with a Python file of its own; ``changed`` replaces lines of its TOML by key."""
    from securefl.deploy.settings import PUBLIC

    keys = {"name": '"Heart disease"', "root": '"../data/records.npz"', "learning_rate": "0.1"} | changed
    (folder / "parts").mkdir(parents=True)
    (folder / "study.toml").write_text(
        f'name = {keys["name"]}\nseed = 1\n[consortium]\nfile = "consortium.toml"\n'
        f'[data]\nsource = "npz"\nroot = {keys["root"]}\n'
        f'[model]\nkind = "logistic"\n[training]\nrounds = 1\nlearning_rate = {keys["learning_rate"]}\n'
    )
    (folder / "parts" / "layers.py").write_text("WIDTH = 3\n")
    shutil.copy(deployed / PUBLIC / "consortium.toml", folder)
    return folder


@dataclass
class Domain:
    """Two stewards, a researcher and an operator who have compared fingerprints, around one shared folder."""

    folder: Path
    deployed: Path
    clock: Hand
    north: Any
    south: Any
    me: Any
    ops: Any

    @property
    def relay(self) -> Path:
        return self.folder / "relay"

    def study(self, folder: str = "study", **changed: str) -> Path:
        return study_of(self.folder / "studies" / folder, self.deployed, **changed)

    def propose(self, folder: str = "study", **changed: str) -> Any:
        """An honest proposal to both hospitals."""
        return self.again(self.study(folder, **changed))

    def again(self, study: Any, purpose: str = "find heart disease") -> Any:
        """The same for a study that is there."""
        return self.me.propose(study, to=[OWNER, SOUTH], purpose=purpose, operators=[OPERATOR])

    def says(self, sender: str, changes: dict[str, str], replaces: dict[str, str] | None = None) -> None:
        """A message of Syft's, past the researcher's own client, in a letter that the researcher signs."""
        self.writes(syft_message(sender, changes, replaces).as_compressed_data())

    def launched(self, *proposals: Any) -> None:
        """The coordinator's operator tells that they run, so that the owner's service wants a node."""
        from securefl.domain.letters import Notice

        for sent in proposals:
            notice = Notice(
                proposal=sent.proposal.digest(), member="hub", state="running", reason="", time=NOW
            )
            self.ops.mail.send(OWNER, Notice.topic, notice.to_bytes())

    def writes(self, body: bytes, topic: str = "syft/job") -> None:
        """A letter of the researcher's to the owner."""
        self.me.mail.send(OWNER, topic, body)


@pytest.fixture
def domain(tmp_path: Path, deployed: Path) -> Iterator[Domain]:
    from securefl.domain.operator_session import Operator
    from securefl.domain.owner_session import Owner
    from securefl.domain.researcher_session import Researcher

    clock, relay = Hand(), tmp_path / "relay"
    relay.mkdir()
    north, south = (
        Owner(
            email,
            tmp_path / email,
            relay,
            shutil.copytree(deployed / name, tmp_path / "members" / name),
            clock,
        )
        for name, email in HOSPITALS.items()
    )
    me = Researcher(RESEARCHER, tmp_path / RESEARCHER, relay, clock)
    ops = Operator(
        OPERATOR,
        tmp_path / OPERATOR,
        relay,
        shutil.copytree(deployed / "uni", tmp_path / "members" / "uni"),
        clock,
    )
    people = (north, south, me, ops)
    for one in people:
        for other in people:
            if other is not one:
                one.accept(other.email, other.fingerprint)
    for owner in (north, south):
        data = tmp_path / "data" / owner.email
        (data / "private").mkdir(parents=True)
        (data / "mock").mkdir()
        (data / "private" / "records.csv").write_text(f"{CANARY}\n")
        (data / "mock" / "records.csv").write_text("nobody\n")
        owner.publish("records", private=data / "private", mock=data / "mock", description="made for a test")
    with north, south, me, ops:
        yield Domain(tmp_path, deployed, clock, north, south, me, ops)
