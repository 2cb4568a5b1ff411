"""Brains: axial slices of the real MNI152 T1 volume, bent and shaded into individuals.

The volume and its grey and white matter maps (ICBM 152 non-linear symmetric 2009a, Fonov et al., NeuroImage 54(1),
2011) are part of the nilearn package: nothing is fetched. It is an average of 152 people and shows none of them.
An individual is the average under a random affine map and a smooth random deformation, with tissue of its own
brightness and texture, so that subtracting the average does not show what is abnormal.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from securefl.data.mri_field import Field, smooth_field
from securefl.errors import DataError

SIZE = 48
"""Pixels along each edge of a slice."""
PIXEL = 4.0
"""Edge of a pixel, in mm."""
CENTRE = (0.0, -18.0, 12.0)
"""The middle of a slice and the centre of turning, in mm in MNI space (right, front, up)."""
VOXEL = 2
"""Edge of a voxel of the volumes as they are kept, in mm."""

Volume = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Template:
    """The average brain: T1 intensity and the grey and white matter maps, from 0 to 1, float32, (x, y, z).

    offset: where voxel (0, 0, 0) has its centre, in mm.
    """

    t1: Volume
    grey: Volume
    white: Volume
    offset: Field


@dataclass(frozen=True, eq=False)
class Slices:
    """Axial slices of one brain; images are float64 (slices, SIZE, SIZE), rows from the front, columns left to right.

    heights: in mm, float64 (slices,). t1: intensity, about 0 to 1; grey, white: tissue, 0 to 1; brain: whether.
    """

    heights: Field
    t1: Field
    grey: Field
    white: Field
    brain: npt.NDArray[np.bool_]

    def take(self, which: npt.NDArray[np.int64]) -> Slices:
        """The slices at these positions."""
        return Slices(
            self.heights[which], self.t1[which], self.grey[which], self.white[which], self.brain[which]
        )


def load_template() -> Template:
    """The average brain from nilearn's own files, at 2 mm.

    Raises:
        DataError: nilearn is missing or its files are damaged.
    """
    try:
        # By name: the import takes seconds, and only studies on this data need it.
        datasets = importlib.import_module("nilearn.datasets")
        images = [
            load(resolution=1)
            for load in (
                datasets.load_mni152_template,
                datasets.load_mni152_gm_template,
                datasets.load_mni152_wm_template,
            )
        ]
        t1, grey, white = (_coarser(np.asarray(image.dataobj, dtype=np.float32)) for image in images)
    except (ImportError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"nilearn's MNI152 volume cannot be read ({error}); install nilearn again."
        ) from error
    # A coarse voxel's centre lies in the middle of its fine ones.
    offset = np.asarray(images[0].affine[:3, 3], dtype=np.float64) + (VOXEL - 1) / 2
    return Template(t1, grey, white, offset)


def grid(heights: Sequence[float] | Field) -> tuple[Field, Field, Field]:
    """The axes of a stack of slices, in mm: heights (slices,), front to back (SIZE,), left to right (SIZE,)."""
    steps: Field = np.asarray((np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL, dtype=np.float64)
    return np.asarray(heights, dtype=np.float64), steps * -1 + CENTRE[1], steps + CENTRE[0]


def individual(random: np.random.Generator, template: Template, heights: Field) -> Slices:
    """Slices of one random individual at ``heights`` mm."""
    from scipy.ndimage import map_coordinates

    axes = grid(heights)
    up, front, right = np.meshgrid(*axes, indexing="ij")
    centre = np.array(CENTRE)
    points = np.stack([right, front, up]).reshape(3, -1) - centre[:, None]
    turn = _rotation(random.normal(0, np.radians(3), 3)) * random.normal(1, 0.05, 3)
    bend = smooth_field(random, axes, spacing=45, fields=3).reshape(3, -1) * 3.0
    places = turn @ points + bend + (centre + random.normal(0, 2, 3) - template.offset)[:, None]
    t1, grey, white = (
        map_coordinates(volume, places / VOXEL, order=1, output=np.float64).reshape(up.shape)
        for volume in (template.t1, template.grey, template.white)
    )
    texture = smooth_field(random, axes, spacing=10)[0] * grey * 0.08
    texture += smooth_field(random, axes, spacing=25)[0] * 0.03
    brightness = 1 + random.normal(0, 0.06) * grey + random.normal(0, 0.04) * white + texture
    return Slices(axes[0], t1 * brightness, grey, white, t1 > 0.1)


def _coarser(volume: Volume) -> Volume:
    """Means over cubes of VOXEL voxels; a rest at the far faces is background and is left out."""
    x, y, z = (length // VOXEL for length in volume.shape)
    cubes = volume[: x * VOXEL, : y * VOXEL, : z * VOXEL].reshape(x, VOXEL, y, VOXEL, z, VOXEL)
    return cubes.mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)


def _rotation(angles: Field) -> Field:
    """A turn about three axes, one after the other, by angles in radians."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z
