"""How much one image looks like another: structural similarity (SSIM) and peak signal-to-noise ratio (PSNR).

Both depend on the range of intensities, which is therefore never guessed from an image: the caller states it.

Source: Wang, Bovik, Sheikh and Simoncelli 2004, section III (equation 13, Gaussian window of 11 by 11 with standard
    deviation 1.5, K1 = 0.01, K2 = 0.03; local moments with the window's weights, mean over the positions at which the
    window lies within the image).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securefl.errors import DataError

Image = NDArray[Any]
WINDOW, SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def ssim(image: Image, reference: Image, intensity_range: float) -> float:
    """Structural similarity, -1 to 1; 1 for equal images. Symmetric in the two.

    Args:
        image, reference: real, (H, W) or (C, H, W), the same shape, H and W at least 11. Channels are averaged.
        intensity_range: L, the largest intensity minus the smallest that images of this kind can have; above 0.

    Raises:
        DataError: shapes differ or are too small, or the range is not positive.
    """
    x, y = _pair(image, reference, intensity_range)
    if x.ndim not in (2, 3) or min(x.shape[-2:]) < WINDOW:
        raise DataError(
            f"SSIM compares images of shape (H, W) or (C, H, W) of at least {WINDOW} by {WINDOW} pixels, "
            f"not {x.shape}; take larger images."
        )
    if x.ndim == 3:
        return float(np.mean([_plane(a, b, intensity_range) for a, b in zip(x, y, strict=True)]))
    return _plane(x, y, intensity_range)


def psnr(image: Image, reference: Image, intensity_range: float) -> float:
    """Peak signal-to-noise ratio in decibels: 10 log10(L² / mean squared error); infinite for equal images.

    Args and errors as :func:`ssim`, for any shape.
    """
    x, y = _pair(image, reference, intensity_range)
    error = float(np.mean((x - y) ** 2))
    return math.inf if error == 0 else 10 * math.log10(intensity_range**2 / error)


def _pair(image: Image, reference: Image, intensity_range: float) -> tuple[Image, Image]:
    x, y = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.shape != y.shape or not x.size:
        raise DataError(f"Images of shapes {x.shape} and {y.shape} cannot be compared; give both one shape.")
    if not (math.isfinite(intensity_range) and intensity_range > 0):
        raise DataError(f"The range of intensities must be a positive number, not {intensity_range}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("Images with values that are not finite cannot be compared; clip or repair them.")
    return x, y


def _plane(x: Image, y: Image, intensity_range: float) -> float:
    c1, c2 = (_K1 * intensity_range) ** 2, (_K2 * intensity_range) ** 2
    mean_x, mean_y = _local(x), _local(y)
    # Moments about the image's own mean would be the same; these are the paper's equations 14 to 16.
    variance_x, variance_y = _local(x * x) - mean_x**2, _local(y * y) - mean_y**2
    covariance = _local(x * y) - mean_x * mean_y
    likeness = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(likeness.mean())


def _local(plane: Image) -> Image:
    """Weighted local means wherever the whole window lies in the image: (H, W) to (H - 10, W - 10)."""
    from scipy.ndimage import correlate1d

    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    half = WINDOW // 2
    for axis in (0, 1):
        plane = correlate1d(plane, weights, axis=axis)
    return plane[half:-half, half:-half]
