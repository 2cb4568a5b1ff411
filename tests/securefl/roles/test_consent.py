"""A steward's consent on the state machines: without it a hospital declines, and the receipts say why."""

from __future__ import annotations

import pytest

from protocols.signing import SigningKey
from securefl.audit.stage import staged
from securefl.audit.stage_cast import VICTIM, Private, spending_of
from securefl.consent import Consent
from securefl.permit import Permit, Revocation, SignedPermit, SignedRevocation
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import Accepted, Announcement, Declined, SignedContribution, read_message
from securefl.roles.pledges import PLEDGE
from securefl.roles.refusals import told

HOSPITAL = "va"
STEWARD = SigningKey.generate()


@pytest.fixture
def stage(theatre, tmp_path):
    """A study in which one hospital has a steward, who has approved it."""
    cast = theatre.cast()
    permit = Permit(
        number=b"n" * 16, study=cast.terms.study, proposal=b"p" * 32, hospital=HOSPITAL, dataset="mri", purpose="",
        runs=1, epsilon="", delta="", unit="", not_before=0, expires=2**40, steward="s", researcher="r", reason="",
    )  # fmt: skip
    permits = tmp_path / "permit"
    SignedPermit.of(permit, STEWARD).save(permits)

    class WithSteward(theatre.stage):
        def hospital(self, name):
            if name != HOSPITAL:
                return super().hospital(name)
            self.trainers[name] = theatre.trainer(name)
            keys, server = cast.keys[name], cast.study.settings.server
            consent = Consent(permits, STEWARD.public, cast.terms.study, name)
            return HospitalMachine(
                name, cast.terms, keys.signing, keys.sealing, self.trainers[name], server, theatre.trainable,
                self.store(name), consent=consent,
            )  # fmt: skip

    stage = WithSteward(cast, tmp_path / "stage")
    stage.revoke = lambda: SignedRevocation.of(
        Revocation(permit=permit.number, time=0, reason="the patients objected"), STEWARD
    ).save(permits)
    return stage


def absences(stage):
    return [dict(done.absent) for done in stage.done]


def test_with_a_permit_the_study_runs_as_without_a_steward(stage, theatre):
    stage.run()
    everyone = set(stage.cast.terms.hospitals)
    assert absences(stage) == [{}, {}, {}]
    assert stage.model.tobytes() == theatre.expected(stage.cast, [everyone, everyone]).tobytes()


def test_a_revocation_in_the_middle_takes_the_hospital_out_and_the_receipts_say_why(stage, theatre, caplog):
    stage.run(until=lambda: len(stage.done) == 2)  # statistics and round 1
    stage.revoke()
    stage.run()
    (outcome_1, outcome_2) = [signed.outcome for signed in stage.outcomes()[1:]]
    assert HOSPITAL in outcome_1.frozen.contributions
    # Signed by every party, in the chain that anyone verifies.
    assert dict(outcome_2.frozen.absent) == {HOSPITAL: "not-approved"}
    # The coordinator has one fixed sentence; the steward's own words stand in the hospital's log.
    assert absences(stage)[2][HOSPITAL] == ("not-approved", told("not-approved"))
    assert "the patients objected" in caplog.text
    everyone = set(stage.cast.terms.hospitals)
    expected = theatre.expected(stage.cast, [everyone, everyone - {HOSPITAL}])
    assert stage.model.tobytes() == expected.tobytes()


@pytest.mark.parametrize("revoked", [True, False])
def test_a_revocation_while_it_trains_stops_the_contribution(stage, theatre, revoked):
    trainer = stage.trainers[HOSPITAL]
    train = trainer.update

    def update(model, round_):
        if revoked and round_ == 2:
            stage.revoke()
        return train(model, round_)

    trainer.update = update
    stage.run(until=lambda: len(stage.done) == 2)
    announcement = stage.capture(Announcement, 2)[HOSPITAL]
    stage.run(until=lambda: not stage.moves())
    before, calls = dict(stage.store(HOSPITAL)), trainer.calls
    answer = stage.ask(HOSPITAL, announcement)
    assert trainer.calls == calls + 1  # it was asked for, and computed
    if not revoked:
        assert isinstance(answer, SignedContribution)
        assert f"{PLEDGE}2" in stage.store(HOSPITAL)
        return
    assert answer == Declined(
        context=announcement.context.digest(), hospital=HOSPITAL, reason="not-approved",
        explanation=told("not-approved"),
    )  # fmt: skip
    assert dict(stage.store(HOSPITAL)) == before  # nothing is pledged, nothing kept to be sent again


def test_what_was_answered_before_is_not_sent_again(stage):
    announcement = stage.capture(Announcement, 1)[HOSPITAL]
    stage.run(until=lambda: not stage.moves())
    first = stage.ask(HOSPITAL, announcement)
    assert isinstance(first, SignedContribution)
    assert stage.ask(HOSPITAL, announcement) == first  # the control
    stage.revoke()
    for calls in (1, 0):
        answer = stage.ask(HOSPITAL, announcement)
        assert isinstance(answer, Declined)
        assert (answer.context, answer.reason) == (announcement.context.digest(), "not-approved")
        assert stage.trainers[HOSPITAL].calls == calls
        stage.lose(HOSPITAL)  # nor after a restart


def test_an_outcome_that_it_stands_in_is_still_taken(stage):
    stage.run(until=lambda: len(stage.done) == 1)
    stage.revoke()
    settled = stage.recall(0)
    answers = [read_message(data) for data in stage.hosts[HOSPITAL].answer(settled.to_bytes())]
    assert Accepted(member=HOSPITAL, round=0) in answers


def test_another_studys_announcement_is_refused_as_before(stage):
    announcement = stage.capture(Announcement, 1)[HOSPITAL]
    stage.revoke()
    context = announcement.context.model_copy(update={"study": bytes(32)})
    answer = stage.ask(HOSPITAL, announcement.model_copy(update={"context": context}))
    assert answer.reason == "other-study"


class Withdrawn:
    """A steward's consent that is gone once ``revoked`` is set."""

    revoked = False

    def refusal(self):
        return "The steward revoked the permit." if self.revoked else None


@pytest.mark.parametrize("revoked", [True, False])
def test_a_private_attempt_is_charged_although_its_contribution_is_stopped(revoked):
    with staged(private=Private()) as stage:
        consent, keys, trainer = Withdrawn(), stage.people.keys[VICTIM], stage.trainers[VICTIM]
        spending = spending_of(stage.study, stage.terms, stage.ledger(VICTIM), None)
        machine = HospitalMachine(
            VICTIM, stage.terms, keys.signing, keys.sealing, trainer, stage.study.settings.server,
            trainer.layout.trainable_size, stage.store(VICTIM), spending, consent,
        )  # fmt: skip
        stage.seat(VICTIM, machine)
        train = trainer.update

        def update(model, round_):
            consent.revoked = revoked
            return train(model, round_)

        trainer.update = update
        stage.play()
        kinds = [type(message) for sender, _, message in stage.wire if sender == VICTIM]
        assert kinds.count(Declined) == revoked
        assert kinds.count(SignedContribution) == 2 - revoked  # the roll call, and the round
        assert len(stage.ledger(VICTIM)) == 1
        assert (VICTIM in stage.outcomes()[1].outcome.included) is not revoked
