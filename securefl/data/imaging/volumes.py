"""From a volume to slices: scaled by the volume itself, brought to one voxel size, cut across the body's axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from securefl.data.imaging.settings import ImagingSettings
from securefl.data.records import Features, Labels
from securefl.errors import DataError

Voxels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

MAXIMUM_VOXELS = 2**28
SAME_SPACING = 0.01
"""Largest relative difference of two voxel sizes that count as equal."""
PERCENTILES = (1.0, 99.0)
FULL_ENOUGH = 0.25
"""A slice is usable from this share of the fullest slice's foreground on: not the first millimetres of the scalp."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume in canonical orientation: the axes run to the patient's right, front and head.

    voxels: float32 (X, Y, Z), finite. spacing: voxel size along the axes, in mm. background: the value of what is
    outside the body. lesion: bool, shape as ``voxels``; None where no mask was given.
    """

    voxels: Voxels
    spacing: Spacing
    background: float = 0.0
    lesion: Mask | None = None


def same_spacing(one: Spacing, other: Spacing) -> bool:
    """Whether two voxel sizes are equal within ``SAME_SPACING``."""
    return all(abs(a - b) <= SAME_SPACING * max(a, b) for a, b in zip(one, other, strict=True))


def slices_of(
    volume: Volume, label: int | None, settings: ImagingSettings, target: Spacing | None, where: str
) -> tuple[Features, Labels]:
    """``settings.slices`` slices, evenly spaced over the usable ones, with labels.

    target: the voxel size to bring the volume to, in mm; None to leave it. label: the slices' where there is no mask.
    Returns float32 (slices, 1, size, size), from 0 to 1, front up and patient's left on the left, and int64 (slices,).

    Raises:
        DataError: the volume is constant or has too few usable slices, or would become too large.
    """
    values, lesion = scaled(volume, where), volume.lesion
    if target is not None and not same_spacing(volume.spacing, target):
        values, lesion = _resampled(values, lesion, volume.spacing, target, where)
    spacing = volume.spacing if target is None else target
    fullness = np.count_nonzero(values, axis=(0, 1))
    usable = np.flatnonzero(fullness >= max(1.0, FULL_ENOUGH * fullness.max()))
    if len(usable) < settings.slices:
        raise DataError(
            f"{where}: the volume has {len(usable)} usable slices, and {settings.slices} are asked for; lower slices, "
            "or leave the volume out."
        )
    chosen = usable[((np.arange(settings.slices) + 0.5) * len(usable) / settings.slices).astype(np.int64)]
    images = [square(values[:, ::-1, z].T, settings.image_size, spacing[1] / spacing[0]) for z in chosen]
    if lesion is None:
        labels = np.full(len(chosen), 0 if label is None else label, dtype=np.int64)
    else:
        labels = (np.count_nonzero(lesion[:, :, chosen], axis=(0, 1)) >= settings.lesion_pixels).astype(
            np.int64
        )
    return np.stack(images)[:, None], labels


def scaled(volume: Volume, where: str) -> Voxels:
    """Voxels from 0 to 1: percentiles 1 and 99 of the foreground become 0 and 1, background and below become 0.

    Raises:
        DataError: the foreground is empty or constant.
    """
    foreground = volume.voxels[volume.voxels != np.float32(volume.background)]
    low, high = np.percentile(foreground, PERCENTILES) if foreground.size else (0.0, 0.0)
    if not high > low:
        raise DataError(f"{where}: the image is constant, so it shows nothing; leave it out.")
    with np.errstate(over="ignore"):
        values = np.clip((volume.voxels.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
    values[volume.voxels == np.float32(volume.background)] = 0
    return values


def square(image: Voxels, size: int, aspect: float = 1.0) -> Voxels:
    """A grey image (rows, columns), centred on a square of zeros and resized to (size, size).

    aspect: a pixel's height over its width. The resize averages over what becomes one pixel (Pillow's bilinear).
    """
    from PIL import Image

    rows, columns = image.shape
    height, width = rows * aspect, float(columns)
    side = max(height, width)
    inner = max(1, round(size * height / side)), max(1, round(size * width / side))
    resized = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32)).resize(
        (inner[1], inner[0]), Image.Resampling.BILINEAR
    )
    result = np.zeros((size, size), dtype=np.float32)
    top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = np.asarray(resized)
    return result


def _resampled(
    values: Voxels, lesion: Mask | None, spacing: Spacing, target: Spacing, where: str
) -> tuple[Voxels, Mask | None]:
    from scipy.ndimage import zoom

    factors = [a / b for a, b in zip(spacing, target, strict=True)]
    sizes = [max(1, round(n * f)) for n, f in zip(values.shape, factors, strict=True)]
    if np.prod(np.array(sizes, dtype=np.float64)) > MAXIMUM_VOXELS:
        raise DataError(f"{where}: at the common voxel size the volume is too large; leave it out.")
    exact = [n / old for n, old in zip(sizes, values.shape, strict=True)]
    smooth = zoom(values, exact, order=1, mode="nearest", grid_mode=True).astype(np.float32)
    if lesion is None:
        return smooth, None
    return smooth, zoom(lesion.astype(np.uint8), exact, order=0, mode="nearest", grid_mode=True).astype(bool)
