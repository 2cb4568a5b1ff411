"""Known answers of the check of a sum: challenge, answer, the finished check, and a sum that is wrong."""

from __future__ import annotations

from protocols.contribution import sign
from securefl.roles.messages import Accepted, Challenge, CoinRevealed
from tests.protocols.vector_dialogues import DUO, Dialogues, step
from tests.protocols.vector_world import OWN, SIGNING, announced, changed, drawn


def check_cases(world):
    found, record = Dialogues(world), world.verifications[1]
    own = next(c for c in record.coins if c.hospital == OWN)
    before = step(world.settled[1], own, Accepted(member=OWN, round=1))
    challenge = Challenge(outcome=record.outcome, coins=record.coins)
    answer = next(a for a in record.answers if a.answer.hospital == OWN)
    answered = step(challenge, answer)
    found.good("challenge", 1, before, answered, pledged=True)
    found.good("challenge_again", 1, before, answered, answered, pledged=True)
    found.good(
        "coins_in_another_order",
        1,
        before,
        step(changed(challenge, coins=record.coins[::-1]), answer),
        pledged=True,
    )
    found.good("verification", 1, before, answered, step(record), pledged=True)

    b, anna, va = record.coins
    fake = CoinRevealed(
        hospital="mallory",
        outcome=record.outcome,
        contribution=changed(b.contribution, hospital="mallory"),
        coin=b.coin,
    )
    other = world.contribution("b", changed(world.contexts[1], attempt=2))[0]
    for name, coins in (
        ("coin_missing", [b, va]),
        ("own_coin_missing", [b, anna]),
        ("coin_twice", [b, b, anna, va]),
        ("coin_instead_of_another", [b, b, va]),
        ("coin_of_a_stranger", [b, fake, anna, va]),
        ("coin_not_the_committed_one", [changed(b, coin=drawn("another coin")), anna, va]),
        ("own_coin_not_the_committed_one", [b, anna, changed(va, coin=drawn("another coin"))]),
        ("coin_short", [changed(b, coin=b.coin[:-1]), anna, va]),
        ("coin_under_another_name", [changed(b, hospital="st-anna"), changed(anna, hospital="b"), va]),
        ("coin_for_another_outcome", [changed(b, outcome=drawn("outcome")), anna, va]),
        ("coin_of_another_contribution", [changed(b, contribution=other), anna, va]),
        ("no_coins", []),
    ):
        found.bad(name, "bad-challenge", 1, before, changed(challenge, coins=coins), pledged=True)
    found.bad(
        "other_outcome",
        "other-outcome",
        1,
        before,
        changed(challenge, outcome=drawn("outcome")),
        pledged=True,
    )
    found.bad("before_the_outcome", "other-outcome", 1, challenge, pledged=True)
    found.bad(
        "to_who_did_not_contribute",
        "other-outcome",
        1,
        step(world.settled[1], Accepted(member=OWN, round=1)),
        challenge,
    )

    one, two, three = record.answers
    key, value_1 = SIGNING["b"], changed(one.answer, value=1)
    other_kind = changed(one, signature=key.sign("answer", one.answer.digest()))

    def resigned(**fields):
        answer = changed(one.answer, **fields)
        return changed(one, answer=answer, signature=sign(answer, key))

    for name, reason, first in (
        ("answer_changed", "not-verified", changed(one, answer=value_1)),
        ("signature_of_other_kind", "not-verified", other_kind),
        ("signed_by_another", "not-verified", changed(one, signature=two.signature)),
        ("of_another_challenge", "not-verified", resigned(challenge=drawn("chi"))),
        ("of_another_outcome", "not-verified", resigned(outcome=drawn("outcome"))),
        ("answer_out_of_the_field", "malformed", resigned(value=2**61 - 1)),
        ("digest_short", "malformed", resigned(outcome=record.outcome[:-1])),
    ):
        message = changed(record, answers=[first, two, three])
        found.bad(f"verification_{name}", reason, 1, before, answered, message, pledged=True)
    for name, reason, fields in (
        ("verification_answer_missing", "not-verified", {"answers": [one, three]}),
        ("verification_answer_twice", "not-verified", {"answers": [one, two, two, three]}),
        ("verification_coin_missing", "not-verified", {"coins": record.coins[:2]}),
        ("verification_of_another_round", "other-outcome", {"round": 0}),
        ("verification_for_another_outcome", "other-outcome", {"outcome": drawn("outcome")}),
    ):  # fmt: skip
        found.bad(name, reason, 1, before, answered, changed(record, **fields), pledged=True)
    found.bad("verification_again", "other-outcome", 1, before, answered, step(record), record, pledged=True)
    wrong_sums(world, found)
    return found.cases


def wrong_sums(world, found):
    """A sum that all parties signed and that is not the hospitals': it is remembered, and the hospital stops."""
    lie, record, model = world.lying(1)
    own, answer = record.coins[-1], record.answers[-1]
    context = world.context(2, previous=lie.signed.outcome.digest(), parties=DUO, model=model)
    found.bad(
        "announcement_after_a_wrong_sum", "wrong-sum", 1,
        step(lie, own, Accepted(member=OWN, round=1)),
        step(Challenge(outcome=record.outcome, coins=record.coins), answer),
        step(record), announced(context), pledged=True,
    )  # fmt: skip
    found.good(
        "verification_of_a_wrong_sum_again", 1, step(lie, own, Accepted(member=OWN, round=1)),
        step(Challenge(outcome=record.outcome, coins=record.coins), answer), step(record), step(record), pledged=True,
    )  # fmt: skip
    # A control: only the check makes the difference.
    found.good(
        "announcement_after_an_unchecked_sum", 1, step(lie, own, Accepted(member=OWN, round=1)),
        step(announced(context), kind="signed-contribution"), pledged=True,
    )  # fmt: skip
