"""A release: whole or not at all, whatever fails while it is sent. What its record must be, the guarantees try."""

from __future__ import annotations

import shutil

import pytest

from securefl.domain import parcel, release, researcher_session
from securefl.domain.errors import DecidedError, ReleaseError
from securefl.domain.outbox import Outbox
from securefl.domain.parcel import Piece, pieces
from securefl.domain.verifying import Record
from securefl.errors import EngineError

CONFINED = "confined: for a test"


@pytest.fixture
def finished(stage, monkeypatch):
    """A run at its approver, whose record is not what is tried here; the proposal, and its release."""
    record = Record(accepted=True, sentence="It holds.", included=(), claims=(), confinement=CONFINED)
    monkeypatch.setattr(release, "verify_confined", lambda _run, _consortium: record)
    monkeypatch.setattr(parcel, "PIECE_BYTES", 1000)
    sent, north = stage.propose(), stage.owners["north"]
    north.request(sent.name).approve("IRB")
    run = stage.root / "run"
    shutil.copytree(stage.study, run / "study")
    (run / "model.safetensors").write_bytes(bytes(range(250)) * 40)
    (run / "summary.json").write_text("{}")
    for piece in pieces(sent.proposal.digest(), run):
        stage.operator.mail.send(north.email, Piece.topic, piece.to_bytes())
    north.serving().step()
    (found,) = north.releases()
    return sent, found


def spoil(stage):
    """Letters to the researcher find a file in the place of their folder; what undoes it."""
    lane = stage.relay / stage.owners["north"].email / "to" / stage.me.email
    lane.rename(stage.root / "lane")
    lane.write_text("no folder")

    def mend():
        lane.unlink()
        (stage.root / "lane").rename(lane)

    return mend


def arrived(stage, sent):
    assert (sent.result(stage.root / "out") / "model.safetensors").read_bytes() == bytes(range(250)) * 40


def test_a_model_is_released_with_what_was_found_and_how_it_was_confined(stage, finished):
    sent, found = finished
    assert found.approve("IRB").sentence == "It holds."
    entry = next(e for e in stage.owners["north"].log.entries() if e.action == "released")
    assert (entry.reason, entry.facts["confinement"]) == ("IRB", CONFINED)
    arrived(stage, sent)
    with pytest.raises(DecidedError, match="was released already"):
        found.approve("again")


def test_a_share_that_fails_during_a_release_loses_nothing_of_the_model(stage, finished):
    sent, found = finished
    mend = spoil(stage)
    found.approve("IRB")
    assert not sent.released
    mend()
    stage.owners["north"].requests()
    arrived(stage, sent)


def test_a_disk_that_is_full_during_a_release_leaves_it_to_be_repeated(stage, finished, monkeypatch):
    sent, found = finished
    put, count = Outbox.put, iter(range(100))

    def full(*arguments):
        if next(count) >= 4:
            raise EngineError("The disk is full.")
        return put(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "put", full)
        with pytest.raises(EngineError):
            found.approve("IRB")
    assert found.state == "waiting"
    assert not sent.released  # and the pieces that went out are not in the way
    found.approve("IRB")
    arrived(stage, sent)


def test_a_model_that_is_larger_than_what_the_disk_has_left_goes_out_by_and_by(stage, finished, monkeypatch):
    sent, found = finished
    put = Outbox.put

    def small(outbox, *arguments):
        if len(list(stage.owners["north"].home.glob("outbox/*/*"))) >= 2:
            raise EngineError("The disk is full.")
        return put(outbox, *arguments)

    monkeypatch.setattr(Outbox, "put", small)
    found.approve("IRB")
    arrived(stage, sent)


def test_a_piece_that_meets_a_full_disk_at_the_researcher_waits(stage, finished, monkeypatch):
    sent, found = finished
    found.approve("IRB")

    def full(*_):
        raise EngineError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(researcher_session, "take", full)
        with pytest.raises(EngineError):
            sent.status()
    arrived(stage, sent)


def test_a_model_that_is_withheld_stays(stage, finished):
    sent, found = finished
    found.withhold("It tells too much.")
    assert found.state == "withheld"
    assert "withheld" in stage.actions("north")
    with pytest.raises(DecidedError, match="was withheld already"):
        found.approve("after all")
    with pytest.raises(DecidedError, match="was withheld already"):
        found.withhold("twice")
    with pytest.raises(ReleaseError, match="is not released yet"):
        sent.result(stage.root / "out")


def test_nothing_is_released_to_somebody_who_was_removed(stage, finished):
    sent, found = finished
    stage.owners["north"].remove(stage.me.email, "left")
    with pytest.raises(ReleaseError, match="was removed here"):
        found.approve("IRB")
    assert not sent.released
