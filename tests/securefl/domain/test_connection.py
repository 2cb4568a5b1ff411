"""A pinned person that lies: Syft never sees it, the log has it, and the next letter is read."""

from __future__ import annotations

import json
import os

import pytest
from syft.sync.events.file_change_event import FileChangeEvent, FileChangeEventsMessage
from syft.sync.messages.proposed_filechange import ProposedFileChange, ProposedFileChangesMessage

from securefl.domain import syft_state
from securefl.domain.errors import SyftMessageError
from securefl.domain.syft_client import build, quietly
from securefl.domain.syft_letters import COLLECTION, EVENTS, GONE, JOBS, VERSION, SharedCollection
from securefl.domain.syft_rules import collection_hash
from tests.securefl.domain.conftest import OTHER, RESEARCHER, STEWARD


class Stage:
    """An owner and a researcher with Syft's clients, and jobs as bytes."""

    def __init__(self, world) -> None:
        self.world = world
        self.steward, self.researcher = world.pair()
        self.owner, self.scientist = self.client(self.steward, True), self.client(self.researcher, False)
        self.sync()

    def client(self, person, owner):
        return build(person.identity, person.peers, person.mail, person.home, owner)

    def sync(self):
        for person, client in ((self.researcher, self.scientist), (self.steward, self.owner)) * 2:
            with quietly(person.home):
                client.sync()

    def jobs(self):
        with quietly(self.steward.home):
            self.owner.sync()
            return {job.name: job for job in self.owner.job_client.jobs}

    def refused(self, person):
        return [entry.facts["code"] for entry in person.logged("quarantined")]

    @property
    def inbox(self):
        return self.steward.home / "syft" / STEWARD / "app_data/job/inbox" / RESEARCHER / "v1"


@pytest.fixture
def stage(world):
    return Stage(world)


def _job(name="job-1", text="print(1)\n", sender=RESEARCHER, extra=()):
    folder = f"app_data/job/inbox/{RESEARCHER}/v1/{name}"
    config = "type: python\nsubmitted_at: 2026-01-01T00:00:00Z\ncanonical_name: JobSubmissionMetadata\nversion: '1'\n"
    files = {f"{folder}/config.yaml": config, f"{folder}/run.sh": "true\n", f"{folder}/code/main.py": text}
    changes = [
        ProposedFileChange(path_in_datasite=path, content=content, datasite_email=STEWARD)
        for path, content in [*files.items(), *extra]
    ]
    return ProposedFileChangesMessage(sender_email=sender, proposed_file_changes=changes).as_compressed_data()


def test_a_job_as_bytes_is_a_job(stage):
    """The control of all that is refused below."""
    stage.researcher.mail.send(STEWARD, JOBS, _job())
    assert stage.jobs()["job-1"].status == "pending"
    assert stage.refused(stage.steward) == []


def test_a_lying_message_is_quarantined_and_the_next_is_read(stage):
    review = f"app_data/job/review/{RESEARCHER}/v1/job-1/state.yaml"
    bad = [
        _job(sender=STEWARD),
        _job(extra=[(review, "status: approved")]),
        _job(extra=[(f"app_data/job/inbox/{RESEARCHER}/syft.pub.yaml", "rules: []")]),
        _job(extra=[("../../evil", "x")]),
        b"poison",
        b"",
    ]
    for data in bad:
        stage.researcher.mail.send(STEWARD, JOBS, data)
    stage.researcher.mail.send(STEWARD, JOBS, _job("good"))
    assert {name: job.status for name, job in stage.jobs().items()} == {"good": "pending"}
    assert stage.refused(stage.steward) == ["syft-message"] * len(bad)
    assert not list(stage.steward.home.rglob("evil"))


def test_a_job_once_sent_stays_as_it_is(stage):
    stage.researcher.mail.send(STEWARD, JOBS, _job())
    job = stage.jobs()["job-1"]
    with quietly(stage.steward.home):
        job.approve("read every line")
    changed = _job(text="print('something else')\n")
    stage.researcher.mail.send(STEWARD, JOBS, changed)
    stage.researcher.mail.send(STEWARD, JOBS, _job("job-2"))
    jobs = stage.jobs()
    assert jobs["job-1"].code == "print(1)\n"
    assert {name: job.status for name, job in jobs.items()} == {"job-1": "approved", "job-2": "pending"}
    assert stage.refused(stage.steward) == ["syft-job"]
    folder = next(iter(stage.steward.logged("quarantined"))).facts["where"]
    assert folder.endswith("/job-1")


def test_two_of_one_name_in_one_look_are_one_job(stage):
    stage.researcher.mail.send(STEWARD, JOBS, _job(text="first\n"))
    stage.researcher.mail.send(STEWARD, JOBS, _job(text="second\n"))
    assert stage.jobs()["job-1"].code == "first\n"
    assert stage.refused(stage.steward) == ["syft-job"]


def test_only_the_role_that_may_send_it(stage):
    """What a hospital tells everybody is of no use to another, and no offence; the rest is."""
    for topic in (EVENTS, COLLECTION, GONE, "syft/else"):
        stage.researcher.mail.send(STEWARD, topic, b"x")
    stage.steward.mail.send(RESEARCHER, JOBS, _job())
    stage.sync()
    assert not list((stage.steward.home / "syft-state").rglob("theirs"))
    assert [entry.facts["where"] for entry in stage.steward.logged("quarantined")] == [
        "letter 5 about syft/else"
    ]
    assert stage.refused(stage.researcher) == ["syft-message"]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"[" * 20_000, b'{"syft_client_version": "x"}', bytes(20_000)]
)
def test_a_bad_version_changes_nothing(stage, data):
    stage.researcher.mail.send(STEWARD, VERSION, data)
    stage.researcher.mail.send(STEWARD, JOBS, _job())
    assert set(stage.jobs()) == {"job-1"}
    assert stage.refused(stage.steward) == ["syft-message"]


def test_another_syft_is_not_synced_with(stage):
    version = json.loads((stage.steward.home / "syft-state/versions" / f"{RESEARCHER}.json").read_text())
    version["syft_client_version"] = "0.8.0"
    stage.researcher.mail.send(STEWARD, VERSION, json.dumps(version).encode())
    stage.researcher.mail.send(STEWARD, JOBS, _job())
    assert stage.jobs() == {}
    version["syft_client_version"] = "0.10.0"
    stage.researcher.mail.send(STEWARD, VERSION, json.dumps(version).encode())
    assert set(stage.jobs()) == {"job-1"}


def test_a_crash_in_the_middle_of_a_job_loses_neither_it_nor_the_next(stage, monkeypatch):
    cache = stage.owner.sync_engine.datasite_owner_syncer.event_cache.file_connection
    write = type(cache).write_file

    def crash(self, path, content):
        if str(path).endswith("job-1/code/main.py"):
            raise KeyboardInterrupt
        write(self, path, content)

    stage.researcher.mail.send(STEWARD, JOBS, _job())
    stage.researcher.mail.send(STEWARD, JOBS, _job("job-2"))
    monkeypatch.setattr(type(cache), "write_file", crash)
    with quietly(stage.steward.home), pytest.raises(KeyboardInterrupt):
        stage.owner.sync()
    monkeypatch.undo()
    assert list(stage.inbox.iterdir())  # the control: half of it is there
    stage.owner = stage.client(stage.steward, True)
    assert {name: job.status for name, job in stage.jobs().items()} == {
        "job-1": "pending",
        "job-2": "pending",
    }
    assert {path.name for path in (stage.inbox / "job-1").iterdir()} == {"config.yaml", "run.sh", "code"}
    assert stage.refused(stage.steward) == []


def test_a_message_at_which_syft_always_fails_is_put_aside(stage, monkeypatch):
    cache = type(stage.owner.sync_engine.datasite_owner_syncer.event_cache)
    process = cache.process_proposed_events_message

    def fail(self, message):
        if any("poison" in str(change.path_in_datasite) for change in message.proposed_file_changes):
            raise RuntimeError("Syft stumbles")
        return process(self, message)

    monkeypatch.setattr(cache, "process_proposed_events_message", fail)
    stage.researcher.mail.send(STEWARD, JOBS, _job("poison"))
    stage.researcher.mail.send(STEWARD, JOBS, _job("good"))
    for _ in range(2):
        with quietly(stage.steward.home), pytest.raises(RuntimeError):
            stage.owner.sync()
    assert set(stage.jobs()) == {"good"}
    assert stage.refused(stage.steward) == ["syft-job"]


def _events(path, content="x", datasite=STEWARD):
    event = FileChangeEvent(
        id="00000000-0000-4000-8000-000000000000",
        path_in_datasite=path,
        datasite_email=datasite,
        content=content,
        submitted_timestamp=1.0,
        timestamp=1.0,
        is_deleted=content is None,
    )
    return FileChangeEventsMessage(events=[event]).as_compressed_data()


def test_an_owner_writes_its_own_datasites_copy_and_nothing_else(stage):
    box = stage.researcher.home / "syft"
    bad = [
        _events("x", datasite=RESEARCHER),
        _events(f"../{RESEARCHER}/x"),
        _events("/tmp/x"),
        _events("private/x"),
        b"poison",
    ]
    for data in bad:
        stage.steward.mail.send(RESEARCHER, EVENTS, data)
    stage.steward.mail.send(RESEARCHER, EVENTS, _events("public/news.txt", "good"))
    stage.sync()
    assert (box / STEWARD / "public/news.txt").read_text() == "good"
    assert stage.refused(stage.researcher) == ["syft-message"] * len(bad)


def test_a_file_in_place_of_a_folder_blocks_nothing(stage):
    stage.steward.mail.send(RESEARCHER, EVENTS, _events("public/a/b", "1"))
    stage.sync()
    stage.steward.mail.send(RESEARCHER, EVENTS, _events("public/a", "2"))
    stage.steward.mail.send(RESEARCHER, EVENTS, _events("public/a/b/c", "3"))
    stage.steward.mail.send(RESEARCHER, EVENTS, _events("public/a/d", "4"))
    stage.sync()
    public = stage.researcher.home / "syft" / STEWARD / "public"
    assert [(public / "a" / name).read_text() for name in ("b", "d")] == ["1", "4"]
    assert stage.refused(stage.researcher) == ["syft-job"] * 2


def test_events_are_ordered_by_number_whatever_the_clocks_say(stage):
    for i, now in enumerate((9e9, 0.0, 5e9)):
        stage.researcher.clock.now = now
        stage.steward.mail.send(RESEARCHER, EVENTS, _events("public/state", str(i)))
        if i == 1:
            stage.sync()
            assert (stage.researcher.home / "syft" / STEWARD / "public/state").read_text() == "1"
    stage.sync()
    assert (stage.researcher.home / "syft" / STEWARD / "public/state").read_text() == "2"


def test_a_lying_collection_is_refused_and_the_next_is_read(stage):
    def shared(files, tag="mri"):
        return SharedCollection(tag=tag, content_hash=collection_hash(files), files=files).to_bytes()

    about = {"dataset.yaml": json.dumps({"name": "mri", "mock_files_urls": []}).encode(), "a.bin": b"\xff"}
    bad = [b"poison", shared({"a": b""}), shared(about, "other"), shared({**about, "../a": b""})]
    for data in bad:
        stage.steward.mail.send(RESEARCHER, COLLECTION, data)
    stage.steward.mail.send(RESEARCHER, GONE, b"../../own")
    stage.steward.mail.send(RESEARCHER, COLLECTION, shared(about))
    stage.sync()
    assert stage.refused(stage.researcher) == ["syft-message"] * (len(bad) + 1)
    folder = stage.researcher.home / "syft" / STEWARD / "public/syft_datasets/mri"
    assert (folder / "a.bin").read_bytes() == b"\xff"


def test_a_job_that_the_owner_would_refuse_is_told_to_who_sends_it(stage, tmp_path):
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text("print(1)\n")
    with quietly(stage.researcher.home), pytest.raises(SyftMessageError, match="plain name"):
        stage.scientist.submit_python_job(STEWARD, str(code), job_name="a:job", force_submission=True)
    with quietly(stage.researcher.home):
        stage.scientist.submit_python_job(STEWARD, str(code), job_name="a job", force_submission=True)
    assert set(stage.jobs()) == {"a job"}


def test_an_idle_look_writes_nothing_and_reads_no_mock_data(stage, tmp_path, monkeypatch):
    mock, note = tmp_path / "mock", tmp_path / "note.txt"
    mock.mkdir()
    (mock / "a.bin").write_bytes(bytes(2**20))
    note.write_text("private data stay")
    with quietly(stage.steward.home):
        stage.owner.create_dataset(name="mri", mock_path=mock, private_path=note, summary="x", users="any")
    stage.sync()
    assert (stage.researcher.home / "syft" / STEWARD / "public/syft_datasets/mri/a.bin").exists()
    lines = len(stage.steward.log.entries()), len(stage.researcher.log.entries())
    read, synced, parse, fsync = [], [], syft_state._parsed, os.fsync
    monkeypatch.setattr(syft_state, "_parsed", lambda *a: read.append(a) or parse(*a))
    monkeypatch.setattr(os, "fsync", lambda d: synced.append(d) or fsync(d))
    stage.sync()
    assert (read, synced) == ([], [])
    assert lines == (len(stage.steward.log.entries()), len(stage.researcher.log.entries()))

    stage.researcher.mail.send(STEWARD, JOBS, _job())
    assert set(stage.jobs()) == {"job-1"}
    assert read  # the control
    assert synced


def test_mock_data_go_to_who_is_accepted_later_and_once(stage, tmp_path):
    mock, note = tmp_path / "mock", tmp_path / "note.txt"
    mock.mkdir()
    (mock / "a.bin").write_bytes(b"mock")
    note.write_text("private data stay")
    with quietly(stage.steward.home):
        stage.owner.create_dataset(name="mri", mock_path=mock, private_path=note, summary="x", users="any")
    later = stage.world.person(OTHER)
    stage.world.meet(stage.steward, later)
    client = stage.client(later, False)
    for _ in range(3):
        stage.sync()
        with quietly(later.home):
            client.sync()
    assert (later.home / "syft" / STEWARD / "public/syft_datasets/mri/a.bin").read_bytes() == b"mock"
    # The version and the collection, to each: nothing is sent twice.
    assert len(stage.world.frames(stage.steward, later)) == 2
