"""Hospitals with synthetic lesions in slices of the MNI152 brain."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from securefl.data import mri_lesions as lesions
from securefl.data.records import HospitalData, Records
from securefl.errors import DataError

FIVE = ["north", "east", "south", "west", "centre"]
PATIENTS, SLICES, FRACTION = 145, 4, 0.3

DIGEST = """
import hashlib
from securefl.data.mri_lesions import lesion_hospital
data = lesion_hospital("west", ["north", "east", "south", "west", "centre"], 7, 145, 4, 0.3)
print(hashlib.sha256(b"".join(a.tobytes() for r in (data.train, data.test)
                              for a in (r.features, r.labels, r.patients))).hexdigest())
"""


def digest(data: HospitalData) -> str:
    parts = [getattr(r, a) for r in (data.train, data.test) for a in ("features", "labels", "patients")]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope="module")
def everyone() -> dict[str, HospitalData]:
    """All five hospitals, generated while no socket can be opened."""
    patch = pytest.MonkeyPatch()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the data source opened a socket")

    patch.setattr(socket, "socket", refuse)
    patch.setattr(socket, "create_connection", refuse)
    patch.setattr(socket, "getaddrinfo", refuse)
    try:
        with pytest.raises(AssertionError, match="opened a socket"):
            socket.create_connection(("192.0.2.1", 80))
        return lesions.lesion_hospitals(FIVE, 7, PATIENTS, SLICES, FRACTION)
    finally:
        patch.undo()


def numbers(records: Records) -> np.ndarray:
    assert records.patients is not None
    return records.patients


def test_records_are_finite_images_of_the_declared_shape(everyone: dict[str, HospitalData]) -> None:
    assert list(everyone) == FIVE
    for data in everyone.values():
        assert data.classes == lesions.CLASSES == 2
        for part in (data.train, data.test):
            assert part.shape == lesions.SHAPE
            assert part.features.dtype == np.float32
            assert np.isfinite(part.features).all()
            assert {*part.labels.tolist()} == {0, 1}


def test_sizes_and_prevalences_are_those_declared(everyone: dict[str, HospitalData]) -> None:
    sizes = lesions.hospital_sizes(5, PATIENTS)
    assert sizes == [45, 35, 30, 20, 15]  # 9, 7, 6, 4 and 3 parts of 29
    for size, prevalence, data in zip(sizes, lesions.PREVALENCES, everyone.values(), strict=True):
        sick = 0
        for part in (data.train, data.test):
            for group in part.patient_groups():
                assert len(group) == SLICES
                sick += int(part.labels[group].any())
        assert len({*numbers(data.train), *numbers(data.test)}) == size
        assert abs(sick - prevalence * size) <= 0.5


def test_one_slice_of_each_patient_is_enough() -> None:
    shown = lesions.example_images(position=0, seed=1, patients=16, slices=1)
    assert shown.patients.tolist() == list(range(16))
    assert shown.labels.tolist() == [1, 0] * 8  # the lesion's middle slice is the one that is shown


def test_patients_and_not_slices_are_held_out(everyone: dict[str, HospitalData]) -> None:
    for data in everyone.values():
        kept, held = {*numbers(data.train).tolist()}, {*numbers(data.test).tolist()}
        assert not kept & held
        assert abs(len(held) - FRACTION * (len(kept) + len(held))) <= 1


@pytest.mark.slow
def test_one_hospital_alone_in_another_process_is_bit_for_bit_the_same(
    everyone: dict[str, HospitalData],
) -> None:
    done = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(everyone["west"])
    other = lesions.lesion_hospital("west", FIVE, 8, PATIENTS, SLICES, FRACTION)
    assert digest(other) != digest(everyone["west"])


def test_labels_say_whether_the_mask_shows_a_lesion() -> None:
    examples = lesions.example_images(1, 3, 12, SLICES)
    areas = examples.masks.sum(axis=(1, 2))
    assert ((areas >= lesions.VISIBLE) == (examples.labels == 1)).all()
    assert not areas[examples.labels == 0].any()  # no slice is only grazed
    by_patient = examples.labels.reshape(12, SLICES).any(axis=1)
    assert by_patient.tolist() == [True, False] * 6


def test_a_lesion_is_the_only_thing_that_differs_from_the_same_patient_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Inside the mask slices differ much more than outside it: the mask is where the lesion is."""
    ill = lesions.example_images(0, 3, 8, SLICES)
    monkeypatch.setattr(lesions, "draw", lambda random, brain, lesion: brain.t1)
    well = lesions.example_images(0, 3, 8, SLICES)
    apart = np.abs(ill.images - well.images)[:, 0][ill.labels == 1]
    masks = ill.masks[ill.labels == 1]
    assert apart[masks].mean() > 3 * apart[~masks].mean()


def test_scanners_differ(everyone: dict[str, HospitalData]) -> None:
    """A nearest-mean classifier of three texture figures names the hospital far more often than one in five."""
    figures, names = [], []
    for number, data in enumerate(everyone.values()):
        x = data.train.features[:, 0]
        inside = (x != 0).sum(axis=(1, 2))
        rough = np.abs(np.diff(x, axis=1)).sum(axis=(1, 2)) / inside
        rougher = np.abs(np.diff(x, axis=2)).sum(axis=(1, 2)) / inside
        skew = (x**3).sum(axis=(1, 2)) / inside
        figures.append(np.stack([rough, rougher, skew], axis=1))
        names.append(np.full(len(x), number))
    values, truth = np.concatenate(figures), np.concatenate(names)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    centres = np.array([values[truth == k].mean(axis=0) for k in range(5)])
    found = ((values[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    balanced = np.mean([(found[truth == k] == k).mean() for k in range(5)])
    assert balanced > 0.45


def test_brightness_and_size_of_the_head_hardly_tell_the_label(everyone: dict[str, HospitalData]) -> None:
    x, y = (
        np.concatenate([getattr(data.train, name) for data in everyone.values()])
        for name in ("features", "labels")
    )
    images = x[:, 0]
    trivial = {
        "mean": images.mean(axis=(1, 2)),
        "head": (images != 0).mean(axis=(1, 2)),
        "median": np.median(images, axis=(1, 2)),
    }
    for name, figure in trivial.items():
        score = roc_auc_score(y, figure)
        assert 0.3 < score < 0.7, name
    # The control: with the masks' knowledge a figure of brightness would tell.
    assert roc_auc_score(y, np.where(y == 1, 0.1, 0) + trivial["mean"]) > 0.7


def test_more_hospitals_repeat_the_recipes_on_other_machines() -> None:
    first, sixth = lesions.scanner_of(0, 7), lesions.scanner_of(5, 7)
    assert first.gamma != sixth.gamma
    assert abs(np.log(first.gamma / sixth.gamma)) < 0.7
    assert len(lesions.hospital_sizes(7, 200)) == 7
    assert sum(lesions.hospital_sizes(7, 200)) == 200


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(DataError, match="20 patients are too few for 5 hospitals"):
        lesions.lesion_hospitals(FIVE, 7, 20, SLICES, FRACTION)
    with pytest.raises(DataError, match="of the 6 patients of centre"):
        lesions.lesion_hospital("centre", FIVE, 7, 58, SLICES, 0.05)
