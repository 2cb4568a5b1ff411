"""What one hospital can make the coordinator send in one attempt, whatever it says and how often."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from protocols.chain import Outcome, SignedOutcome
from protocols.contribution import Contribution, FrozenList, RoundContext
from securefl.roles.collecting import MAX_HOSPITAL_TRIES, MISSED_AT_ONCE, Attempt
from securefl.roles.messages import Announcement, Held, Settled, SignedContribution

PARTIES, COHORT, NOW = ["left", "right"], ["mayo", "va"], 100
CONTEXT = RoundContext(
    study=bytes(32), round=NOW, attempt=1, previous=bytes(32), purpose="update", model=bytes(32), parties=PARTIES,
    width=32, size=4,
)  # fmt: skip


def recall(round_: int) -> Settled:
    context = CONTEXT.model_copy(update={"round": round_})
    frozen = FrozenList(context=context.digest(), cohort=COHORT, contributions={}, absent={})
    outcome = Outcome(context=context, frozen=frozen, excluded={}, total=bytes(32))
    return Settled(signed=SignedOutcome(outcome=outcome, signatures=[]), total=bytes(16))


def contribution(number: int) -> SignedContribution:
    signed = Contribution(
        context=CONTEXT.digest(), hospital="va", envelopes=[bytes([number]) * 32] * 2, coin=bytes(32)
    )
    return SignedContribution(contribution=signed, signature=bytes(64), envelopes=[b"", b""])


def begun() -> Attempt:
    attempt = Attempt(CONTEXT, list(COHORT))
    attempt.announce([], 60.0)
    return attempt


moves = st.one_of(
    st.integers(0, NOW + 5),  # it says that it waits for this round
    st.just("lost"),
    st.integers(1, 2).map(contribution),
)


@given(st.lists(moves, max_size=60))
def test_a_hospital_is_sent_a_few_outcomes_and_announcements_and_none_after_its_contribution(said):
    attempt, sent = begun(), Counter()
    for move in said:
        if isinstance(move, SignedContribution):
            attempt.contributed("va", move)
            continue
        contributed = "va" in attempt.digests
        if move == "lost":
            effects = attempt.announce_again("va", "it was lost")
        else:
            effects = attempt.catch_up("va", range(move, NOW), recall)
        assert not (contributed and effects)
        assert all(effect.to == "va" for effect in effects)
        rounds = [e.message.signed.outcome.round for e in effects if isinstance(e.message, Settled)]
        assert rounds == [] if move == "lost" else rounds == [*range(move, NOW)][: len(rounds)]
        sent.update(type(effect.message) for effect in effects)
    assert sent[Settled] <= MAX_HOSPITAL_TRIES * MISSED_AT_ONCE
    assert sent[Announcement] <= MAX_HOSPITAL_TRIES


def test_a_hospital_that_is_behind_gets_the_next_outcomes_and_is_asked_again():
    attempt = begun()
    effects = attempt.catch_up("va", range(NOW - 2, NOW), recall)
    assert [effect.message for effect in effects] == [recall(NOW - 2), recall(NOW - 1), attempt.announced]
    effects = attempt.catch_up("va", range(0, NOW), recall)
    assert len(effects) == MISSED_AT_ONCE + 1
    assert [e.message for e in effects[:-1]] == [recall(round_) for round_ in range(MISSED_AT_ONCE)]
    assert attempt.catch_up("va", range(NOW, NOW), recall)[-1].message == attempt.announced
    assert attempt.catch_up("va", range(0, NOW), recall) == []
    assert attempt.absent == {"va": ("unreachable", "It did not contribute: it stays behind.")}
    assert attempt.pending == ["mayo"]


def test_a_hospital_whose_parts_are_held_everywhere_is_not_behind():
    attempt = begun()
    attempt.contributed("va", contribution(1))
    for party in PARTIES:
        digest = contribution(1).contribution.digest()
        attempt.hold(party, Held(party=party, context=CONTEXT.digest(), hospital="va", contribution=digest))
    assert attempt.catch_up("va", range(0, NOW), recall) == []
    assert attempt.pending == ["mayo"]
    assert attempt.absent == {}
