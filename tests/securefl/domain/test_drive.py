"""Our letters over Syft's own Google Drive connection, against Syft's own model of Drive; Google was never asked."""

from __future__ import annotations

import pytest
from syft.sync.connections.drive import mock_drive_service

from securefl.domain.drive import DriveCarrier
from securefl.domain.errors import CardError, RelayError
from securefl.domain.frames import LARGEST_FRAME
from securefl.domain.mail import Mail
from securefl.domain.syft_client import build, quietly
from tests.securefl.domain.conftest import RESEARCHER, STEWARD


@pytest.fixture
def drives():
    return dict(
        zip(
            (STEWARD, RESEARCHER), mock_drive_service.pair_with_mock_service(STEWARD, RESEARCHER), strict=True
        )
    )


@pytest.fixture
def people(world, drives):
    for email, other in ((STEWARD, RESEARCHER), (RESEARCHER, STEWARD)):
        person = world.person(email, introduce=False)
        person.mail = Mail(person.identity, person.peers, DriveCarrier(drives[email], [other]), person.log)
    return world.people[STEWARD], world.people[RESEARCHER]


def test_cards_and_letters_go_over_drive(world, people, drives):
    steward, researcher = people
    with pytest.raises(CardError, match="must open a session first"):
        steward.mail.card_of(RESEARCHER)
    for person in people:
        person.mail.introduce()
        person.mail.introduce()
    world.meet(*people)
    steward.mail.send(RESEARCHER, "a", b"1")
    steward.mail.send(RESEARCHER, "b", bytes(range(256)))
    researcher.mail.send(STEWARD, "a", b"back")
    assert [letter.body for letter in researcher.mail.receive()] == [b"1", bytes(range(256))]
    assert [letter.body for letter in steward.mail.receive()] == [b"back"]
    assert researcher.mail.receive() == []
    assert list(world.relay.iterdir()) == []  # the control: nothing went another way


def test_a_hostile_file_on_drive_blocks_nothing(world, people, drives):
    steward, researcher = people
    for person in people:
        person.mail.introduce()
    world.meet(*people)
    drives[RESEARCHER].watcher_send_raw_bytes_to_inbox(
        STEWARD, "000000000001-0123456789abcdef.frame", b"junk" * 9
    )
    drives[RESEARCHER].watcher_send_raw_bytes_to_inbox(STEWARD, "evil name", b"junk")
    researcher.mail.send(STEWARD, "a", b"good")
    assert [letter.body for letter in steward.mail.receive()] == [b"good"]
    assert len(steward.logged("quarantined")) == 2


def test_syfts_client_works_over_it(world, people):
    for person in people:
        person.mail.introduce()
    world.meet(*people)
    steward, researcher = people
    owner = build(steward.identity, steward.peers, steward.mail, steward.home, True)
    scientist = build(researcher.identity, researcher.peers, researcher.mail, researcher.home, False)
    code = world.folder / "code"
    code.mkdir()
    (code / "main.py").write_text("print(1)\n")
    with quietly(researcher.home):
        scientist.submit_python_job(STEWARD, str(code), job_name="job-1", force_submission=True)
    with quietly(steward.home):
        owner.sync()
        (job,) = owner.job_client.jobs
        job.reject("no")
        owner.sync()
    with quietly(researcher.home):
        scientist.sync()
        (job,) = scientist.job_client.jobs
    assert (job.status, job.review_reason) == ("rejected", "no")


def test_a_drive_that_fails_loses_nothing(world, people, drives, monkeypatch):
    steward, researcher = people
    for person in people:
        person.mail.introduce()
    world.meet(*people)
    kind = type(drives[STEWARD])

    def fail(*arguments, **more):
        raise TimeoutError("secret detail of the account")

    monkeypatch.setattr(kind, "watcher_send_raw_bytes_to_inbox", fail)
    with pytest.raises(RelayError, match="Google Drive failed") as caught:
        steward.mail.send(RESEARCHER, "a", b"1")
    assert "secret" not in str(caught.value)
    monkeypatch.undo()
    steward.mail.flush()
    assert [letter.body for letter in researcher.mail.receive()] == [b"1"]


def test_a_file_that_is_too_long_is_not_fetched(people, drives):
    from securefl.domain.errors import FrameTooLargeError
    from securefl.domain.relay import Entry

    with pytest.raises(FrameTooLargeError):
        DriveCarrier(drives[STEWARD]).read(Entry("x", "id", LARGEST_FRAME + 1, 1, True), LARGEST_FRAME)
