"""The coordinator: who is left out and why, what is made good again, and when it gives up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from securefl.errors import EngineError
from securefl.roles import collecting, coordinator
from securefl.roles.coordinator import MAX_RECOVERIES
from securefl.roles.effects import Finished, Lost, Received, Timeout
from securefl.roles.messages import (
    Announcement,
    Behind,
    Declined,
    Freeze,
    Held,
    Part,
    PartyStatus,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedContribution,
    SignedVote,
    StatusRequest,
)


def changed(record, **fields):
    return record.model_copy(update=fields)


def included(stage):
    return [set(done.settled.signed.outcome.included) for done in stage.done]


# -- hospitals that do not contribute ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, 1e6])
def test_a_hospital_that_declines_is_left_out_of_one_round(theatre, tmp_path, bad):
    cast = theatre.cast()
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path, faults={"va": {1: np.full(theatre.size, bad)}}).run()
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.done[1].absent["va"][0] == "update-not-encodable"
    assert "entry" in stage.done[1].absent["va"][1]
    assert [done.settled.signed.outcome.context.attempt for done in stage.done] == [1, 1, 1]
    expected = theatre.expected(cast, [everyone - {"va"}, everyone])
    assert np.array_equal(stage.model, expected)


OWNED = "\x1b]0;owned\x07\x1b[2J\u202e" + "A" * 5_000_000


@pytest.mark.parametrize("kind", [Declined, Refusal])
def test_what_a_hospital_writes_is_a_word_in_the_receipts_and_a_short_sentence_elsewhere(
    theatre, tmp_path, kind
):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path)

    def says(message):
        words = {"reason": OWNED, "explanation": OWNED}
        if kind is Declined:
            return Declined(context=message.contribution.context, hospital="va", **words)
        return Refusal(member="va", about="announcement", hospital="", **words)

    tampered(stage, "va", says)
    stage.run()
    everyone = set(cast.terms.hospitals)
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.outcomes()[1].outcome.absent == {"va": "other-reason"}
    reason, explanation = stage.done[1].absent["va"]
    assert reason == "other-reason"
    assert explanation.isprintable()
    assert 100 < len(explanation) <= 301


def test_a_run_that_ends_says_what_hospitals_write_in_short_sentences(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.tamper = lambda _s, _t, m: (
        Declined(
            context=m.contribution.context, hospital=m.contribution.hospital, reason=OWNED, explanation=OWNED
        )
        if isinstance(m, SignedContribution)
        else m
    )
    with pytest.raises(EngineError, match="Round 0 has 0 contributions") as error:
        stage.run()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 5 * 400


@pytest.mark.parametrize(
    "reason", ["too-few-hospitals", "not-agreed", OWNED], ids=["hopeless", "tried again", "no word"]
)
def test_a_run_that_ends_says_what_parties_write_in_short_sentences(theatre, tmp_path, reason):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.tamper = lambda s, _t, m: (
        Refusal(member=s, about="freeze", hospital="", reason=reason, explanation=OWNED)
        if isinstance(m, SignedVote)
        else m
    )
    with pytest.raises(EngineError) as error:
        stage.run()
    assert "AAA" in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_a_silent_hospital_is_left_out_at_the_deadline_and_comes_back(theatre, tmp_path):
    cast = theatre.cast()
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path)
    stage.run(until=lambda: stage.coordinator.replica.place.round == 1)
    stage.run(until=lambda: "answer" not in stage.store("va"))
    stage.muted.add("va")
    stage.run(until=lambda: stage.coordinator.replica.place.round == 2)
    stage.muted.clear()
    stage.run()
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.done[1].absent == {"va": ("no-answer", "It did not answer before the deadline.")}
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone - {"va"}, everyone]))


def test_the_timer_of_an_earlier_round_ends_nothing(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.capture(Announcement, 1, to="va")
    stale = [name for name, _ in stage.timers if name.startswith("contributions")]
    assert len(stale) == 2
    stage.run(until=lambda: not stage.moves())
    assert stage.coordinator.handle(Timeout(stale[0])) == []
    assert stage.coordinator.handle(Timeout("something else")) == []
    freeze = stage.coordinator.handle(Timeout(stale[1]))
    assert "va" not in freeze[0].message.frozen.contributions


def test_too_few_contributions_end_the_run_naming_the_reasons(theatre, tmp_path):
    bad = np.full(theatre.size, np.nan)
    faults = {"va": {1: bad}, "charite": {1: bad * 2}, "st-anna": {1: np.full(theatre.size, 1e9)}}
    with pytest.raises(EngineError, match="Round 1 has 1 contributions and needs 2") as error:
        theatre.stage(theatre.cast(), tmp_path, faults=faults).run()
    text = str(error.value)
    assert all(f"{name}: " in text for name in faults)
    assert "mayo" not in text
    assert text.endswith("--resume.")
    assert "\n" not in text


def test_the_statistics_need_everyone(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.muted.add("charite")
    with pytest.raises(EngineError, match=r"Round 0 has 3 contributions and needs 4 \(charite: It did not"):
        stage.run()


def tampered(stage, hospital, change):
    """Let a hospital's contributions to round 1 be changed on their way; all of its messages come over its own link."""

    def tamper(sender, _to, message):
        now = stage.coordinator.replica.place.round
        if sender == hospital and isinstance(message, SignedContribution) and now == 1:
            return change(message)
        return message

    stage.tamper = tamper


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: changed(m, signature=bytes(64)),
        lambda m: changed(m, envelopes=m.envelopes[:-1]),
        lambda m: changed(m, envelopes=[*m.envelopes[:-1], b"not an envelope"]),
        lambda m: changed(m, contribution=changed(m.contribution, hospital="charite")),
    ],
    ids=["signature", "too few envelopes", "one envelope", "another's name"],
)
def test_a_contribution_that_the_parties_refuse_costs_only_its_hospital(theatre, tmp_path, seed, change):
    # Several parties refuse it, the last of them after the freeze has begun.
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path, seed=seed)
    tampered(stage, "va", change)
    stage.run()
    everyone = set(cast.terms.hospitals)
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.done[1].absent["va"][0] == "bad-contribution"
    assert [done.settled.signed.outcome.context.attempt for done in stage.done] == [1, 1, 1]


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_two_different_contributions_cost_only_their_hospital(theatre, tmp_path, seed):
    cast = theatre.cast()
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path, seed=seed)

    def tamper(sender, _to, message):
        now = stage.coordinator.replica.place.round
        if sender == "va" and isinstance(message, SignedContribution) and now == 1:
            other = changed(message.contribution, envelopes=message.contribution.envelopes[::-1])
            twin = changed(message, contribution=other, envelopes=message.envelopes[::-1])
            stage.inbox["va"].extend([Received("va", message), Received("va", twin)])
            return None
        return message

    stage.tamper = tamper
    stage.run()
    # Either it was complete before the second came (then that one is late), or it is left out; never another attempt.
    assert included(stage)[1] in (everyone, everyone - {"va"})
    assert [done.settled.signed.outcome.context.attempt for done in stage.done] == [1, 1, 1]


def test_a_contribution_that_comes_twice_counts_once(theatre, tmp_path):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path)

    def tamper(sender, _to, message):
        if isinstance(message, SignedContribution):
            stage.inbox[sender].append(Received(sender, message))
        return message

    stage.tamper = tamper
    stage.run()
    assert np.array_equal(stage.model, theatre.expected(cast, [set(cast.terms.hospitals)] * 2))


def test_a_lost_hospital_is_asked_again_and_at_last_left_out(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.capture(Announcement, 1, to="va")
    stage.run(until=lambda: stage.verified)  # what else it could be asked again for
    announced = [effect.message for _ in range(3) for effect in stage.coordinator.handle(Lost("va"))]
    assert [type(message) for message in announced] == [Announcement] * 3
    frozen = {effect.to: effect.message for effect in stage.coordinator.handle(Lost("va"))}
    assert list(frozen) == list(stage.cast.terms.parties)
    assert all(message.frozen.absent == {"va": "unreachable"} for message in frozen.values())
    assert "contribute" in stage.coordinator._now().absent["va"][1]


@pytest.mark.parametrize("at_once", [1, 16])
def test_a_hospital_that_is_behind_is_brought_up_to_date(theatre, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(collecting, "MISSED_AT_ONCE", at_once)
    cast = theatre.cast()
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path)
    # It hears neither of the statistics nor of round 1, then everything is well again.
    stage.tamper = lambda _s, to, m: (
        None if to == "va" and isinstance(m, Settled | Announcement) and len(stage.done) in (0, 1) and not (
            isinstance(m, Announcement) and m.context.round == 0) else m
    )  # fmt: skip
    stage.run()
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.trainers["va"].calls == 1


@pytest.mark.parametrize("reason", ["committee-failed", "too-few-hospitals"])
def test_what_a_party_refuses_after_the_end_changes_nothing(theatre, tmp_path, reason):
    stage = theatre.stage(theatre.cast(), tmp_path).run()
    late = Refusal(member="party-1", about="part", hospital="va", reason=reason, explanation="Late.")
    assert stage.coordinator.handle(Received("party-1", late)) == []
    assert stage.coordinator._phase == "done"


def test_a_hospital_that_has_contributed_is_not_behind(theatre, tmp_path):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path)
    kept = []

    def tamper(sender, _to, message):
        if isinstance(message, Held) and message.hospital == "va" and len(stage.done) == 2:
            kept.append(Received(sender, message))
            return None
        return message

    stage.tamper = tamper
    stage.run(until=lambda: len(kept) == 3 and not stage.moves())
    assert stage.coordinator.replica.place.round == 2
    for round_ in [*range(-1, 9)] * 100:
        assert stage.coordinator.handle(Received("va", Behind(hospital="va", round=round_))) == []
    stage.inbox["party-1"].extend(kept)
    stage.run()
    assert included(stage) == [set(cast.terms.hospitals)] * 3


@pytest.mark.parametrize("round_", [-1, 0, 7])
def test_a_hospital_that_says_it_is_behind_for_ever_is_left_out(theatre, tmp_path, round_):
    cast = theatre.cast()
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path)
    stage.tamper = lambda sender, _to, message: (
        Behind(hospital="va", round=round_)
        if sender == "va" and isinstance(message, SignedContribution) and len(stage.done) == 1
        else message
    )
    stage.run()
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.done[1].absent["va"][0] in ("unreachable", "no-answer")


def test_what_a_hospital_says_at_the_wrong_time_is_ignored(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    said = []
    stage.tamper = lambda s, _t, m: said.append(m) or m if s == "va" else m
    stage.capture(Prepare, 1)
    stage.run(until=lambda: stage.verified)
    late = [Behind(hospital="va", round=0), *said]
    assert len(late) > 3
    assert all(stage.coordinator.handle(Received("va", message)) == [] for message in late)
    assert stage.coordinator.handle(Received("a stranger", late[0])) == []


# -- parties -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StatusRequest, Part, Freeze, Prepare, Release, Settled])
def test_a_party_lost_in_any_phase_costs_an_attempt_at_most(theatre, tmp_path, kind):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path)
    lost = []

    def tamper(sender, to, message):
        in_time = len(stage.done) == (2 if kind is Settled else 1) or kind is StatusRequest
        if sender == "coordinator" and to == "party-2" and isinstance(message, kind) and in_time and not lost:
            lost.append(to)
            stage.inbox["party-2"].append(Lost("party-2"))
            return None
        return message

    stage.tamper = tamper
    stage._restart_all()
    stage.run()
    assert lost
    assert np.array_equal(stage.model, theatre.expected(cast, [set(cast.terms.hospitals)] * 2))
    attempts = [done.settled.signed.outcome.context.attempt for done in stage.done]
    assert sum(attempts) <= 4
    assert all(len(shares) == 1 for shares in stage.emitted.values())


def test_late_and_foreign_answers_of_parties_are_ignored(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    kept = []
    stage.tamper = lambda s, _t, m: kept.append((s, m)) or m if s.startswith("party") else m
    stage.capture(Freeze, 1)
    stale = [(s, m) for s, m in kept if not isinstance(m, Held)]
    assert len(stale) > 8
    assert all(stage.coordinator.handle(Received(s, m)) == [] for s, m in stale)
    held = [m for s, m in kept if isinstance(m, Held)]
    assert all(stage.coordinator.handle(Received(m.party, m)) == [] for m in held)


def test_one_party_cannot_say_that_another_holds_a_part(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    kept = {}

    def tamper(sender, _to, message):
        if isinstance(message, Held) and len(stage.done) == 1 and sender == "party-3":
            kept[message.hospital] = message
            return None
        return message

    stage.tamper = tamper
    stage.run(until=lambda: len(kept) == 4 and not stage.moves())
    assert all(stage.coordinator.handle(Received("party-1", m)) == [] for m in kept.values())
    assert not any(isinstance(e, Finished) for e in stage.coordinator.handle(Received("party-2", kept["va"])))
    assert stage.coordinator._phase == "collect"


def test_a_party_that_always_fails_ends_the_run(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.run(until=lambda: len(stage.done) == 1)

    def always_lost(sender, _to, message):
        if sender == "party-1" and not isinstance(message, PartyStatus):
            stage.inbox["party-1"].append(Lost("party-1"))
            return None
        return message

    stage.tamper = always_lost
    with pytest.raises(
        EngineError, match=rf"Round 1 failed {MAX_RECOVERIES} times, at last because party-1 was lost"
    ):
        stage.run()


def begun(stage, party, round_):
    """Whether the party has begun this round: only then its disk knows that the one before is over."""
    status = stage.ask(party, StatusRequest(study=b""))
    return (status.round, status.attempt) == (round_, 1)


def test_a_party_that_refuses_what_it_lacks_ends_the_run(theatre, tmp_path):
    # Its memory is that of round 0, of another run of the study: no outcome of this run continues it.
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path / "one")
    stage.run(until=lambda: stage.coordinator.replica.place.round == 2)
    other = theatre.stage(cast, tmp_path / "other")
    other.trainers["va"].count += 1  # another statistic, hence another chain
    other.run(until=lambda: begun(other, "party-1", 1))
    stage.store("party-1").put("memory", other.store("party-1")["memory"])
    stage._restart_all()
    with pytest.raises(EngineError, match="belongs to another run"):
        stage.run()


def test_a_party_that_is_far_behind_is_sent_a_few_outcomes_at_a_time(theatre, tmp_path, monkeypatch):
    # Going on is no recovery: three outcomes come one after the other although none is allowed.
    monkeypatch.setattr(coordinator, "MISSED_AT_ONCE", 1)
    monkeypatch.setattr(coordinator, "MAX_RECOVERIES", 0)
    cast = theatre.cast(3, 2, 4)
    stage = theatre.stage(cast, tmp_path)
    stage.run(until=lambda: stage.coordinator.replica.place.round == 3)
    for name in list(stage.store("party-1")):
        stage.store("party-1").put(name, b"")
    sent = []
    stage.tamper = lambda s, to, m: (
        (sent.append(type(m)) if (s, to) == ("coordinator", "party-1") else None) or m
    )
    stage._restart_all()
    stage.run()
    assert sent[:7] == [StatusRequest, Settled, StatusRequest, Settled, StatusRequest, Settled, StatusRequest]
    assert included(stage) == [set(cast.terms.hospitals)] * 5


def test_a_party_that_is_ahead_ends_the_run(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.run(until=lambda: begun(stage, "party-1", 2))
    for name in ("receipt-000001", "sum-000001"):
        stage.store("coordinator").put(name, b"")
    stage._restart_all()
    with pytest.raises(
        EngineError, match="party-1 has settled rounds of this study that this run folder lacks"
    ):
        stage.run()


def test_a_study_that_was_closed_is_not_run_again(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.run()
    assert stage.finished
    shutil.rmtree(tmp_path / "coordinator")
    stage.finished = None
    stage._restart_all()
    with pytest.raises(EngineError, match=r"has settled rounds of this study .* give the study another seed"):
        stage.run()


def test_a_round_whose_share_is_lost_after_the_release_is_void(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    release = stage.capture(Release, 1)
    stage.mail["party-1"].append(release["party-1"].to_bytes())
    stage.run(until=lambda: not stage.moves())
    memory = stage.store("party-2")
    for name in list(memory):
        memory.put(name, b"")
    stage._restart_all()
    with pytest.raises(EngineError, match="Round 1 is void"):
        stage.run()
    assert stage.sums[1] == set()


@pytest.mark.parametrize("alone", ["party-1", "party-2", "party-3"])
def test_a_round_that_one_party_has_released_is_finished_from_disk(theatre, tmp_path, alone):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path)
    release = stage.capture(Release, 1)
    stage.mail[alone].append(release[alone].to_bytes())
    stage.run(until=lambda: not stage.moves())
    assert len(stage.emitted[alone, 1]) == 1
    stage._restart_all()
    stage.run()
    assert all(len(shares) == 1 for shares in stage.emitted.values())
    assert [done.settled.signed.outcome.context.attempt for done in stage.done] == [1, 1, 1]
    assert np.array_equal(stage.model, theatre.expected(cast, [set(cast.terms.hospitals)] * 2))


def test_parties_that_open_different_sums_end_the_run(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.tamper = lambda s, _t, m: (
        changed(m, total=bytes(len(m.total))) if s == "party-2" and type(m).kind == "opened" else m
    )
    with pytest.raises(EngineError, match="do not agree on the sum of round 0"):
        stage.run()
    assert stage.outcomes() == []


# -- beginning again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_goes_on_from_its_receipts(theatre, tmp_path, after):
    cast = theatre.cast()
    stage = theatre.stage(cast, tmp_path)
    stage.run(until=lambda: len(stage.outcomes()) == after)
    theatre.stage(cast, tmp_path).run()
    again = theatre.stage(cast, tmp_path)
    assert np.array_equal(again.model, theatre.expected(cast, [set(cast.terms.hospitals)] * 2))
    assert len(again.outcomes()) == 3
    assert again.run().finished is not None  # a closed study is closed again, with the same record
