"""Terms: what the study asks of its members, and the two encodings."""

from __future__ import annotations

import tomllib

import pytest

from protocols.contribution import RoundContext
from securefl.errors import RefusedError, StudyError
from securefl.roles.terms import STATISTICS, UPDATE, Terms
from securefl.study import Study
from securefl.study.schema import StudySettings


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


@pytest.mark.parametrize("width", [16, 32, 64])
def test_no_sum_of_the_hospitals_can_wrap(theatre, width):
    terms = theatre.cast(5, 2, 3, width).terms
    for encoding in (terms.encoding(UPDATE), terms.encoding(STATISTICS)):
        assert encoding.summands == 5
        assert 5 * encoding.limit < 2 ** (encoding.width - 1)
    assert terms.encoding(UPDATE).width == width
    assert terms.encoding(UPDATE).limit * terms.encoding(UPDATE).resolution >= 4.0
    assert terms.encoding(STATISTICS).limit * terms.encoding(STATISTICS).resolution >= 2.0**40


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
        with pytest.raises(RefusedError) as error:
            terms.check_cohort(cohort, round_)
        assert error.value.reason == code


def test_contexts_of_the_study_pass_and_no_others(theatre):
    terms = theatre.cast().terms
    statistics = RoundContext(
        study=terms.study, round=0, attempt=1, previous=terms.beginning, purpose=STATISTICS, width=64, size=3
    )
    update = statistics.model_copy(update={"round": 1, "purpose": UPDATE, "width": 32, "size": 24})
    terms.check_context(statistics)
    terms.check_context(update)
    for change, code in (
        ({"study": b""}, "other-study"),
        ({"round": terms.rounds + 1}, "other-round"),
        ({"purpose": "something"}, "other-round"),
        ({"attempt": 0}, "other-round"),
        ({"width": 64}, "other-encoding"),
        ({"size": -1}, "other-encoding"),
    ):
        with pytest.raises(RefusedError) as error:
            terms.check_context(update.model_copy(update=change))
        assert error.value.reason == code
