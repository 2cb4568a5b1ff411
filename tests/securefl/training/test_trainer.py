"""What a hospital contributes: its change of the model, weighted, and no longer than the study's norm bound."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.data import HospitalData, Records
from securefl.errors import StatisticsError
from securefl.study.schema import StudySettings
from securefl.training.trainer import Trainer, clipped

FAR = 1e-12


def settings(**aggregation):
    return StudySettings.model_validate(
        {
            "name": "Trainer",
            "seed": 3,
            "consortium": {"hospitals": 3},
            "data": {"source": "fed-heart"},
            "model": {"kind": "logistic"},
            "training": {"rounds": 2, "learning_rate": 0.5, "local_epochs": 3, "batch_size": 4},
            "aggregation": aggregation,
            "simulation": {},
        }
    )


def trainer(**aggregation):
    draw = np.random.default_rng(4)
    records = Records(draw.normal(size=(30, 5)).astype(np.float32), draw.integers(2, size=30))
    data = HospitalData(train=records, test=records, classes=2)
    made = Trainer(settings(**aggregation), Path(), "va", data)
    made.use_statistics(made.statistics() * 4)  # a quarter of all records are its own
    return made


def exact_norm_squared(x):
    return sum(Fraction(value) ** 2 for value in x.tolist())


# -- clipping --------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 100),
    length=st.floats(1e-6, 1e6),
    bound=st.floats(1e-6, 1e6),
)
def test_what_is_too_long_has_the_bounds_length_and_its_direction_and_the_rest_its_bits(
    seed, size, length, bound
):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=size)
    x *= length / np.linalg.norm(x)
    before = x.copy()
    y = clipped(x, bound)
    assert np.array_equal(x, before)
    limit = Fraction(bound) * (1 + Fraction(FAR))
    assert exact_norm_squared(y) <= limit**2
    if exact_norm_squared(x) <= (Fraction(bound) * (1 - Fraction(FAR))) ** 2:
        assert np.array_equal(y, x)
    elif exact_norm_squared(x) >= limit**2:
        assert exact_norm_squared(y) >= (Fraction(bound) * (1 - Fraction(FAR))) ** 2
        assert np.allclose(y, x * (bound / length), rtol=FAR, atol=0)


@pytest.mark.parametrize("bound", [0.5, 4.0, 5.0, 5.5])
def test_by_hand(bound):
    x = np.array([3.0, 0.0, -4.0])  # of length 5
    factor = min(1.0, bound / 5)
    assert clipped(x, bound).tolist() == pytest.approx([3 * factor, 0.0, -4 * factor], rel=1e-15)
    assert clipped(x, None).tolist() == x.tolist()


def test_nothing_is_short_enough_for_every_bound():
    assert clipped(np.zeros(7), 1e-9).tolist() == [0.0] * 7


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_stays_none(value):
    """It is refused where it is encoded; clipping must not turn it into something else."""
    with np.errstate(invalid="ignore"):
        y = clipped(np.array([1.0, value]), 1.0)
    assert not np.isfinite(y).all()


# -- the trainer -----------------------------------------------------------------------------------------------------


def test_without_a_bound_nothing_is_clipped():
    free, loose = trainer(), trainer(norm_bound=1000.0)
    start = free.initial_model()
    update = free.update(start, 1)
    assert update.dtype == np.float64
    assert np.linalg.norm(update) > 0.05
    assert np.array_equal(loose.update(start, 1), update)


@pytest.mark.parametrize("norm_bound", [0.05, 0.001, 2.0**-30])
def test_an_update_is_clipped_to_the_studys_bound(norm_bound):
    whole, bounded = trainer(), trainer(norm_bound=norm_bound)
    start = whole.initial_model()
    for round_ in (1, 2):
        free, update = whole.update(start, round_), bounded.update(start, round_)
        assert np.linalg.norm(free) > norm_bound
        assert np.linalg.norm(update) == pytest.approx(norm_bound, rel=FAR)
        assert np.allclose(update, free * (norm_bound / np.linalg.norm(free)), rtol=FAR, atol=0)
        assert np.array_equal(bounded.update(start, round_), update)  # the same bits, asked again


def test_the_bound_is_of_the_weighted_update():
    """Of a quarter of all records: training alone moves the model four times as far."""
    whole = trainer()
    start = whole.initial_model()
    length = float(np.linalg.norm(whole.update(start, 1)))
    at_the_length = trainer(norm_bound=1.01 * length)
    assert np.array_equal(at_the_length.update(start, 1), whole.update(start, 1))
    alone = trainer(norm_bound=1.01 * length)
    alone.use_statistics(alone.statistics())
    assert np.linalg.norm(alone.update(start, 1)) == pytest.approx(1.01 * length, rel=FAR)


def test_statistics_that_no_records_have_are_not_taken_however_often_they_come():
    made = trainer()
    before = made.update(made.initial_model(), 1)
    for _ in range(2):
        with pytest.raises(StatisticsError, match="at least one record"):
            made.use_statistics(np.zeros(1))
    assert np.array_equal(made.update(made.initial_model(), 1), before)
