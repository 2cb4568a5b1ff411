"""Is there a synthetic lesion in this slice? Hospitals whose patients are individuals of the MNI152 brain.

Each patient is scanned in a few axial slices; a share of the patients has one synthetic lesion, which shows in some of
their slices. A slice is positive if the lesion covers at least ``VISIBLE`` pixels of it; slices that a lesion only
grazes are left out. Hospitals differ in scanner, in how many of their patients have a lesion and in size. Patients, not
slices, are held out. Every number comes from the study's seed and the places of hospital and patient, so a hospital can
be generated without the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from securefl.data.mri_anatomy import SIZE, Slices, Template, individual, load_template
from securefl.data.mri_field import Field
from securefl.data.mri_growth import Lesion, draw, grow
from securefl.data.mri_scanner import RECIPES, Scanner, installed, scan, standardised
from securefl.data.partition import generator, held_out
from securefl.data.records import Features, HospitalData, Labels, Records
from securefl.errors import DataError

SHAPE = (1, SIZE, SIZE)
CLASSES = 2
PREVALENCES = (0.5, 0.35, 0.6, 0.25, 0.45)
"""Share of a hospital's patients with a synthetic lesion, hospital after hospital, again from the first after five."""
WEIGHTS = (9, 7, 6, 4, 3)
"""Hospitals' sizes against each other, likewise."""
VISIBLE = 10
"""Fewest pixels of a lesion that make a slice positive."""
SPACING = 9.0
"""Between neighbouring slices, in mm."""
LOWEST = (-14.0, 14.0)
"""Between these heights, in mm in MNI space, lies a patient's lowest slice."""
SPARE = 2
"""More slices are looked at than are taken, so that those that a lesion only grazes can be left out."""
FEWEST = 4
"""A hospital with fewer patients could not hold out one of each kind."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Slices with what is known about them.

    images: float32 (n, 1, SIZE, SIZE), standardised; masks: bool (n, SIZE, SIZE), where the synthetic lesion is;
    labels: int64 (n,), 1 with a lesion; patients: int64 (n,), a number within the hospital.
    """

    images: Features
    masks: npt.NDArray[np.bool_]
    labels: Labels
    patients: npt.NDArray[np.int64]


def hospital_sizes(hospitals: int, patients: int) -> list[int]:
    """How many of all ``patients`` each of the hospitals has, in proportion to ``WEIGHTS``.

    Raises:
        DataError: a hospital would have fewer than four.
    """
    weights = np.array([WEIGHTS[k % len(WEIGHTS)] for k in range(hospitals)])
    ends = np.cumsum(weights) * patients // weights.sum()
    sizes = np.diff(ends, prepend=0).tolist()
    if min(sizes) < FEWEST:
        raise DataError(
            f"mri-lesions: {patients} patients are too few for {hospitals} hospitals with at least {FEWEST} each; "
            "raise the number of patients or use fewer hospitals."
        )
    return [int(size) for size in sizes]


def lesion_hospitals(
    hospitals: Sequence[str], seed: int, patients: int, slices: int, test_fraction: float
) -> dict[str, HospitalData]:
    """All hospitals' records, in the order of ``hospitals``, which alone decides who gets which scanner.

    seed: of the data; patients: of all hospitals together, training and held-out; slices: of each patient, at least 1;
    test_fraction: of the patients, above 0 and below 1.

    Raises:
        DataError: too few patients, or none with or without a lesion would be held out or left to train on.
    """
    template = load_template()
    return {
        name: _split(template, position, len(hospitals), seed, patients, slices, test_fraction, name)
        for position, name in enumerate(hospitals)
    }


def lesion_hospital(
    hospital: str, hospitals: Sequence[str], seed: int, patients: int, slices: int, test_fraction: float
) -> HospitalData:
    """One hospital's part of ``lesion_hospitals``, without generating the others."""
    position = list(hospitals).index(hospital)
    return _split(load_template(), position, len(hospitals), seed, patients, slices, test_fraction, hospital)


def example_images(position: int, seed: int, patients: int, slices: int) -> Examples:
    """Slices with masks, for pictures: the first ``patients`` of the hospital at ``position`` (0 is the first).

    Every other one has a synthetic lesion, whatever the hospital's prevalence.
    """
    sick = np.arange(patients) % 2 == 0
    return _scanned(load_template(), position, seed, sick, slices)


def with_lesion(position: int, seed: int, size: int) -> npt.NDArray[np.bool_]:
    """Which of a hospital's ``size`` patients have a lesion, bool (size,): the rounded share, at random places."""
    count = int(PREVALENCES[position % len(PREVALENCES)] * size + 0.5)
    return generator(seed, f"mri-lesions sick at {position}").permutation(size) < count


def scanner_of(position: int, seed: int) -> Scanner:
    """The scanner of the hospital at ``position``."""
    return installed(generator(seed, f"mri-lesions scanner {position}"), RECIPES[position % len(RECIPES)])


def _split(
    template: Template,
    position: int,
    hospitals: int,
    seed: int,
    patients: int,
    slices: int,
    test_fraction: float,
    name: str,
) -> HospitalData:
    sick = with_lesion(position, seed, hospital_sizes(hospitals, patients)[position])
    kept, held = held_out(
        sick.astype(np.int64), test_fraction, generator(seed, f"mri-lesions held-out at {position}")
    )
    if len({*sick[kept].tolist()}) < CLASSES or len({*sick[held].tolist()}) < CLASSES:
        raise DataError(
            f"mri-lesions: of the {len(sick)} patients of {name}, data.test_fraction = {test_fraction} leaves none "
            "with or none without a synthetic lesion to train on or to test on; give more patients or another fraction."
        )
    everyone = _scanned(template, position, seed, sick, slices)
    records = Records(everyone.images, everyone.labels, everyone.patients)
    train, test = (np.flatnonzero(np.isin(everyone.patients, part)) for part in (kept, held))
    return HospitalData(records.take(train), records.take(test), CLASSES)


def _scanned(
    template: Template, position: int, seed: int, sick: npt.NDArray[np.bool_], slices: int
) -> Examples:
    scanner = scanner_of(position, seed)
    images, masks = zip(
        *(
            _patient(
                generator(seed, f"mri-lesions patient {number} at {position}"),
                template,
                scanner,
                bool(ill),
                slices,
            )
            for number, ill in enumerate(sick)
        ),
        strict=True,
    )
    where = np.concatenate(masks)
    return Examples(
        np.concatenate(images),
        where,
        np.asarray(where.any(axis=(1, 2)), dtype=np.int64),
        np.repeat(np.arange(len(sick)), slices),
    )


def _patient(
    random: np.random.Generator, template: Template, scanner: Scanner, ill: bool, slices: int
) -> tuple[Features, npt.NDArray[np.bool_]]:
    """One patient's standardised slices and where in them the lesion is."""
    heights: Field = np.asarray(
        random.uniform(*LOWEST) + SPACING * np.arange(slices + SPARE), dtype=np.float64
    )
    brain = individual(random, template, heights)
    # Drawn for everyone, so that a patient with and without the lesion is otherwise the same.
    order = random.permutation(len(heights))
    lesion, clear = _fitting(random, brain, slices)
    masks = _visible(lesion, brain.brain) & ill
    if ill:
        # Its middle slice is always shown: who has a lesion has a positive slice.
        middle = int(masks.sum(axis=(1, 2)).argmax())
        order = np.asarray([middle, *(k for k in order if clear[k] and k != middle)], dtype=np.int64)
    taken = np.sort(order[:slices])
    brain, masks = brain.take(taken), masks[taken]
    t1 = draw(random, brain, lesion.take(taken))
    images = scan(random, scanner, brain.heights, np.where(ill, t1, brain.t1))
    return standardised(images, brain.brain), masks


def _fitting(random: np.random.Generator, brain: Slices, slices: int) -> tuple[Lesion, npt.NDArray[np.bool_]]:
    """A lesion that leaves at least ``slices`` slices clearly with or clearly without it, and which those are."""
    while True:
        lesion = grow(random, brain)
        area = _visible(lesion, brain.brain).sum(axis=(1, 2))
        touched = ((lesion.depth < lesion.edge) & brain.brain).any(axis=(1, 2))
        clear = (area >= VISIBLE) | ~touched
        if area.max() >= VISIBLE and clear.sum() >= slices:
            return lesion, clear


def _visible(lesion: Lesion, brain: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return (lesion.depth < 1) & brain
