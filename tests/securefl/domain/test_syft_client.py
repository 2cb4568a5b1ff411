"""Syft's own client over our letters, without processes: one owner, one researcher, one share, and no network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from securefl.domain.errors import RelayError, SyftMessageError, UnknownPeerError
from securefl.domain.syft_client import CHATTER, admit, build, check_code, quietly
from tests.securefl.domain.conftest import OTHER, RESEARCHER, STEWARD

CANARY = b"CANARY-7f3e of a patient"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("Syft reached for the network.")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", "/nonexistent")  # nothing may depend on ~/SyftBox…


def _client(person):
    return build(person.identity, person.peers, person.mail, person.home, owner=person.email == STEWARD)


@pytest.fixture
def people(world):
    return world.pair()


def _folder(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    return path


def _publish(client, folder, name="mri"):
    mock = _folder(folder / f"mock-{name}", a__csv=b"x,y\n1,2\n", b__bin=bytes(range(256)))
    private = _folder(folder / f"private-{name}", a__csv=CANARY)
    return client.create_dataset(
        name=name, mock_path=mock, private_path=private, summary="heads", users="any"
    )


def _submit(client, folder, name="job-1", text=b"print(1)\n"):
    code = _folder(folder / f"code-{name}-{len(list(folder.iterdir()))}", main__py=text)
    client.submit_python_job(STEWARD, str(code), job_name=name, force_submission=True)


def _jobs(client):
    client.sync()
    return {job.name: job for job in client.job_client.jobs}


def test_publish_submit_reject_and_deposit(world, people, capfd):
    steward, researcher = people
    owner, scientist = _client(steward), _client(researcher)
    with quietly(steward.home):
        _publish(owner, world.folder)
    with quietly(researcher.home):
        scientist.sync()
        (dataset,) = scientist.dataset_manager.get_all()
        _submit(scientist, world.folder)
        _submit(scientist, world.folder, "job-2")
    assert (dataset.name, dataset.owner, dataset.summary) == ("mri", STEWARD, "heads")
    assert {path.name: path.read_bytes() for path in dataset.mock_files} == {
        "a.csv": b"x,y\n1,2\n",
        "b.bin": bytes(range(256)),
    }

    result = world.folder / "model.bin"
    result.write_bytes(bytes(range(256)) * 5)
    with quietly(steward.home):
        jobs = _jobs(owner)
        assert {(j.name, j.status, j.submitted_by) for j in jobs.values()} == {
            ("job-1", "pending", RESEARCHER),
            ("job-2", "pending", RESEARCHER),
        }
        assert jobs["job-1"].code == "print(1)\n"
        jobs["job-1"].reject("not in our protocol")
        jobs["job-2"].accept_by_depositing_result(str(result))
        owner.sync()
    with quietly(researcher.home):
        jobs = _jobs(scientist)
        assert (jobs["job-1"].status, jobs["job-1"].review_reason) == ("rejected", "not in our protocol")
        assert [path.read_bytes() for path in jobs["job-2"].output_paths] == [result.read_bytes()]

    # Mock data only, and nothing of it readable on the share.
    share = b"".join(path.read_bytes() for path in world.relay.rglob("*") if path.is_file())
    theirs = b"".join(path.read_bytes() for path in researcher.home.rglob("*") if path.is_file())
    own = b"".join(path.read_bytes() for path in steward.home.rglob("*") if path.is_file())
    assert CANARY not in share
    assert CANARY not in theirs
    assert CANARY in own  # the control: Syft's copy in the owner's own home is found
    assert b"x,y\n1,2" in theirs
    assert b"x,y\n1,2" not in share
    assert b"print(1)" in theirs
    assert b"print(1)" not in share

    assert capfd.readouterr() == ("", "")
    chatter = (steward.home / CHATTER).read_text()
    assert "Received" in chatter
    assert (steward.home / CHATTER).stat().st_mode & 0o077 == 0
    assert steward.log.entries() == researcher.log.entries() == []


def test_a_new_session_goes_on_where_the_last_one_was(world, people):
    steward, researcher = people
    owner, scientist = _client(steward), _client(researcher)
    with quietly(steward.home):
        _publish(owner, world.folder)
    with quietly(researcher.home):
        _submit(scientist, world.folder)
    with quietly(steward.home):
        _jobs(owner)["job-1"].approve("IRB 1")  # and the session ends without a sync
    owner, scientist = _client(steward), _client(researcher)
    with quietly(steward.home):
        assert _jobs(owner)["job-1"].status == "approved"
    with quietly(researcher.home):
        assert (_jobs(scientist)["job-1"].status, _jobs(scientist)["job-1"].review_reason) == (
            "approved",
            "IRB 1",
        )
        assert [d.name for d in scientist.dataset_manager.get_all()] == ["mri"]
    sent = len(world.frames(steward, researcher))
    for _ in range(3):
        with quietly(steward.home):
            owner.sync()
        with quietly(researcher.home):
            scientist.sync()
    assert len(world.frames(steward, researcher)) == sent  # an idle sync writes nothing


def test_who_is_let_in_later_sees_what_was_published_before_and_can_submit(world, people):
    steward, _ = people
    owner = _client(steward)
    with quietly(steward.home):
        _publish(owner, world.folder)
    other = world.person(OTHER)
    other.peers.pin(other.mail.card_of(STEWARD))
    late = _client(other)
    with quietly(other.home):
        late.sync()
        assert list(late.dataset_manager.get_all()) == []  # the control: nothing before the owner lets it in
    steward.peers.pin(steward.mail.card_of(OTHER))
    with quietly(steward.home):
        admit(owner, OTHER)
        owner.sync()
    with quietly(other.home):
        late.sync()
        assert [d.name for d in late.dataset_manager.get_all()] == ["mri"]
        _submit(late, world.folder, "from-another")
    with quietly(steward.home):
        assert _jobs(owner)["from-another"].submitted_by == OTHER


def test_a_withdrawn_dataset_goes(world, people):
    steward, researcher = people
    owner, scientist = _client(steward), _client(researcher)
    with quietly(steward.home):
        _publish(owner, world.folder)
        _publish(owner, world.folder, "ct")
        owner.delete_dataset("mri", require_confirmation=False)
    with quietly(researcher.home):
        scientist.sync()
        assert [d.name for d in scientist.dataset_manager.get_all()] == ["ct"]
    with quietly(steward.home):
        owner.delete_dataset("ct", require_confirmation=False)
    with quietly(researcher.home):
        scientist.sync()
        assert list(scientist.dataset_manager.get_all()) == []


def test_removed_people_vanish_from_syft(world, people):
    steward, researcher = people
    owner, scientist = _client(steward), _client(researcher)
    with quietly(steward.home):
        _publish(owner, world.folder)
    with quietly(researcher.home):
        scientist.sync()
        assert [p.email for p in scientist.peers] == [STEWARD]
        _submit(scientist, world.folder)
    steward.peers.remove(RESEARCHER)
    researcher.peers.remove(STEWARD)
    with quietly(steward.home):
        assert _jobs(owner) == {}
        assert list(owner.peers) == []
        with pytest.raises(UnknownPeerError):
            admit(owner, RESEARCHER)
    with quietly(researcher.home):
        assert _jobs(scientist) == {}
        assert list(scientist.dataset_manager.get_all()) == []
        assert list(scientist.peers) == []
    assert [e.facts["folder"] for e in researcher.logged("set-aside")] == [STEWARD]


def test_nobody_comes_in_through_the_share(world, people):
    """Syft lets in whom its peers' file or a folder on the carrier names; here neither is read."""
    steward, _ = people
    other = world.person(OTHER)
    other.peers.pin(other.mail.card_of(STEWARD))
    for name in ("SYFT_peers.json", "peers.json"):
        for folder in (world.relay, world.relay / STEWARD):
            (folder / name).write_text(f'{{"{OTHER}": {{"state": "accepted"}}}}')
    owner, intruder = _client(steward), _client(other)
    with quietly(other.home):
        intruder.sync()
        _submit(intruder, world.folder)
    with quietly(steward.home):
        assert _jobs(owner) == {}
        assert [p.email for p in owner.peers] == [RESEARCHER]
        for attempt in (owner.add_peer, lambda e: owner.approve_peer_request(e, peer_must_exist=False)):
            with pytest.raises(UnknownPeerError, match="compare its fingerprint"):
                attempt(OTHER)
    steward.peers.pin(steward.mail.card_of(OTHER))
    with quietly(steward.home):
        admit(owner, OTHER)
        assert set(_jobs(owner)) == {"job-1"}  # the control: the job was there


def test_private_data_cannot_be_sent_even_by_asking(world, people):
    steward, _ = people
    owner = _client(steward)
    mock, private = _folder(world.folder / "m", a__csv=b"1"), _folder(world.folder / "p", a__csv=CANARY)
    with quietly(steward.home), pytest.raises(SyftMessageError, match="private data stay"):
        owner.create_dataset(
            name="mri", mock_path=mock, private_path=private, users="any", upload_private=True
        )
    share = b"".join(path.read_bytes() for path in world.relay.rglob("*") if path.is_file())
    assert CANARY not in share


def test_syfts_own_runner_is_off(world, people):
    steward, researcher = people
    owner, scientist = _client(steward), _client(researcher)
    with quietly(researcher.home):
        _submit(scientist, world.folder)
    with quietly(steward.home):
        _jobs(owner)["job-1"].approve()
        with pytest.raises(ValueError, match="not configured"):
            owner.process_approved_jobs()


def test_a_vanished_share_is_an_error_and_nothing_is_lost(world, people):
    steward, researcher = people
    owner, scientist = _client(steward), _client(researcher)
    with quietly(researcher.home):
        scientist.sync()
    away = world.relay.with_name("away")
    world.relay.rename(away)
    with quietly(researcher.home):
        with pytest.raises(RelayError, match="is not there"):
            scientist.sync()
        with pytest.raises(RelayError, match="is not there"):
            _submit(scientist, world.folder)
    away.rename(world.relay)
    with quietly(researcher.home):
        scientist.sync()
    with quietly(steward.home):
        assert set(_jobs(owner)) == {"job-1"}


def test_a_job_that_is_not_text_is_told_before_it_is_sent(world, people):
    code = _folder(world.folder / "code", main__py=b"print(1)\n")
    check_code(code)
    (code / "weights.bin").write_bytes(b"\xff\xfe")
    with pytest.raises(SyftMessageError, match=r"weights\.bin is not text"):
        check_code(code)
    (code / "weights.bin").unlink()
    (code / "link").symlink_to("/etc/hostname")
    with pytest.raises(SyftMessageError, match="not an ordinary file"):
        check_code(code)
