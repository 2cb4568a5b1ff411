"""Records are checked once, when they enter."""

from __future__ import annotations

import numpy as np
import pytest

from securefl.data.records import checked_records
from securefl.errors import DataError


def test_types_and_order_are_kept() -> None:
    records = checked_records(
        np.arange(6, dtype=np.float64).reshape(3, 2), np.array([2, 0, 1], dtype=np.uint8), "here"
    )
    assert records.features.dtype == np.float32
    assert records.labels.dtype == np.int64
    assert len(records) == 3
    assert records.shape == (2,)
    taken = records.take(np.array([2, 0]))
    assert taken.features.tolist() == [[4, 5], [0, 1]]
    assert taken.labels.tolist() == [1, 2]


def test_no_records_are_records() -> None:
    assert len(checked_records(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), "here", 2)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39], ids=["nan", "inf", "-inf", "beyond-float32"])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    features = np.zeros((4, 2, 2))
    features[2, 1, 0] = bad
    with pytest.raises(DataError, match=r"ward\.npz: record 2 has a feature that is NaN"):
        checked_records(features, np.zeros(4, dtype=int), "ward.npz")


@pytest.mark.parametrize(
    ("features", "labels", "says"),
    [
        (np.zeros(3), np.zeros(3, dtype=int), "features must be"),
        (np.zeros((3, 0)), np.zeros(3, dtype=int), "features must be"),
        (np.array([["a", "b"]]), np.zeros(1, dtype=int), "features must be"),
        (np.zeros((2, 2), dtype=complex), np.zeros(2, dtype=int), "features must be"),
        (np.zeros((3, 2)), np.zeros(2, dtype=int), "labels must be one integer for each of the 3"),
        (np.zeros((3, 2)), np.zeros(3), "labels must be one integer"),
        (np.zeros((3, 2)), np.zeros((3, 1), dtype=int), "labels must be one integer"),
        (np.zeros((2, 2)), np.array([0, 2]), "labels must be from 0 to 1"),
        (np.zeros((2, 2)), np.array([-1, 1]), "reach from -1 to 1"),
    ],
)
def test_wrong_shapes_types_and_labels_are_refused(
    features: np.ndarray, labels: np.ndarray, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        checked_records(features, labels, "here", 2)
