"""The finished check of a sum: whoever has the record and the receipts comes to the same verdict."""

from __future__ import annotations

import pytest

from protocols.chain import total_digest
from protocols.contribution import sign
from protocols.errors import ChainError, WrongSumError
from securefl.roles.sum_check import check_verification, checked_challenge


@pytest.fixture(scope="module")
def played(theatre, tmp_path_factory):
    return theatre.stage(theatre.cast(3, 2, 1), tmp_path_factory.mktemp("sum-check")).run()


@pytest.fixture(params=[0, 1])
def finished(played, request):
    """Record, outcome and sum of a round that was verified."""
    settled = played.recall(request.param)
    return played.verification(request.param), settled.signed.outcome, settled.total


def changed(record, **fields):
    return record.model_copy(update=fields)


def test_the_record_of_an_honest_round_holds(played, finished):
    check_verification(*finished, played.cast.terms)


@pytest.mark.parametrize("place", [0, 7, -1])
def test_any_other_sum_that_the_parties_sign_is_wrong(played, finished, place):
    # They change the sum, and the outcome with it; the hospitals reveal and answer for what they are shown.
    record, outcome, total = finished
    lie = bytearray(total)
    lie[place] ^= 1
    other = changed(outcome, total=total_digest(bytes(lie)))
    coins = [changed(coin, outcome=other.digest()) for coin in record.coins]
    chi = checked_challenge(other, coins)
    answers = []
    for given in record.answers:
        answer = changed(given.answer, outcome=other.digest(), challenge=chi)
        key = played.cast.keys[answer.hospital].signing
        answers.append(changed(given, answer=answer, signature=sign(answer, key)))
    told = changed(record, outcome=other.digest(), coins=coins, answers=answers)
    with pytest.raises(WrongSumError):
        check_verification(told, other, bytes(lie), played.cast.terms)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_answer_that_is_another_number_makes_the_sum_wrong(played, finished, which):
    record, outcome, total = finished
    given = record.answers[which]
    answer = changed(given.answer, value=(given.answer.value + 1) % (2**61 - 1))
    resigned = changed(
        given, answer=answer, signature=sign(answer, played.cast.keys[answer.hospital].signing)
    )
    answers = [*record.answers[:which], resigned, *record.answers[which + 1 :]]
    with pytest.raises(WrongSumError):
        check_verification(changed(record, answers=answers), outcome, total, played.cast.terms)


def broken(record):
    """Records that are no complete check, and why."""
    one, two, three = record.coins
    first, second, third = record.answers
    yield "another outcome", changed(record, outcome=bytes(32))
    yield "another outcome", changed(record, round=record.round + 1)
    yield "did not reveal its coin", changed(record, coins=[one, two])
    yield "comes twice", changed(record, coins=[one, one, two, three])
    yield "is for another outcome", changed(record, coins=[one, two, changed(three, outcome=bytes(32))])
    yield "is for another outcome", changed(record, coins=[one, two, changed(three, hospital="zz")])
    yield (
        "not of the contribution that was added",
        changed(record, coins=[one, two, changed(three, contribution=changed(three.contribution, coin=b""))]),
    )
    yield (
        "another coin than it had committed",
        changed(record, coins=[one, two, changed(three, coin=bytes(32))]),
    )
    yield "another coin than it had committed", changed(record, coins=[one, two, changed(three, coin=b"")])
    yield "no answer from", changed(record, answers=[first, second])
    yield "answered twice", changed(record, answers=[first, first, second, third])
    yield "not signed by", changed(record, answers=[first, second, changed(third, signature=bytes(64))])
    yield "not signed by", changed(record, answers=[first, second, changed(third, signature=first.signature)])
    stranger = changed(third, answer=changed(third.answer, hospital="nobody"))
    yield "not signed by nobody", changed(record, answers=[first, second, stranger])


def test_a_record_that_is_not_whole_says_nothing_of_the_sum(played, finished):
    record, outcome, total = finished
    cases = list(broken(record))
    assert len(cases) == 14
    for why, other in cases:
        with pytest.raises(ChainError, match=why) as error:
            check_verification(other, outcome, total, played.cast.terms)
        assert not isinstance(error.value, WrongSumError), why


def test_a_sum_that_nobody_signed_is_not_checked_at_all(played, finished):
    record, outcome, total = finished
    for other in (bytes(len(total)), total[:-1], total + b"\x00", b""):
        with pytest.raises(ChainError, match="not the one that the parties signed"):
            check_verification(record, outcome, other, played.cast.terms)


def test_the_challenge_is_of_the_outcome_and_of_every_coin(played):
    challenges = set()
    for round_ in (0, 1):
        record, outcome = played.verification(round_), played.recall(round_).signed.outcome
        chi = checked_challenge(outcome, record.coins)
        assert chi == checked_challenge(outcome, record.coins[::-1])
        assert {given.answer.challenge for given in record.answers} == {chi}
        challenges.add(chi)
    assert len(challenges) == 2


def test_a_coin_of_a_hospital_that_is_not_in_the_sum_is_not_taken(played):
    record, outcome = played.verification(1), played.recall(1).signed.outcome
    without = changed(outcome, excluded={"va": "norm-too-large"})
    coins = [changed(coin, outcome=without.digest()) for coin in record.coins]
    with pytest.raises(ChainError, match="va revealed a coin and is not included"):
        checked_challenge(without, coins)
    assert len(checked_challenge(without, coins[:2])) == 32  # the control
