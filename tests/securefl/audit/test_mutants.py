"""Every naive protocol breaks under its attack, and what ships does not."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from securefl.audit import distinguisher
from securefl.audit.mutants import MUTANTS, masks, sums
from securefl.audit.registry import try_mutant


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Searches are scaled down further than on the command line; a killed role loses nothing, synced or not."""
    monkeypatch.setattr(masks, "SEED_BITS", 11)
    monkeypatch.setattr(sums, "BITS", 7)
    monkeypatch.setattr(distinguisher.games, "__defaults__", (150, 150))
    monkeypatch.setattr(distinguisher.likely, "__defaults__", (150,))
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_naive_protocol_breaks_and_what_ships_does_not(name):
    trial = try_mutant(MUTANTS[name])
    assert trial.breaks.holds, trial.breaks.sentence
    assert trial.caught.holds, trial.caught.sentence
    assert trial.breaks.numbers
    assert trial.caught.numbers


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
