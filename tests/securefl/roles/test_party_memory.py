"""What a party remembers, and its ledger: no two opened cohorts of one model differ by few."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest

from protocols.contribution import RoundContext
from securefl.errors import RefusedError
from securefl.roles.party_memory import Attempt, Ledger, OpenedCohorts, PartyMemory
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


@pytest.mark.parametrize("colluding", [0, 1, 2, 3])
def test_cohorts_that_an_adversary_could_fill_up_are_refused_and_no_others(terms, colluding):
    # Of the difference of two sums it knows its own hospitals' updates: one more may not be left over.
    terms, here = replace(terms, colluding=colluding), context(terms)
    for opened in SUBSETS:
        stored = {enter.name: enter.data for enter in Ledger(terms, {}).enter(here, opened)}
        assert len(stored) == 1
        ledger = Ledger(terms, stored)
        for cohort in SUBSETS:
            differing = len(set(opened) ^ set(cohort))
            expected = "differs-by-few" if 1 <= differing <= colluding + 1 else ""
            assert refused(ledger, here, cohort) == expected, (opened, cohort)


def test_every_cohort_that_was_opened_counts(terms):
    here, stored = context(terms), {}
    ledger = Ledger(terms, stored)
    for cohort in (NAMES, ["a", "b", "c"], ["a", "b", "c"]):
        for enter in ledger.enter(here, cohort):
            stored[enter.name] = enter.data
    (data,) = stored.values()
    assert OpenedCohorts.from_bytes(data).cohorts == [NAMES, ["a", "b", "c"]]
    assert ledger.enter(here, NAMES) == []  # nothing new to write
    assert refused(ledger, here, NAMES[:4])
    assert refused(ledger, here, ["a", "b"])
    assert not refused(ledger, here, ["a", "e"])


def test_it_is_by_model_and_kind_and_over_all_studies(terms):
    here = context(terms)
    stored = {enter.name: enter.data for enter in Ledger(terms, {}).enter(here, NAMES)}
    ledger, fewer = Ledger(terms, stored), NAMES[1:]
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
    ledger = Ledger(terms, stored)
    assert not refused(ledger, here, NAMES[1:])
    stored.update({enter.name: enter.data for enter in Ledger(terms, {}).enter(here, NAMES)})
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
