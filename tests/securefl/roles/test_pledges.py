"""A hospital's coins: revealed for one outcome of a round, answered once, whenever it is killed."""

from __future__ import annotations

import pytest

from protocols.chain import SignedOutcome, total_digest
from protocols.contribution import check_signature, sign
from protocols.integrity import commit_coin
from securefl.roles.messages import (
    Accepted,
    Challenge,
    CoinRevealed,
    Refusal,
    Settled,
    SignedAnswer,
    SignedContribution,
    Verification,
    read_message,
)
from securefl.roles.pledges import PLEDGE, REVEALED, TOTAL, Memory, Pledge

HOSPITAL = "va"
SMALL = 3, 2, 1


@pytest.fixture
def stage(theatre, tmp_path):
    return theatre.stage(theatre.cast(*SMALL), tmp_path)


def changed(record, **fields):
    return record.model_copy(update=fields)


def signed(stage, outcome, total):
    """What the parties would send, had they all agreed on this outcome."""
    keys = stage.cast.keys
    signatures = [sign(outcome, keys[party].signing) for party in outcome.context.parties]
    return Settled(signed=SignedOutcome(outcome=outcome, signatures=signatures), total=total)


def another(stage, settled, **fields):
    """Another outcome of the same round, of the same contributions and with good signatures: the sum is a lie."""
    total = bytes([settled.total[0] ^ 1]) + settled.total[1:]
    return signed(stage, changed(settled.signed.outcome, total=total_digest(total), **fields), total)


def answers(stage, message, name=HOSPITAL):
    """All that a hospital answers."""
    return [read_message(data) for data in stage.hosts[name].answer(message.to_bytes())]


def settled(stage):
    """The outcome of round 1, which nobody among the hospitals has seen."""
    message = stage.capture(Settled, 2)[HOSPITAL]
    stage.run(until=lambda: not stage.moves())
    assert message.signed.outcome.round == 1
    return message


def challenge(stage, message):
    """The challenge to this outcome, of the coins that the hospitals reveal for it."""
    coins = []
    for name in stage.cast.terms.hospitals:
        coins += [answer for answer in answers(stage, message, name) if isinstance(answer, CoinRevealed)]
    return Challenge(outcome=message.signed.outcome.digest(), coins=coins)


# -- coins -------------------------------------------------------------------------------------------------------


def test_a_coin_is_the_one_that_the_contribution_committed_to(stage):
    message = settled(stage)
    revealed, accepted = answers(stage, message)
    assert isinstance(revealed, CoinRevealed)
    assert accepted == Accepted(member=HOSPITAL, round=1)
    outcome = message.signed.outcome
    assert (revealed.hospital, revealed.outcome) == (HOSPITAL, outcome.digest())
    assert revealed.contribution.digest() == outcome.frozen.contributions[HOSPITAL]
    assert revealed.contribution.coin == commit_coin(revealed.coin, outcome.context.digest(), HOSPITAL)


def test_each_contribution_has_a_coin_of_its_own(stage):
    coins = []

    def look(sender, _to, message):
        if sender == HOSPITAL and isinstance(message, SignedContribution):
            made = message.contribution
            pledge = Pledge.from_bytes(stage.store(HOSPITAL)[f"{PLEDGE}{len(stage.outcomes())}"])
            assert pledge.contribution == made
            assert commit_coin(pledge.coin, made.context, HOSPITAL) == made.coin
            coins.append(pledge.coin)
        return message

    stage.tamper = look
    stage.run()
    assert len(set(coins)) == len(coins) == len(stage.outcomes()) >= 2


def test_an_outcome_with_a_contribution_that_is_not_its_own_is_refused(stage):
    message = settled(stage)
    outcome = message.signed.outcome
    frozen = outcome.frozen
    foreign = changed(frozen, contributions={**frozen.contributions, HOSPITAL: bytes(32)})
    swapped = changed(
        frozen, contributions={**frozen.contributions, HOSPITAL: frozen.contributions["charite"]}
    )
    for other in (foreign, swapped):
        before = dict(stage.store(HOSPITAL))
        (answer,) = answers(stage, signed(stage, changed(outcome, frozen=other), message.total))
        assert isinstance(answer, Refusal)
        assert answer.reason == "foreign-contribution"
        assert dict(stage.store(HOSPITAL)) == before
    # The control: with its own it is taken.
    assert [type(answer) for answer in answers(stage, message)] == [CoinRevealed, Accepted]


def test_an_outcome_of_an_attempt_that_it_took_no_part_in_gets_no_coin(stage):
    # All parties claim another attempt, with whatever contribution of this hospital's in it: it stays unverified.
    message = settled(stage)
    outcome = message.signed.outcome
    context = changed(outcome.context, attempt=2)
    frozen = changed(outcome.frozen, context=context.digest())
    forged = signed(stage, changed(outcome, context=context, frozen=frozen), message.total)
    assert answers(stage, forged) == [Accepted(member=HOSPITAL, round=1)]
    assert REVEALED not in stage.store(HOSPITAL) or not [
        r for r in Memory.from_bytes(stage.store(HOSPITAL)[REVEALED]).rounds if r.outcome.round == 1
    ]


def test_who_is_not_in_the_sum_reveals_nothing_and_forgets_its_update(stage):
    message = settled(stage)
    outcome = message.signed.outcome
    without = changed(outcome, excluded={HOSPITAL: "norm-too-large"})
    assert answers(stage, signed(stage, without, message.total)) == [Accepted(member=HOSPITAL, round=1)]
    kept = list(stage.store(HOSPITAL))
    assert f"{PLEDGE}1" not in kept
    assert f"{TOTAL}1" not in kept


# -- never two ---------------------------------------------------------------------------------------------------


class Told:
    """Everything that a hospital ever said, through restarts. A death takes what it was about to say with it."""

    def __init__(self, theatre, stage):
        self.crash, self.stage, self.said = theatre.crash, stage, []

    def tell(self, message, dies_at=None):
        fuse = self.stage.fuses[0]
        fuse.role, fuse.at = HOSPITAL, -1 if dies_at is None else fuse.steps[HOSPITAL] + dies_at
        try:
            found = answers(self.stage, message)
        except self.crash:
            self.stage.lose(HOSPITAL)
            return False
        self.said += found
        return True

    def outcomes(self):
        return {said.outcome for said in self.said if isinstance(said, CoinRevealed)}


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (2, 0)])
def test_a_coin_is_revealed_for_one_outcome_whenever_the_hospital_is_killed(theatre, tmp_path, order):
    # Parties that all lie have several outcomes; the hospital is told one, dies at its n-th write, is told another.
    n, died = 0, True
    while died:
        stage = theatre.stage(theatre.cast(*SMALL), tmp_path / str(n))
        message = settled(stage)
        shorter = changed(message.signed.outcome, excluded={"charite": "norm-too-large"})
        versions = [message, another(stage, message), signed(stage, shorter, message.total)]
        told = Told(theatre, stage)
        died = not told.tell(versions[order[0]], dies_at=n)
        for version in (*order[::-1], *order):
            told.tell(versions[version])
        assert len(told.outcomes()) == 1
        n += 1
    assert n >= 4  # memory, sum, what was revealed, the answer


def test_a_power_failure_does_not_make_it_reveal_for_another_outcome(stage):
    # It takes what was kept, not what was persisted: the model and the answer are gone, which outcome it was is not.
    message = settled(stage)
    first = stage.recall(0)
    assert [type(answer) for answer in answers(stage, message)] == [CoinRevealed, Accepted]
    store = stage.store(HOSPITAL)
    store.put("memory", b"")
    stage.lose(HOSPITAL)
    # The chain again, from the beginning: the coins of round 0 and 1 are revealed for the same outcomes.
    assert [type(a) for a in answers(stage, another(stage, first))] == [Refusal]
    assert [type(a) for a in answers(stage, first)] == [CoinRevealed, Accepted]
    (refused,) = answers(stage, another(stage, message))
    assert isinstance(refused, Refusal)
    assert refused.reason == "second-outcome"
    again, _ = answers(stage, message)
    assert again.outcome == message.signed.outcome.digest()


def test_a_pledge_that_comes_back_after_a_power_failure_is_not_revealed(theatre, tmp_path):
    # Erasing is not synced. Round 0's pledge is back, and so is the hospital's place before it; its later coins stand.
    stage = theatre.stage(theatre.cast(3, 2, 3), tmp_path)
    stage.run(until=lambda: f"{PLEDGE}0" in stage.store(HOSPITAL))
    pledge = stage.store(HOSPITAL)[f"{PLEDGE}0"]
    stage.run()
    while moves := stage.moves():
        moves[0]()
    store = stage.store(HOSPITAL)
    assert [r.outcome.round for r in Memory.from_bytes(store[REVEALED]).rounds] == [2, 3]
    store.put("memory", b"")
    store.put(f"{PLEDGE}0", pledge)
    stage.lose(HOSPITAL)
    lie = another(stage, stage.recall(0))
    said = answers(stage, lie)
    assert not [answer for answer in said if isinstance(answer, CoinRevealed)]
    assert [r.outcome.round for r in Memory.from_bytes(store[REVEALED]).rounds] == [2, 3]


def test_a_challenge_is_answered_once_whenever_the_hospital_is_killed(theatre, tmp_path):
    n, died = 0, True
    while died:
        stage = theatre.stage(theatre.cast(*SMALL), tmp_path / str(n))
        message = settled(stage)
        asked = challenge(stage, message)
        told = Told(theatre, stage)
        died = not told.tell(asked, dies_at=n)
        told.tell(asked)
        told.tell(asked)
        given = [said for said in told.said if isinstance(said, SignedAnswer)]
        assert len(given) == (2 if died else 3)
        assert len({answer.to_bytes() for answer in given}) == 1
        n += 1
    assert n >= 2


def test_the_answer_is_signed_and_of_this_outcome(stage):
    message = settled(stage)
    asked = challenge(stage, message)
    (given,) = answers(stage, asked)
    check_signature(given.answer, stage.cast.terms.hospitals[HOSPITAL], given.signature)
    assert (given.answer.outcome, given.answer.hospital) == (asked.outcome, HOSPITAL)


def test_challenges_that_are_not_made_of_everybodys_coins_are_refused(stage):
    message = settled(stage)
    (early,) = answers(stage, Challenge(outcome=message.signed.outcome.digest(), coins=[]))
    assert early.reason == "other-outcome"  # not accepted yet
    asked = challenge(stage, message)
    one, two, mine = asked.coins
    assert mine.hospital == HOSPITAL
    lie = another(stage, message).signed.outcome.digest()
    for code, coins in (
        ("bad-challenge", []),
        ("bad-challenge", [one, mine]),
        ("bad-challenge", [one, two]),
        ("bad-challenge", [one, one, two, mine]),
        ("bad-challenge", [changed(one, coin=bytes(32)), two, mine]),
        ("bad-challenge", [one, two, changed(mine, coin=bytes(32))]),
        ("bad-challenge", [changed(one, outcome=lie), two, mine]),
        ("bad-challenge", [changed(one, contribution=two.contribution), two, mine]),
        ("bad-challenge", [changed(one, hospital="nobody"), two, mine]),
        # One hospital repeats another's coin under its own name.
        ("bad-challenge", [changed(one, coin=two.coin), two, mine]),
    ):
        (answer,) = answers(stage, changed(asked, coins=coins))
        assert (type(answer), answer.reason) == (Refusal, code)
    (answer,) = answers(stage, changed(asked, outcome=lie))
    assert answer.reason == "other-outcome"
    assert Memory.from_bytes(stage.store(HOSPITAL)[REVEALED]).rounds[-1].answer is None
    assert [type(answer) for answer in answers(stage, asked)] == [SignedAnswer]  # the control


def test_another_challenge_than_the_answered_one_is_refused(stage):
    # With the committed coins there is one challenge; should a hash ever collide, the first answer still stands.
    message = settled(stage)
    asked = challenge(stage, message)
    (given,) = answers(stage, asked)
    store = stage.store(HOSPITAL)
    memory = Memory.from_bytes(store[REVEALED])
    *earlier, last = memory.rounds
    other = changed(last, answer=changed(given, answer=changed(given.answer, challenge=bytes(32))))
    store.put(REVEALED, changed(memory, rounds=[*earlier, other]).to_bytes())
    stage.lose(HOSPITAL)
    (answer,) = answers(stage, asked)
    assert (type(answer), answer.reason) == (Refusal, "second-challenge")


def test_an_update_that_is_lost_is_not_answered_for(stage):
    message = settled(stage)
    asked = challenge(stage, message)
    store = stage.store(HOSPITAL)
    whole = store[f"{PLEDGE}1"]
    for left in (b"", whole[: len(whole) // 2]):
        store.put(f"{PLEDGE}1", left)
        (answer,) = answers(stage, asked)
        assert (type(answer), answer.reason) == (Refusal, "update-lost")
    store.put(f"{PLEDGE}1", whole)
    assert [type(answer) for answer in answers(stage, asked)] == [SignedAnswer]


# -- the record --------------------------------------------------------------------------------------------------


@pytest.fixture
def record(stage):
    """The finished check of round 1, which no hospital has seen."""
    message = settled(stage)
    asked = challenge(stage, message)
    given = [answers(stage, asked, name)[0] for name in stage.cast.terms.hospitals]
    return stage, Verification(round=1, outcome=asked.outcome, coins=asked.coins, answers=given)


def test_a_finished_check_frees_what_was_kept_for_it(record):
    stage, message = record
    assert f"{TOTAL}1" in stage.store(HOSPITAL)
    assert f"{PLEDGE}1" not in stage.store(HOSPITAL)  # it has answered: the update is not needed any more
    assert answers(stage, message) == []
    assert f"{TOTAL}1" not in stage.store(HOSPITAL)
    (again,) = answers(stage, message)
    assert (type(again), again.reason) == (Refusal, "other-outcome")


def test_a_check_that_is_not_whole_frees_nothing(record):
    stage, message = record
    before = dict(stage.store(HOSPITAL))
    one, *others = message.answers
    value = changed(one.answer, value=one.answer.value ^ 1)
    for code, other in (
        ("not-verified", changed(message, answers=others)),
        ("not-verified", changed(message, answers=[one, *message.answers])),
        ("not-verified", changed(message, answers=[changed(one, signature=bytes(64)), *others])),
        ("not-verified", changed(message, answers=[changed(one, answer=value), *others])),
        ("not-verified", changed(message, coins=message.coins[1:])),
        ("other-outcome", changed(message, outcome=bytes(32))),
        ("other-outcome", changed(message, round=0)),
    ):
        (answer,) = answers(stage, other)
        assert (type(answer), answer.reason) == (Refusal, code)
        assert dict(stage.store(HOSPITAL)) == before


def test_a_hospital_that_has_lost_the_sum_waits_for_no_check(record):
    stage, message = record
    stage.store(HOSPITAL).put(f"{TOTAL}1", b"")
    (answer,) = answers(stage, message)
    assert (type(answer), answer.reason) == (Refusal, "other-outcome")
