"""A launch at its operators: begun once, told about, ended with the whole run or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from protocols.chain import Closing, SignedClosing
from securefl.deploy.plan import plan_folder
from securefl.domain.launches import LAUNCH
from securefl.domain.letters import LaunchOrder, Notice
from securefl.domain.operator_session import Operator
from securefl.roles.host import Store, home_of
from securefl.roles.party_memory import MEMORY, PartyMemory
from securefl.roles.records import CLOSING
from securefl.run_folder import RunFolder


def launched(stage, sent):
    for owner in stage.owners.values():
        owner.request(sent.name).approve("IRB")
    sent.launch()
    return sent


@pytest.fixture
def hub(stage):
    """The coordinator's session; its own process, the SuperLink, is not what is tested here."""
    script = stage.operator.folder / "start.sh"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    stage.operator._keep_member = lambda: None
    stage.operator._registered = True
    yield stage.operator
    stage.operator.close()


def process(*words):
    return subprocess.Popen(words, start_new_session=True)


def under_way(stage, hub, sent):
    """What stands on the disk of an operator whose run goes on, with a process in the run's place."""
    run = process("sleep", "60")
    hub._start_run = lambda proposal, resume: setattr(hub, "_run", run)
    launched(stage, sent)
    hub.step()
    assert hub._run is run
    return run


def notices(stage, sent):
    return {n["member"]: (n["state"], n["reason"]) for n in sent.notices().values()}


def states(hub):
    return [e.action for e in hub.log.entries() if e.action.startswith(("launch", "run-"))]


def finished(hub, sent, closed=True):
    """A run's folder, whole but for what nobody reads here."""
    out = hub.folder / "home" / f"run-{sent.proposal.number.hex()}"
    closing = Closing(
        study=sent.proposal.study, rounds=6, last=bytes(32), model=bytes(32), parties=[], unverified=[],
        verifications=b"",
    )  # fmt: skip
    run = RunFolder(out)
    run.store().put("receipt-000000", b"r")
    if closed:
        run.store().put(CLOSING, SignedClosing(closing=closing, signatures=[]).to_bytes())
        run.summary_file.write_text("{}")
    run.model_file.write_bytes(b"model")
    return run


def test_the_same_launch_again_starts_no_second_run_and_stops_no_node(stage, hub):
    sent = stage.propose()
    run = under_way(stage, hub, sent)
    sent.launch()
    hub.step()
    assert hub._run is run
    assert run.poll() is None
    assert states(hub) == ["launched"]
    assert notices(stage, sent)["coordinator"] == ("running", "")


def test_a_run_that_was_stopped_is_not_handed_over_and_can_go_on(stage, hub):
    sent = stage.propose()
    under_way(stage, hub, sent)
    finished(hub, sent, closed=False)
    hub._run = process("true")
    hub._run.wait()
    hub.step()
    state, reason = notices(stage, sent)["coordinator"]
    assert (state, reason) == ("failed", "It was stopped before its last round: launch it again to go on.")
    assert stage.owners["north"].releases() == []
    sent.launch()
    hub.step()
    assert states(hub) == ["launched", "run-failed", "launched"]


def test_a_run_that_is_over_is_handed_over_and_not_launched_again(stage, hub):
    sent = stage.propose()
    under_way(stage, hub, sent)
    finished(hub, sent)
    hub._run = process("true")
    hub._run.wait()
    hub.step()
    north = stage.owners["north"]
    north.serving().step()
    assert [release.name for release in north.releases()] == [sent.name]
    assert notices(stage, sent)["coordinator"][0] == "finished"

    sent.launch()
    hub.step()
    state, reason = notices(stage, sent)["coordinator"]
    assert (state, reason) == (
        "refused", f"The run of {sent.name} is over: propose the study again for another.",
    )  # fmt: skip
    assert states(hub) == ["launched", "run-finished", "launch-refused"]


def test_a_run_without_a_model_ends_no_service_and_is_told(stage, hub):
    sent = stage.propose()
    under_way(stage, hub, sent)
    finished(hub, sent).model_file.unlink()
    hub._run = process("true")
    hub._run.wait()
    hub.step()
    hub.step()
    state, reason = notices(stage, sent)["coordinator"]
    assert state == "failed"
    assert reason.startswith("It has ended, and cannot be handed over. There is no finished run in")


def test_a_run_that_ended_while_the_share_was_away_is_handed_over_whole(stage, hub):
    sent = stage.propose()
    under_way(stage, hub, sent)
    finished(hub, sent)
    hub._run = process("true")
    hub._run.wait()
    stage.relay.rename(stage.root / "away")
    hub.step()
    assert states(hub)[-1] == "run-finished"
    (stage.root / "away").rename(stage.relay)
    hub.step()
    stage.owners["north"].serving().step()
    assert [release.name for release in stage.owners["north"].releases()] == [sent.name]


def test_a_run_that_ended_while_its_operator_was_away_is_handed_over(stage, hub):
    """The session ends between the run's end and the handing over; the next one does not run it again."""
    sent = stage.propose()
    under_way(stage, hub, sent).terminate()
    finished(hub, sent)
    again = Operator(hub.email, hub.home, stage.relay, hub.folder, stage.clock)
    again._keep_member = lambda: None
    again.step()
    assert states(again)[-1] == "run-finished"


def test_a_run_that_an_earlier_session_left_behind_is_waited_for(stage, hub):
    sent = stage.propose()
    under_way(stage, hub, sent).terminate()
    run = finished(hub, sent, closed=False)
    hub._run, started = None, []
    hub._start_run = lambda proposal, resume: started.append((proposal, resume))
    with run.locked():
        hub.step()
        assert started == []
    hub.step()
    assert started == [(sent.proposal, True)]


def test_what_goes_wrong_in_a_step_is_logged_once_and_ends_nothing(stage, hub):
    (hub.home / LAUNCH).write_text("no JSON")
    for _ in range(3):
        hub.step()
    failed = [entry.reason for entry in hub.log.entries() if entry.action == "step-failed"]
    assert len(failed) == 1
    assert "is damaged" in failed[0]
    (hub.home / LAUNCH).unlink()
    under_way(stage, hub, stage.propose())


@pytest.fixture
def party(stage, hub):
    """A party's session, which knows the coordinator's operator."""
    party = Operator(
        "ops@uni.example", stage.root / "uni", stage.relay, stage.root / "all" / "uni", stage.clock
    )
    (party.folder / "start.sh").write_text("#!/bin/sh\nexec sleep 60\n")
    for other in (stage.me, hub, *stage.owners.values()):
        party.accept(other.email, other.fingerprint)
        other.accept(party.email, party.fingerprint)
    yield party
    party.close()


def both(stage, party):
    return stage.propose(operators=[stage.operator.email, party.email])


def test_the_same_launch_again_does_not_start_a_party_anew(stage, hub, party):
    sent = launched(stage, both(stage, party))
    party.step()
    member = party._member
    assert member.poll() is None
    sent.launch()
    party.step()
    assert party._member is member
    assert member.poll() is None
    assert notices(stage, sent)["uni"] == ("ready", "")


def test_a_party_takes_the_next_study_when_the_coordinator_says_that_the_last_has_ended(stage, hub, party):
    first = both(stage, party)
    under_way(stage, hub, first)
    party.step()
    second = launched(stage, both(stage, party))
    party.step()
    assert states(party) == ["launched", "launch-refused"]

    finished(hub, first)
    hub._run = process("true")
    hub._run.wait()
    hub.step()
    party.step()
    second.launch()
    party.step()
    assert states(party) == ["launched", "launch-refused", "launched"]
    assert json.loads((party.home / LAUNCH).read_text())["name"] == second.name


def test_a_party_that_signed_the_end_takes_the_next_study_whatever_it_has_heard(stage, hub, party):
    first = launched(stage, both(stage, party))
    party.step()
    second = launched(stage, both(stage, party))
    study, name = first.proposal.study, plan_folder(party.folder, with_study=False).name
    store = Store(home_of(party.folder / "home" / "{study}" / name, study))
    open_ = PartyMemory.waiting(study, 6, bytes(32))
    store.put(MEMORY, open_.to_bytes())
    party.step()
    assert states(party) == ["launched", "launch-refused"]

    store.put(MEMORY, open_.model_copy(update={"closed": bytes(32)}).to_bytes())
    second.launch()
    party.step()
    assert states(party) == ["launched", "launch-refused", "launched"]


def test_nobody_but_the_coordinators_operator_ends_a_launch_at_a_party_and_no_late_letter(stage, hub, party):
    first = launched(stage, both(stage, party))
    party.step()
    lane = stage.relay / hub.email / "to" / party.email

    def says(by, state, sent=first):
        notice = Notice(proposal=sent.proposal.digest(), member="x", state=state, reason="", time=0)
        by.mail.send(party.email, Notice.topic, notice.to_bytes())

    def state():
        party.step()
        return json.loads((party.home / LAUNCH).read_text())["state"]

    says(stage.me, "finished")
    says(stage.owners["north"], "finished")
    assert state() == "running"
    says(hub, "failed")
    (late,) = lane.iterdir()
    shutil.move(late, stage.root / late.name)  # the share keeps it back
    says(hub, "failed")
    assert state() == "failed"
    first.launch()
    assert state() == "running"
    shutil.move(stage.root / late.name, late)
    assert state() == "running"
    order = LaunchOrder(proposal=first.signed, files={}, permits=[])
    stage.me.mail.send(party.email, LaunchOrder.topic, order.to_bytes())
    assert state() == "running"
