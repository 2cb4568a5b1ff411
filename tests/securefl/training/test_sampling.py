"""Poisson sampling: each unit by itself, at the rate, and by nothing that anybody could repeat."""

from __future__ import annotations

import inspect
import os
import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from securefl.errors import StudyError
from securefl.training import sampling
from securefl.training.sampling import poisson_sample

UNLIKELY = 1e-6
"""A statistical test fails so rarely by chance."""


def draws(units, rate, times):
    drawn = np.zeros((times, units), dtype=bool)
    for row in drawn:
        row[poisson_sample(units, rate)] = True
    return drawn


@given(units=st.integers(0, 200), rate=st.floats(0, 1, exclude_min=True))
def test_positions_are_valid_and_ascend(units, rate):
    drawn = poisson_sample(units, rate)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    assert not len(drawn) or (drawn[0] >= 0 and drawn[-1] < units)


@pytest.mark.parametrize("rate", [2.0**-12, 0.1, 1 / 3, 0.5, 0.999, 1 - 2.0**-53])
@pytest.mark.parametrize("above", [False, True])
def test_the_threshold_is_the_rate_exactly(monkeypatch, rate, above):
    """Of 2^64 draws, rate 2^64 are below the threshold: the last one that is, and the first one that is not."""
    edge = Fraction(rate) * 2**64
    assert edge.denominator == 1  # so the probability is the rate itself
    draw = int(edge) - (0 if above else 1)
    monkeypatch.setattr(sampling.os, "urandom", lambda size: draw.to_bytes(8, "little") * (size // 8))
    assert poisson_sample(3, rate).tolist() == ([] if above else [0, 1, 2])


@pytest.mark.parametrize("rate", [2.0**-70, 2.0**-13 / 3])
def test_a_rate_between_two_multiples_is_rounded_down(monkeypatch, rate):
    below = int(Fraction(rate) * 2**64)
    monkeypatch.setattr(sampling.os, "urandom", lambda size: below.to_bytes(8, "little") * (size // 8))
    assert poisson_sample(2, rate).tolist() == []


def test_rate_one_draws_everybody_and_nobody_is_drawn_of_nobody():
    assert poisson_sample(5, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert poisson_sample(0, 0.5).tolist() == poisson_sample(0, 1.0).tolist() == []


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_other_rates_are_refused(rate):
    with pytest.raises(StudyError, match="sampling_rate"):
        poisson_sample(3, rate)


def far_from(drawn, rate):
    """Least p-value of the number of draws, the numbers of single units, and of pairs that are drawn together."""
    times, units = drawn.shape
    total = binom(times * units, rate)
    first = 2 * min(total.cdf(drawn.sum()), total.sf(drawn.sum() - 1))
    each = chi2(units).sf((((drawn.sum(0) - times * rate) ** 2) / (times * rate * (1 - rate))).sum())
    pairs = (drawn[:, :-1] & drawn[:, 1:]).sum()
    # Neighbouring pairs overlap in a unit, so that their numbers are correlated.
    mean, q = times * (units - 1) * rate**2, rate
    variance = times * ((units - 1) * (q**2 - q**4) + 2 * (units - 2) * (q**3 - q**4))
    return min(first, each, 2 * chi2(1).sf((pairs - mean) ** 2 / variance))


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_everybody_is_drawn_at_the_rate_and_by_himself(rate):
    assert far_from(draws(40, rate, 4000), rate) > UNLIKELY


def test_that_test_notices_other_ways_of_sampling():
    """A little too often; the same number each time; all or none together."""
    generator = np.random.default_rng(1)
    uniform = generator.random((4000, 40))
    assert far_from(uniform < 0.1, 0.1) > UNLIKELY
    assert far_from(uniform < 0.11, 0.1) < UNLIKELY
    assert far_from(np.repeat(uniform[:, :1], 40, axis=1) < 0.1, 0.1) < UNLIKELY
    assert far_from(np.repeat(uniform[:, :20], 2, axis=1) < 0.1, 0.1) < UNLIKELY


def test_seeding_everything_does_not_repeat_a_draw():
    def drawn():
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        return poisson_sample(400, 0.5).tolist()

    with torch.random.fork_rng(devices=[]):
        assert len({tuple(drawn()) for _ in range(10)}) == 10


def test_there_is_no_seed_to_give_and_the_source_is_the_systems(monkeypatch):
    assert list(inspect.signature(poisson_sample).parameters) == ["units", "rate"]
    assert not any(name for name in vars(sampling) if "seed" in name)
    taken = []
    monkeypatch.setattr(
        sampling.os, "urandom", lambda size, real=os.urandom: taken.append(size) or real(size)
    )
    poisson_sample(100, 0.3)
    assert taken == [800]
