"""A hospital: what it refuses before it trains, and that the same question gets the same bytes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import securefl
from protocols.contribution import check_signature, sign
from protocols.errors import EncodingError
from securefl.errors import RefusedError
from securefl.roles import hospital
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import (
    Accepted,
    Announcement,
    Behind,
    CoinRevealed,
    Declined,
    Refusal,
    Settled,
    SignedContribution,
    StatusRequest,
    read_message,
)
from securefl.roles.refusals import SENTENCES, told

HOSPITAL = "va"


@pytest.fixture
def stage(theatre, tmp_path):
    return theatre.stage(theatre.cast(), tmp_path)


def announced(stage, round_=1):
    """The hospital's announcement; it has not seen it, but all that went before."""
    message = stage.capture(Announcement, round_)[HOSPITAL]
    stage.run(until=lambda: not stage.moves())
    return message


@pytest.fixture
def announcement(stage):
    return announced(stage)


@pytest.fixture(scope="module")
def waiting(theatre, tmp_path_factory):
    """A stage before the hospital's announcement; refusals leave it as it is, so that tests share it."""
    stage = theatre.stage(theatre.cast(), tmp_path_factory.mktemp("waiting"))
    return stage, announced(stage)


def changed(record, **fields):
    return record.model_copy(update=fields)


def answers(stage, message):
    """All that the hospital answers."""
    return [read_message(data) for data in stage.hosts[HOSPITAL].answer(message.to_bytes())]


def reason(stage, message):
    """The code of the refusal; nothing was trained and nothing written."""
    before, calls = dict(stage.store(HOSPITAL)), stage.trainers[HOSPITAL].calls
    answer = stage.ask(HOSPITAL, message)
    assert isinstance(answer, Refusal), answer
    assert (answer.member, answer.about) == (HOSPITAL, type(message).kind)
    assert dict(stage.store(HOSPITAL)) == before
    assert stage.trainers[HOSPITAL].calls == calls
    return answer.reason


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("other-study", {"study": bytes(32)}),
        ("other-round", {"round": 9}),
        ("other-round", {"purpose": "statistics"}),
        ("other-encoding", {"width": 16}),
        ("other-chain", {"previous": bytes(32)}),
        ("other-chain", {"round": 0, "purpose": "statistics", "width": 64}),
        ("other-model", {"model": bytes(32)}),
        ("other-parties", {"parties": ["party-1", "party-2"]}),
        ("other-parties", {"parties": ["party-2", "party-1", "party-3"]}),
        ("other-parties", {"parties": ["party-1", "party-2", "party-3", "party-3"]}),
        ("other-parties", {"parties": ["party-1", "party-2", "a stranger"]}),
    ],
)
def test_an_announcement_of_another_context_is_refused(waiting, code, fields):
    stage, announcement = waiting
    assert reason(stage, changed(announcement, context=changed(announcement.context, **fields))) == code


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("unknown-hospital", {"cohort": ["charite", "nobody", HOSPITAL]}),
        ("unknown-hospital", {"cohort": [HOSPITAL, "charite"]}),
        ("too-few-hospitals", {"cohort": [HOSPITAL]}),
        ("not-in-cohort", {"cohort": ["charite", "st-anna"]}),
        ("other-parties", {"keys": []}),
    ],
)
def test_an_announcement_of_another_cohort_is_refused(waiting, code, fields):
    stage, announcement = waiting
    assert reason(stage, changed(announcement, **fields)) == code


def test_every_partys_key_must_be_there_once_in_order(stage, announcement):
    one, two, three = announcement.keys
    for keys in ([one, two], [two, one, three], [one, two, two], [one, two, three, three]):
        assert reason(stage, changed(announcement, keys=keys)) == "other-parties"


def test_keys_that_the_pinned_keys_did_not_sign_are_refused(stage, announcement):
    one, two, three = announcement.keys
    context = changed(announcement.context, attempt=7).digest()
    other_context = changed(three, key=changed(three.key, context=context))
    for code, bad in (
        ("key-not-pinned", changed(three, signature=two.signature)),
        ("key-not-pinned", changed(three, key=changed(three.key, public=two.key.public))),
        ("key-not-pinned", changed(three, signature=sign(three.key, stage.cast.keys["party-1"].signing))),
        ("other-key", other_context),
    ):
        assert reason(stage, changed(announcement, keys=[one, two, bad])) == code
    assert isinstance(stage.ask(HOSPITAL, announcement), SignedContribution)


def test_a_wrong_size_is_refused(stage, announcement):
    answer = stage.ask(HOSPITAL, changed(announcement, context=changed(announcement.context, size=99)))
    # The keys are those of the real context: this is found first.
    assert answer.reason == "other-key"
    context = changed(announcement.context, size=99)
    keys = [changed(k.key, context=context.digest()) for k in announcement.keys]
    signed = [
        changed(old, key=key, signature=sign(key, stage.cast.keys[key.party].signing))
        for old, key in zip(announcement.keys, keys, strict=True)
    ]
    answer = stage.ask(HOSPITAL, changed(announcement, context=context, keys=signed))
    assert (answer.reason, "answer" in stage.store(HOSPITAL)) == ("other-size", False)


def test_the_contribution_is_signed_over_its_envelopes(stage, announcement):
    answer = stage.ask(HOSPITAL, announcement)
    check_signature(answer.contribution, stage.cast.terms.hospitals[HOSPITAL], answer.signature)
    assert answer.contribution.context == announcement.context.digest()
    assert len(answer.envelopes) == len(stage.cast.terms.parties)


@pytest.mark.parametrize("restarted", [False, True])
def test_the_same_announcement_gets_the_same_bytes_without_training_again(stage, announcement, restarted):
    first = stage.ask(HOSPITAL, announcement)
    if restarted:
        stage.lose(HOSPITAL)
    calls = stage.trainers[HOSPITAL].calls
    assert stage.ask(HOSPITAL, announcement) == first
    assert stage.trainers[HOSPITAL].calls == calls


def test_an_attempt_is_answered_once(stage, announcement):
    first = stage.ask(HOSPITAL, announcement)
    smaller = changed(announcement, cohort=announcement.cohort[1:])
    assert reason(stage, smaller) == "second-announcement"
    assert stage.ask(HOSPITAL, announcement) == first


def test_after_a_later_attempt_an_earlier_one_is_not_answered_again(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    first = announced(stage)
    later = second_attempt(stage, first)
    assert isinstance(stage.ask(HOSPITAL, first), SignedContribution)
    answer = stage.ask(HOSPITAL, later)
    assert isinstance(answer, SignedContribution)
    assert reason(stage, first) == "earlier-attempt"
    assert stage.ask(HOSPITAL, later) == answer


def second_attempt(stage, message):
    """The same announcement for the next attempt, with the parties' signatures."""
    context = changed(message.context, attempt=message.context.attempt + 1)
    keys = []
    for signed_key in message.keys:
        key = changed(signed_key.key, context=context.digest())
        signature = sign(key, stage.cast.keys[key.party].signing)
        keys.append(changed(signed_key, key=key, signature=signature))
    return changed(message, context=context, keys=keys)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e6])
def test_an_update_that_cannot_be_encoded_is_declined(theatre, tmp_path, bad, caplog):
    update = np.zeros(theatre.size)
    update[5] = bad
    stage = theatre.stage(theatre.cast(), tmp_path, faults={HOSPITAL: {1: update}})
    announcement = announced(stage)
    answer = stage.ask(HOSPITAL, announcement)
    assert isinstance(answer, Declined)
    assert (answer.context, answer.reason) == (announcement.context.digest(), "update-not-encodable")
    # The same bytes whatever is wrong with it; the figure stands in the hospital's own log.
    assert answer.explanation == told("update-not-encodable")
    assert re.search("not a number|of size", caplog.text)
    assert "answer" not in stage.store(HOSPITAL)


CANARY = "/srv/oncology/ledger-31.4159"


@pytest.mark.parametrize("error", [RefusedError, EncodingError])
@pytest.mark.parametrize("reason", [*SENTENCES, "a-new-reason"])
def test_what_stands_behind_a_refusal_is_not_told(stage, announcement, monkeypatch, caplog, error, reason):
    raised = RefusedError(reason, CANARY) if error is RefusedError else EncodingError(CANARY)

    def refuse(_machine, _event):
        raise raised

    monkeypatch.setattr(HospitalMachine, "_announced", refuse)
    answer = stage.ask(HOSPITAL, announcement)
    code = reason if error is RefusedError else "malformed"
    assert answer == Refusal(
        member=HOSPITAL, about="announcement", hospital="", reason=code, explanation=told(code)
    )
    assert CANARY in caplog.text  # the control


def test_every_reason_that_a_hospital_can_have_has_a_sentence():
    roles, package = Path(hospital.__file__).parent, Path(securefl.__file__).parent
    files = [roles / f"{name}.py" for name in ("hospital", "pledges", "replica", "spending", "terms")]
    files += [package / "privacy" / "ledger.py"]
    found = {code for file in files for code in re.findall(r'RefusedError\(\s*"([a-z-]+)"', file.read_text())}
    found.discard("other-list")  # a party's check
    assert len(found) > 20
    assert found <= set(SENTENCES)


def test_a_hospital_that_lacks_outcomes_says_where_it_is(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.tamper = lambda _s, to, m: None if to == HOSPITAL and isinstance(m, Settled) else m
    announcement = announced(stage)
    assert stage.ask(HOSPITAL, announcement) == Behind(hospital=HOSPITAL, round=0)
    revealed, accepted = answers(stage, stage.recall(0))
    assert (type(revealed), accepted) == (CoinRevealed, Accepted(member=HOSPITAL, round=0))
    assert isinstance(stage.ask(HOSPITAL, announcement), SignedContribution)


def test_outcomes_that_do_not_continue_the_chain_are_refused(stage, announcement):
    settled = stage.recall(0)
    revealed, accepted = answers(stage, settled)
    assert (type(revealed), accepted) == (CoinRevealed, Accepted(member=HOSPITAL, round=0))
    context = changed(settled.signed.outcome.context, round=1, previous=settled.signed.outcome.digest())

    def next_outcome(**fields):
        now = changed(context, **fields)
        before = settled.signed.outcome
        return changed(before, context=now, frozen=changed(before.frozen, context=now.digest()))

    def signed(outcome):
        signatures = [sign(outcome, stage.cast.keys[p].signing) for p in stage.cast.terms.parties]
        return Settled(
            signed=changed(settled.signed, outcome=outcome, signatures=signatures), total=settled.total
        )

    assert reason(stage, signed(next_outcome(previous=bytes(32)))) == "other-chain"
    assert reason(stage, signed(next_outcome(round=2))) == "other-chain"
    assert reason(stage, signed(next_outcome(model=bytes(32)))) == "other-chain"
    assert reason(stage, signed(next_outcome())) == "other-round"  # statistics, again
    assert reason(stage, changed(signed(next_outcome()), total=bytes(len(settled.total)))) == "other-chain"
    forged = signed(next_outcome())
    forged = changed(forged, signed=changed(forged.signed, signatures=forged.signed.signatures[:2]))
    assert reason(stage, forged) == "other-chain"


def test_other_messages_are_refused(stage):
    assert reason(stage, StatusRequest(study=b"")) == "unexpected"


def test_the_memory_of_another_study_is_refused(stage, theatre):
    stage.run()
    other = theatre.cast(3, 3, 3)
    with pytest.raises(RefusedError, match="another study"):
        HospitalMachine(
            HOSPITAL, other.terms, other.keys[HOSPITAL].signing, other.keys[HOSPITAL].sealing,
            theatre.trainer(HOSPITAL), other.study.settings.server, theatre.trainable, stage.store(HOSPITAL),
        )  # fmt: skip
