"""What stock Syft 0.10 lets through: each of these attacks succeeds, on Syft's own code, unpatched.

They are the controls of this folder: the same attacks on `securefl.domain` stand in the files beside this one. Syft's
own mock of Google Drive is the storage. Where an attack needs only what any approved peer has, it uses nothing else;
where it needs the right to write the storage, as everybody has who shares a folder, the test says so.
"""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.domain.conftest import (
    MALLORY,
    OWNER,
    RESEARCHER,
    StockSyft,
    hash_of,
    send,
    stock_approval,
)

both = pytest.mark.parametrize("stock", [False, True], indirect=True, ids=["plain", "encrypted"])
REVIEW = f"app_data/job/review/{RESEARCHER}/v1/study"
INBOX = f"app_data/job/inbox/{RESEARCHER}/v1/study"


def approved(stock: StockSyft, script: str) -> Any:
    """A job that the owner has read and approved."""
    stock.job(script)
    stock.owner.sync()
    stock.listed().approve("read and found good")
    stock.owner.sync()
    return stock.listed()


@both
def test_a_peer_approves_its_own_job_by_writing_the_owners_name_as_the_sender(stock, tmp_path):
    """The sender of a message is a field of the message; the owner never sees the job before it runs."""
    stock.job(f"touch {tmp_path}/ran")
    send(stock.researcher, OWNER, {f"{REVIEW}/state.yaml": stock_approval()})
    stock.sync_to_herself()

    assert stock.listed().status == "approved"
    stock.run()
    assert (tmp_path / "ran").exists()


@both
def test_under_its_own_name_that_approval_is_refused(stock, tmp_path):
    """What makes the attack above: without the false name the same message does nothing."""
    stock.job(f"touch {tmp_path}/ran")
    send(stock.researcher, RESEARCHER, {f"{REVIEW}/state.yaml": stock_approval()})
    stock.owner.sync()

    assert stock.listed().status == "pending"
    stock.run()
    assert not (tmp_path / "ran").exists()


@both
def test_a_job_that_is_changed_after_its_approval_still_runs(stock, tmp_path):
    """What was approved is a name in a file; whatever lies under that name at the start is what runs."""
    read = f"touch {tmp_path}/read"
    assert approved(stock, read).run_script == read
    send(
        stock.researcher,
        RESEARCHER,
        {f"{INBOX}/run.sh": f"touch {tmp_path}/unread"},
        replaces={f"{INBOX}/run.sh": hash_of(read)},
    )
    stock.owner.sync()

    assert stock.listed().status == "approved"
    stock.run()
    assert (tmp_path / "unread").exists()
    assert not (tmp_path / "read").exists()


@both
def test_one_malformed_message_ends_every_later_sync(stock, tmp_path):
    """The message is never removed, so nobody's later message is ever read, not even another peer's."""
    other = stock.joins("honest@clinic.example")
    stock.owner.sync()
    stock.owner.approve_peer_request("honest@clinic.example", verbose=False)
    connection = stock.researcher.sync_engine._connection_router.connections[0]
    connection.watcher_send_raw_bytes_to_inbox(OWNER, "msgv2_1.0_x.tar.gz", b"no message")
    other.load_peers()
    other.submit_bash_job(OWNER, "true", "honest")

    for _ in range(3):
        with pytest.raises(Exception):  # noqa: B017, PT011 - which one depends on whether it is decrypted first
            stock.owner.sync()
    assert [job.name for job in stock.owner.job_client.jobs] == []


@both
def test_who_writes_the_storage_is_a_peer_whose_job_is_approved(stock, tmp_path):
    """Needs the right to write the storage: there lies the list of the owner's peers, unsigned, with their keys."""
    mallory = stock.joins(MALLORY)
    mallory_keys = mallory.peer_manager.peer_store.get_public_bundle() if stock.encryption else None
    peers = next(
        file for file in stock.store.files.values() if file.name == "SYFT_peers.json" and owned(file)
    )
    listed = json.loads(peers.content)
    assert MALLORY not in listed
    listed[MALLORY] = {"state": "accepted", "public_encryption_bundle": mallory_keys}
    peers.content = json.dumps(listed).encode()

    if stock.encryption:  # what the owner gave to no one: the key that Mallory needs of her is public
        owner_keys = stock.owner.peer_manager.peer_store.get_public_bundle()
        mallory.peer_manager.peer_store.set_peer_bundle(OWNER, owner_keys)
    job = f"app_data/job/inbox/{MALLORY}/v1/study"
    send(
        mallory,
        OWNER,
        {
            f"{job}/run.sh": f"touch {tmp_path}/ran",
            f"{job}/code/script.sh": "",
            f"{job}/config.yaml": submission(MALLORY),
            f"app_data/job/review/{MALLORY}/v1/study/state.yaml": stock_approval(),
        },
    )
    # The list is read anew, as Syft's own service asks for and as after a restart.
    stock.owner.load_peers(force_download=True)
    stock.sync_to_herself()

    assert MALLORY in [peer.email for peer in stock.owner.peer_manager.approved_peers]
    stock.run()
    assert (tmp_path / "ran").exists()


def owned(file: Any) -> bool:
    return file.owners[0]["emailAddress"] == OWNER


def submission(sender: str) -> str:
    import yaml
    from syft_job.models import JobSubmissionMetadata

    metadata = JobSubmissionMetadata(
        name="study",
        type="bash",
        submitted_by=sender,
        datasite_email=OWNER,
        submitted_at=datetime.now(UTC),
        files=["script.sh"],
    )
    return yaml.dump(metadata.disk_dict())


def test_a_job_reads_the_owners_environment_and_files_and_writes_them(stock, tmp_path, monkeypatch):
    """The stock runner starts ``run.sh`` with all of the owner's variables, as the owner, with nothing in between."""
    monkeypatch.setenv("DATABASE_PASSWORD", "of the hospital")
    private = tmp_path / "patients.csv"
    private.write_text("patient 1")
    approved(stock, f'echo "$DATABASE_PASSWORD"; cat {private}; echo changed > {private}')
    stock.run()

    assert (stock.listed().job_review_path / "stdout.txt").read_text() == "of the hospital\npatient 1"
    assert private.read_text() == "changed\n"


def test_a_python_job_fetches_its_python_and_packages_from_the_network(stock, tmp_path):
    """What the submitter's client writes for the owner's shell: an interpreter and packages, by name, at each start."""
    code = tmp_path / "main.py"
    code.write_text("print(1)")
    stock.researcher.submit_python_job(OWNER, str(code), "study", force_submission=True)
    stock.owner.sync()

    script = stock.listed().run_script
    assert "uv venv --python 3.12" in script
    assert "uv pip install" in script


def test_keys_lie_in_a_file_that_everybody_may_read(tmp_path):
    """Under the usual umask; the private halves are in it, and nothing asks for another mode."""
    from syft.sync.peers.peer_store import PeerStore

    path = tmp_path / "crypto_keys.json"
    before = os.umask(0o022)
    try:
        PeerStore.create(OWNER, use_encryption=True, keys_path=path)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert any('"d"' in json.dumps(key) for key in json.loads(path.read_text())["keys_jwk"].values())


def test_whoever_answers_first_for_a_peer_has_its_key_and_a_new_key_is_taken_silently(tmp_path):
    """Trust on first use, and on every later use: the bundle is replaced, and nobody is asked."""
    from syft.sync.peers.peer import Peer
    from syft.sync.peers.peer_store import PeerStore

    real, impostor, owner = (
        PeerStore(email=email, use_encryption=True) for email in (RESEARCHER, RESEARCHER, OWNER)
    )
    for store in (real, impostor, owner):
        store.generate_keys()
    owner.add_peer(Peer(email=RESEARCHER))
    for store in (real, impostor):
        owner.set_peer_bundle(RESEARCHER, store.get_public_bundle())
        store.add_peer(Peer(email=OWNER, public_encryption_bundle=owner.get_public_bundle()))

    assert owner.decrypt_and_verify_if_needed(RESEARCHER, impostor.encrypt(OWNER, b"mine")) == b"mine"


def test_nothing_is_revoked_neither_a_peer_nor_an_approval(stock, tmp_path):
    """An approved peer cannot be rejected, an approved job cannot either, and so it runs."""
    job = approved(stock, f"touch {tmp_path}/ran")
    with pytest.raises(ValueError, match="not found in pending requests"):
        stock.owner.reject_peer_request(RESEARCHER)
    with pytest.raises(ValueError, match="not in pending status"):
        job.reject("the patients withdrew")

    stock.run()
    assert (tmp_path / "ran").exists()


def test_an_approval_of_the_last_century_is_good_for_every_run(stock, tmp_path):
    """No date is ever looked at, and a second run asks nobody."""
    job = approved(stock, f"echo run >> {tmp_path}/runs")
    job._state.approved_at = datetime(1999, 1, 1, tzinfo=UTC)
    stock.owner.job_client.manager.write_state(job._ref, job._state)
    stock.run()
    stock.listed().rerun()
    stock.run()

    assert (tmp_path / "runs").read_text().split() == ["run", "run"]


def test_an_old_approval_is_good_for_another_study(stock, tmp_path):
    """An approval names no study and carries no signature: the owner's own words about one approve another."""
    approved(stock, "true")
    stock.owner.sync()
    stock.researcher.sync()
    copy = (
        stock.folder / "researcher" / OWNER / REVIEW / "state.yaml"
    )  # the owner shares her decision with the submitter
    assert "read and found good" in copy.read_text()

    stock.job(f"touch {tmp_path}/ran", "another")
    send(stock.researcher, OWNER, {f"{REVIEW.replace('study', 'another')}/state.yaml": copy.read_text()})
    stock.sync_to_herself()
    assert stock.listed("another").review_reason == "read and found good"
    stock.run()
    assert (tmp_path / "ran").exists()


def test_no_decision_is_recorded_anywhere_but_in_the_file_that_can_be_changed(stock, tmp_path):
    """Who approved what, when and why stands in one unsigned line; after a change nothing tells the difference."""
    job = approved(stock, "true")
    state = Path(job.job_review_path / "state.yaml")
    state.write_text(state.read_text().replace("read and found good", "never read"))

    assert stock.listed().review_reason == "never read"
    assert not [path for path in stock.folder.rglob("*") if "log" in path.name or "audit" in path.name]


def test_a_hostile_owner_writes_into_another_hospitals_folder_at_the_researcher(stock, tmp_path):
    """The datasite that an event speaks for is a field of the event, too."""
    from uuid import uuid4

    from syft.sync.events.file_change_event import FileChangeEvent, FileChangeEventsMessage

    other = "steward@south.example"
    event = FileChangeEvent(
        id=uuid4(),
        path_in_datasite=Path(f"app_data/job/review/{RESEARCHER}/v1/study/outputs/model.txt"),
        datasite_email=other,
        content="poisoned",
        new_hash=hash_of("poisoned"),
        submitted_timestamp=1.0,
        timestamp=1.0,
    )
    router = stock.owner.sync_engine._connection_router
    router.owner_write_event_messages_to_outbox(RESEARCHER, FileChangeEventsMessage(events=[event]))
    stock.researcher.sync()

    assert [path.read_text() for path in (stock.folder / "researcher" / other).rglob("model.txt")] == [
        "poisoned"
    ]
