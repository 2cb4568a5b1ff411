"""How well scores tell members from non-members: the ROC curve with exact intervals, and how far down it may be read.

Rates are shares of few people, so each comes with its Clopper and Pearson (1934) interval, which covers the true rate
with at least the stated confidence. The area under the curve has the interval of DeLong et al. (1988), on the scale of
log odds so that it stays within 0 and 1.

A curve on log axes invites to be read where there is nobody. The smallest false-positive rate that n non-members
support is the one which shows at least one false positive among them with the stated confidence, 1 - 0.05^(1/n), about
3/n: below it, that none was seen is no evidence of a smaller rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securefl.errors import DataError

Floats = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A rate with the interval that covers the true one with ``CONFIDENCE``. All from 0 to 1."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def clopper_pearson(successes: Any, trials: int, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """The exact interval of a share.

    Args:
        successes: whole numbers from 0 to ``trials``, an array or one.
        trials: at least 1.
        confidence: 0 to 1, two-sided.

    Returns:
        Lower and upper ends, float64, of the shape of ``successes``.

    Raises:
        DataError: there are no trials, or more successes than trials.
    """
    from scipy.stats import beta

    k = np.asarray(successes, dtype=np.float64)
    if trials < 1 or (k < 0).any() or (k > trials).any():
        raise DataError(
            f"A share of {trials} trials needs from 0 to {trials} successes, and at least one trial."
        )
    tail = (1 - confidence) / 2
    low = np.where(k > 0, beta.ppf(tail, np.maximum(k, 1), trials - k + 1), 0.0)
    high = np.where(k < trials, beta.ppf(1 - tail, k + 1, np.maximum(trials - k, 1)), 1.0)
    return low, high


def supported_fpr(non_members: int, confidence: float = CONFIDENCE) -> float:
    """The smallest false-positive rate that so many non-members support, see the module; 0 to 1."""
    if non_members < 1:
        raise DataError("A false-positive rate needs at least one non-member.")
    return float(-math.expm1(math.log1p(-confidence) / non_members))


@dataclass(frozen=True, eq=False)
class Roc:
    """The curve of an attack: whoever scores at or above a threshold is called a member.

    Attributes:
        thresholds: (n,) float64, falling from +inf.
        false_positives, true_positives: (n,) int64, how many non-members and members are at or above each.
        non_members, members: how many there are.
        auc: probability that a member scores above a non-member, ties counted half.
    """

    thresholds: Floats
    false_positives: NDArray[np.int64]
    true_positives: NDArray[np.int64]
    non_members: int
    members: int
    auc: Interval

    @classmethod
    def of(cls, scores: Floats, members: NDArray[np.bool_]) -> Roc:
        """The curve of some scores.

        Args:
            scores: (n,), higher for those taken for members; no NaN (infinities will do).
            members: (n,) bool, the truth.

        Raises:
            DataError: shapes differ, a score is NaN, or members or non-members are missing.
        """
        scores, members = np.asarray(scores, dtype=np.float64), np.asarray(members, dtype=bool)
        if scores.ndim != 1 or scores.shape != members.shape or np.isnan(scores).any():
            raise DataError("A ROC curve needs one score, and no NaN, for each person.")
        if members.all() or not members.any():
            raise DataError("A ROC curve needs members and non-members: give at least one of each.")
        falling = np.argsort(-scores, kind="stable")
        ordered, truth = scores[falling], members[falling]
        # Equal scores cross the threshold together.
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        true, false = np.cumsum(truth)[last], np.cumsum(~truth)[last]
        return cls(
            np.concatenate([[np.inf], ordered[last]]),
            np.concatenate([[0], false]).astype(np.int64),
            np.concatenate([[0], true]).astype(np.int64),
            int((~members).sum()),
            int(members.sum()),
            _auc(scores[members], scores[~members]),
        )

    @property
    def fpr(self) -> Floats:
        """False-positive rate at each threshold."""
        return self.false_positives / self.non_members

    @property
    def tpr(self) -> Floats:
        """True-positive rate at each threshold."""
        return self.true_positives / self.members

    @cached_property
    def tpr_interval(self) -> tuple[Floats, Floats]:
        """Clopper-Pearson ends of ``tpr``, point by point."""
        return clopper_pearson(self.true_positives, self.members)

    @property
    def smallest_fpr(self) -> float:
        """The smallest false-positive rate that may be read off, see ``supported_fpr``."""
        return supported_fpr(self.non_members)

    @property
    def balanced_accuracy(self) -> float:
        """Largest mean of true-positive and true-negative rate over all thresholds; 0.5 to 1.

        The threshold is the best one in hindsight: chance alone gives a little more than 0.5.
        """
        return float(((self.tpr + 1 - self.fpr) / 2).max())

    def tpr_at(self, fpr: float) -> Interval:
        """The true-positive rate at the lowest threshold with no more than this false-positive rate.

        Raises:
            DataError: the number of non-members does not support so small a rate, or it is above 1.
        """
        if not self.smallest_fpr <= fpr <= 1:
            raise DataError(
                f"{self.non_members} non-members support false-positive rates from {self.smallest_fpr:.2g} to 1, not "
                f"{fpr:.2g}: hold more patients out, or ask for a larger rate."
            )
        point = int(np.flatnonzero(self.fpr <= fpr)[-1])
        low, high = self.tpr_interval
        return Interval(float(self.tpr[point]), float(low[point]), float(high[point]))

    def to_json(self) -> dict[str, Any]:
        """Figures for JSON, and the curve without its thresholds."""
        low, high = self.tpr_interval
        return {
            "members": self.members,
            "non_members": self.non_members,
            "auc": self.auc.to_json(),
            "balanced_accuracy": self.balanced_accuracy,
            "smallest_fpr": self.smallest_fpr,
            "tpr_at_smallest_fpr": self.tpr_at(self.smallest_fpr).to_json(),
            "curve": {
                "fpr": self.fpr.tolist(), "tpr": self.tpr.tolist(), "low": low.tolist(), "high": high.tolist(),
            },
        }  # fmt: skip


def _auc(members: Floats, non_members: Floats) -> Interval:
    """Area and interval; DeLong et al. 1988, equations 3 to 5, by placements: a person's rank among the others."""
    from scipy.stats import norm, rankdata

    both = rankdata(np.concatenate([members, non_members]))
    above = (both[: len(members)] - rankdata(members)) / len(non_members)
    below = 1 - (both[len(members) :] - rankdata(non_members)) / len(members)
    area = float(above.mean())
    parts = [float(np.var(p, ddof=1)) / len(p) if len(p) > 1 else 0.25 for p in (above, below)]
    if not 0 < area < 1:
        # Nobody is on the wrong side: no variance is seen. The smaller group then bounds what can be said.
        edge = ((1 - CONFIDENCE) / 2) ** (1 / min(len(members), len(non_members)))
        return Interval(area, edge, 1.0) if area == 1 else Interval(area, 0.0, 1 - edge)
    odds = math.log(area / (1 - area))
    reach = float(norm.isf((1 - CONFIDENCE) / 2)) * math.sqrt(sum(parts)) / (area * (1 - area))
    return Interval(area, *(1 / (1 + math.exp(-x)) for x in (odds - reach, odds + reach)))
