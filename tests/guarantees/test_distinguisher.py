"""A distinguisher that is trained on views of P - 1 parties, and what it learns: of the shipped protocol, nothing.

Its accuracy on new views is compared with that of fair coins, which exceed the limit at most once in 10^9; this file
asks fewer than 20 times. The controls are protocols that leak, the published ones among them, and a leak as weak as
the test can see.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import binom

from protocols.prg import new_seed
from protocols.sharing import Shape, add_share, share, zeros
from securefl.audit import distinguisher
from securefl.audit.distinguisher import (
    ALPHA,
    HONEST,
    PARTIES,
    SIZE,
    TESTS,
    WIDTH,
    Distinguisher,
    accuracy,
    games,
    likely,
    mask_of,
    real,
    same_sums,
    simulated,
)
from securefl.audit.mutants import views


def test_the_limit_is_that_of_a_fair_coin():
    right = round(likely(TESTS) * TESTS)
    assert binom.sf(right - 1, TESTS, 0.5) > ALPHA >= binom.sf(right, TESTS, 0.5)
    # What the claim says of its power.
    assert binom.cdf(right, TESTS, 0.75) < 1e-6


def test_two_inputs_differ_and_have_the_same_sums():
    first, second = same_sums()
    assert (first != second).mean() > 0.99
    assert np.array_equal(first.sum(axis=1, dtype=np.uint32), second.sum(axis=1, dtype=np.uint32))


def test_a_simulated_view_fits_the_sums_as_a_real_one_does():
    first, _ = same_sums()
    sums = first.sum(axis=1, dtype=np.uint32)
    for view in (real(first, distinguisher.shipped), simulated(sums)):
        assert np.array_equal(view.rests.sum(axis=1, dtype=np.uint32) + view.openings, sums)


def test_the_distinguisher_guesses_like_a_coin():
    for found in games(distinguisher.shipped):
        assert found <= likely()


def colluding(holder, honest):
    """What ships, seen by all but one party, where ``holder`` has the explicit share."""

    def rest(x, context):
        plaintexts = share(x, PARTIES, holder, context)
        total = zeros(Shape(SIZE, WIDTH))
        for party in set(range(PARTIES)) - {honest}:
            add_share(total, plaintexts[party], party, context)
        return total

    return rest


@pytest.mark.parametrize(("holder", "honest"), [(1, 2), (2, 0)])
def test_it_guesses_like_a_coin_whoever_colludes(holder, honest):
    for found in games(lambda: colluding(holder, honest), train=100, tests=240):
        assert found <= likely(240)


@pytest.mark.parametrize(
    "leaking",
    [
        views.short_seeds,
        views.one_scalar,
        views.one_mask_for_a_study,
        views.keys_of_the_server,
        views.half_a_mask,
    ],
)
def test_control_a_leaking_protocol_is_told_apart(leaking):
    assert min(games(leaking, train=150, tests=100)) >= views.WELL_ABOVE


def test_control_a_weak_leak_is_learnt():
    # One view in two is masked by a number only: the other half must be guessed, which makes three in four.
    def half_the_time():
        leaks = np.random.default_rng(int.from_bytes(new_seed()[:4])).random() < 0.5
        return views.one_scalar() if leaks else distinguisher.shipped()

    first, _ = same_sums()
    origins = [partial(real, first, half_the_time), lambda: simulated(first.sum(axis=1, dtype=np.uint32))]
    assert accuracy(Distinguisher([first]), origins, 400, TESTS) > likely()


def test_control_it_learns_nothing_of_two_simulators():
    first, _ = same_sums()
    sums = first.sum(axis=1, dtype=np.uint32)
    origins = [lambda: simulated(sums), lambda: simulated(sums)]
    assert accuracy(Distinguisher([first]), origins) <= likely()


def test_the_mask_that_is_tried_is_the_one_that_ships():
    x, context = np.arange(SIZE, dtype=np.uint32), b"context"
    seed = bytes(share(x, PARTIES, 0, context)[HONEST][:-1])
    total = zeros(Shape(SIZE, WIDTH))
    add_share(total, seed + b"\0", HONEST, context)
    assert np.array_equal(mask_of(seed, context), total)
