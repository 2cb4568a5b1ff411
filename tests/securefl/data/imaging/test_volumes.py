"""Slices: scaled by the volume alone, in the declared orientation, at one voxel size, from the usable ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.data.imaging.settings import ImagingSettings
from securefl.data.imaging.volumes import Volume, same_spacing, scaled, slices_of, square
from securefl.errors import DataError, StudyError

SETTINGS = ImagingSettings("nifti", image_size=16, slices=3)


def volume(shape: tuple[int, int, int] = (16, 16, 9), seed: int = 0) -> Volume:
    voxels = np.random.default_rng(seed).uniform(1, 100, size=shape).astype(np.float32)
    voxels[:2] = 0
    return Volume(voxels, (1.0, 1.0, 2.0))


def test_scaling_is_by_the_foreground_s_percentiles() -> None:
    one = volume()
    values = scaled(one, "x")
    low, high = np.percentile(one.voxels[one.voxels > 0], (1, 99))
    assert np.allclose(
        values, np.where(one.voxels > 0, np.clip((one.voxels - low) / (high - low), 0, 1), 0), atol=1e-6
    )
    assert not values[:2].any()


@given(st.floats(0.01, 1000), st.integers(0, 50))
def test_scaling_does_not_see_the_unit_nor_how_much_background_there_is(factor: float, border: int) -> None:
    one = volume()
    other = replace(one, voxels=np.pad(one.voxels * np.float32(factor), ((border, 0), (0, 0), (0, 0))))
    assert np.allclose(scaled(other, "x")[border:], scaled(one, "x"), atol=1e-4)


def test_front_is_up_and_left_is_left() -> None:
    voxels = np.full((16, 16, 3), 50, dtype=np.float32)
    voxels[0, 0, :] = 1  # far left, far back
    voxels[15, 15, :] = 100  # far right, far front
    voxels[::2, 7, 1] = 40
    images, _ = slices_of(Volume(voxels, (1.0, 1.0, 1.0)), 0, SETTINGS, None, "x")
    assert images.shape == (3, 1, 16, 16)
    assert images.dtype == np.float32
    assert images[0, 0, 15, 0] == images.min()
    assert images[0, 0, 0, 15] == images.max()


def test_slices_are_evenly_spaced_over_the_usable_ones() -> None:
    voxels = np.zeros((16, 16, 12), dtype=np.float32)
    for z in range(3, 12):
        voxels[:, :, z] = 10 * z + np.random.default_rng(z).uniform(0, 1, (16, 16))
    voxels[0, 0, 0] = 99  # a speck is no usable slice
    lesion = np.zeros(voxels.shape, dtype=bool)
    lesion[:5, :2, 7] = True  # the middle of the nine usable slices
    images, labels = slices_of(Volume(voxels, (1, 1, 1), 0.0, lesion), None, SETTINGS, None, "x")
    assert list(labels) == [0, 1, 0]
    means = images.mean(axis=(1, 2, 3))
    assert np.all(np.diff(means) > 0.2)
    assert list(
        slices_of(
            Volume(voxels, (1, 1, 1), 0.0, lesion), None, replace(SETTINGS, lesion_pixels=11), None, "x"
        )[1]
    ) == [0, 0, 0]
    with pytest.raises(DataError, match="has 9 usable slices, and 10 are asked for"):
        slices_of(Volume(voxels, (1, 1, 1)), 0, replace(SETTINGS, slices=10), None, "x")
    assert len(slices_of(Volume(voxels, (1, 1, 1)), 1, replace(SETTINGS, slices=9), None, "x")[0]) == 9


def test_a_constant_volume_is_refused() -> None:
    for value in (0, 7):
        with pytest.raises(DataError, match="x: the image is constant"):
            scaled(Volume(np.full((4, 4, 4), value, dtype=np.float32), (1, 1, 1)), "x")


def test_resampling_brings_two_scanners_to_one_image() -> None:
    """A smooth object seen with voxels of 1 mm and of 2 mm gives the same slices, and other ones without resampling."""

    def seen(spacing: float, extent: float) -> Volume:
        n = round(extent / spacing)
        x = (np.arange(n) + 0.5) * spacing
        r = sum((a - 20) ** 2 for a in np.meshgrid(x, x, x, indexing="ij"))
        return Volume((1000 * np.exp(-r / 200) + 1).astype(np.float32), (spacing,) * 3, 0.0, r < 36)

    fine, coarse = seen(1.0, 40), seen(2.0, 40)
    target = (2.0, 2.0, 2.0)
    a, labels_a = slices_of(fine, None, SETTINGS, target, "x")
    b, labels_b = slices_of(coarse, None, SETTINGS, target, "x")
    assert np.abs(a - b).max() < 0.03
    assert list(labels_a) == list(labels_b) == [0, 1, 0]
    with pytest.raises(DataError, match="too large"):
        slices_of(fine, None, SETTINGS, (0.01, 0.01, 0.01), "x")


def test_a_square_keeps_the_shape_of_things() -> None:
    image = np.ones((10, 20), dtype=np.float32)
    wide = square(image, 8)
    assert wide[2:6].min() > 0.99
    assert not wide[:2].any()
    assert not wide[6:].any()
    assert square(image, 8, aspect=2.0).min() > 0.99
    assert np.array_equal(
        square(np.arange(64, dtype=np.float32).reshape(8, 8), 8), np.arange(64).reshape(8, 8)
    )


def test_equal_spacings() -> None:
    assert same_spacing((1, 1, 2), (1.005, 1, 2))
    assert not same_spacing((1, 1, 2), (1, 1, 2.1))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "jpeg"},
        {"format": "dicom", "masks": "m"},
        {"image_size": 4},
        {"slices": 0},
        {"test_fraction": 1.0},
        {"mixed_spacing": "ignore"},
        {"spacing": (1, 0, 1)},
        {"lesion_pixels": 0},
        {"classes": 1},
        {"masks": "m", "classes": 3},
    ],
)
def test_settings_out_of_range(change: dict) -> None:
    with pytest.raises(StudyError):
        ImagingSettings(**{"format": "nifti", **change})
    assert ImagingSettings("nifti", masks="m", classes=2).classes == 2
