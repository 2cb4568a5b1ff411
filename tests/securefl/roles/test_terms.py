"""Terms: what the study asks of its members, the two encodings, and what the norm check is given."""

from __future__ import annotations

import math
import tomllib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.contribution import FrozenList, RoundContext
from protocols.integrity import LARGEST
from protocols.norm_bounds import NormCheck, largest_bound
from protocols.ring import signed
from securefl.errors import RefusedError, StudyError
from securefl.roles.terms import MAX_SIZE, STATISTICS, UPDATE, Terms
from securefl.study import Study
from securefl.study.schema import StudySettings
from securefl.training.trainer import clipped


def altered(study, **tables):
    """The study with other settings in some tables."""
    values = tomllib.loads(study.files["study.toml"].decode())
    for table, keys in tables.items():
        values[table] = {**values.get(table, {}), **keys}
    return Study(study.folder, StudySettings.model_validate(values), study.files)


def test_hospitals_stand_by_name_and_parties_by_rank(theatre):
    terms = theatre.cast(5, 3, 1).terms
    assert list(terms.hospitals) == sorted(terms.hospitals)
    assert list(terms.parties) == ["party-1", "party-2", "party-3"]
    assert terms.collusion_bound == 2
    assert all(len(key) == 32 for key in (*terms.hospitals.values(), *terms.parties.values()))


def refused(code, check, *arguments):
    with pytest.raises(RefusedError) as error:
        check(*arguments)
    assert error.value.reason == code
    return str(error.value)


def test_a_study_that_asks_for_more_than_there_is_is_refused(theatre):
    cast = theatre.cast()
    with pytest.raises(StudyError, match=r"at least 5 hospitals and the consortium has 4"):
        Terms.of(altered(cast.study, cohort={"minimum_hospitals": 5}), cast.consortium)
    with pytest.raises(StudyError, match="collusion_bound must be at most 2"):
        Terms.of(altered(cast.study, committee={"collusion_bound": 3}), cast.consortium)
    lonely = cast.consortium.model_copy(update={"members": cast.consortium.members[2:]})
    with pytest.raises(StudyError, match="fewer than two parties"):
        Terms.of(cast.study, lonely)
    assert (
        Terms.of(altered(cast.study, committee={"collusion_bound": 1}), cast.consortium).collusion_bound == 1
    )


def test_hospitals_have_the_sealing_keys_that_are_pinned(theatre):
    cast = theatre.cast(5, 3, 1)
    assert list(cast.terms.sealing) == list(cast.terms.hospitals)
    for name, key in cast.terms.sealing.items():
        assert key == cast.keys[name].sealing.public


# -- how few parties may go on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("collusion_bound", [None, 1, 2, 3])
@pytest.mark.parametrize("minimum_parties", [None, 2, 3, 4, 5])
def test_a_committee_has_more_parties_than_may_collude(theatre, collusion_bound, minimum_parties):
    """By counting, for four parties; by default all but one may collude, and then all are needed."""
    cast = theatre.cast(4, 4, 1)
    asked = {"collusion_bound": collusion_bound, "minimum_parties": minimum_parties}
    study = altered(cast.study, committee={key: value for key, value in asked.items() if value})
    bound, minimum = collusion_bound or 3, minimum_parties or 4
    if bound < minimum <= 2:
        # Two committees of two have no party in common, which would see that a second sum is opened.
        with pytest.raises(StudyError, match="more than half of the 4 parties"):
            Terms.of(study, cast.consortium)
    elif bound < minimum <= 4:
        terms = Terms.of(study, cast.consortium)
        assert (terms.collusion_bound, terms.minimum_parties) == (bound, minimum)
        assert terms.signers.minimum == minimum
        assert terms.signers.parties == terms.parties
    else:
        says = rf"minimum_parties must be more than the collusion bound, {bound}, and at most 4\."
        with pytest.raises(StudyError, match=says):
            Terms.of(study, cast.consortium)


def context_of(terms, **changes):
    fields = {
        "study": terms.study,
        "round": 1,
        "attempt": 1,
        "previous": bytes(32),
        "purpose": UPDATE,
        "model": bytes(32),
        "parties": list(terms.parties),
        "width": terms.update.width,
        "size": 24,
    }
    return RoundContext(**{**fields, **changes})


def test_the_committee_of_a_round_is_all_parties_unless_the_study_allows_fewer(theatre):
    whole, fewer = theatre.cast().terms, theatre.cast(minimum_parties=2).terms
    one, two, three = whole.parties
    assert (whole.minimum_parties, fewer.minimum_parties) == (3, 2)
    whole.check_committee(context_of(whole))
    for parties in ([one, two], [one, three], [two, three], [one, two, three]):
        fewer.check_committee(context_of(fewer, parties=parties))
    for parties in ([one, two], [two, three], []):
        line = refused("other-parties", whole.check_committee, context_of(whole, parties=parties))
        assert "too small: the study wants 3" in line
    for terms in (whole, fewer):
        for parties in (
            [three, two, one],
            [two, one],
            [one, one, two],
            [one, two, three, "party-4"],
            ["party-4", one, two],
            [one, "b"],  # a hospital
            [one, two.upper()],
        ):
            line = refused("other-parties", terms.check_committee, context_of(terms, parties=parties))
            assert "not a party, or not in the order of the ranks" in line
    refused("other-parties", fewer.check_committee, context_of(fewer, parties=[one]))


# -- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [16, 32, 64])
def test_no_sum_of_the_hospitals_can_wrap(theatre, width):
    terms = theatre.cast(5, 2, 3, width).terms
    for encoding in (terms.encoding(UPDATE), terms.encoding(STATISTICS)):
        assert 5 * encoding.limit < 2 ** (encoding.width - 1)
        if encoding.width == 64:  # a sum's check takes numbers below 2^60 only
            assert 5 * encoding.limit <= LARGEST
        else:
            assert encoding.summands == 5
    assert terms.encoding(UPDATE).width == width
    assert terms.encoding(UPDATE).limit * terms.encoding(UPDATE).resolution >= 4.0
    assert terms.encoding(STATISTICS).limit * terms.encoding(STATISTICS).resolution >= 2.0**40


def with_bound(theatre, width, norm_bound, bound=4.0, hospitals=5):
    """Terms with a norm check; keys are made once for each width."""
    cast = theatre.cast(hospitals, 2, 3, width, 1.0)
    study = altered(cast.study, aggregation={"norm_bound": norm_bound, "bound": bound})
    return Terms.of(study, cast.consortium)


def finest_by_hand(width, norm_bound, bound, hospitals):
    """The largest f of 62 and less for which sums do not wrap, and the bound is half of what can be checked."""
    most = (2 ** (width - 1) - 1) // (hospitals * (8 if width == 64 else 1))
    coordinate, norm = Fraction(min(bound, norm_bound)), Fraction(norm_bound)
    return max(
        f
        for f in range(-20, 63)
        if math.ceil(coordinate * Fraction(2) ** f) <= most
        and norm * Fraction(2) ** f <= Fraction(largest_bound(width, MAX_SIZE), 2)
    )


@pytest.mark.parametrize("bound", [4.0, 0.25, 2.0**20])
@pytest.mark.parametrize("norm_bound", [2.0**-40, 0.001, 0.75, 1.0, 3.0, 100.0, 2.0**20])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_norm_bound_makes_the_encoding_as_fine_as_can_be_checked(theatre, width, norm_bound, bound):
    terms = with_bound(theatre, width, norm_bound, bound)
    assert terms.norm_bound == norm_bound
    encoding = terms.update
    assert encoding.width == width
    assert encoding.fraction_bits == finest_by_hand(width, norm_bound, bound, 5)
    assert 5 * encoding.limit <= (LARGEST if width == 64 else 2 ** (width - 1) - 1)
    assert encoding.limit * encoding.resolution >= min(bound, norm_bound)
    assert terms.statistics == theatre.cast(5, 2, 3, width).terms.statistics


def test_control_without_a_norm_bound_the_encoding_is_finer(theatre):
    for width, bits in ((16, 10), (32, 26), (64, 55)):
        assert theatre.cast(5, 2, 3, width).terms.update.fraction_bits == bits
    assert [with_bound(theatre, w, 1.0).update.fraction_bits for w in (16, 32, 64)] == [8, 23, 23]


# -- the norm check --------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    width=st.sampled_from([16, 32, 64]),
    norm_bound=st.floats(2.0**-20, 2.0**10),
    size=st.integers(1, 3000),
    decay=st.floats(0, 3),
)
def test_a_clipped_update_is_never_too_long_once_it_is_encoded(theatre, seed, width, norm_bound, size, decay):
    terms = with_bound(theatre, width, norm_bound, bound=2.0**20)
    shape = np.random.default_rng(seed).normal(size=size) / np.arange(1, size + 1) ** decay
    update = clipped(shape * 1e6 * norm_bound, norm_bound)
    encoded = signed(terms.update.encode(update)).tolist()
    norm_squared = sum(x * x for x in encoded)
    assert norm_squared <= terms.integer_norm_bound(size) ** 2
    if terms.integer_norm_bound(size) > 200 * math.sqrt(size):  # the bound is tight where rounding is small
        assert norm_squared >= (0.99 * terms.integer_norm_bound(size)) ** 2


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("norm_bound", [2.0**-20, 0.3, 7.0, 2.0**20])
def test_the_worst_rounding_stays_below_the_integer_bound(theatre, width, norm_bound):
    """Every coordinate half a step off, all in one direction: ||u|| + sqrt(D) / 2 and no more."""
    terms = with_bound(theatre, width, norm_bound, bound=2.0**20)
    units = Fraction(norm_bound) * Fraction(2) ** terms.update.fraction_bits
    for size in (1, 24, 10**6, 10**9):
        bound = terms.integer_norm_bound(size)
        assert isinstance(bound, int)
        assert bound >= float(units) + math.sqrt(size) / 2
        assert bound <= float(units) * (1 + 2**-39) + math.sqrt(size) / 2 + 1


def test_what_is_checked_is_the_integer_bound_of_updates_and_nothing_else(theatre):
    terms = with_bound(theatre, 32, 1.0)
    for size in (1, 24, 160, 161, 10**6, 10**9):
        check = terms.norm_check(UPDATE, size)
        assert check == NormCheck.for_bound(size, 32, terms.integer_norm_bound(size))
        assert (check.size, check.width, check.direct) == (size, 32, size <= 160)
        assert terms.norm_check(STATISTICS, size) is None
        assert theatre.cast(5, 2, 3, 32).terms.norm_check(UPDATE, size) is None


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("norm_bound", [2.0**-40, 1.0, 1.7, 2.0**20])
def test_the_rings_of_32_and_64_bits_carry_the_check_of_every_size(theatre, width, norm_bound):
    terms = with_bound(theatre, width, norm_bound, bound=2.0**20)
    for size in (1, 160, 161, 10**6, 10**9):
        assert terms.norm_check(UPDATE, size).bound <= largest_bound(width, size)
    # One seed is expanded to so many random bits and no more.
    with pytest.raises(StudyError, match=r"norm bound cannot be checked\. .*take a smaller model"):
        terms.norm_check(UPDATE, MAX_SIZE)
    refused("other-encoding", terms.check_context, context_of(terms, size=MAX_SIZE))


def test_a_ring_of_16_bits_carries_the_check_of_small_models_only(theatre):
    terms = with_bound(theatre, 16, 1.0)
    # 256 units, and 865 can be checked: sqrt(D) / 2 may be 608.
    assert terms.integer_norm_bound(10**6) == 757
    assert terms.norm_check(UPDATE, 10**6).bound == 757
    assert largest_bound(16, MAX_SIZE) == 865
    with pytest.raises(StudyError, match=r"norm bound cannot be checked\. .*take a ring of 32 bits"):
        terms.norm_check(UPDATE, 2 * 10**6)
    terms.check_context(context_of(terms, size=10**6))
    line = refused("other-encoding", terms.check_context, context_of(terms, size=2 * 10**6))
    assert "take a ring of 32 bits" in line


def test_norms_are_checked_with_a_dealer_and_the_whole_committee_only(theatre):
    with_dealer, without = theatre.cast(5, 3, 1, 32, 1.0), theatre.cast(5, 3, 1, 32)
    norms = {"norm_bound": 1.0}
    asked = altered(without.study, aggregation=norms)
    assert with_dealer.consortium.dealer is not None
    assert Terms.of(asked, with_dealer.consortium).norm_bound == 1.0
    with pytest.raises(StudyError, match=r"norm_bound needs a dealer: .* \(--dealer\)"):
        Terms.of(asked, without.consortium)
    fewer = {"collusion_bound": 1, "minimum_parties": 2}
    with pytest.raises(StudyError, match="norm_bound needs the whole committee"):
        Terms.of(altered(without.study, aggregation=norms, committee=fewer), with_dealer.consortium)
    whole = altered(without.study, aggregation=norms, committee={"collusion_bound": 1, "minimum_parties": 3})
    assert Terms.of(whole, with_dealer.consortium).minimum_parties == 3
    # The controls: fewer parties without a norm bound, and a dealer whom nobody asks.
    assert Terms.of(altered(without.study, committee=fewer), with_dealer.consortium).minimum_parties == 2
    terms = Terms.of(without.study, with_dealer.consortium)
    assert terms.norm_bound is None
    assert "dealer" not in {*terms.parties, *terms.hospitals, *terms.sealing}


def test_in_an_insecure_run_nobody_checks_norms_and_every_context_says_so(theatre):
    cast, without = theatre.cast(5, 3, 1, 32, 1.0), theatre.cast(5, 3, 1, 32)
    checked, unchecked = (Terms.of(cast.study, cast.consortium, unchecked=u) for u in (False, True))
    assert (checked.unchecked, unchecked.unchecked) == (False, True)
    assert unchecked.norm_bound is None
    assert unchecked.norm_check(UPDATE, 24) is None
    assert unchecked.norm_check(unchecked.purpose(1), 24) is None
    assert checked.norm_check(checked.purpose(1), 24) is not None
    # The same study with the same encodings: the sums are the same integers.
    assert (unchecked.study, unchecked.statistics, unchecked.update) == (
        checked.study,
        checked.statistics,
        checked.update,
    )
    assert [checked.purpose(r) for r in (0, 1, 2)] == [STATISTICS, UPDATE, UPDATE]
    assert [unchecked.purpose(r) for r in (0, 1, 2)] == [
        "insecure-unchecked-statistics",
        "insecure-unchecked-update",
        "insecure-unchecked-update",
    ]
    for terms, other in ((checked, unchecked), (unchecked, checked)):
        for round_, encoding in ((0, terms.statistics), (1, terms.update)):
            assert terms.encoding(terms.purpose(round_)) == encoding
            context = context_of(terms, round=round_, purpose=terms.purpose(round_), width=encoding.width)
            terms.check_context(context)
            refused("other-round", other.check_context, context)
    # It needs no dealer, and asks for everything else.
    asked = altered(without.study, aggregation={"norm_bound": 1.0})
    assert Terms.of(asked, without.consortium, unchecked=True).norm_bound is None
    with pytest.raises(StudyError, match="collusion_bound must be at most 2"):
        Terms.of(altered(without.study, committee={"collusion_bound": 3}), without.consortium, unchecked=True)


# -- cohorts, lists, contexts ----------------------------------------------------------------------------------------


def test_the_statistics_are_over_everyone_and_updates_over_the_minimum(theatre):
    terms = theatre.cast().terms
    names = sorted(terms.hospitals)
    assert (terms.least(0), terms.least(1)) == (4, 2)
    terms.check_cohort(names, 0)
    terms.check_cohort(names[:2], 3)
    for cohort, round_, code in (
        (names[:3], 0, "too-few-hospitals"),
        (names[:1], 1, "too-few-hospitals"),
        (names[::-1], 1, "unknown-hospital"),
        ([*names, "zz"], 1, "unknown-hospital"),
    ):
        refused(code, terms.check_cohort, cohort, round_)


def list_of(cohort, given, absent=None):
    missing = {name: "no-answer" for name in cohort if name not in given}
    return FrozenList(
        context=bytes(32),
        cohort=cohort,
        contributions=dict.fromkeys(given, b"d" * 32),
        absent=missing if absent is None else absent,
    )


def test_a_list_accounts_for_its_cohort_and_is_long_enough(theatre):
    terms = theatre.cast().terms
    names = sorted(terms.hospitals)
    terms.check_list(list_of(names, names), names, 0)
    for some in (names, names[1:], names[:2]):
        terms.check_list(list_of(names, some), names, 1)
        terms.check_list(list_of(names[:3], some[:2]), names[:3], 1)
    refused("too-few-hospitals", terms.check_list, list_of(names, names[:1]), names, 1)
    refused("too-few-hospitals", terms.check_list, list_of(names, []), names, 1)
    refused("too-few-hospitals", terms.check_list, list_of(names, names[:3]), names, 0)


@pytest.mark.parametrize("round_", [0, 1])
def test_a_list_that_does_not_account_for_the_cohort_is_refused(theatre, round_):
    terms = theatre.cast().terms
    names = sorted(terms.hospitals)
    first, last = names[0], names[-1]
    for frozen in (
        list_of(names[:3], names[:3]),  # another cohort than was asked
        list_of(names[::-1], names),
        list_of([*names, last], names),
        list_of([*names, "zz"], [*names, "zz"]),
        list_of([], []),
        list_of(names, names[1:], {}),  # nobody says what became of the first
        list_of(names, names, {first: "no-answer"}),  # in the sum and absent
        list_of(names, names[1:], {first: "no-answer", "zz": "declined"}),
        list_of(names, names, {"zz": "declined"}),
        list_of(names, [*names[1:], "zz"], {first: "no-answer"}),
        list_of(names, [*names[1:], "zz"], {}),
    ):
        line = refused("other-list", terms.check_list, frozen, names, round_)
        assert line == "The list does not account for every hospital of the cohort."


@pytest.mark.parametrize(
    "why",
    ["", "No answer", "no_answer", "no-answer\n", "a" * 33, "\x1b[2J", "-", "ja\u202e", "A" * 5_000_000],
    ids=lambda why: ascii(why[:40]),
)
def test_a_list_that_says_why_somebody_is_absent_in_more_than_a_word_is_refused(theatre, why):
    terms = theatre.cast().terms
    names = sorted(terms.hospitals)
    line = refused("other-list", terms.check_list, list_of(names, names[1:], {names[0]: why}), names, 1)
    assert line == "The list says why a hospital is absent in more than a fixed word."


def test_a_list_of_strangers_is_refused_although_they_were_asked(theatre):
    terms = theatre.cast().terms
    strangers = [*sorted(terms.hospitals)[:3], "zz"]
    refused("unknown-hospital", terms.check_list, list_of(strangers, strangers), strangers, 1)


def test_contexts_of_the_study_pass_and_no_others(theatre):
    terms = theatre.cast().terms
    update = context_of(terms)
    statistics = context_of(terms, round=0, previous=terms.beginning, purpose=STATISTICS, width=64, size=3)
    terms.check_context(statistics)
    terms.check_context(update)
    terms.check_context(update.model_copy(update={"size": MAX_SIZE}))
    for change, code in (
        ({"study": b""}, "other-study"),
        ({"round": terms.rounds + 1}, "other-round"),
        ({"round": -1}, "other-round"),
        ({"round": 0}, "other-round"),
        ({"purpose": "something"}, "other-round"),
        ({"attempt": 0}, "other-round"),
        ({"width": 64}, "other-encoding"),
        ({"size": -1}, "other-encoding"),
        ({"size": 0}, "other-encoding"),
        ({"size": MAX_SIZE + 1}, "other-encoding"),
    ):
        refused(code, terms.check_context, update.model_copy(update=change))
