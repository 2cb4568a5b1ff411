"""Synthetic lesions: deformed ellipsoids in space, shaded as tumours look on T1, drawn into one brain's slices.

A lesion is where ``depth < 1``: the distance from its centre in an ellipsoid's metric, made ragged by a smooth random
field. It lies in space, so neighbouring slices of a patient show the same one. Its looks are after the regions that
BraTS annotates (Menze et al., IEEE Transactions on Medical Imaging 34(10), 2015, section III-C): an enhancing rim round
a dark core, solid growth darker or brighter than its surroundings, and oedema in the white matter round about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from securefl.data.mri_anatomy import PIXEL, Slices, grid
from securefl.data.mri_field import Field, smooth_field

LOOKS = ("rim", "dark", "bright")


@dataclass(frozen=True, eq=False)
class Lesion:
    """One synthetic lesion in a stack of slices.

    depth: float64 (slices, SIZE, SIZE), below 1 inside; core, rim: intensity against white matter, as a factor;
    inner: the depth at which the core ends; oedema: how much darker the white matter is, and reach: to what depth;
    softness: width of the edges in depth.
    """

    depth: Field
    look: str
    core: float
    rim: float
    inner: float
    oedema: float
    reach: float
    softness: float

    @property
    def edge(self) -> float:
        """The depth beyond which nothing of the lesion shows, oedema included."""
        return self.reach + 3 * self.softness if self.oedema else 1 + self.softness

    def take(self, which: npt.NDArray[np.int64]) -> Lesion:
        """The lesion in the slices at these positions."""
        return replace(self, depth=self.depth[which])


def grow(random: np.random.Generator, slices: Slices) -> Lesion:
    """A random lesion in the grey or white matter of one of the slices."""
    heights, fronts, rights = axes = grid(slices.heights)
    chances = (0.75 * slices.white + 0.25 * slices.grey).ravel()
    chances *= chances > 0.15
    middle = int(np.searchsorted(np.cumsum(chances), random.random() * chances.sum(), side="right"))
    plane, row, column = np.unravel_index(min(middle, chances.size - 1), slices.white.shape)
    radius = random.uniform(10.0, 22.0)
    radii = radius * np.exp(random.normal(0, 0.2, 3))
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    metric = turn @ np.diag(radii**-2.0) @ turn.T
    from_centre = np.meshgrid(
        heights - heights[plane], fronts - fronts[row], rights - rights[column], indexing="ij"
    )
    offsets = np.stack(from_centre)
    depth = np.sqrt(np.einsum("iabc,ij,jabc->abc", offsets, metric, offsets, optimize=True))
    depth += random.uniform(0.05, 0.2) * smooth_field(random, axes, spacing=14)[0]
    look = LOOKS[int(random.integers(len(LOOKS)))]
    core, rim = {
        "rim": (random.uniform(0.25, 0.65), random.uniform(1.2, 1.7)),
        "dark": (random.uniform(0.15, 0.6), 0.0),
        "bright": (random.uniform(1.25, 1.75), 0.0),
    }[look]
    swelling = random.random() < 0.6
    return Lesion(
        depth=depth,
        look=look,
        core=core,
        rim=rim or core,
        inner=random.uniform(0.5, 0.75),
        oedema=random.uniform(0.05, 0.25) if swelling else 0.0,
        reach=random.uniform(1.3, 1.8),
        softness=PIXEL / radius / 4,
    )


def draw(random: np.random.Generator, slices: Slices, lesion: Lesion) -> Field:
    """The slices' T1 with the lesion in it, float64 (slices, SIZE, SIZE)."""
    inside = _step((1 - lesion.depth) / lesion.softness)
    core = _step((lesion.inner - lesion.depth) / lesion.softness)
    swollen = _step((lesion.reach - lesion.depth) / (3 * lesion.softness)) * slices.white
    tissue = slices.t1 * (1 - lesion.oedema * swollen)
    white = 0.8
    mottled = 1 + 0.05 * smooth_field(random, grid(slices.heights), spacing=8)[0]
    growth = white * mottled * (core * lesion.core + (1 - core) * lesion.rim)
    return tissue * (1 - inside) + growth * inside * (slices.brain)


def _step(distance: Field) -> Field:
    """From 0 to 1, half at 0, without a jump: a straight line between -1 and 1."""
    return np.clip(distance / 2 + 0.5, 0, 1)
