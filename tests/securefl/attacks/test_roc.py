"""ROC curves and their intervals, against scikit-learn, against direct counts, and by coverage."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.attacks.roc import Roc, clopper_pearson, supported_fpr
from securefl.attacks.roc_picture import roc_png
from securefl.errors import DataError

people = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({member for _, member in rows}) == 2
)


@given(people)
def test_the_curve_and_its_area_are_scikit_learns(rows: list[tuple[int, bool]]) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    scores, members = np.array([s for s, _ in rows], float), np.array([m for _, m in rows])
    roc = Roc.of(scores, members)
    fpr, tpr, _ = roc_curve(members, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(roc.tpr, tpr, atol=1e-12)
    assert roc.auc.value == pytest.approx(roc_auc_score(members, scores), abs=1e-9)
    assert 0 <= roc.auc.low <= roc.auc.value + 1e-9
    assert roc.auc.value - 1e-9 <= roc.auc.high <= 1


@pytest.mark.parametrize("trials", [1, 7, 40])
def test_exact_intervals_leave_each_tail_its_share(trials: int) -> None:
    from scipy.stats import binom

    k = np.arange(trials + 1)
    low, high = clopper_pearson(k, trials)
    assert low[0] == 0
    assert high[-1] == 1
    # By definition: at the lower end, k or more successes have probability 0.025; at the upper, k or fewer.
    np.testing.assert_allclose(binom.sf(k[1:] - 1, trials, low[1:]), 0.025, rtol=1e-6)
    np.testing.assert_allclose(binom.cdf(k[:-1], trials, high[:-1]), 0.025, rtol=1e-6)


def test_the_interval_of_the_area_covers_it() -> None:
    """Two Gaussians, one apart: the area is Φ(1/√2) = 0.760. The control: a third of the width covers far less."""
    random, covered, narrow = np.random.default_rng(1), 0, 0
    for _ in range(400):
        scores = np.concatenate([random.normal(1, 1, 40), random.normal(0, 1, 60)])
        area = Roc.of(scores, np.arange(100) < 40).auc
        covered += area.low <= 0.7602 <= area.high
        third = [area.value + (end - area.value) / 3 for end in (area.low, area.high)]
        narrow += third[0] <= 0.7602 <= third[1]
    assert covered >= 0.92 * 400
    assert narrow < 0.7 * 400


def test_perfect_separation_still_has_an_interval() -> None:
    area = Roc.of(np.arange(10.0), np.arange(10) >= 5).auc
    assert (area.value, area.high) == (1.0, 1.0)
    assert area.low == pytest.approx(0.025 ** (1 / 5))


def test_no_rate_below_what_the_non_members_support() -> None:
    # Rule of three: about 3 / n.
    assert supported_fpr(300) == pytest.approx(3 / 300, rel=0.01)
    roc = Roc.of(np.arange(20.0), np.arange(20) >= 10)
    assert roc.tpr_at(roc.smallest_fpr).value == 1.0
    with pytest.raises(DataError, match="10 non-members support"):
        roc.tpr_at(0.01)


def test_balanced_accuracy_by_hand() -> None:
    # Members 3, 1; others 2, 0. At 3: (1/2 + 1) / 2 = 0.75; no threshold does better.
    assert Roc.of(np.array([3.0, 1, 2, 0]), np.array([1, 1, 0, 0], bool)).balanced_accuracy == 0.75


@pytest.mark.parametrize(
    ("scores", "members", "match"),
    [
        ([1.0, 2.0], [True, True], "non-members"),
        ([1.0, np.nan], [True, False], "NaN"),
        ([1.0], [True, False], "one score"),
    ],
)
def test_what_is_no_curve_is_refused(scores: list[float], members: list[bool], match: str) -> None:
    with pytest.raises(DataError, match=match):
        Roc.of(np.array(scores), np.array(members))


def test_the_picture_shows_the_curves() -> None:
    from matplotlib.image import imread

    random = np.random.default_rng(0)
    members = np.arange(200) < 100
    good, none = (Roc.of(random.normal(shift * members), members) for shift in (2.0, 0.0))
    both, again = roc_png({"a": good, "b": none}), roc_png({"a": good, "b": none})
    assert both == again
    assert imread(io.BytesIO(both)).shape[:2] == (960, 1040)
    assert both != roc_png({"a": none, "b": none})
    with pytest.raises(DataError, match="from 1 to 6"):
        roc_png({})
