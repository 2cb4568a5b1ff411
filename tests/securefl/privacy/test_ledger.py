"""A hospital's privacy ledger on real files: budgets and promises, crashes, two studies, damage."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from protocols.noise import party_variance
from securefl.audit.mutants.patients import CHOICES, chosen_delta
from securefl.errors import RefusedError
from securefl.privacy import (
    Budget,
    Epsilon,
    LedgerError,
    Mechanism,
    Occasion,
    PrivacyError,
    PrivacyLedger,
    charge_name,
    dataset_name,
    multiplier_for,
    spent,
)
from securefl.privacy.accounting import Step, composed
from securefl.roles.host import Store

DELTA, DATASET, ROUNDS = 1e-5, "fed-heart", 12
PROMISE = Budget(epsilon=2.0, delta=DELTA)
STUDY, OTHER = b"s" * 32, b"o" * 32


def a_mechanism(q, z, unit="patient"):
    return Mechanism(unit, q, 2**16, party_variance(2**16, z, 3, 1), 3, 1, 1000)


@pytest.fixture(scope="module")
def mechanism():
    """Calibrated so that ``ROUNDS`` attempts reach the promise."""
    return a_mechanism(0.2, multiplier_for(0.2, ROUNDS, PROMISE.epsilon, DELTA))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "privacy")


def at(round_, attempt=1, study=STUDY, announcement=None):
    return Occasion(study, round_, attempt, announcement or bytes([round_, attempt]) * 16)


def charge(ledger, store, mechanism, occasion, promise=PROMISE):
    ledger.check(mechanism, occasion, promise)
    store.put(*ledger.enter(mechanism, occasion))


def rounds_until_refused(ledger, store, mechanism, promise=PROMISE, study=STUDY, first=1):
    for round_ in range(first, 200):
        try:
            charge(ledger, store, mechanism, at(round_, study=study), promise)
        except RefusedError as error:
            return (round_ - first if error.reason == "budget-exceeded" else -1), str(error)
    raise AssertionError("nothing was ever refused")


def test_the_promise_is_reached_exactly(mechanism, store):
    done, sentence = rounds_until_refused(PrivacyLedger(DATASET, store), store, mechanism)
    assert done == ROUNDS
    assert len(store) == ROUNDS
    one_more = spent(mechanism, ROUNDS + 1, DELTA, 1)
    for figure in (DATASET, f"{one_more.pld:.4g}", f"{one_more.rdp:.4g}", "13 attempts", "promises is 2"):
        assert figure in sentence
    total = PrivacyLedger(DATASET, store).total(DELTA)
    assert total.pld == pytest.approx(spent(mechanism, ROUNDS, DELTA, 1).pld, rel=1e-9)
    assert total.pld <= PROMISE.epsilon
    # The stored curves are rounded up, and by little.
    assert 0 <= total.rdp - spent(mechanism, ROUNDS, DELTA, 1).rdp < 1e-6


def test_the_hospital_s_budget_is_the_smaller_one(mechanism, store):
    budget = Budget(epsilon=1.0, delta=DELTA)
    done, sentence = rounds_until_refused(PrivacyLedger(DATASET, store, budget), store, mechanism)
    assert 0 < done < ROUNDS
    assert spent(mechanism, done, DELTA, 1).pld <= 1.0 < spent(mechanism, done + 1, DELTA, 1).pld
    assert "this hospital sets is 1" in sentence
    # Raised, it lets the study go on from there, to its own promise and no further.
    raised = PrivacyLedger(DATASET, store, Budget(epsilon=3.0, delta=DELTA))
    assert rounds_until_refused(raised, store, mechanism, first=done + 1)[0] == ROUNDS - done


def test_a_study_without_a_promise_is_held_by_the_budget_alone(mechanism, store):
    ledger = PrivacyLedger(DATASET, store, PROMISE)
    assert rounds_until_refused(ledger, store, mechanism, promise=None)[0] == ROUNDS
    for round_ in range(50, 80):  # and without a budget by nothing
        charge(PrivacyLedger(DATASET, store), store, mechanism, at(round_), promise=None)


def test_two_studies_on_one_dataset_add_up(mechanism, store):
    budget = Budget(epsilon=2.5, delta=DELTA)
    other = a_mechanism(1.0, 12.0)
    first, second = (PrivacyLedger(DATASET, store, budget) for _ in range(2))
    for round_ in range(1, 9):
        charge(first, store, mechanism, at(round_))
    promise = Budget(epsilon=100.0, delta=DELTA)
    done, _ = rounds_until_refused(second, store, other, promise, OTHER)

    def both(attempts):
        return composed(((Step.of(mechanism, 1), 8), (Step.of(other, 1), attempts)), DELTA)

    # By a filter, whose figure lies above those of attempts that nobody chose by what was opened.
    assert both(done).pld < both(done).rdp <= 2.5 < both(done + 2).rdp
    empty = Sink()
    alone, _ = rounds_until_refused(PrivacyLedger("else", empty, budget), empty, other, promise, OTHER)
    assert alone > done
    # The first study sees what the second has spent, though its ledger was opened before.
    with pytest.raises(RefusedError, match="this hospital sets"):
        first.check(mechanism, at(9), PROMISE)
    # What a study promises counts its own charges only, and each study's are found again.
    assert first.total(DELTA, study=STUDY).pld == pytest.approx(spent(mechanism, 8, DELTA, 1).pld)
    assert [len(first.charges(study)) for study in (STUDY, OTHER, None)] == [8, done, 8 + done]
    assert [c.number for c in first.charges()] == list(range(8 + done))


def test_a_study_that_is_chosen_by_what_the_first_one_gave_cannot_pass_the_budget():
    """(C) Each choice alone composes to less than the budget; the chooser makes more than twice its delta.

    The second mechanism is the worst of seven for the outcome x of the first. The exact delta at the budget's epsilon
    is an integral over x of Gaussians, computed here without the accountant.
    """
    budget = Budget(epsilon=3.0, delta=DELTA)
    first = a_mechanism(1.0, 1.6)
    admitted = []
    for q, z in CHOICES:
        second, entries = a_mechanism(q, z), Sink()
        ledger = PrivacyLedger(DATASET, entries, budget)
        charge(ledger, entries, first, at(1), promise=None)
        fixed = composed(((Step.of(first, 1), 1), (Step.of(second, 1), 1)), DELTA).pld
        with suppress(RefusedError):
            charge(ledger, entries, second, at(1, study=OTHER), promise=None)
            admitted.append((q, z))
        assert fixed <= 3.0  # what was compared before: every one would have been let in
    assert chosen_delta(1.6, CHOICES, 3.0) > 2 * DELTA  # the control
    assert chosen_delta(1.6, admitted, 3.0) <= DELTA


class Sink(dict):
    """Entries in memory."""

    def put(self, name, data):
        self[name] = data


def test_another_dataset_has_an_account_of_its_own(mechanism, store):
    ledger, other = (PrivacyLedger(name, store, PROMISE) for name in (DATASET, "/srv/mri"))
    assert rounds_until_refused(ledger, store, mechanism)[0] == ROUNDS
    assert other.total(DELTA) == Epsilon(0.0, 0.0)
    charge(other, store, mechanism, at(1))
    assert len(other.charges()) == 1
    assert len(ledger.charges()) == ROUNDS


def test_a_charge_is_made_once_whenever_the_process_dies(mechanism, store):
    # The charge is on the disk, the contribution has not left; a new process answers the same announcement.
    charge(PrivacyLedger(DATASET, store), store, mechanism, at(1))
    before = {name: store[name] for name in store}
    for _ in range(3):
        ledger = PrivacyLedger(DATASET, store, Budget(epsilon=1e-3, delta=DELTA))
        ledger.check(mechanism, at(1), PROMISE)  # costs nothing more, whatever the budget is by now
        assert ledger.enter(mechanism, at(1)) == next(iter(before.items()))
        store.put(*ledger.enter(mechanism, at(1)))
    assert {name: store[name] for name in store} == before
    # Before the charge is on the disk nothing has left, and nothing is charged.
    PrivacyLedger(DATASET, store).enter(mechanism, at(2))
    assert PrivacyLedger(DATASET, store).total(DELTA).pld == spent(mechanism, 1, DELTA, 1).pld


def test_a_charge_stands_though_its_contribution_never_left(mechanism, store):
    ledger = PrivacyLedger(DATASET, store)
    for attempt in range(1, ROUNDS + 1):
        charge(ledger, store, mechanism, at(1, attempt))
    with pytest.raises(RefusedError):
        PrivacyLedger(DATASET, store).check(mechanism, at(2), PROMISE)


def test_a_study_that_is_run_again_is_charged_again(mechanism, store):
    # The same study, round and attempt, from another announcement: other noise, another sum.
    for run in range(1, ROUNDS + 1):
        charge(PrivacyLedger(DATASET, store), store, mechanism, at(1, announcement=bytes([run]) * 32))
    with pytest.raises(RefusedError, match="promises"):
        PrivacyLedger(DATASET, store).check(mechanism, at(1, announcement=b"x" * 32), PROMISE)


def test_one_announcement_is_not_answered_by_two_mechanisms(mechanism, store):
    ledger = PrivacyLedger(DATASET, store)
    charge(ledger, store, mechanism, at(1))
    for act in (ledger.enter, lambda m, o: ledger.check(m, o, PROMISE)):
        with pytest.raises(LedgerError, match="round 1"):
            act(replace(mechanism, party_variance=mechanism.party_variance // 2), at(1))


def test_a_hospital_s_charge_counts_for_its_patients_and_not_the_other_way_round(store):
    for_hospital, for_patient = a_mechanism(0.5, 30.0, "hospital"), a_mechanism(0.5, 30.0)
    promise = Budget(epsilon=1.0, delta=DELTA, unit="hospital")
    ledger = PrivacyLedger(DATASET, store, Budget(epsilon=1.0, delta=DELTA))
    charge(ledger, store, for_hospital, at(1), promise)
    assert ledger.total(DELTA, "hospital").pld == spent(for_hospital, 1, DELTA, 1).pld
    doubled = composed(((Step.of(for_hospital, 1).doubled(), 1),), DELTA)
    assert ledger.total(DELTA) == doubled
    assert doubled.pld > ledger.total(DELTA, "hospital").pld
    charge(ledger, store, for_patient, at(2))
    assert ledger.total(DELTA, "hospital") == Epsilon(math.inf, math.inf)
    assert ledger.total(DELTA).pld < math.inf
    of_hospitals = PrivacyLedger(DATASET, store, Budget(epsilon=9.0, delta=DELTA, unit="hospital"))
    with pytest.raises(RefusedError, match="epsilon inf"):
        of_hospitals.check(for_hospital, at(3), promise)
    with pytest.raises(PrivacyError, match="promises"):
        ledger.check(for_hospital, at(3), PROMISE)


def test_refusals_that_may_happen_are_taken_off_the_budget(mechanism, store):
    ledger, extra = PrivacyLedger(DATASET, store, PROMISE), 2.0**-20
    for round_ in range(1, 6):
        ledger.check(mechanism, at(round_), PROMISE, extra)
        store.put(*ledger.enter(mechanism, at(round_), extra))
    assert ledger.total(DELTA).pld == pytest.approx(spent(mechanism, 5, DELTA, 1, extra).pld)
    assert ledger.total(DELTA).pld > spent(mechanism, 5, DELTA, 1).pld
    # Half of delta is gone with them: not as many rounds fit as were calibrated for.
    assert (
        spent(mechanism, 8, DELTA, 1, extra).pld <= PROMISE.epsilon < spent(mechanism, 9, DELTA, 1, extra).pld
    )
    for round_ in range(6, 9):
        ledger.check(mechanism, at(round_), PROMISE, extra)
        store.put(*ledger.enter(mechanism, at(round_), extra))
    with pytest.raises(RefusedError, match="9 attempts"):
        ledger.check(mechanism, at(9), PROMISE, extra)


@pytest.fixture
def filled(mechanism, store):
    ledger = PrivacyLedger(DATASET, store)
    for round_ in range(1, 5):
        charge(ledger, store, mechanism, at(round_))
    return ledger


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def stops(store, mechanism, named):
    """A new process neither checks, nor charges, nor counts."""
    for act in (
        lambda ledger: ledger.check(mechanism, at(9), PROMISE),
        lambda ledger: ledger.enter(mechanism, at(9)),
        lambda ledger: ledger.total(DELTA),
        lambda ledger: ledger.charges(),
    ):
        with pytest.raises(LedgerError, match=named):
            act(PrivacyLedger(DATASET, store))


@pytest.mark.parametrize(
    "damage",
    [truncate, flip, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\xa0" * 400)],
)
def test_a_damaged_entry_stops_the_hospital(filled, store, mechanism, damage):
    PrivacyLedger(DATASET, store).check(mechanism, at(9), PROMISE)
    name = charge_name(DATASET, at(2))
    damage(store.path(name))
    stops(store, mechanism, name)


def test_an_entry_under_another_name_stops_the_hospital(filled, store, mechanism):
    name, elsewhere = charge_name(DATASET, at(2)), charge_name(DATASET, at(7))
    store.path(name).rename(store.path(elsewhere))
    stops(store, mechanism, elsewhere)


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_a_missing_entry_stops_the_hospital(filled, store, mechanism, round_):
    store.path(charge_name(DATASET, at(round_))).unlink()
    stops(store, mechanism, "lacks an entry")
    # A ledger that has seen it knows its name.
    with pytest.raises(LedgerError, match=charge_name(DATASET, at(round_))):
        filled.check(mechanism, at(9), PROMISE)


def test_a_file_of_another_kind_stops_the_hospital(filled, store, mechanism):
    store.put("notes", b"x")
    stops(store, mechanism, "notes")


def test_the_rounds_of_a_long_study_cost_little(store, mechanism, monkeypatch):
    from securefl.privacy import accounting

    composed_so_often = []
    compose = accounting._composition
    monkeypatch.setattr(
        accounting, "_composition", lambda *args: composed_so_often.append(args) or compose(*args)
    )
    finer, entries = replace(mechanism, party_variance=mechanism.party_variance * 40), Sink()
    ledger = PrivacyLedger(DATASET, entries)
    for round_ in range(1, 200):
        charge(ledger, entries, finer, at(round_))
    assert 0 < len(composed_so_often) <= 9  # one for each power of two


def test_a_dataset_is_named_by_where_it_lies(tmp_path):
    folder, link = tmp_path / "mri", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    named = {
        dataset_name(SimpleNamespace(source=source), root)
        for source in ("npz", "imaging")
        for root in (folder, link, tmp_path / "mri" / ".." / "mri")
    }
    assert named == {str(folder)}
    assert dataset_name(SimpleNamespace(source="fed-heart"), None) == "fed-heart"
    assert dataset_name(SimpleNamespace(source="npz"), tmp_path) != str(folder)
