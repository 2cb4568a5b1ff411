"""A steward's consent on the state machines: without it a hospital declines, and the receipts say why."""

from __future__ import annotations

import pytest

from protocols.signing import SigningKey
from securefl.consent import Consent
from securefl.permit import Permit, Revocation, SignedPermit, SignedRevocation
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import Accepted, Announcement, Declined, SignedContribution, read_message

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


def test_a_revocation_in_the_middle_takes_the_hospital_out_and_the_receipts_say_why(stage, theatre):
    stage.run(until=lambda: len(stage.done) == 2)  # statistics and round 1
    stage.revoke()
    stage.run()
    (outcome_1, outcome_2) = [signed.outcome for signed in stage.outcomes()[1:]]
    assert HOSPITAL in outcome_1.frozen.contributions
    # Signed by every party, in the chain that anyone verifies.
    assert dict(outcome_2.frozen.absent) == {HOSPITAL: "not-approved"}
    code, sentence = absences(stage)[2][HOSPITAL]
    assert code == "not-approved"
    assert sentence.endswith("the patients objected.")
    everyone = set(stage.cast.terms.hospitals)
    expected = theatre.expected(stage.cast, [everyone, everyone - {HOSPITAL}])
    assert stage.model.tobytes() == expected.tobytes()


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
