"""Individuals of the real average brain."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.datasets import load_mni152_template

from securefl.data.mri_anatomy import CENTRE, PIXEL, SIZE, Template, grid, individual, load_template

HEIGHTS = np.array([0.0, 20.0, 40.0])


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


def test_the_volume_is_nilearns_at_the_places_that_it_says(template: Template) -> None:
    """Against nilearn's own resampling to 2 mm, which interpolates where this takes means."""
    other = load_mni152_template(resolution=2)
    inverse = np.linalg.inv(other.affine)
    voxels = np.argwhere(template.t1 > 0.3)[::97]
    places = voxels * 2 + template.offset
    theirs = np.rint(places @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    values = other.get_fdata()[tuple(theirs.T)]
    assert np.corrcoef(values, template.t1[tuple(voxels.T)])[0, 1] > 0.9


def test_tissue_is_where_it_belongs(template: Template) -> None:
    both = template.grey + template.white
    # The maps' skull stripping reaches a voxel further here and there.
    assert both[template.t1 == 0].mean() < 0.001
    assert both[template.t1 > 0.4].mean() > 0.9
    # On T1 white matter is the brighter.
    assert template.t1[template.white > 0.9].mean() > template.t1[template.grey > 0.9].mean() + 0.05


def test_slices_are_upright_heads_in_the_middle_of_the_image(template: Template) -> None:
    random = np.random.Generator(np.random.PCG64(0))
    people = [individual(random, template, HEIGHTS) for _ in range(12)]
    assert people[0].t1.shape == (3, SIZE, SIZE)
    mean = np.mean([person.brain for person in people], axis=0)
    rows, columns = (mean[0].any(axis=axis).sum() * PIXEL for axis in (1, 0))
    assert 150 <= rows <= SIZE * PIXEL
    assert 120 <= columns < rows  # a head is longer than wide
    assert abs(mean[0].mean(axis=0) @ np.arange(SIZE) / mean[0].mean() / SIZE - (SIZE - 1) / 2) < 1.5
    _, fronts, rights = grid(HEIGHTS)
    assert fronts[0] > CENTRE[1] > fronts[-1]
    assert rights[0] < CENTRE[0] < rights[-1]


def test_no_two_are_alike_and_none_is_the_average(template: Template) -> None:
    """The mean over many is still like each of them: individuals, and not noise."""
    random = np.random.Generator(np.random.PCG64(3))
    people = np.array([individual(random, template, HEIGHTS).t1[1] for _ in range(10)])
    mean = people.mean(axis=0)
    apart = [np.abs(person - mean)[mean > 0.3].mean() for person in people]
    assert min(apart) > 0.02
    assert min(np.corrcoef(person.ravel(), mean.ravel())[0, 1] for person in people) > 0.85
