import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.canonical import encode
from protocols.chain import (
    Closing,
    Outcome,
    SignedClosing,
    SignedOutcome,
    Signers,
    beginning,
    check_chain,
    check_closing,
    check_link,
    digest_of_verifications,
    total_digest,
)
from protocols.contribution import FrozenList, RoundContext, sign
from protocols.errors import ChainError, EncodingError
from protocols.signing import SigningKey

STUDY = b"s" * 32
# The order of the ranks is not the order of the names.
PARTIES = ["left", "right", "centre"]
FOREIGN = "elsewhere"
KEYS = {name: SigningKey(bytes([i]) * 32) for i, name in enumerate([*PARTIES, FOREIGN], start=1)}
STRANGERS = {name: SigningKey(bytes([i]) * 32) for i, name in enumerate(PARTIES, start=11)}
COHORT = ["a", "b", "c", "d"]


def signers(minimum=3, names=PARTIES, keys=KEYS):
    return Signers({name: keys[name].public for name in names}, minimum)


ALL, TWO = signers(), signers(minimum=2)


def signed(outcome, keys=KEYS):
    signatures = [sign(outcome, keys[name]) for name in outcome.context.parties]
    return SignedOutcome(outcome=outcome, signatures=signatures)


def closed(closing, keys=KEYS):
    return SignedClosing(closing=closing, signatures=[sign(closing, keys[name]) for name in closing.parties])


def outcome_of(r, previous, study=STUDY, parties=PARTIES, tag=b""):
    context = RoundContext(
        study=study,
        round=r,
        attempt=1,
        previous=previous,
        purpose="update" if r else "statistics",
        model=hashlib.sha256(tag + b"model %d" % r).digest(),
        parties=parties,
        width=32,
        size=10,
    )
    frozen = FrozenList(
        context=context.digest(),
        cohort=COHORT,
        contributions={name: hashlib.sha256(tag + b"%d %s" % (r, name.encode())).digest() for name in "abc"},
        absent={"d": "no-answer"},
    )
    return Outcome(
        context=context,
        frozen=frozen,
        excluded={"b": "norm-too-large"},
        total=total_digest(tag + b"sum %d" % r),
    )


def close(outcomes, study=STUDY, **changes):
    fields = {
        "study": study,
        "rounds": len(outcomes),
        "last": outcomes[-1].outcome.digest() if outcomes else beginning(study),
        "model": b"m" * 32,
        "parties": outcomes[-1].outcome.context.parties if outcomes else PARTIES,
        "unverified": [1],
        "verifications": digest_of_verifications([b"v" * 32] * len(outcomes)),
    }
    return Closing(**{**fields, **changes})


def chain_of(rounds, study=STUDY, keys=KEYS, tag=b"", committees=None):
    """A whole study; ``committees`` names the parties of each round."""
    outcomes, previous = [], beginning(study)
    for r in range(rounds):
        outcome = outcome_of(r, previous, study, committees[r] if committees else PARTIES, tag)
        outcomes.append(signed(outcome, keys))
        previous = outcome.digest()
    return outcomes, closed(close(outcomes, study), keys)


OUTCOMES, CLOSING = chain_of(5)
THIRD = OUTCOMES[2].outcome


def test_a_chain_is_verified_from_its_bytes():
    read = [SignedOutcome.from_bytes(outcome.to_bytes()) for outcome in OUTCOMES]
    check_chain(iter(read), SignedClosing.from_bytes(CLOSING.to_bytes()), STUDY, ALL)
    check_chain(*chain_of(1), STUDY, ALL)
    check_chain(*chain_of(0), STUDY, ALL)


def test_beginnings_differ_by_study():
    assert beginning(STUDY) != beginning(b"t" * 32)
    assert beginning(STUDY) != STUDY
    assert len(beginning(STUDY)) == 32


def test_the_total_is_named_by_its_sha256():
    assert total_digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_outcome_says_who_is_in_the_sum_and_why_the_others_are_not():
    read = Outcome.from_bytes(THIRD.to_bytes())
    for outcome in (THIRD, read):
        assert outcome.round == 2
        assert outcome.included == ["a", "c"]
        assert outcome.absent == {"b": "norm-too-large", "d": "no-answer"}


def test_the_included_are_in_the_order_of_their_names_also_after_they_were_sent():
    names = ["cleveland", "hungarian", "va", "b"]  # CBOR would put "b" and "va" first
    frozen = FrozenList(
        context=THIRD.context.digest(),
        cohort=sorted(names),
        contributions={name: b"" for name in names},
        absent={},
    )
    outcome = THIRD.model_copy(update={"frozen": frozen, "excluded": {"va": "norm-too-large"}})
    assert outcome.included == ["b", "cleveland", "hungarian"]
    assert Outcome.from_bytes(outcome.to_bytes()).included == outcome.included


# -- whose signatures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", [2, 3])
def test_enough_parties_in_their_order_are_a_committee_and_nobody_else(minimum):
    possible = signers(minimum)
    for size in range(5):
        for names in itertools.product([*PARTIES, FOREIGN], repeat=size):
            in_order = list(names) in [list(c) for c in itertools.combinations(PARTIES, size)]
            if in_order and size >= minimum:
                possible.check_members(names)
                assert possible.keys(names) == [KEYS[name].public for name in names]
            else:
                with pytest.raises(ChainError, match="too small" if in_order else "not a party, or not in"):
                    possible.check_members(names)


def test_the_committee_that_is_too_small_is_told_what_the_study_wants():
    with pytest.raises(ChainError, match=r"A committee of 2 is too small: the study wants 3\."):
        ALL.check_members(PARTIES[:2])


# -- one link --------------------------------------------------------------------------------------------------------


def check(outcome, study=STUDY, previous=None, round_=2, members=ALL):
    check_link(outcome, study, previous or OUTCOMES[1].outcome.digest(), round_, members)


def test_a_link_holds():
    check(OUTCOMES[2])
    check(OUTCOMES[2], members=TWO)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"study": b"t" * 32}, "another study"),
        ({"round_": 3}, "stands where round 3 belongs"),
        ({"round_": 1}, "stands where round 1 belongs"),
        ({"previous": b"p" * 32}, "does not follow"),
        ({"previous": beginning(STUDY)}, "does not follow"),
        ({"members": signers(names=PARTIES[:2])}, "not signed by every party"),
        ({"members": signers(names=PARTIES[:2], minimum=2)}, "not signed by every party"),
        ({"members": signers(names=PARTIES[::-1])}, "not signed by every party"),
        ({"members": signers(keys=STRANGERS)}, "not signed by every party"),
        ({"members": Signers({}, 2)}, "not signed by every party"),
        ({"members": signers(minimum=4)}, "not signed by every party"),
        ({"members": Signers({**ALL.parties, "right": b"short"}, 3)}, "not signed by every party"),
        (
            {"members": Signers({**ALL.parties, "right": KEYS["left"].public}, 3)},
            "not signed by every party",
        ),
    ],
    ids=str,
)
def test_a_link_to_something_else_does_not_hold(arguments, says):
    with pytest.raises(ChainError, match=says):
        check(OUTCOMES[2], **arguments)


def consistent(outcome):
    """The outcome with a list that names its context, so that nothing but signatures can be wrong with it."""
    frozen = outcome.frozen.model_copy(update={"context": outcome.context.digest()})
    return outcome.model_copy(update={"frozen": frozen})


CHANGED = {
    "context": {
        "study": b"t" * 32,
        "round": 1,
        "attempt": 2,
        "previous": b"p" * 32,
        "purpose": "statistics",
        "model": b"n" * 32,
        "parties": PARTIES[:2],
        "width": 16,
        "size": 11,
    },
    "frozen": {
        "cohort": [*COHORT[:3], "e"],
        "contributions": {**THIRD.frozen.contributions, "a": b"c" * 32},
        "absent": {"d": "declined"},
    },
}
CHANGES = [(part, field) for part, changes in CHANGED.items() for field in changes]


def test_the_changes_below_are_of_every_field():
    assert set(CHANGED["context"]) == set(RoundContext.model_fields)
    assert {*CHANGED["frozen"], "context"} == set(
        FrozenList.model_fields
    )  # its context has a test of its own
    assert set(Outcome.model_fields) == {"context", "frozen", "excluded", "total"}


@pytest.mark.parametrize(("part", "field"), CHANGES)
def test_every_field_of_context_and_list_is_under_the_signatures(part, field):
    changed = getattr(THIRD, part).model_copy(update={field: CHANGED[part][field]})
    outcome = consistent(THIRD.model_copy(update={part: changed}))
    if field == "cohort":  # "e" was asked and not "d"
        absent = outcome.frozen.model_copy(update={"absent": {"e": "no-answer"}})
        outcome = outcome.model_copy(update={"frozen": absent})
    context = outcome.context
    # The reader expects the changed value, and a committee of two is allowed.
    expected = {
        "study": context.study,
        "previous": context.previous,
        "round_": context.round,
        "members": TWO,
    }
    kept = OUTCOMES[2].signatures[: len(context.parties)]
    with pytest.raises(ChainError, match="not signed by every party"):
        check(SignedOutcome(outcome=outcome, signatures=kept), **expected)
    check(signed(outcome), **expected)  # the control: nothing but the signatures was wrong


@pytest.mark.parametrize(
    "change", [{"excluded": {}}, {"excluded": {"b": "other"}}, {"total": b"t" * 32}], ids=str
)
def test_the_excluded_and_the_total_are_under_the_signatures(change):
    outcome = THIRD.model_copy(update=change)
    with pytest.raises(ChainError, match="not signed by every party"):
        check(OUTCOMES[2].model_copy(update={"outcome": outcome}))
    check(signed(outcome))


@pytest.mark.parametrize(
    "signatures",
    [
        [],
        OUTCOMES[2].signatures[:2],
        OUTCOMES[2].signatures[1:],
        [*OUTCOMES[2].signatures, OUTCOMES[2].signatures[0]],
        OUTCOMES[2].signatures[::-1],
        [OUTCOMES[2].signatures[0]] * 3,
        OUTCOMES[1].signatures,
        [*OUTCOMES[2].signatures[:2], b""],
        [*OUTCOMES[2].signatures[:2], sign(THIRD, STRANGERS["centre"])],
        [*OUTCOMES[2].signatures[:2], sign(THIRD, KEYS[FOREIGN])],
        [*OUTCOMES[2].signatures[:2], sign(CLOSING.closing, KEYS["centre"])],
        [*OUTCOMES[2].signatures[:2], sign(THIRD.frozen, KEYS["centre"])],
        [*OUTCOMES[2].signatures[:2], sign(THIRD.context, KEYS["centre"])],
    ],
    ids=[
        "none",
        "without_last",
        "without_first",
        "too_many",
        "reordered",
        "one_party",
        "other_round",
        "empty",
        "stranger_under_the_name",
        "foreign",
        "closing",
        "list_only",
        "context_only",
    ],
)
@pytest.mark.parametrize("members", [ALL, TWO], ids=["all", "two_are_enough"])
def test_every_party_of_the_committee_must_have_signed(signatures, members):
    # Also where a committee of two would do: who is named in it signs.
    with pytest.raises(ChainError, match="not signed by every party"):
        check(OUTCOMES[2].model_copy(update={"signatures": signatures}), members=members)


# -- what contradicts itself, although every party signed it ---------------------------------------------------------


def refused(outcome, says):
    with pytest.raises(ChainError, match=says):
        check(signed(outcome))


@pytest.mark.parametrize(
    "excluded",
    [{"d": "norm-too-large"}, {"b": "norm-too-large", "e": "norm-too-large"}, {"": "norm-too-large"}],
    ids=["absent", "stranger", "nameless"],
)
def test_only_hospitals_on_the_list_are_excluded(excluded):
    refused(THIRD.model_copy(update={"excluded": excluded}), "contradicts itself")


@pytest.mark.parametrize("excluded", [(), ("a",), ("a", "b", "c")], ids=len)
def test_control_any_hospital_on_the_list_may_be_excluded(excluded):
    outcome = THIRD.model_copy(update={"excluded": dict.fromkeys(excluded, "norm-too-large")})
    check(signed(outcome))
    assert outcome.included == [name for name in "abc" if name not in excluded]


@pytest.mark.parametrize(
    "context", [b"", b"c" * 32, OUTCOMES[1].outcome.context.digest(), THIRD.digest()], ids=range(4)
)
def test_the_list_is_of_the_outcomes_round(context):
    frozen = THIRD.frozen.model_copy(update={"context": context})
    refused(THIRD.model_copy(update={"frozen": frozen}), "contradicts itself")


def test_the_list_is_of_the_outcomes_attempt():
    context = THIRD.context.model_copy(update={"attempt": 2})
    refused(THIRD.model_copy(update={"context": context}), "contradicts itself")
    check(signed(consistent(THIRD.model_copy(update={"context": context}))))


def with_list(**changes):
    return THIRD.model_copy(update={"frozen": THIRD.frozen.model_copy(update=changes)})


@pytest.mark.parametrize(
    "changes",
    [
        {"cohort": [*COHORT, "e"]},
        {"cohort": COHORT[:3]},
        {"cohort": COHORT[1:]},
        {"cohort": []},
        {"cohort": [*COHORT[:3], "e"]},
        {"absent": {}},
        {"absent": {"d": "no-answer", "e": "no-answer"}},
        {"absent": {"d": "no-answer", "a": "no-answer"}},
        {"absent": {"e": "no-answer"}},
        {"cohort": ["a", *COHORT], "absent": {"d": "no-answer", "a": "no-answer"}},
        {"cohort": ["d", *COHORT]},
        {"contributions": {**THIRD.frozen.contributions, "d": b"d" * 32}},
        {"contributions": {**THIRD.frozen.contributions, "e": b"e" * 32}},
    ],
    ids=str,
)
def test_every_hospital_asked_is_accounted_for_and_no_other(changes):
    refused(with_list(**changes), "does not account for every hospital asked")


def test_control_a_hospital_that_is_accounted_for_may_be_anywhere():
    everyone = {name: b"c" * 32 for name in COHORT}
    for changes in (
        {"contributions": everyone, "absent": {}},
        {"cohort": [*COHORT, "e"], "absent": {"d": "no-answer", "e": "declined"}},
        {"cohort": COHORT[::-1]},
    ):
        check(signed(with_list(**changes)))


# -- committees ------------------------------------------------------------------------------------------------------

LEFT_RIGHT, LEFT_CENTRE, RIGHT_CENTRE = PARTIES[:2], ["left", "centre"], PARTIES[1:]


@pytest.mark.parametrize("committee", [LEFT_RIGHT, LEFT_CENTRE, RIGHT_CENTRE], ids="-".join)
def test_a_smaller_committee_may_go_on_where_the_study_allows_it(committee):
    outcomes, closing = chain_of(4, committees=[PARTIES, PARTIES, committee, committee])
    assert [len(outcome.signatures) for outcome in outcomes] == [3, 3, 2, 2]
    assert len(closing.signatures) == 2
    check_chain(outcomes, closing, STUDY, TWO)
    broken(outcomes, closing)
    with pytest.raises(ChainError, match=r"outcome of round 2 is not signed by every party") as error:
        check_chain(outcomes, closing, STUDY, ALL)
    assert "too small" in str(error.value.__cause__)


def test_committees_may_change_from_round_to_round():
    committees = [PARTIES, LEFT_RIGHT, PARTIES, RIGHT_CENTRE, LEFT_CENTRE]
    check_chain(*chain_of(5, committees=committees), STUDY, TWO)


@pytest.mark.parametrize(
    ("committee", "says"),
    [
        (["left"], "too small"),
        ([], "too small"),
        (["right", "left"], "in the order of the ranks"),
        (["centre", "left", "right"], "in the order of the ranks"),  # the order of the names
        (["left", "left"], "in the order of the ranks"),
        (["left", "right", "right"], "in the order of the ranks"),
        (["left", FOREIGN], "not a party"),
        ([*PARTIES, FOREIGN], "not a party"),
        ([FOREIGN, "left"], "not a party"),
    ],
    ids=str,
)
def test_no_other_committee_makes_an_outcome_although_all_of_it_signed(committee, says):
    context = THIRD.context.model_copy(update={"parties": committee})
    outcome = signed(consistent(THIRD.model_copy(update={"context": context})))
    with pytest.raises(ChainError, match="not signed by every party") as error:
        check(outcome, members=TWO)
    assert says in str(error.value.__cause__)
    broken([*OUTCOMES[:2], outcome], closed(close([*OUTCOMES[:2], outcome], parties=PARTIES)), members=TWO)


def test_a_party_is_not_left_out_by_others_who_say_so_later():
    # The committee is under the signatures: two of three cannot make theirs out of what the three signed.
    context = THIRD.context.model_copy(update={"parties": LEFT_RIGHT})
    outcome = consistent(THIRD.model_copy(update={"context": context}))
    with pytest.raises(ChainError, match="not signed by every party"):
        check(SignedOutcome(outcome=outcome, signatures=OUTCOMES[2].signatures[:2]), members=TWO)


# -- the whole chain -------------------------------------------------------------------------------------------------


def broken(outcomes, closing=CLOSING, study=STUDY, members=ALL):
    with pytest.raises(ChainError):
        check_chain(outcomes, closing, study, members)


@pytest.mark.parametrize("i", range(5))
def test_a_dropped_or_duplicated_outcome_breaks_the_chain(i):
    broken(OUTCOMES[:i] + OUTCOMES[i + 1 :])
    broken(OUTCOMES[: i + 1] + OUTCOMES[i:])


def test_reordered_outcomes_break_the_chain():
    for i, j in itertools.combinations(range(5), 2):
        outcomes = list(OUTCOMES)
        outcomes[i], outcomes[j] = outcomes[j], outcomes[i]
        broken(outcomes)
    broken(OUTCOMES[::-1])


@pytest.mark.parametrize("i", range(4))
def test_swapped_rounds_break_the_chain_although_signed_anew(i):
    """Two rounds that change places, their numbers too: each still names the outcome that it followed."""
    first, second = (OUTCOMES[i + k].outcome for k in (0, 1))
    swapped = [
        signed(consistent(o.model_copy(update={"context": o.context.model_copy(update={"round": r})})))
        for o, r in ((second, i), (first, i + 1))
    ]
    outcomes = [*OUTCOMES[:i], *swapped, *OUTCOMES[i + 2 :]]
    with pytest.raises(ChainError, match=f"The outcome of round {i} does not follow the one before it"):
        check_chain(outcomes, closed(close(outcomes)), STUDY, ALL)


def test_a_missing_tail_breaks_the_chain():
    for length in range(5):
        broken(OUTCOMES[:length])


def test_a_surplus_tail_breaks_the_chain():
    outcomes, _ = chain_of(6)
    assert outcomes[:5] == OUTCOMES
    broken(outcomes)


def test_another_history_breaks_the_chain():
    others, other_closing = chain_of(5, tag=b"other ")
    check_chain(others, other_closing, STUDY, ALL)
    for i in range(5):
        broken([*OUTCOMES[:i], others[i], *OUTCOMES[i + 1 :]])
        broken(OUTCOMES[:i] + others[i:])
    broken(OUTCOMES, other_closing)


def test_another_study_or_committee_breaks_the_chain():
    broken(OUTCOMES, study=b"t" * 32)
    broken(*chain_of(5, study=b"t" * 32))
    broken(*chain_of(5, keys=STRANGERS))
    broken(OUTCOMES, members=signers(keys=STRANGERS))
    broken(OUTCOMES, members=signers(names=PARTIES[::-1]))


# -- the closing -----------------------------------------------------------------------------------------------------

CLOSING_CHANGED = [
    {"study": b"t" * 32},
    {"rounds": 4},
    {"rounds": 6},
    {"last": OUTCOMES[3].outcome.digest()},
    {"last": b"l" * 32},
    {"model": b"n" * 32},
    {"parties": PARTIES[:2]},
    {"unverified": []},
    {"unverified": [1, 2]},
    {"unverified": [2]},
    {"verifications": b"w" * 32},
    {"verifications": digest_of_verifications([b"v" * 32] * 4)},
]


def test_the_changes_are_of_every_field_of_a_closing():
    assert {field for change in CLOSING_CHANGED for field in change} == set(Closing.model_fields)


@pytest.mark.parametrize("change", CLOSING_CHANGED, ids=str)
def test_a_changed_closing_breaks_the_chain(change):
    closing = CLOSING.closing.model_copy(update=change)
    kept = CLOSING.signatures[: len(closing.parties)]
    broken(OUTCOMES, SignedClosing(closing=closing, signatures=kept), members=TWO)
    broken(OUTCOMES, closed(closing, STRANGERS), members=TWO)
    # The control: signed by the parties, it is up to them what the model and the checks were.
    if not {"study", "rounds", "last"} & set(change):
        check_chain(OUTCOMES, closed(closing), STUDY, TWO)


@pytest.mark.parametrize("change", [{"study": b"t" * 32}, {"rounds": 4}, {"last": b"l" * 32}], ids=str)
def test_a_closing_of_another_chain_breaks_it_although_signed(change):
    broken(OUTCOMES, closed(CLOSING.closing.model_copy(update=change)))


def test_a_closing_is_checked_by_itself_in_the_same_way():
    last = OUTCOMES[4].outcome.digest()
    check_closing(CLOSING, STUDY, 5, last, ALL)
    for study, count, digest in ((b"t" * 32, 5, last), (STUDY, 4, last), (STUDY, 5, b"l" * 32)):
        with pytest.raises(ChainError, match="some are missing or changed"):
            check_closing(CLOSING, study, count, digest, ALL)
    with pytest.raises(ChainError, match="closing record is not signed by every party"):
        check_closing(CLOSING, STUDY, 5, last, signers(keys=STRANGERS))


def test_every_party_must_have_signed_the_closing():
    signatures = CLOSING.signatures
    for wrong in ([], signatures[:2], signatures[::-1], [signatures[0]] * 3, OUTCOMES[4].signatures):
        for members in (ALL, TWO):
            broken(OUTCOMES, CLOSING.model_copy(update={"signatures": wrong}), members=members)


@pytest.mark.parametrize(
    "parties",
    [["left"], [], ["right", "left"], ["left", "left"], ["left", FOREIGN], [*PARTIES, FOREIGN]],
    ids=str,
)
def test_no_other_committee_closes_a_study_although_all_of_it_signed(parties):
    broken(OUTCOMES, closed(close(OUTCOMES, parties=parties)), members=TWO)


# -- the digest over the checks --------------------------------------------------------------------------------------

RECORDS = [hashlib.sha256(b"check %d" % i).digest() for i in range(4)]


def test_the_checks_are_named_by_the_sha256_of_their_kind_and_records():
    for records in ([], [b""], RECORDS, [RECORDS[0], b"", RECORDS[2]]):
        expected = hashlib.sha256(encode(["securefl", "verifications", records])).digest()
        assert digest_of_verifications(records) == expected
        assert digest_of_verifications(tuple(records)) == expected


def test_the_order_of_the_checks_and_the_places_of_the_missing_ones_count():
    orders = [list(order) for order in itertools.permutations(RECORDS)]
    orders += [
        [b"" if i in gap else r for i, r in enumerate(RECORDS)] for gap in ({0}, {1}, {3}, {0, 1, 2, 3})
    ]
    orders += [RECORDS[:3], [*RECORDS, b""], [b"", *RECORDS], [], [b""], [b"".join(RECORDS)]]
    assert len({digest_of_verifications(records) for records in orders}) == len(orders)


@given(*[st.lists(st.binary(max_size=3), max_size=4)] * 2)
def test_two_lists_of_checks_have_one_digest_only_if_they_are_the_same(first, second):
    assert (digest_of_verifications(first) == digest_of_verifications(second)) == (first == second)


# -- bytes -----------------------------------------------------------------------------------------------------------


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
                ALL,
            )


@pytest.mark.parametrize("minimum", [-1, 0, 1])
def test_nobody_is_a_committee_alone(minimum):
    with pytest.raises(ChainError, match="two parties at least"):
        Signers(ALL.parties, minimum)
