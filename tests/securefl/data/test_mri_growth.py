"""Synthetic lesions: shape, place and looks."""

from __future__ import annotations

import numpy as np
import pytest

from securefl.data.mri_anatomy import PIXEL, Slices, Template, individual, load_template
from securefl.data.mri_growth import LOOKS, Lesion, draw, grow

HEIGHTS = np.arange(0.0, 45.0, 9.0)


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


@pytest.fixture(scope="module")
def grown(template: Template) -> list[tuple[Slices, Lesion, np.ndarray]]:
    random = np.random.Generator(np.random.PCG64(0))
    made = []
    for _ in range(60):
        brain = individual(random, template, HEIGHTS)
        lesion = grow(random, brain)
        made.append((brain, lesion, draw(random, brain, lesion)))
    return made


def test_lesions_are_one_piece_in_space_and_differ_in_size(
    grown: list[tuple[Slices, Lesion, np.ndarray]],
) -> None:
    from scipy.ndimage import label

    whole, areas, several = 0, [], 0
    for _, lesion, _ in grown:
        inside = lesion.depth < 1
        _, pieces = label(inside)
        whole += pieces == 1
        areas.append(int(inside.sum(axis=(1, 2)).max()) * PIXEL**2)
        several += int((inside.sum(axis=(1, 2)) > 5).sum()) > 1
    assert whole >= 0.85 * len(grown)  # a ragged edge may lose a pixel
    assert several >= 0.6 * len(grown)  # neighbouring slices show the same lesion
    assert min(areas) < 600 < 1100 < max(areas)  # square millimetres: from 10 to 22 mm across the middle


def test_they_grow_in_grey_and_white_matter(grown: list[tuple[Slices, Lesion, np.ndarray]]) -> None:
    for brain, lesion, _ in grown:
        centre = np.unravel_index(lesion.depth.argmin(), lesion.depth.shape)
        near = (brain.grey + brain.white)[
            centre[0], max(0, centre[1] - 2) : centre[1] + 3, max(0, centre[2] - 2) : centre[2] + 3
        ]
        assert near.max() > 0.5


def test_nothing_changes_outside_and_looks_are_as_named(
    grown: list[tuple[Slices, Lesion, np.ndarray]],
) -> None:
    seen = {look: 0 for look in LOOKS}
    for brain, lesion, drawn in grown:
        assert np.array_equal(drawn[lesion.depth > lesion.edge], brain.t1[lesion.depth > lesion.edge])
        middle = (lesion.depth < 0.4) & brain.brain
        rim = (lesion.depth > lesion.inner + 0.1) & (lesion.depth < 0.9) & brain.brain
        if middle.sum() < 4 or rim.sum() < 4:
            continue
        seen[lesion.look] += 1
        assert drawn[middle].mean() == pytest.approx(0.8 * lesion.core, rel=0.25)
        if lesion.look == "rim":
            assert drawn[rim].mean() > drawn[middle].mean() + 0.15
        else:
            assert (drawn[middle].mean() > 0.8) == (lesion.look == "bright")
    assert min(seen.values()) >= 8
