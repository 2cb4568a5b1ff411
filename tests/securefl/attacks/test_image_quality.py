"""SSIM and PSNR against values worked out by hand from the published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.attacks.image_quality import psnr, ssim
from securefl.errors import DataError

RANGES = st.floats(0.5, 300)
SEEDS = st.integers(0, 2**32 - 1)


def image(seed, shape=(16, 19), scale=1.0):
    return np.random.default_rng(seed).random(shape) * scale


@given(SEEDS, RANGES)
def test_an_image_is_like_itself(seed, span):
    a = image(seed, scale=span)
    assert ssim(a, a, span) == pytest.approx(1.0, abs=1e-12)
    assert psnr(a, a, span) == math.inf


@given(SEEDS, SEEDS, RANGES)
def test_both_are_symmetric_and_ssim_is_bounded(one, other, span):
    a, b = image(one, scale=span), image(other, scale=span)
    assert ssim(a, b, span) == pytest.approx(ssim(b, a, span), abs=1e-12)
    assert psnr(a, b, span) == psnr(b, a, span)
    assert -1 - 1e-9 <= ssim(a, b, span) <= 1 + 1e-9


@given(st.floats(0, 1), st.floats(0, 1), RANGES)
def test_of_two_flat_images_only_the_luminance_term_is_left(a, b, span):
    # No variance, no covariance: contrast and structure are C2 / C2 = 1.
    x, y = np.full((11, 11), a * span), np.full((11, 11), b * span)
    c1 = (0.01 * span) ** 2
    by_hand = (2 * a * b * span**2 + c1) / ((a**2 + b**2) * span**2 + c1)
    assert ssim(x, y, span) == pytest.approx(by_hand, abs=1e-6)


@given(SEEDS, st.floats(-0.5, 0.5))
def test_a_shift_changes_the_luminance_term_alone(seed, shift):
    # One position of the window: its weights are those of the formula, written as a double sum.
    a = image(seed, (11, 11))
    weights = [
        [math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)
    ]
    mean = float((a * weights).sum() / np.sum(weights))
    c1 = 0.01**2
    by_hand = (2 * mean * (mean + shift) + c1) / (mean**2 + (mean + shift) ** 2 + c1)
    assert ssim(a, a + shift, 1.0) == pytest.approx(by_hand, abs=1e-9)


def test_a_negative_has_the_opposite_structure():
    # x and 1 - x about one half: equal means and variances, covariance the negative of the variance.
    board = np.indices((11, 11)).sum(0) % 2
    weights = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    mean = float((board * weights).sum())
    variance = mean - mean**2  # of zeros and ones
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean * (1 - mean) + c1) / (mean**2 + (1 - mean) ** 2 + c1)
    by_hand = luminance * (c2 - 2 * variance) / (c2 + 2 * variance)
    assert ssim(board, 1 - board, 1.0) == pytest.approx(by_hand, abs=1e-9)
    assert ssim(board, 1 - board, 1.0) < -0.99


@given(SEEDS, SEEDS, st.floats(0.01, 100))
def test_intensities_and_range_scale_together(one, other, factor):
    a, b = image(one), image(other)
    assert ssim(a * factor, b * factor, factor) == pytest.approx(ssim(a, b, 1.0), abs=1e-9)
    assert psnr(a * factor, b * factor, factor) == pytest.approx(psnr(a, b, 1.0), abs=1e-6)


def test_the_range_matters():
    a, b = image(0), image(1)
    assert ssim(a, b, 100.0) > ssim(a, b, 1.0) + 0.5


def test_noise_makes_an_image_less_alike_step_by_step():
    a, noise = image(0), image(1)
    scores = [ssim(a, a + size * noise, 1.0) for size in (0, 0.1, 0.3, 1, 3)]
    assert scores == sorted(scores, reverse=True)


def test_channels_are_averaged():
    a, b = image(0, (3, 12, 12)), image(1, (3, 12, 12))
    each = [ssim(x, y, 1.0) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b, 1.0) == pytest.approx(float(np.mean(each)))


def test_psnr_of_a_known_error():
    a = np.zeros((4, 4))
    assert psnr(a, a + 0.1, 1.0) == pytest.approx(20.0)
    assert psnr(a, a + 25.5, 255.0) == pytest.approx(20.0)
    assert psnr(a, a + 1.0, 1.0) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("a", "b", "span"),
    [
        (np.zeros((11, 11)), np.zeros((11, 12)), 1.0),
        (np.zeros((10, 20)), np.zeros((10, 20)), 1.0),
        (np.zeros(121), np.zeros(121), 1.0),
        (np.zeros((11, 11)), np.zeros((11, 11)), 0.0),
        (np.zeros((11, 11)), np.zeros((11, 11)), math.inf),
        (np.full((11, 11), np.nan), np.zeros((11, 11)), 1.0),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, span):
    with pytest.raises(DataError):
        ssim(a, b, span)
