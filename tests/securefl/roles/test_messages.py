"""Messages: one encoding each, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.canonical import encode
from protocols.contribution import Contribution, FrozenList, Vote
from protocols.errors import EncodingError
from protocols.field61 import PRIME
from protocols.integrity import Answer
from securefl.roles import messages
from securefl.roles.messages import (
    FEW_ITEMS,
    FROM_HOSPITALS,
    MAX_BYTES,
    Accepted,
    Behind,
    Challenge,
    CoinRevealed,
    Declined,
    Freeze,
    Held,
    Message,
    PartyStatus,
    Prepare,
    SignedAnswer,
    SignedContribution,
    SignedPrepared,
    SignedVote,
    Verification,
    read_message,
)

KINDS = {
    cls.kind: cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, Message)
}


SPOKEN = {
    "status-request", "party-status", "key-request", "signed-round-key", "announcement", "behind",
    "signed-contribution", "declined", "part", "held", "freeze", "signed-vote", "prepare", "signed-prepared",
    "release", "opened", "settled", "accepted", "coin-revealed", "challenge", "signed-answer", "verification",
    "close-request", "closing-signature", "refusal",
}  # fmt: skip
CARRIED = {
    "round", "round-key", "contribution", "frozen-list", "vote", "outcome", "signed-outcome", "closing",
    "integrity-answer",
}  # fmt: skip
"""They stand in messages, and are none."""


@pytest.mark.parametrize("norm_bound", [None, 100.0])
def test_every_message_of_a_study_comes_back_as_it_was(theatre, tmp_path, norm_bound):
    stage = theatre.stage(theatre.cast(3, 2, 1, 32, norm_bound), tmp_path).run()
    seen, commitments = set(), set()
    for data in stage.wire:
        message = read_message(data)
        assert message.to_bytes() == data
        seen.add(type(message).kind)
        if isinstance(message, SignedVote):
            commitments.add(len(message.vote.commitment))
    # Where nobody is late, is missing or says no.
    assert seen >= SPOKEN - {"behind", "declined", "refusal"}
    assert seen <= SPOKEN
    assert commitments == ({0, 32} if norm_bound else {0})  # of the statistics no norm is checked


def test_every_kind_of_the_module_is_read_under_its_own_name():
    assert {*KINDS} - {""} == SPOKEN | CARRIED
    for kind in SPOKEN:
        with pytest.raises(EncodingError, match="malformed"):  # known, but these are not its fields
            read_message(encode([kind, {"no": 1}]))
    for kind in (*CARRIED, "frozen-signature", ""):
        with pytest.raises(EncodingError, match="not a message of a known kind"):
            read_message(encode([kind, {}]))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(EncodingError):
        read_message(data)


@given(st.integers(0, 2**63 - 1), st.text(max_size=30))
def test_a_changed_byte_never_gives_the_same_message(round_, name):
    data = Accepted(member=name, round=round_).to_bytes()
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            other = read_message(changed)
        except EncodingError:
            continue
        assert other.to_bytes() == changed != data


def test_a_field_of_the_wrong_type_is_refused_by_name():
    good = Held(party="p", context=b"c", hospital="h", contribution=b"d")
    for field, value in (("party", 1), ("context", "text"), ("contribution", None)):
        with pytest.raises(EncodingError, match=field):
            read_message(encode([Held.kind, {**good.body(), field: value}]))
    with pytest.raises(EncodingError, match="round"):
        read_message(encode([Behind.kind, {"hospital": "h", "round": True}]))
    with pytest.raises(EncodingError, match="unknown field"):
        read_message(encode([Held.kind, {**good.body(), "extra": 1}]))


def test_two_kinds_with_the_same_fields_have_other_bytes_and_digests():
    assert Behind(hospital="h", round=1).digest() != Accepted(member="h", round=1).digest()
    assert not Behind(hospital="h", round=1).to_bytes().startswith(Accepted.prefix())
    assert Behind(hospital="h", round=1).to_bytes().startswith(Behind.prefix())


def test_what_is_missing_is_none_and_not_left_out():
    status = PartyStatus(
        party="p", round=0, attempt=0, previous=b"", released=False, context=None, frozen=None, prepared=None
    )
    assert read_message(status.to_bytes()) == status


CONTRIBUTION = Contribution(context=b"c" * 32, hospital="va", envelopes=[b"e" * 32] * 2, coin=b"k" * 32)
COIN = CoinRevealed(hospital="va", outcome=b"o" * 32, contribution=CONTRIBUTION, coin=b"r" * 32)
ANSWER = SignedAnswer(
    answer=Answer(outcome=b"o" * 32, challenge=b"x" * 32, hospital="va", value=PRIME - 1), signature=b"s" * 64
)
VOTE = SignedVote(party="left", vote=Vote(frozen=b"f" * 32, commitment=b"k" * 32), signature=b"s" * 64)
FROZEN = FrozenList(
    context=b"c" * 32,
    cohort=["cleveland", "mayo", "va"],
    contributions={"cleveland": b"d" * 32, "va": b"e" * 32},
    absent={"mayo": "no-answer"},
)
PREPARED = SignedPrepared(
    party="left", frozen=b"f" * 32, excluded={"va": "norm-too-large"}, session=b"m", signature=b"s" * 64
)
CHALLENGE = Challenge(outcome=b"o" * 32, coins=[COIN])
VERIFICATION = Verification(round=3, outcome=b"o" * 32, coins=[COIN], answers=[ANSWER])


@pytest.mark.parametrize(
    "message",
    [COIN, ANSWER, VOTE, PREPARED, CHALLENGE, VERIFICATION, Prepare(frozen=FROZEN, votes=[VOTE])],
    ids=lambda message: message.kind,
)
def test_what_votes_norms_and_checks_are_made_of_comes_back_as_it_was(message):
    data = message.to_bytes()
    again = read_message(data)
    assert (type(again), again) == (type(message), message)
    assert again.to_bytes() == data
    for field in type(message).model_fields:
        body = message.body()
        del body[field]
        with pytest.raises(EncodingError, match=f"malformed at {field}"):
            read_message(encode([message.kind, body]))


def replaced(value, place, new):
    """A copy of plain values with another one at a place."""
    if not place:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize(
    ("message", "place", "wrong"),
    [
        (ANSWER, ("answer", "value"), PRIME),
        (ANSWER, ("answer", "value"), -1),
        (ANSWER, ("answer", "value"), 1.0),
        (ANSWER, ("answer", "outcome"), b"o" * 31),
        (ANSWER, ("answer", "challenge"), b""),
        (VERIFICATION, ("answers", 0, "answer", "value"), 2**61),
        (VERIFICATION, ("coins", 0, "coin"), None),
        (VERIFICATION, ("coins", 0), b""),
        (VERIFICATION, ("round",), True),
        (CHALLENGE, ("coins", 0, "contribution", "coin"), "text"),
        (CHALLENGE, ("coins", 0, "contribution"), None),
        (CHALLENGE, ("coins",), {"va": b"r" * 32}),
        (VOTE, ("vote", "commitment"), None),
        (VOTE, ("vote",), b"f" * 32),
        (PREPARED, ("excluded",), ["va"]),
        (PREPARED, ("excluded", "va"), b"norm-too-large"),
        (Freeze(frozen=FROZEN), ("frozen", "cohort"), "va"),
        (Freeze(frozen=FROZEN), ("frozen", "absent"), ["mayo"]),
        (Freeze(frozen=FROZEN), ("frozen", "contributions", "va"), None),
    ],
    ids=lambda value: getattr(value, "kind", None) or str(value)[:30],
)
def test_what_stands_in_a_message_is_read_as_strictly(message, place, wrong):
    good = message.body()
    assert read_message(encode([message.kind, good])) == message
    with pytest.raises(EncodingError, match=f"malformed at {place[0]}"):
        read_message(encode([message.kind, replaced(good, place, wrong)]))


def test_the_names_of_a_list_are_in_order_after_it_was_sent_in_a_message():
    read = read_message(Freeze(frozen=FROZEN).to_bytes())
    assert list(read.frozen.contributions) == ["cleveland", "va"]
    assert read.frozen.digest() == FROZEN.digest()


# -- how much is read ----------------------------------------------------------------------------------------


def verification_of(names, parties):
    """A finished check with the sizes of a real one."""
    coins = [
        CoinRevealed(
            hospital=name,
            outcome=bytes(32),
            contribution=Contribution(
                context=bytes(32), hospital=name, envelopes=[bytes(32)] * parties, coin=bytes(32)
            ),
            coin=bytes(32),
        )
        for name in names
    ]
    answers = [
        SignedAnswer(
            answer=Answer(outcome=bytes(32), challenge=bytes(32), hospital=name, value=PRIME - 1),
            signature=bytes(64),
        )
        for name in names
    ]
    return Verification(round=3, outcome=bytes(32), coins=coins, answers=answers)


def test_the_largest_messages_of_a_thousand_hospitals_and_sixteen_parties_are_read():
    names = [f"hospital-with-a-long-name-{i:06}" for i in range(1000)]
    largest = verification_of(names, 16)
    assert read_message(largest.to_bytes()) == largest
    frozen = FrozenList(
        context=bytes(32), cohort=names, contributions=dict.fromkeys(names, bytes(32)), absent={}
    )
    prepare = Prepare(frozen=frozen, votes=[VOTE] * 16)
    assert read_message(prepare.to_bytes()) == prepare


def test_a_contribution_to_many_parties_is_read_and_what_else_a_hospital_says_is_short():
    parties = 100
    contribution = SignedContribution(
        contribution=CONTRIBUTION.model_copy(update={"envelopes": [bytes(32)] * parties}),
        signature=bytes(64),
        envelopes=[bytes(1200)] * parties,
    )
    assert read_message(contribution.to_bytes()) == contribution
    for kind in FROM_HOSPITALS:
        with pytest.raises(EncodingError, match=f"more than {FEW_ITEMS:,} items"):
            read_message(encode([kind.kind, [0] * FEW_ITEMS]))
    with pytest.raises(EncodingError, match="malformed"):  # the control: another kind may be as long
        read_message(encode([Freeze.kind, {"frozen": [0] * FEW_ITEMS}]))


def test_only_what_carries_a_vector_may_be_longer_than_a_check_of_ten_thousand_hospitals():
    long = bytes(MAX_BYTES)
    with pytest.raises(EncodingError, match="longer than 16,777,216 bytes"):
        read_message(Declined(context=b"", hospital="va", reason="", explanation=long.decode()).to_bytes())
    contribution = SignedContribution(contribution=CONTRIBUTION, signature=bytes(64), envelopes=[long])
    assert read_message(contribution.to_bytes()) == contribution


def test_a_kind_that_the_sender_never_sends_is_refused():
    assert read_message(COIN.to_bytes(), FROM_HOSPITALS) == COIN
    with pytest.raises(EncodingError, match="not a message of a known kind"):
        read_message(VERIFICATION.to_bytes(), FROM_HOSPITALS)


def test_hospitals_send_these_kinds_and_no_others(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(3, 2, 1, 32, None), tmp_path)
    hospitals, seen = set(stage.cast.terms.hospitals), set()
    stage.tamper = lambda sender, _to, message: (
        (seen.add(type(message)) if sender in hospitals else None) or message
    )
    stage.run()
    assert {SignedContribution, Accepted, CoinRevealed, SignedAnswer} <= seen <= FROM_HOSPITALS
