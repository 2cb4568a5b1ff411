"""Scanners and the scale of a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from securefl.data.mri_anatomy import SIZE
from securefl.data.mri_scanner import RECIPES, Scanner, installed, scan, standardised

PLAIN = Scanner(gamma=1.0, bias=0.0, blur=(0.0, 0.0), noise=0.0, coils=(0.0, 0.0, 0.0))
HEIGHTS = np.array([0.0, 9.0, 18.0])


def random(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def flat(level: float) -> np.ndarray:
    return np.full((3, SIZE, SIZE), level)


def test_a_perfect_scanner_shows_what_there_is() -> None:
    image = random().uniform(0, 1, (3, SIZE, SIZE))
    assert scan(random(), PLAIN, HEIGHTS, image) == pytest.approx(image)
    assert scan(random(), replace(PLAIN, gamma=2.0), HEIGHTS, image) == pytest.approx(image**2)


def test_noise_in_the_dark_is_rayleigh_and_in_the_light_gaussian() -> None:
    noisy = replace(PLAIN, noise=0.1)
    sigma = 0.08
    dark, light = (scan(random(), noisy, HEIGHTS, flat(level)) for level in (0.0, 1.0))
    assert dark.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.03)
    assert dark.std() == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.05)
    assert light.std() == pytest.approx(sigma, rel=0.05)


def test_bias_is_smooth_and_blur_lowers_contrast() -> None:
    shaded = scan(random(), replace(PLAIN, bias=0.2), HEIGHTS, flat(1.0))
    assert 0.02 < shaded.std() < 0.6
    assert np.abs(np.diff(shaded, axis=2)).max() < 0.1
    checks = flat(0.0)
    checks[:, ::2] = 1.0
    blurred = scan(random(), replace(PLAIN, blur=(1.0, 0.0)), HEIGHTS, checks)
    assert blurred[:, 8:-8].std() < 0.2 * checks.std()


def test_machines_of_a_recipe_differ_a_little() -> None:
    one, other = installed(random(1), RECIPES[0]), installed(random(2), RECIPES[0])
    assert one.gamma != other.gamma
    assert 0.6 < one.gamma / RECIPES[0].gamma < 1.6
    assert replace(installed(random(1), RECIPES[0])).blur == one.blur


def test_a_record_is_standardised_by_its_own_brain_alone() -> None:
    images = random().uniform(1, 2, (3, SIZE, SIZE))
    brain = np.zeros((3, SIZE, SIZE), dtype=bool)
    brain[:, 10:40, 12:36] = True
    records = standardised(images, brain)
    assert records.shape == (3, 1, SIZE, SIZE)
    assert records.dtype == np.float32
    for record, inside in zip(records[:, 0], brain, strict=True):
        assert record[inside].mean() == pytest.approx(0, abs=1e-5)
        assert record[inside].std() == pytest.approx(1, abs=1e-5)
        assert not record[~inside].any()
    images[1:] *= 7
    assert np.array_equal(standardised(images, brain)[0], records[0])
