"""Smooth random fields on a grid of points: tensor products of cubic B-splines with random coefficients.

The free-form deformations of Rueckert et al. (IEEE Transactions on Medical Imaging 18(8), 1999, section II-B) are
three such fields; bias fields, textures and ragged outlines are one each. A field costs three small matrix products.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]

_SQUARES = 151 / 315
"""The mean, over places, of the sum of squares of the four weights: what one axis leaves of a variance."""


def spline_weights(places: Field, spacing: float) -> Field:
    """Cubic B-spline weights of places, in mm, over nodes ``spacing`` mm apart: float64 (n, nodes); rows sum to one.

    The nodes reach one further than the outermost places on either side, as far as a cubic spline does.
    """
    steps = (places - places.min()) / spacing
    count = int(np.floor(steps.max())) + 4
    distance = np.abs(steps[:, None] + 1 - np.arange(count))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def smooth_field(
    random: np.random.Generator, axes: tuple[Field, Field, Field], spacing: float, fields: int = 1
) -> Field:
    """Random fields of mean 0 and mean variance 1 on the grid of three axes (in mm): (fields, n0, n1, n2).

    spacing: between nodes, in mm, which is about how far values depend on each other.
    """
    first, second, third = (spline_weights(axis, spacing) for axis in axes)
    nodes = random.standard_normal((fields, first.shape[1], second.shape[1], third.shape[1]))
    values = np.matmul(second, np.matmul(nodes, third.T))  # (fields, nodes0, n1, n2)
    flat = values.reshape(*values.shape[:2], -1)
    mixed = np.matmul(first, flat).reshape(fields, len(axes[0]), len(axes[1]), len(axes[2]))
    return cast(Field, mixed / _SQUARES**1.5)
