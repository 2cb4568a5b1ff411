import hashlib

import pytest

from protocols.chain import (
    Closing,
    Outcome,
    SignedClosing,
    SignedOutcome,
    beginning,
    check_chain,
    check_link,
    total_digest,
)
from protocols.contribution import sign
from protocols.errors import ChainError, EncodingError
from protocols.signing import SigningKey

STUDY = b"s" * 32
KEYS = [SigningKey(bytes([i]) * 32) for i in (1, 2, 3)]
PARTIES = [key.public for key in KEYS]
STRANGERS = [SigningKey(bytes([i]) * 32) for i in (4, 5, 6)]


def signed(outcome, keys=KEYS):
    return SignedOutcome(outcome=outcome, signatures=[sign(outcome, key) for key in keys])


def closed(closing, keys=KEYS):
    return SignedClosing(closing=closing, signatures=[sign(closing, key) for key in keys])


def chain_of(rounds, study=STUDY, keys=KEYS, tag=b""):
    outcomes, previous = [], beginning(study)
    for r in range(rounds):
        outcome = Outcome(
            study=study,
            round=r,
            attempt=1,
            purpose="update" if r else "statistics",
            width=32,
            size=10,
            previous=previous,
            included=["a", "b", "c"],
            contributions=hashlib.sha256(tag + b"list %d" % r).digest(),
            total=total_digest(tag + b"sum %d" % r),
        )
        outcomes.append(signed(outcome, keys))
        previous = outcome.digest()
    return outcomes, closed(Closing(study=study, rounds=rounds, last=previous, model=b"m" * 32), keys)


OUTCOMES, CLOSING = chain_of(5)


def test_a_chain_is_verified_from_its_bytes():
    read = [SignedOutcome.from_bytes(outcome.to_bytes()) for outcome in OUTCOMES]
    check_chain(iter(read), SignedClosing.from_bytes(CLOSING.to_bytes()), STUDY, PARTIES)
    check_chain(*chain_of(1), STUDY, PARTIES)
    check_chain(*chain_of(0), STUDY, PARTIES)


def test_beginnings_differ_by_study():
    assert beginning(STUDY) != beginning(b"t" * 32)
    assert beginning(STUDY) != STUDY
    assert len(beginning(STUDY)) == 32


def test_the_total_is_named_by_its_sha256():
    assert total_digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- one link --------------------------------------------------------------------------------------------------------


def check(outcome, study=STUDY, previous=None, round_=2, parties=PARTIES):
    check_link(outcome, study, previous or OUTCOMES[1].outcome.digest(), round_, parties)


def test_a_link_holds():
    check(OUTCOMES[2])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"study": b"t" * 32}, "another study"),
        ({"round_": 3}, "stands where round 3 belongs"),
        ({"round_": 1}, "stands where round 1 belongs"),
        ({"previous": b"p" * 32}, "does not follow"),
        ({"previous": beginning(STUDY)}, "does not follow"),
        ({"parties": PARTIES[:2]}, "not signed by every party"),
        ({"parties": [*PARTIES, PARTIES[0]]}, "not signed by every party"),
        ({"parties": PARTIES[::-1]}, "not signed by every party"),
        ({"parties": [key.public for key in STRANGERS]}, "not signed by every party"),
        ({"parties": []}, "not signed by every party"),
        ({"parties": [b"short", *PARTIES[1:]]}, "not signed by every party"),
    ],
    ids=str,
)
def test_a_link_to_something_else_does_not_hold(arguments, says):
    with pytest.raises(ChainError, match=says):
        check(OUTCOMES[2], **arguments)


CHANGED = {
    "study": b"t" * 32,
    "round": 1,
    "attempt": 2,
    "purpose": "statistics",
    "width": 16,
    "size": 11,
    "previous": b"p" * 32,
    "included": ["a", "b"],
    "contributions": b"c" * 32,
    "total": b"t" * 32,
}


@pytest.mark.parametrize("field", Outcome.model_fields)
def test_every_field_of_an_outcome_is_under_the_signatures(field):
    outcome = OUTCOMES[2].outcome.model_copy(update={field: CHANGED[field]})
    forged = OUTCOMES[2].model_copy(update={"outcome": outcome})
    with pytest.raises(ChainError):  # also where the reader expects the changed value
        check(forged, study=outcome.study, previous=outcome.previous, round_=outcome.round)


@pytest.mark.parametrize(
    "signatures",
    [
        [],
        OUTCOMES[2].signatures[:2],
        [*OUTCOMES[2].signatures, OUTCOMES[2].signatures[0]],
        OUTCOMES[2].signatures[::-1],
        [OUTCOMES[2].signatures[0]] * 3,
        OUTCOMES[1].signatures,
        [*OUTCOMES[2].signatures[:2], b""],
        [*OUTCOMES[2].signatures[:2], sign(OUTCOMES[2].outcome, STRANGERS[0])],
        [*OUTCOMES[2].signatures[:2], sign(CLOSING.closing, KEYS[2])],
    ],
    ids=[
        "none",
        "too_few",
        "too_many",
        "reordered",
        "one_party",
        "other_round",
        "empty",
        "stranger",
        "closing",
    ],
)
def test_every_party_must_have_signed(signatures):
    with pytest.raises(ChainError, match="not signed by every party"):
        check(OUTCOMES[2].model_copy(update={"signatures": signatures}))


# -- the whole chain -------------------------------------------------------------------------------------------------


def broken(outcomes, closing=CLOSING, study=STUDY, parties=PARTIES):
    with pytest.raises(ChainError):
        check_chain(outcomes, closing, study, parties)


@pytest.mark.parametrize("i", range(5))
def test_a_dropped_or_duplicated_outcome_breaks_the_chain(i):
    broken(OUTCOMES[:i] + OUTCOMES[i + 1 :])
    broken(OUTCOMES[: i + 1] + OUTCOMES[i:])


def test_reordered_outcomes_break_the_chain():
    for i in range(4):
        outcomes = list(OUTCOMES)
        outcomes[i], outcomes[i + 1] = outcomes[i + 1], outcomes[i]
        broken(outcomes)
    broken(OUTCOMES[::-1])


def test_a_missing_tail_breaks_the_chain():
    for length in range(5):
        broken(OUTCOMES[:length])


def test_a_surplus_tail_breaks_the_chain():
    outcomes, _ = chain_of(6)
    assert outcomes[:5] == OUTCOMES
    broken(outcomes)


def test_another_history_breaks_the_chain():
    others, other_closing = chain_of(5, tag=b"other ")
    check_chain(others, other_closing, STUDY, PARTIES)
    for i in range(5):
        broken([*OUTCOMES[:i], others[i], *OUTCOMES[i + 1 :]])
        broken(OUTCOMES[:i] + others[i:])
    broken(OUTCOMES, other_closing)


def test_another_study_or_committee_breaks_the_chain():
    broken(OUTCOMES, study=b"t" * 32)
    broken(*chain_of(5, study=b"t" * 32))
    broken(*chain_of(5, keys=STRANGERS))
    broken(OUTCOMES, parties=[key.public for key in STRANGERS])
    broken(OUTCOMES, parties=PARTIES[::-1])


@pytest.mark.parametrize(
    "change",
    [
        {"study": b"t" * 32},
        {"rounds": 4},
        {"rounds": 6},
        {"last": OUTCOMES[3].outcome.digest()},
        {"last": b"l" * 32},
        {"model": b"n" * 32},
    ],
    ids=str,
)
def test_a_changed_closing_breaks_the_chain(change):
    closing = CLOSING.closing.model_copy(update=change)
    broken(OUTCOMES, SignedClosing(closing=closing, signatures=CLOSING.signatures))
    broken(OUTCOMES, closed(closing, STRANGERS))


@pytest.mark.parametrize("change", [{"study": b"t" * 32}, {"rounds": 4}, {"last": b"l" * 32}], ids=str)
def test_a_closing_of_another_chain_breaks_it_although_signed(change):
    broken(OUTCOMES, closed(CLOSING.closing.model_copy(update=change)))


def test_every_party_must_have_signed_the_closing():
    signatures = CLOSING.signatures
    for wrong in ([], signatures[:2], signatures[::-1], [signatures[0]] * 3, OUTCOMES[4].signatures):
        broken(OUTCOMES, CLOSING.model_copy(update={"signatures": wrong}))


@pytest.mark.parametrize("i", [0, 2, 4, 5])
def test_no_byte_of_the_record_may_be_changed(i):
    records = [outcome.to_bytes() for outcome in OUTCOMES] + [CLOSING.to_bytes()]
    for place in range(0, len(records[i]), 7):
        changed = bytearray(records[i])
        changed[place] ^= 1 << place % 8
        bytes_ = [*records[:i], bytes(changed), *records[i + 1 :]]
        with pytest.raises((ChainError, EncodingError)):
            check_chain(
                [SignedOutcome.from_bytes(b) for b in bytes_[:-1]],
                SignedClosing.from_bytes(bytes_[-1]),
                STUDY,
                PARTIES,
            )
