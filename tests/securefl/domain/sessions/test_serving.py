"""A hospital's service: from the word that a run has begun to the word that it has ended, whatever comes in between."""

from __future__ import annotations

import shutil

import pytest

from securefl.domain import child
from securefl.domain import serving as serving_module
from securefl.domain.letters import Notice
from securefl.domain.parcel import Piece
from securefl.errors import EngineError

NO_ROUND = "the run is over, and the end of 0 of its 5 rounds has come here"


def approved(stage):
    sent = stage.propose()
    stage.owners["north"].request(sent.name).approve("IRB")
    return sent


def says(stage, sent, state):
    """The coordinator's operator writes to north; the letter's file on the share."""
    lane = stage.relay / stage.operator.email / "to" / stage.owners["north"].email
    before = set(lane.glob("*.frame"))
    notice = Notice(proposal=sent.proposal.digest(), member="hub", state=state, reason="", time=0)
    stage.operator.mail.send(stage.owners["north"].email, Notice.topic, notice.to_bytes())
    (file,) = set(lane.glob("*.frame")) - before
    return file


def decided(stage, sent):
    decision = stage.owners["north"].decisions.of(sent.proposal)
    return decision.state, decision.reason


def starts_the_next(stage, serving):
    sent = approved(stage)
    says(stage, sent, "running")
    serving.step()
    assert serving.confinement is not None
    assert decided(stage, sent)[0] == "approved"


def test_a_hospital_that_missed_a_whole_run_is_free_for_the_next(stage):
    sent = approved(stage)
    says(stage, sent, "running")
    says(stage, sent, "finished")
    with stage.owners["north"].serving() as serving:
        serving.step()
        assert serving.confinement is None
        assert decided(stage, sent) == ("done", NO_ROUND)
        starts_the_next(stage, serving)


class Asleep:
    """A node that runs on: without a SuperLink, a real one ends when it likes."""

    confinement, alive = "asleep", True

    def __init__(self, **asked):
        self.run = asked["run"]

    def stop(self):
        self.alive = False


def test_a_node_that_missed_the_last_rounds_ends_a_while_after_the_run(stage, monkeypatch):
    monkeypatch.setattr(child, "start", Asleep)
    sent = approved(stage)
    says(stage, sent, "running")
    with stage.owners["north"].serving() as serving:
        serving.step()
        says(stage, sent, "finished")
        serving.step()
        assert serving.confinement is not None
        assert decided(stage, sent)[0] == "approved"
        monkeypatch.setattr(serving_module, "GRACE", -1.0)
        serving.step()
        assert serving.confinement is None
        assert decided(stage, sent) == ("done", NO_ROUND)
        starts_the_next(stage, serving)


def test_that_a_run_has_ended_is_known_to_the_next_service_too(stage, monkeypatch):
    monkeypatch.setattr(child, "start", Asleep)
    sent = approved(stage)
    says(stage, sent, "running")
    with stage.owners["north"].serving() as serving:
        serving.step()
        says(stage, sent, "finished")
        serving.step()
        assert serving.confinement is not None
        assert decided(stage, sent)[0] == "approved"
    with stage.owners["north"].serving() as serving:
        serving.step()
        assert decided(stage, sent) == ("done", NO_ROUND)


@pytest.mark.parametrize("later", ["failed", "finished"])
def test_a_late_word_that_a_run_has_begun_starts_no_node(stage, later):
    """The share keeps the first letter back until the second has been taken."""
    sent = approved(stage)
    late = says(stage, sent, "running")
    kept = shutil.move(late, stage.root / late.name)
    says(stage, sent, later)
    with stage.owners["north"].serving() as serving:
        serving.step()
        shutil.move(kept, late)
        serving.step()
        assert serving.confinement is None
        says(stage, sent, "running")  # the control: a newer one does
        serving.step()
        assert serving.confinement is not None


def test_a_study_that_can_never_run_ends_no_service_while_the_share_is_away(stage):
    sent = approved(stage)
    says(stage, sent, "running")
    north = stage.owners["north"]
    (north.study_folder(sent.proposal) / "records.py").write_text("changed = 1\n")
    serving = north.serving()
    serving._take_mail()
    stage.relay.rename(stage.root / "away")
    serving.step()
    assert decided(stage, sent)[0] == "failed"
    assert "relay-away" in stage.actions("north")
    (stage.root / "away").rename(stage.relay)
    serving.step()
    assert stage.states(sent)[0] == "failed"


@pytest.mark.parametrize("fault", [EngineError("The disk is full."), OSError(28, "No space left on device")])
def test_a_letter_that_meets_a_full_disk_waits(stage, monkeypatch, fault):
    sent = approved(stage)
    piece = Piece(
        proposal=sent.proposal.digest(), name="model.safetensors", offset=0, data=b"m", bytes_in_all=1, last=True
    )  # fmt: skip
    north = stage.owners["north"]
    stage.operator.mail.send(north.email, Piece.topic, piece.to_bytes())

    def full(*_):
        raise fault

    monkeypatch.setattr(serving_module, "take_piece", full)
    serving = north.serving()
    for _ in range(3):
        serving.step()
    assert [e.reason for e in north.log.entries() if e.action == "mail-waits"] == [str(fault)]
    monkeypatch.undo()
    serving.step()
    assert [release.name for release in north.releases()] == [sent.name]
