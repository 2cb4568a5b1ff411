"""How well scores tell records with a finding from those without: AUC, and sensitivity at 90 % specificity.

Source: standard error of the AUC: DeLong, DeLong and Clarke-Pearson 1988; with several records of one patient, which
    are not independent, Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data". Where each record is a
    patient of its own, the second is the first.

Under privacy these are computed on declared held-out records, which the promise does not cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from securefl.errors import DataError

if TYPE_CHECKING:
    from torch import nn

    from securefl.data import Records

_BATCH = 1000
POSITIVE = 1
"""The class with the finding."""
SPECIFICITY = (9, 10)
"""Least specificity at which sensitivity is given, as a fraction of integers, so that 9 of 10 is enough."""


@dataclass(frozen=True)
class BinaryMetrics:
    """Results on some records. What is not defined (one class only, or scores that are not numbers) is None.

    Attributes:
        auc: area under the ROC curve, 0 to 1: how often a positive record has the higher score; ties count half.
        sensitivity: the largest share of positive records found by a threshold with a specificity of at least 0.9.
        specificity: that of this threshold, 0.9 to 1; the lowest such threshold, where several find as many.
        count: records.
        positives: records of the positive class.
        auc_error: standard error of ``auc``, over patients; None with fewer than two patients of a class.
    """

    auc: float | None
    sensitivity: float | None
    specificity: float | None
    count: int
    positives: int
    auc_error: float | None = None


def scores(model: nn.Module, records: Records) -> NDArray[np.float64]:
    """The log-odds of class 1 for each record, float64 (n,): log p - log(1 - p), from the model's float32 scores.

    In evaluation mode, in batches of a fixed size, so that results repeat. Above 0 the model says class 1 rather
    than all others together.
    """
    import torch

    if not len(records):
        return np.empty(0, dtype=np.float64)
    model.eval()
    found = []
    with torch.no_grad():
        for x in torch.from_numpy(records.features).split(_BATCH):
            z = model(x).double()
            others = torch.cat([z[:, :POSITIVE], z[:, POSITIVE + 1 :]], dim=1)
            found.append(z[:, POSITIVE] - torch.logsumexp(others, dim=1))
    return torch.cat(found).numpy()


def binary_metrics(
    scores: NDArray[np.floating], labels: NDArray[np.int64], patients: NDArray[np.int64] | None = None
) -> BinaryMetrics:
    """AUC with its standard error, and sensitivity at 90 % specificity.

    Args:
        scores: (n,), higher for the positive class: probabilities, log-odds or any increasing function of them.
        labels: (n,), 1 for the positive class and 0 for the other.
        patients: (n,), a number for each patient, over all hospitals that are scored together; None where each record
            is a patient of its own. It matters for the standard error only.

    Raises:
        DataError: labels other than 0 and 1, or shapes that differ.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    groups = np.arange(len(truth)) if patients is None else np.asarray(patients)
    if values.ndim != 1 or not values.shape == truth.shape == groups.shape:
        raise DataError(
            "Scores, labels and patients must be vectors of one length: give one of each for a record."
        )
    if not np.isin(truth, (0, 1)).all():
        raise DataError(
            "Labels must be 0 or 1: AUC and sensitivity are those of one class against the other."
        )
    positive = truth == 1
    count, positives = len(truth), int(positive.sum())
    if positives in (0, count) or np.isnan(values).any():
        return BinaryMetrics(None, None, None, count, positives)
    # Late: scikit-learn takes a second to import.
    from sklearn.metrics import roc_auc_score

    finite = np.nan_to_num(values)  # infinite log-odds are the largest there are
    sensitivity, specificity = _at_specificity(finite[positive], finite[~positive])
    return BinaryMetrics(
        auc=float(roc_auc_score(positive, finite)),
        sensitivity=sensitivity,
        specificity=specificity,
        count=count,
        positives=positives,
        auc_error=_auc_error(finite, positive, groups),
    )


def _at_specificity(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[float, float]:
    """Largest sensitivity with enough specificity, and that specificity.

    Of n negative records k = floor(n/10) may be called positive. All that lies above the one that comes next (the k+1st
    from the top) is: a lower threshold takes that one too, a higher one finds no more.
    """
    enough, of = SPECIFICITY
    allowed = len(negative) * (of - enough) // of
    next_one = np.sort(negative)[::-1][allowed]
    return float(np.mean(positive > next_one)), float(np.mean(negative <= next_one))


def _auc_error(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], patients: NDArray[np.int64]
) -> float | None:
    """Obuchowski 1997: the standard error from each patient's part in the AUC, or None."""
    x, y = scores[positive], scores[~positive]
    m, n = len(x), len(y)
    below, above = (
        _share_below(y, x),
        1 - _share_below(x, y),
    )  # V10 of the positive, V01 of the negative records
    auc = below.mean()
    group = np.unique(patients, return_inverse=True)[1]
    size = int(group.max()) + 1
    positives = np.bincount(group[positive], below - auc, size)
    negatives = np.bincount(group[~positive], above - auc, size)
    with_positives = len(np.unique(group[positive]))
    with_negatives = len(np.unique(group[~positive]))
    if min(with_positives, with_negatives) < 2:
        return None
    s10 = with_positives / (with_positives - 1) / m * float(positives @ positives)
    s01 = with_negatives / (with_negatives - 1) / n * float(negatives @ negatives)
    s11 = size / (size - 1) * float(positives @ negatives)
    # Not negative in theory nor by more than rounding; a perfect separation has 0.
    return float(np.sqrt(max(0.0, s10 / m + s01 / n + 2 * s11 / (m * n))))


def _share_below(these: NDArray[np.float64], each: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each number, the share of ``these`` that are smaller; equal ones count half."""
    ordered = np.sort(these)
    left, right = (np.searchsorted(ordered, each, side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(these)))
