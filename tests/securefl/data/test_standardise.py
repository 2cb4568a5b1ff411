"""Sums that add up over hospitals give the same scaling as all records in one place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.ring import Encoding, signed
from securefl.data.records import Records
from securefl.data.standardise import Mode, Scaling, apply, scaling, statistics_vector
from securefl.errors import DataError, StatisticsError
from securefl.roles.terms import STATISTICS_BOUND


def some(count: int, *shape: int, seed: int = 0) -> Records:
    random = np.random.default_rng(seed)
    scale = random.uniform(0.1, 300, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    values = random.normal(1, 2, (count, *shape)) * scale
    return Records(values.astype(np.float32), np.zeros(count, dtype=np.int64))


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), seed=st.integers(0, 1000))
@pytest.mark.parametrize(("mode", "shape"), [("features", (7,)), ("channels", (3, 4, 5))])
def test_added_sums_give_the_pooled_scaling(
    mode: str, shape: tuple[int, ...], counts: list[int], seed: int
) -> None:
    parts = [some(count + 1, *shape, seed=seed + k) for k, count in enumerate(counts)]
    vectors = [statistics_vector(part, mode) for part in parts]  # type: ignore[arg-type]
    total = np.sum(vectors, axis=0)
    assert total.dtype == np.float64
    assert total[0] == sum(map(len, parts))
    result = scaling(total, mode, shape)  # type: ignore[arg-type]
    assert result is not None
    everything = np.concatenate([part.features for part in parts]).astype(np.float64)
    axes = tuple(axis for axis in range(everything.ndim) if axis != 1)
    assert np.allclose(result.mean, everything.mean(axis=axes), rtol=1e-9)
    assert np.allclose(result.std, everything.std(axis=axes), rtol=1e-6)
    scaled = np.concatenate([apply(result, part).features for part in parts])
    assert scaled.dtype == np.float32
    assert np.allclose(scaled.mean(axis=axes), 0, atol=1e-4)
    assert np.allclose(scaled.std(axis=axes), 1, atol=1e-4)


def test_none_sends_the_count_alone() -> None:
    assert statistics_vector(some(9, 2, 2), "none").tolist() == [9.0]
    assert scaling(np.array([9.0]), "none", (2, 2)) is None


@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1, 1e-3, 12345.678])
def test_a_feature_without_variance_keeps_its_unit(constant: float) -> None:
    features = np.full((1000, 2), constant, dtype=np.float32)
    features[:, 1] = np.arange(1000)
    records = Records(features, np.zeros(1000, dtype=np.int64))
    result = scaling(statistics_vector(records, "features"), "features", (2,))
    assert result is not None
    assert result.std[0] == 1
    assert np.allclose(apply(result, records).features[:, 0], 0, atol=1e-3)
    assert np.isfinite(apply(result, records).features).all()


def test_a_small_variance_beside_a_large_mean_is_kept() -> None:
    records = Records((2000 + np.arange(100) / 50).astype(np.float32)[:, None], np.zeros(100, dtype=np.int64))
    result = scaling(statistics_vector(records, "features"), "features", (1,))
    assert result is not None
    assert result.std[0] == pytest.approx(records.features.astype(np.float64).std(), rel=1e-4)


def test_the_same_input_gives_the_same_bits() -> None:
    records = some(50, 3, 4, 5)
    first, again = (statistics_vector(records, "channels") for _ in range(2))
    assert first.tobytes() == again.tobytes()
    a, b = (scaling(total, "channels", (3, 4, 5)) for total in (first, again))
    assert a is not None
    assert b is not None
    assert apply(a, records).features.tobytes() == apply(b, records).features.tobytes()


def test_modes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="one axis"):
        statistics_vector(some(3, 2, 2, 2), "features")
    with pytest.raises(DataError, match="three axes"):
        statistics_vector(some(3, 2), "channels")
    with pytest.raises(DataError, match="for 3 features or channels"):
        apply(Scaling(np.zeros(3), np.ones(3)), some(3, 2))


@pytest.mark.parametrize(
    "total",
    [np.zeros(5), np.array([1.0, 2.0]), np.array([2.0, np.nan, 0, 1, 1])],
    ids=["no-record", "short", "nan"],
)
def test_totals_that_cannot_be_are_refused(total: np.ndarray) -> None:
    with pytest.raises(StatisticsError, match="5 finite numbers over at least one record; a hospital sent"):
        scaling(total, "features", (2,))


@pytest.mark.parametrize(("mode", "shape"), [("features", (7,)), ("channels", (3, 4, 5))])
def test_mean_squares_below_the_square_of_the_mean_are_refused(mode: Mode, shape: tuple[int, ...]) -> None:
    records = some(50, *shape)
    total, count = statistics_vector(records, mode), 50 * math.prod(shape[1:])
    features = shape[0]
    least = np.square(total[1 : 1 + features]) / count
    for feature in range(features):
        for squares, refused in (
            (0.99 * least, True),
            (-least, True),
            (least, False),
            (total[1 + features :], False),
        ):
            changed = total.copy()
            changed[1 + features + feature] = squares[feature]
            if refused:
                with pytest.raises(StatisticsError, match=f"number {feature + 1} of {features} features"):
                    scaling(changed, mode, shape)
            else:
                assert scaling(changed, mode, shape) is not None


@given(
    hospitals=st.sampled_from([2, 30, 1000]),
    size=st.floats(1e-6, 1e5),
    spread=st.sampled_from([0.0, 1e-9, 1.0]),
    seed=st.integers(0, 1000),
)
def test_what_the_ring_rounds_is_never_refused(hospitals: int, size: float, spread: float, seed: int) -> None:
    """A record a hospital is the worst: their sums are as small as they can be beside what encoding does to them."""
    random = np.random.default_rng(seed)
    values = (size * (1 + spread * random.normal(size=(hospitals, 3)))).astype(np.float32)
    records = [Records(row[None], np.zeros(1, dtype=np.int64)) for row in values]
    encoding = Encoding.for_bound(64, STATISTICS_BOUND, 8 * hospitals)
    vectors = [encoding.encode(statistics_vector(one, "features")) for one in records]
    total = encoding.decode_sum(signed(np.sum(vectors, axis=0, dtype=np.uint64)))
    assert scaling(total, "features", (3,)) is not None
