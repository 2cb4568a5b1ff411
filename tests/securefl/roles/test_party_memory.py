"""What a party remembers, and its ledger: one opened cohort for each model."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest

from protocols.contribution import RoundContext
from securefl.errors import RefusedError
from securefl.roles.party_memory import Attempt, Ledger, OpenedCohort, PartyMemory
from securefl.roles.terms import INSECURE, STATISTICS, UPDATE

NAMES = ["a", "b", "c", "d", "e"]
SUBSETS = [list(s) for s in chain.from_iterable(combinations(NAMES, n) for n in range(len(NAMES) + 1))]


@pytest.fixture
def terms(theatre):
    return theatre.cast().terms


def context(terms, **fields):
    made = RoundContext(
        study=terms.study,
        round=1,
        attempt=1,
        previous=terms.beginning,
        purpose=UPDATE,
        model=bytes(32),
        parties=list(terms.parties),
        width=32,
        size=24,
    )
    return made.model_copy(update=fields)


def refused(ledger, where, cohort):
    """The code of the refusal; empty if there is none."""
    try:
        ledger.check(where, cohort)
    except RefusedError as error:
        return error.reason
    return ""


def written(ledger, where, cohort):
    return {enter.name: enter.data for enter in ledger.enter(where, cohort)}


def test_any_other_cohort_is_refused_and_the_same_is_not(terms):
    here = context(terms)
    for opened in SUBSETS[1:]:
        stored = written(Ledger({}), here, opened)
        assert len(stored) == 1
        ledger = Ledger(stored)
        for cohort in SUBSETS:
            expected = "" if cohort == opened else "other-cohort"
            assert refused(ledger, here, cohort) == expected, (opened, cohort)


@pytest.mark.parametrize(
    ("cohorts", "weights"),
    [
        (["abc", "ade", "bcde"], [1, 1, -1]),
        (["abc", "abd", "acd", "bcd"], [1, 1, 1, -2]),
    ],
)
def test_sums_of_which_no_two_differ_by_one_would_give_an_update_away(terms, cohorts, weights):
    rows = np.array([[name in cohort for name in NAMES] for cohort in cohorts], dtype=int)
    assert all(np.abs(a - b).sum() >= 2 for a, b in combinations(rows, 2))
    only_a = np.array(weights) @ rows
    assert only_a[0] != 0
    assert not only_a[1:].any()
    here, stored = context(terms), {}
    said = []
    for cohort in cohorts:
        said.append(refused(Ledger(stored), here, list(cohort)))
        if not said[-1]:
            stored.update(written(Ledger(stored), here, list(cohort)))
    assert said == ["", *["other-cohort"] * (len(cohorts) - 1)]


def test_a_cohort_is_entered_once(terms):
    here, stored = context(terms), {}
    ledger = Ledger(stored)
    stored.update(written(ledger, here, NAMES))
    (data,) = stored.values()
    assert OpenedCohort.from_bytes(data).cohort == NAMES
    assert ledger.enter(here, NAMES) == []  # nothing new to write
    assert not refused(ledger, here, set(NAMES))


def test_it_is_by_model_and_kind_and_over_all_studies(terms):
    here = context(terms)
    ledger, fewer = Ledger(written(Ledger({}), here, NAMES)), NAMES[1:]
    for other in (
        context(terms, study=bytes(32)),
        context(terms, previous=bytes(32), attempt=7, round=3),
        context(terms, parties=["party-1", "party-2"]),
        # An insecure run opens sums of the same updates.
        context(terms, purpose=INSECURE + UPDATE),
    ):
        assert refused(ledger, other, fewer), other
    for other in (context(terms, model=b"\x01" * 32), context(terms, round=0, purpose=STATISTICS)):
        assert not refused(ledger, other, fewer), other


def test_a_ledger_that_another_process_has_written_is_read_again(terms):
    # It is a folder that all of a party's studies share; nothing of it is held in memory.
    here, stored = context(terms), {}
    ledger = Ledger(stored)
    assert not refused(ledger, here, NAMES[1:])
    stored.update(written(Ledger({}), here, NAMES))
    assert refused(ledger, here, NAMES[1:])


def test_a_memory_waits_for_a_round_with_nothing_of_the_one_before(terms):
    memory = PartyMemory.waiting(terms.study, 4, bytes(32), 2)
    assert (memory.round, memory.previous, memory.attempt) == (4, bytes(32), 2)
    assert (memory.context, memory.frozen, memory.prepared) == (None, None, None)
    assert (memory.released, memory.closed) == (False, b"")
    assert PartyMemory.from_bytes(memory.to_bytes()) == memory


def test_each_attempt_has_secrets_of_its_own_and_shows_none(terms):
    attempts = [Attempt(context(terms), NAMES, 1) for _ in range(3)]
    assert len({attempt.coin_part for attempt in attempts}) == 3
    assert len({attempt.key.public for attempt in attempts}) == 3
    for attempt in attempts:
        assert len(attempt.coin_part) == 32
        for secret in (attempt.coin_part, attempt.key.private_bytes()):
            assert secret.hex() not in repr(attempt)
            assert str(secret) not in repr(attempt)
