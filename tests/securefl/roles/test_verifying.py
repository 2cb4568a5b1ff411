"""The check of each sum by the hospitals: it ends verified, or it is known which rounds are not; a lie ends the run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.chain import check_chain, digest_of_verifications
from protocols.contribution import sign
from protocols.errors import WrongSumError
from securefl.errors import EngineError
from securefl.roles.effects import Lost, Received, SumOpened
from securefl.roles.messages import (
    Announcement,
    Challenge,
    CoinRevealed,
    Refusal,
    Settled,
    SignedAnswer,
    SignedContribution,
    Verification,
)
from securefl.roles.records import CLOSING, verification_name
from securefl.roles.sum_check import check_verification

SMALL = 3, 2, 1


def changed(record, **fields):
    return record.model_copy(update=fields)


def checked(stage, round_):
    """Check the record of a round as anybody could who has the receipts."""
    settled, record = stage.recall(round_), stage.verification(round_)
    check_verification(record, settled.signed.outcome, settled.total, stage.cast.terms)
    return record


def all_rounds(stage, what=()):
    return dict.fromkeys(range(stage.cast.terms.rounds + 1), what)


def ended(stage):
    """By round, who was missing when its check ended; each ends once."""
    assert len({done.round for done in stage.verified}) == len(stage.verified)
    return {done.round: done.missing for done in stage.verified}


def check_closing(stage, unverified):
    """The closing names the unverified rounds, and the records of all others."""
    rounds = len(stage.outcomes())
    records = [stage.verification(round_) for round_ in range(rounds)]
    assert [round_ for round_, record in enumerate(records) if record is None] == unverified
    closing = stage.finished.closing.closing
    assert closing.unverified == unverified
    assert closing.verifications == digest_of_verifications([r.digest() if r else b"" for r in records])
    check_chain(stage.outcomes(), stage.finished.closing, stage.cast.terms.study, stage.cast.terms.signers)
    for round_ in set(range(rounds)) - set(unverified):
        checked(stage, round_)


# -- everybody answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "seed"), [((2, 2, 2, 16), None), ((4, 3, 2, 32), 0), ((4, 3, 2, 32), 1), ((5, 2, 1, 64), 2)]
)
def test_every_sum_is_verified_before_the_study_is_closed(theatre, tmp_path, shape, seed):
    cast = theatre.cast(*shape)
    stage = theatre.stage(cast, tmp_path, seed=seed).run()
    assert ended(stage) == all_rounds(stage)
    check_closing(stage, [])
    for round_ in range(cast.terms.rounds + 1):
        record = stage.verification(round_)
        names = sorted(cast.terms.hospitals)
        assert [coin.hospital for coin in record.coins] == names
        assert [given.answer.hospital for given in record.answers] == names


def test_the_check_is_among_the_hospitals_in_the_sum(theatre, tmp_path):
    cast = theatre.cast(3, 2, 2, norm_bound=2.0)
    long = np.full(theatre.size, 4.0 / np.sqrt(theatre.size))
    faults = {"va": {1: long}, "charite": {2: np.full(theatre.size, np.nan)}}
    stage = theatre.stage(cast, tmp_path, faults=faults).run()
    check_closing(stage, [])
    for round_, without in ((1, "va"), (2, "charite")):
        names = [hospital for hospital in sorted(cast.terms.hospitals) if hospital != without]
        assert [given.answer.hospital for given in checked(stage, round_).answers] == names


def test_hospitals_with_every_record_forget_their_updates(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(*SMALL), tmp_path).run()
    while moves := stage.moves():
        moves[0]()
    for name in stage.cast.terms.hospitals:
        assert list(stage.store(name)) == ["memory", "revealed"]


# -- somebody does not -----------------------------------------------------------------------------------------


def without(stage, kind, hospital, round_):
    """Let a hospital's messages of a kind about a round's outcome be lost."""

    def tamper(sender, _to, message):
        if sender != hospital or not isinstance(message, kind) or len(stage.outcomes()) <= round_:
            return message
        about = message.answer.outcome if kind is SignedAnswer else message.outcome
        return None if about == stage.outcomes()[round_].outcome.digest() else message

    stage.tamper = tamper
    return stage


@pytest.mark.parametrize("kind", [CoinRevealed, SignedAnswer])
@pytest.mark.parametrize("round_", [0, 1])
def test_a_hospital_that_does_not_answer_leaves_that_round_unverified(theatre, tmp_path, kind, round_):
    cast = theatre.cast(*SMALL)
    stage = without(theatre.stage(cast, tmp_path), kind, "va", round_).run()
    assert ended(stage) == {**all_rounds(stage), round_: ("va did not answer",)}
    check_closing(stage, [round_])
    # It costs nothing else.
    everyone = set(cast.terms.hospitals)
    assert [set(signed.outcome.included) for signed in stage.outcomes()] == [everyone] * 2
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone]))


def test_a_hospital_that_falls_silent_with_the_outcome(theatre, tmp_path):
    cast = theatre.cast(3, 2, 2)
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path)
    stage.capture(Settled, 2, to="va")
    stage.muted.add("va")
    stage.run()
    assert ended(stage) == {0: (), 1: ("va did not answer",), 2: ()}
    check_closing(stage, [1])
    assert [set(done.settled.signed.outcome.included) for done in stage.done[1:]] == [
        everyone,
        everyone - {"va"},
    ]
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone, everyone - {"va"}]))


def test_several_that_do_not_answer_are_all_named_and_nobody_else(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(*SMALL), tmp_path)
    stage.tamper = lambda sender, _to, m: (
        None if sender in ("va", "charite") and isinstance(m, CoinRevealed | SignedAnswer) else m
    )
    stage.run()
    assert ended(stage) == all_rounds(stage, ("charite did not answer", "va did not answer"))
    check_closing(stage, [0, 1])


def another_coin(stage, message):
    return changed(message, coin=bytes(32))


def another_contribution(stage, message):
    contribution = changed(message.contribution, coin=bytes(32))
    return changed(message, contribution=contribution)


def unsigned(stage, message):
    return changed(message, signature=bytes(64))


def another_challenge(stage, message):
    answer = changed(message.answer, challenge=bytes(32))
    return changed(message, answer=answer, signature=sign(answer, stage.cast.keys["va"].signing))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (CoinRevealed, another_coin),
        (CoinRevealed, another_contribution),
        (SignedAnswer, unsigned),
        (SignedAnswer, another_challenge),
    ],
)
def test_a_hospital_that_answers_wrongly_is_named_and_no_other(theatre, tmp_path, kind, change):
    cast = theatre.cast(*SMALL)
    stage = theatre.stage(cast, tmp_path)
    stage.tamper = lambda sender, _to, m: (
        change(stage, m) if sender == "va" and isinstance(m, kind) and len(stage.outcomes()) == 2 else m
    )
    stage.run()
    (missing,) = ended(stage).pop(1)
    assert "va" in missing.split()
    assert not [other for other in cast.terms.hospitals if other != "va" and other in missing]
    check_closing(stage, [1])
    assert np.array_equal(
        stage.model, theatre.expected(cast, [set(cast.terms.hospitals)] * cast.terms.rounds)
    )


def test_nobody_answers_for_another(theatre, tmp_path):
    # What a hospital says in another's name counts neither for it nor against the other.
    stage = theatre.stage(theatre.cast(*SMALL), tmp_path)
    said = []

    def tamper(sender, _to, message):
        if isinstance(message, CoinRevealed) and sender == "va":
            return changed(message, hospital="charite", coin=bytes(32))
        if isinstance(message, SignedAnswer) and sender == "va":
            said.append(message)
            return changed(message, answer=changed(message.answer, hospital="charite", value=7))
        return message

    stage.tamper = tamper
    stage.run()
    assert ended(stage) == all_rounds(stage, ("va did not answer",))


# -- lost and begun again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Settled, Challenge, Verification])
def test_a_lost_hospital_is_asked_again(theatre, tmp_path, kind):
    # What was on its way to it is gone with it.
    cast = theatre.cast(*SMALL)
    stage = theatre.stage(cast, tmp_path)
    lost = []

    def tamper(sender, to, message):
        about = len(stage.outcomes()) == 2
        if (sender, to) == ("coordinator", "va") and isinstance(message, kind) and about and not lost:
            lost.append(to)
            stage.lose("va")
            return None
        return message

    stage.tamper = tamper
    stage.run()
    assert lost
    assert ended(stage) == all_rounds(stage)
    check_closing(stage, [])
    assert np.array_equal(
        stage.model, theatre.expected(cast, [set(cast.terms.hospitals)] * cast.terms.rounds)
    )


def test_a_coin_that_comes_again_makes_nothing_be_sent(theatre, tmp_path):
    stage, coins = theatre.stage(theatre.cast(*SMALL), tmp_path), {}

    def tamper(sender, _to, message):
        if isinstance(message, CoinRevealed):
            coins[sender] = message
        return None if isinstance(message, Challenge) else message

    stage.tamper = tamper
    stage.run(until=lambda: len(coins) == len(stage.cast.terms.hospitals) and not stage.moves())
    for hospital, coin in coins.items():
        assert stage.coordinator.handle(Received(hospital, coin)) == []
    assert any(isinstance(effect.message, Challenge) for effect in stage.coordinator.handle(Lost("va")))


def test_a_hospital_that_has_answered_is_not_asked_again(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(*SMALL), tmp_path)
    stage.run(until=lambda: len(stage.verified) == len(stage.outcomes()) == 2)
    assert stage.coordinator.handle(Lost("va")) == []


@pytest.mark.parametrize(
    ("seen", "round_", "together"),
    [
        (CoinRevealed, 0, True),
        (CoinRevealed, 1, False),
        (SignedAnswer, 0, False),
        (SignedAnswer, 1, True),
    ],
)
def test_a_coordinator_that_is_killed_before_the_check_has_ended_makes_it_again(
    theatre, tmp_path, seen, round_, together
):
    cast = theatre.cast(*SMALL)
    stage = theatre.stage(cast, tmp_path, together=together)
    came = []

    def before(to, event):
        message = getattr(event, "message", None)
        about = len(stage.outcomes()) == round_ + 1
        if to == "coordinator" and isinstance(message, seen) and about and not came:
            came.append(message)
            stage.fuses[0].role, stage.fuses[0].at = "coordinator", stage.fuses[0].steps["coordinator"]

    stage.before = before
    stage.run()
    assert (stage.crashes, len(came)) == (1, 1)
    assert ended(stage) == all_rounds(stage)
    check_closing(stage, [])
    assert np.array_equal(
        stage.model, theatre.expected(cast, [set(cast.terms.hospitals)] * cast.terms.rounds)
    )


def test_two_checks_under_way_are_both_made_again(theatre, tmp_path):
    # Va is slow: when the coordinator is killed, the next round's sum is open and neither is checked.
    cast = theatre.cast(3, 2, 3)
    stage = theatre.stage(cast, tmp_path)
    held = []

    def slow(sender, _to, message):
        if sender == "va" and isinstance(message, SignedAnswer) and len(stage.outcomes()) > 1:
            held.append(message)
            return None
        return message

    stage.tamper = slow
    stage.run(until=lambda: len(stage.outcomes()) == 3 and len(held) == 2)
    stage.tamper = lambda _s, _t, message: message
    stage._restart_all()
    stage.run()
    assert ended(stage) == all_rounds(stage)
    check_closing(stage, [])


# -- lies ------------------------------------------------------------------------------------------------------


def lying_about(stage, round_, change):
    """All parties open the same other sum in one round, as if they had agreed on it."""
    for party in stage.cast.terms.parties:
        runner = stage._runners[party]
        honest = runner.run

        def lie(job, task, honest=honest):
            result = honest(job, task)
            if isinstance(result, SumOpened) and job.context.round == round_:
                return replace(result, total=change(result.total))
            return result

        runner.run = lie
    return stage


def one_more(total):
    """The smallest lie: one coordinate, by one unit. Not the first: a count that is not whole needs no check."""
    return total[:-8] + bytes([(total[-8] + 1) % 256]) + total[-7:]


def deliver_all(stage):
    """Let everybody read what is still on its way; what they answer is not looked at."""
    for name in stage.cast.terms.hospitals:
        while stage.mail[name]:
            stage.hosts[name].answer(stage.mail[name].popleft())


@pytest.mark.parametrize(
    ("shape", "round_"),
    [((3, 2, 2, 32), 0), ((3, 2, 2, 32), 1), ((4, 3, 2, 32), 2), ((3, 2, 1, 64), 1), ((2, 2, 1, 16), 1)],
)
def test_a_sum_that_all_parties_lie_about_ends_the_run(theatre, tmp_path, shape, round_):
    cast = theatre.cast(*shape)
    stage = lying_about(theatre.stage(cast, tmp_path), round_, one_more)
    with pytest.raises(EngineError, match=f"Round {round_}: .*do not use it"):
        stage.run()
    assert stage.finished is None  # it is found before the study could be closed
    assert round_ not in ended(stage)
    with pytest.raises(WrongSumError):  # the record is there, for anyone to see
        checked(stage, round_)
    deliver_all(stage)
    for hospital in cast.terms.hospitals:
        machine = stage.hosts[hospital]._machine
        assert machine._pledges._memory().failed == round_


def test_hospitals_take_no_further_part_after_a_wrong_sum(theatre, tmp_path):
    stage = lying_about(theatre.stage(theatre.cast(3, 2, 2), tmp_path), 1, one_more)
    announcement = stage.capture(Announcement, 2, to="va")["va"]
    stage.run(until=lambda: stage.hosts["va"]._machine.round == 2)
    assert isinstance(stage.ask("va", announcement), SignedContribution)  # the control: nobody knows yet
    with pytest.raises(EngineError, match="Round 1: "):
        stage.run()
    deliver_all(stage)
    for restarted in (False, True):
        if restarted:
            stage.lose("va")
        for attempt in (1, 2):
            again = changed(announcement, context=changed(announcement.context, attempt=attempt))
            answer = stage.ask("va", again)
            assert isinstance(answer, Refusal)
            assert answer.reason == "wrong-sum"


@pytest.mark.parametrize("delivered", [True, False])
def test_a_run_that_ended_with_a_wrong_sum_does_not_go_on(theatre, tmp_path, delivered):
    # Whether or not the hospitals have had the record before everything ended.
    cast = theatre.cast(3, 2, 3)
    stage = lying_about(theatre.stage(cast, tmp_path), 1, one_more)
    with pytest.raises(EngineError, match="Round 1: "):
        stage.run()
    if delivered:
        deliver_all(stage)
    settled = len(stage.outcomes())
    with pytest.raises(EngineError, match="Round 1: "):
        theatre.stage(cast, tmp_path).run()
    assert len(stage.outcomes()) == settled <= 3
    assert CLOSING not in stage.store("coordinator")


def test_a_wrong_sum_that_is_found_late_does_not_go_on_either(theatre, tmp_path):
    # One hospital answers for round 1 when round 4 is over; the run ends, and is begun again.
    cast = theatre.cast(3, 2, 5)
    stage, held = lying_about(theatre.stage(cast, tmp_path), 1, one_more), []

    def late(sender, _to, message):
        if sender == "va" and isinstance(message, SignedAnswer) and len(stage.outcomes()) == 2:
            held.append(message)
            return None
        return message

    stage.tamper = late
    stage.run(until=lambda: len(stage.outcomes()) == 5)
    (answer,) = held
    stage.inbox["va"].append(Received("va", answer))
    with pytest.raises(EngineError, match="Round 1: "):
        stage.run()
    with pytest.raises(EngineError, match="Round 1: "):
        theatre.stage(cast, tmp_path).run()


def test_a_hospital_that_lies_in_its_answer_is_as_bad_as_a_wrong_sum(theatre, tmp_path):
    # A failed check tells that someone lied, not who.
    stage = theatre.stage(theatre.cast(*SMALL), tmp_path)

    def lie(sender, _to, message):
        if sender == "va" and isinstance(message, SignedAnswer) and len(stage.outcomes()) == 2:
            answer = changed(message.answer, value=(message.answer.value + 1) % (2**61 - 1))
            return changed(message, answer=answer, signature=sign(answer, stage.cast.keys["va"].signing))
        return message

    stage.tamper = lie
    with pytest.raises(EngineError, match=r"Round 1: .*or a hospital answered wrongly"):
        stage.run()
    with pytest.raises(WrongSumError):
        checked(stage, 1)


def test_the_record_stands_before_the_run_ends(theatre, tmp_path):
    # Killed before the record is written, the coordinator makes the check again and finds the same.
    cast = theatre.cast(*SMALL)
    count = theatre.fuse()
    stage = lying_about(theatre.stage(cast, tmp_path / "count", fuses=[count]), 1, one_more)
    with pytest.raises(EngineError):
        stage.run()
    record = count.writes["coordinator"][-1]
    stage = lying_about(
        theatre.stage(cast, tmp_path / "killed", fuses=[theatre.fuse("coordinator", record)], together=False),
        1,
        one_more,
    )
    with pytest.raises(EngineError, match="Round 1: "):
        stage.run()
    assert stage.crashes == 1
    assert verification_name(1) in stage.store("coordinator")
