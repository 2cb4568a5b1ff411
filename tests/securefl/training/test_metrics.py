"""AUC and sensitivity at 90 % specificity: by hand, against scikit-learn, and their errors against repeated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from securefl.data import Records
from securefl.errors import DataError
from securefl.training.metrics import BinaryMetrics, binary_metrics, scores


def metrics(values, labels, patients=None):
    return binary_metrics(np.array(values, dtype=float), np.array(labels), patients)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_by_hand():
    """Pairs: 0.4 > 0.3, 0.4 < 0.5, 0.9 > both: 3 of 4. None of two negatives may be taken: 0.9 is found."""
    found = metrics([0.3, 0.5, 0.4, 0.9], [0, 0, 1, 1])
    assert (found.auc, found.sensitivity, found.specificity) == (0.75, 0.5, 1.0)
    assert (found.count, found.positives) == (4, 2)


def test_perfect_reversed_and_equal_scores():
    assert metrics([1, 2, 3, 4], [0, 0, 1, 1]) == BinaryMetrics(1.0, 1.0, 1.0, 4, 2, 0.0)
    assert metrics([4, 3, 2, 1], [0, 0, 1, 1]) == BinaryMetrics(0.0, 0.0, 1.0, 4, 2, 0.0)
    equal = metrics([5, 5, 5, 5], [0, 1, 0, 1])
    assert (equal.auc, equal.sensitivity, equal.specificity) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("negatives", "allowed"), [(1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (30, 3), (70, 7), (1000, 100)]
)
def test_one_in_ten_of_the_negatives_may_be_called_positive(negatives, allowed):
    """A positive record just above each negative one: those above enough negatives are found, no others."""
    negative = np.arange(negatives, dtype=float)
    found = metrics(np.concatenate([negative, negative + 0.5]), [0] * negatives + [1] * negatives)
    assert found.sensitivity == pytest.approx((allowed + 1) / negatives)
    assert found.specificity == pytest.approx(1 - allowed / negatives)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_no_curve(label):
    assert metrics([1, 2, 3], [label] * 3) == BinaryMetrics(None, None, None, 3, 3 * label)
    assert metrics([], []) == BinaryMetrics(None, None, None, 0, 0)


def test_a_diverged_model_has_none_and_certainty_is_a_score():
    assert metrics([1, math.nan, 3], [0, 1, 1]).auc is None
    assert metrics([-math.inf, 0.0, 1.0, math.inf], [0, 1, 0, 1]).auc == 0.75


def test_one_patient_of_a_class_gives_no_error():
    assert metrics([1, 2, 3], [0, 0, 1]).auc_error is None
    assert metrics([1, 2, 3, 4], [0, 0, 1, 1], np.array([1, 2, 3, 3])).auc_error is None


@pytest.mark.parametrize(
    ("values", "labels", "patients"),
    [
        ([1, 2], [0, 2], None),
        ([1, 2], [0], None),
        ([[1, 2]], [[0, 1]], None),
        ([1, 2], [0, 1], np.array([1])),
    ],
)
def test_what_is_not_two_classes_of_records_is_refused(values, labels, patients):
    with pytest.raises(DataError):
        metrics(values, labels, patients)


# -- against scikit-learn ----------------------------------------------------------------------------------------------


@given(
    records=st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=80),
    scale=st.floats(0.001, 1000),
)
def test_as_the_roc_curve_of_scikit_learn_has_it(records, scale):
    values = np.array([v for v, _ in records], dtype=float) * scale
    labels = np.array([y for _, y in records], dtype=np.int64)
    found = binary_metrics(values, labels)
    negatives = len(labels) - labels.sum()
    assert (found.auc is None) == (labels.min() == labels.max())
    if found.auc is None:
        return
    assert found.auc == roc_auc_score(labels, values)
    fpr, tpr, _ = roc_curve(labels, values, drop_intermediate=False)
    allowed = [t for f, t in zip(fpr, tpr, strict=True) if 10 * round(f * negatives) <= negatives]
    assert found.sensitivity == pytest.approx(max(allowed))
    assert found.specificity >= 0.9


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=2, max_size=40))
def test_an_increasing_function_of_the_scores_changes_nothing(records):
    values = np.round(np.array([v for v, _ in records]), 3)  # far enough apart to stay apart as probabilities
    labels = np.array([y for _, y in records], dtype=np.int64)
    assert binary_metrics(values, labels) == binary_metrics(1 / (1 + np.exp(-values)), labels)


# -- the standard error ------------------------------------------------------------------------------------------------


def delong(values, labels):
    """The variance of DeLong, DeLong and Clarke-Pearson 1988, by loops over all pairs."""
    x, y = values[labels == 1], values[labels == 0]
    kernel = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
    v10, v01 = kernel.mean(1), kernel.mean(0)
    return math.sqrt(v10.var(ddof=1) / len(x) + v01.var(ddof=1) / len(y))


def test_with_one_record_a_patient_the_error_is_delongs():
    draw = np.random.default_rng(2)
    for _ in range(20):
        labels = np.concatenate([[0, 0, 1, 1], draw.integers(2, size=30)])
        values = np.round(draw.normal(size=34) + labels, 1)
        expected = pytest.approx(delong(values, labels), rel=1e-9)
        assert binary_metrics(values, labels).auc_error == expected
        assert binary_metrics(values, labels, draw.permutation(34)).auc_error == expected


def cohort(draw, patients=40, slices=5):
    """Patients with slices that share most of their score; some of a patient's slices are positive."""
    groups = np.repeat(np.arange(patients), slices)
    labels = (draw.random(len(groups)) < np.repeat(draw.choice([0.1, 0.8], patients), slices)).astype(
        np.int64
    )
    return (
        0.7 * labels + np.repeat(draw.normal(size=patients), slices) + 0.3 * draw.normal(size=len(groups)),
        labels,
        groups,
    )


def test_the_error_is_what_repeated_cohorts_show_and_without_patients_it_is_too_small():
    draw = np.random.default_rng(3)
    found = [(binary_metrics(*cohort(draw)), binary_metrics(*cohort(draw)[:2])) for _ in range(150)]
    spread = np.std([by_patient.auc for by_patient, _ in found] + [by_record.auc for _, by_record in found])
    clustered = np.mean([by_patient.auc_error for by_patient, _ in found])
    naive = np.mean([by_record.auc_error for _, by_record in found])
    assert clustered == pytest.approx(spread, rel=0.12)
    assert naive < 0.75 * spread


def test_copies_of_every_record_are_no_news():
    """Ten copies of each patient's record: the error by patient stays, the one by record claims to know more."""
    draw = np.random.default_rng(5)
    labels = np.tile([0, 1], 30)
    values = draw.normal(size=60) + labels
    once = binary_metrics(values, labels)
    copies = binary_metrics(np.repeat(values, 10), np.repeat(labels, 10), np.repeat(np.arange(60), 10))
    assert copies.auc == pytest.approx(once.auc)
    assert copies.auc_error == pytest.approx(once.auc_error, rel=1e-9)
    assert binary_metrics(np.repeat(values, 10), np.repeat(labels, 10)).auc_error < once.auc_error / 2


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_the_log_odds_of_class_one(classes):
    draw = np.random.default_rng(6)
    records = Records(draw.normal(size=(2500, 3)).astype(np.float32), draw.integers(classes, size=2500))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.9), nn.Linear(16, classes))
    found = scores(model, records)
    with torch.no_grad():
        p = model.eval()(torch.from_numpy(records.features)).double().softmax(1)[:, 1].numpy()
    assert found.dtype == np.float64
    assert np.allclose(found, np.log(p / (1 - p)), atol=1e-4)
    assert np.array_equal(found, scores(model.train(), records))


def test_scores_of_no_records():
    assert scores(nn.Linear(3, 2), Records(np.empty((0, 3), np.float32), np.empty(0, np.int64))).shape == (0,)
