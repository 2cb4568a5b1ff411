"""Smooth random fields, against SciPy's splines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

from securefl.data.mri_field import smooth_field, spline_weights


def test_the_weights_are_those_of_scipys_uniform_cubic_splines() -> None:
    places = np.linspace(-30.0, 45.0, 41)
    weights = spline_weights(places, spacing=10.0)
    knots = -30.0 + 10.0 * np.arange(-3, weights.shape[1] + 1)
    oracle = BSpline.design_matrix(places, knots, 3, extrapolate=False).toarray()
    assert weights == pytest.approx(oracle, abs=1e-12)
    assert weights.sum(axis=1) == pytest.approx(np.ones(41))


def test_fields_have_mean_nothing_and_variance_one_and_are_smooth() -> None:
    axes = (np.arange(0.0, 40.0, 8.0), np.arange(0.0, 160.0, 4.0), np.arange(0.0, 160.0, 4.0))
    random = np.random.Generator(np.random.PCG64(1))
    fields = smooth_field(random, axes, spacing=20.0, fields=60)
    assert fields.shape == (60, 5, 40, 40)
    # Places share nodes: 60 * 32 * 160 * 160 / 20^3 cells, divided by 9, count as some 700 draws. Four deviations.
    assert abs(fields.mean()) < 0.15
    assert fields.std() == pytest.approx(1.0, abs=0.1)
    steps = np.diff(fields, axis=2).std()
    assert steps < 0.4  # white noise has 1.41
    far = (fields[:, :, :-25] * fields[:, :, 25:]).mean()
    assert abs(far) < 0.1  # beyond four nodes nothing is shared
