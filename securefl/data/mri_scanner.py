"""Scanners: what a hospital's machine does to a brain's slices, and the scale in which slices become records.

A scanner has a gamma (the sequence's contrast), a bias field (uneven coils), a blur (resolution) and Rician noise, that
of the magnitude of a complex signal (Gudbjartsson and Patz, Magnetic Resonance in Medicine 34(6), 1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from securefl.data.mri_anatomy import grid
from securefl.data.mri_field import Field, smooth_field

LIMIT = 4.0
"""Standardised intensities are cut off here."""


@dataclass(frozen=True, eq=False)
class Scanner:
    """gamma: exponent of intensity; bias: standard deviation of the log bias field; blur: sigma in pixels, back to
    front and left to right; noise: sigma against white matter of 0.8; field: the coils' own pattern in space, coarse.
    """

    gamma: float
    bias: float
    blur: tuple[float, float]
    noise: float
    coils: tuple[float, float, float]


RECIPES = (
    Scanner(gamma=1.0, bias=0.08, blur=(0.3, 0.3), noise=0.03, coils=(0.0, 0.0, 0.1)),
    Scanner(gamma=0.75, bias=0.12, blur=(0.5, 0.5), noise=0.05, coils=(0.15, 0.0, 0.0)),
    Scanner(gamma=1.35, bias=0.12, blur=(0.4, 0.7), noise=0.06, coils=(-0.15, 0.15, 0.0)),
    Scanner(gamma=0.9, bias=0.16, blur=(0.8, 0.8), noise=0.04, coils=(0.0, -0.2, 0.1)),
    Scanner(gamma=1.15, bias=0.14, blur=(0.6, 0.6), noise=0.09, coils=(0.2, 0.1, 0.0)),
)


def installed(random: np.random.Generator, recipe: Scanner) -> Scanner:
    """One machine of a recipe: its figures differ by about a tenth from those of another."""
    gamma, bias, back, side, noise = np.exp(random.normal(0, 0.1, 5)).tolist()
    right, front, up = random.normal(0, 0.05, 3).tolist()
    return Scanner(
        gamma=recipe.gamma * gamma,
        bias=recipe.bias * bias,
        blur=(recipe.blur[0] * back, recipe.blur[1] * side),
        noise=recipe.noise * noise,
        coils=(recipe.coils[0] + right, recipe.coils[1] + front, recipe.coils[2] + up),
    )


def scan(random: np.random.Generator, scanner: Scanner, heights: Field, t1: Field) -> Field:
    """What the scanner shows of slices (slices, SIZE, SIZE) at heights in mm: the same shape, 0 or more."""
    from scipy.ndimage import gaussian_filter

    heights, fronts, rights = axes = grid(heights)
    right, front, up = scanner.coils
    slope = right * rights[None, None, :] + front * (fronts + 18)[None, :, None] + up * heights[:, None, None]
    bias = np.exp(slope / 80 + scanner.bias * smooth_field(random, axes, spacing=70)[0])
    signal = np.clip(t1, 0, None) ** scanner.gamma * bias
    signal = gaussian_filter(signal, (0, *scanner.blur), truncate=3)
    noise = random.normal(0, 0.8 * scanner.noise, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1])


def standardised(images: Field, brain: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Slices as records, float32 (slices, 1, SIZE, SIZE): each slice's brain with mean 0 and deviation 1, 0 around it.

    Only the slice itself enters its scale, so that nothing about other patients is in a record.
    """
    inside = brain.sum(axis=(1, 2), keepdims=True)
    mean = np.where(brain, images, 0).sum(axis=(1, 2), keepdims=True) / inside
    centred = np.where(brain, images - mean, 0)
    spread = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True) / inside)
    return np.clip(centred / spread, -LIMIT, LIMIT).astype(np.float32)[:, None]
