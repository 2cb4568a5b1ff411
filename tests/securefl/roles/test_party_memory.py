"""What a party remembers, and its ledger: one opened cohort for each model."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest

from protocols.contribution import RoundContext
from securefl.errors import EngineError, RefusedError
from securefl.roles.party_memory import MEMORY, SHARE, Attempt, Ledger, OpenedCohort, PartyMemory
from securefl.roles.records import receipt_name
from securefl.roles.terms import INSECURE, STATISTICS, UPDATE

NAMES = ["a", "b", "c", "d", "e"]
KEYS = {name: name.encode() * 32 for name in NAMES}
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
        stored = written(Ledger({}, KEYS), here, opened)
        assert len(stored) == 1
        ledger = Ledger(stored, KEYS)
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
        said.append(refused(Ledger(stored, KEYS), here, list(cohort)))
        if not said[-1]:
            stored.update(written(Ledger(stored, KEYS), here, list(cohort)))
    assert said == ["", *["other-cohort"] * (len(cohorts) - 1)]


def test_a_cohort_is_entered_once(terms):
    here, stored = context(terms), {}
    ledger = Ledger(stored, KEYS)
    stored.update(written(ledger, here, NAMES))
    (data,) = stored.values()
    assert OpenedCohort.from_bytes(data).cohort == KEYS
    assert ledger.enter(here, NAMES) == []  # nothing new to write
    assert not refused(ledger, here, set(NAMES))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"c": b"z" * 32}, "other-cohort"),
        ({"c": KEYS["d"], "d": KEYS["c"]}, "other-cohort"),
        ({"c": b""}, "other-cohort"),
        ({"e": b"z" * 32}, ""),  # it is not in this sum
    ],
)
def test_another_key_is_another_hospital(terms, changed, reason):
    here, cohort = context(terms), NAMES[:4]
    stored = written(Ledger({}, KEYS), here, cohort)
    ledger = Ledger(stored, {**KEYS, **changed})
    assert refused(ledger, here, cohort) == reason
    assert ledger.enter(here, cohort) == []  # what was entered stays


def test_a_refusal_says_whether_the_hospitals_or_their_keys_are_others(terms):
    here, cohort = context(terms), NAMES[:4]
    stored = written(Ledger({}, KEYS), here, cohort)
    with pytest.raises(
        RefusedError, match=r"A sum over hospitals with other keys was opened .* another seed"
    ):
        Ledger(stored, {**KEYS, "c": b"z" * 32}).check(here, cohort)
    with pytest.raises(RefusedError, match=r"A sum over other hospitals was opened .* another seed"):
        Ledger(stored, KEYS).check(here, NAMES)


def test_an_entry_is_the_same_bytes_in_whatever_order_the_hospitals_are(terms):
    # A second process of the party that enters the same cohort at the same moment writes the same.
    here = context(terms)
    entries = {Ledger({}, KEYS).enter(here, order)[0] for order in (NAMES, NAMES[::-1], set(NAMES))}
    assert len(entries) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda _data: b"",
        lambda data: data[:-1],
        lambda data: bytes(len(data)),
        lambda data: data + b"\x00",
        lambda _data: PartyMemory.waiting(bytes(32), 0, bytes(32)).to_bytes(),
    ],
)
def test_a_damaged_entry_is_never_counted_as_nothing(terms, damage):
    here, stored = context(terms), {}
    stored.update(written(Ledger({}, KEYS), here, NAMES))
    ((place, data),) = stored.items()
    stored[place] = damage(data)
    for ask in (Ledger(stored, KEYS).check, Ledger(stored, KEYS).enter):
        with pytest.raises(EngineError, match=f"{place} in the party's ledger is damaged: put back"):
            ask(here, NAMES)
    # The control: of another model nothing was opened.
    assert not refused(Ledger(stored, KEYS), context(terms, model=b"\x01" * 32), NAMES)


def test_it_is_by_model_and_kind_and_over_all_studies(terms):
    here = context(terms)
    ledger, fewer = Ledger(written(Ledger({}, KEYS), here, NAMES), KEYS), NAMES[1:]
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
    ledger = Ledger(stored, KEYS)
    assert not refused(ledger, here, NAMES[1:])
    stored.update(written(Ledger({}, KEYS), here, NAMES))
    assert refused(ledger, here, NAMES[1:])


def test_a_memory_waits_for_a_round_with_nothing_of_the_one_before(terms):
    memory = PartyMemory.waiting(terms.study, 4, bytes(32), 2)
    assert (memory.round, memory.previous, memory.attempt) == (4, bytes(32), 2)
    assert (memory.context, memory.frozen, memory.prepared) == (None, None, None)
    assert (memory.released, memory.closed) == (False, b"")
    assert PartyMemory.from_bytes(memory.to_bytes()) == memory


def test_a_party_that_has_kept_nothing_is_at_the_beginning(terms):
    found = PartyMemory.recalled("uni", terms, {})
    assert found == PartyMemory.waiting(terms.study, 0, terms.beginning)
    kept = PartyMemory.waiting(terms.study, 4, bytes(32), 2)
    assert PartyMemory.recalled("uni", terms, {MEMORY: kept.to_bytes(), receipt_name(3): b"1"}) == kept
    with pytest.raises(RefusedError, match="The memory of uni belongs to another study"):
        PartyMemory.recalled("uni", terms, {MEMORY: PartyMemory.waiting(bytes(32), 0, bytes(32)).to_bytes()})


@pytest.mark.parametrize("left", [receipt_name(0), receipt_name(7), SHARE, "spool-va"])
def test_a_memory_that_has_gone_alone_is_not_begun_anew(terms, left):
    with pytest.raises(
        EngineError, match="The memory of uni has gone, and others of its files are there: put back"
    ):
        PartyMemory.recalled("uni", terms, {left: b"1"})


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, OpenedCohort(cohort=KEYS).to_bytes()])
def test_a_damaged_memory_is_not_begun_anew(terms, data):
    with pytest.raises(EngineError, match="The memory of uni is damaged: put back"):
        PartyMemory.recalled("uni", terms, {MEMORY: data})


def test_each_attempt_has_secrets_of_its_own_and_shows_none(terms):
    attempts = [Attempt(context(terms), NAMES, 1) for _ in range(3)]
    assert len({attempt.coin_part for attempt in attempts}) == 3
    assert len({attempt.key.public for attempt in attempts}) == 3
    for attempt in attempts:
        assert len(attempt.coin_part) == 32
        for secret in (attempt.coin_part, attempt.key.private_bytes()):
            assert secret.hex() not in repr(attempt)
            assert str(secret) not in repr(attempt)
