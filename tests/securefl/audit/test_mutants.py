"""Every naive protocol breaks under its attack, and what ships does not."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from securefl.audit import distinguisher
from securefl.audit.claims import CLAIMS
from securefl.audit.mutants import MUTANTS, masks, sums
from securefl.audit.registry import try_mutant
from securefl.domain import sandbox
from tests.guarantees.reached import watched


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Searches are scaled down further than on the command line; a killed role loses nothing, synced or not."""
    monkeypatch.setattr(masks, "SEED_BITS", 11)
    monkeypatch.setattr(sums, "BITS", 7)
    monkeypatch.setattr(distinguisher.games, "__defaults__", (150, 150))
    monkeypatch.setattr(distinguisher.likely, "__defaults__", (150,))
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


@cache
def tried(name):
    """A mutant's trial, made once, and what of its claim's functions the attack on what ships has called."""
    mutant, reached = MUTANTS[name], set()

    def caught():
        with watched(CLAIMS[mutant.claim].where) as called:
            finding = mutant.caught()
        reached.update(called)
        return finding

    return try_mutant(replace(mutant, caught=caught)), reached


@pytest.mark.parametrize("name", MUTANTS)
def test_a_naive_protocol_breaks_and_what_ships_does_not(name):
    trial, reached = tried(name)
    assert trial.breaks.holds, trial.breaks.sentence
    if not trial.caught.shown:
        pytest.skip(trial.caught.sentence)
    assert trial.caught.holds, trial.caught.sentence
    assert trial.breaks.numbers
    assert trial.caught.numbers
    # An attack on something else than what enforces the claim would say nothing of it.
    where = CLAIMS[trial.mutant.claim].where
    assert reached, f"The attack reaches none of {', '.join(where)}."


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)
def test_all_that_enforces_a_claim_is_attacked_or_left_to_a_test(claim):
    trials = [tried(name) for name in claim.mutants]
    if not all(trial.caught.shown for trial, _ in trials):
        pytest.skip("This computer does not let every attack run.")
    reached = set().union(*(reached for _, reached in trials))
    assert set(claim.where) - reached == set(claim.tested), (
        "change the attacks, or what the claim says is tested"
    )


def test_where_there_are_no_walls_confinement_is_not_shown(monkeypatch):
    monkeypatch.setattr(sandbox, "hindrance", lambda: "There are no user namespaces.")
    finding = MUTANTS["runner-as-the-owner"].caught()
    assert (finding.holds, finding.shown) == (False, False)
    assert "cannot show it: a node here reaches another file" in finding.sentence
    assert finding.sentence.endswith("There are no user namespaces.")


def test_control_what_is_called_is_seen():
    names = {f"{__name__}.one", f"{__name__}.other"}
    with watched(names) as called, ThreadPoolExecutor(1) as pool:
        pool.submit(one).result()
    assert called == {f"{__name__}.one"}


def one():
    """Called in another thread."""


def other():
    """Not called."""


def test_generators_are_left_as_they_were():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert try_mutant(MUTANTS["masks-from-torch"]).holds
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert try_mutant(MUTANTS["list-of-one"]).holds
    assert not list(tmp_path.iterdir())


def test_a_wrong_sum_is_really_wrong_and_small_enough_for_32_bits():
    chi = bytes(range(32))
    error = sums.unseen_error(chi, 5)
    assert 0 < np.abs(error).max() < 2**31
    assert sums.integrity.inner_product(chi, error) == 0
