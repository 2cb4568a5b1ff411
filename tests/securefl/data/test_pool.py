"""A pool over the hospitals: the held-out records too, all of them, each once."""

from __future__ import annotations

import numpy as np
import pytest

from securefl.data.partition import by_class
from securefl.data.pool import Pool, split_off_test, split_over_hospitals
from securefl.data.records import Records
from securefl.errors import DataError
from securefl.study.data_settings import DataSettings, Partition


def numbered(start: int, count: int) -> Records:
    """Records whose one feature is their number."""
    numbers = np.arange(start, start + count)
    return Records(numbers.astype(np.float32)[:, None], numbers % 2)


def settings(kind: str) -> DataSettings:
    return DataSettings(source="mnist-5k", partition=Partition(kind=kind, classes=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["site", "iid", "dirichlet", "classes-per-hospital", "quantity-skew"])
@pytest.mark.parametrize("held", [1, 17])
def test_the_unions_are_the_whole_sets(kind: str, held: int) -> None:
    pool = Pool(numbered(0, 60), numbered(100, held), 2, np.arange(60) % 3, np.arange(held) % 3, 3)
    parts = split_over_hospitals(pool, settings(kind), ["a", "b", "c"], seed=5)
    assert list(parts) == ["a", "b", "c"]
    assert {part.classes for part in parts.values()} == {2}
    train = np.concatenate([part.train.features.ravel() for part in parts.values()])
    test = np.concatenate([part.test.features.ravel() for part in parts.values()])
    assert sorted(train) == list(range(60))
    assert sorted(test) == list(range(100, 100 + held))


def test_held_out_records_are_split_evenly_whatever_the_skew() -> None:
    pool = Pool(numbered(0, 60), numbered(100, 40), 2)
    parts = split_over_hospitals(pool, settings("classes-per-hospital"), ["a", "b"], seed=0)
    assert all(len(np.unique(part.train.labels)) == 1 for part in parts.values())
    assert [len(part.test) for part in parts.values()] == [20, 20]
    assert all(len(np.unique(part.test.labels)) == 2 for part in parts.values())


def test_split_off_test_needs_records_for_both_parts() -> None:
    with pytest.raises(DataError, match=r"ward\.npz: 2 records cannot be split"):
        split_off_test(numbered(0, 2), 2, by_class, 0.2, 0, "ward.npz")
    split = split_off_test(numbered(0, 50), 2, by_class, 0.2, 0, "ward.npz")
    assert (len(split.train), len(split.test)) == (40, 10)
    other = split_off_test(numbered(0, 50), 2, by_class, 0.2, 1, "ward.npz")
    assert not np.array_equal(split.test.features, other.test.features)
