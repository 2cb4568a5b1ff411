"""One patient more or less in a hospital's file moves what the hospital sends by no more than the clip.

From the file, and not from the training records: who is held out must not depend on the patient either.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from securefl.data import fed_heart, load_hospital
from securefl.data.records import Records
from securefl.errors import DataError
from securefl.study.schema import StudySettings
from securefl.training.private import PrivateTrainer

BITS, CLIP = 16, 0.5
C = 2**15
"""The clip in units of 2^-16."""


def settings(data, **privacy):
    return StudySettings.model_validate(
        {
            "name": "Private",
            "seed": 3,
            "consortium": {"hospitals": ["cleveland", "hungary", "switzerland", "va"]},
            "data": data,
            "model": {"kind": "logistic"},
            "training": {"rounds": 2, "learning_rate": 0.5},
            "privacy": {"epsilon": 1.0, "delta": 1e-5, "clip": CLIP, "patients": 400, **privacy},
            "simulation": {},
        }
    )


def everybody(units, rate):
    return np.arange(units)


def sent(study, folder, hospital):
    """The integers of one hospital with everybody drawn."""
    data = load_hospital(study.data, folder, hospital, study.consortium.hospital_names(), study.seed)
    trainer = PrivateTrainer(study, folder, hospital, data, BITS, _sampler=everybody)
    return np.ldexp(trainer.update(trainer.initial_model(), 1), BITS)


def by_class(study):
    """The control: as records are split without privacy."""
    return study.model_copy(update={"data": study.data.model_copy(update={"held_out": "by-class"})})


def largest_move(study, folder, hospital, without):
    """Of what is sent, in clips, over some patients that go."""
    whole = sent(study, folder, hospital)
    moves = []
    for patient in range(12):
        with without(patient):
            moves.append(np.linalg.norm(whole - sent(study, folder, hospital)) / C)
    return max(moves)


@pytest.fixture
def npz(tmp_path):
    """A hospital's file of 60 patients with two records each, and a context in which one of them is not there."""
    draw = np.random.default_rng(0)
    patients = np.repeat(draw.permutation(10_000)[:60], 2)
    arrays = {"x": draw.normal(size=(120, 5)), "y": draw.integers(2, size=120), "patients": patients}

    def write(kept):
        np.savez(
            tmp_path / "cleveland.npz", classes=2, **{name: array[kept] for name, array in arrays.items()}
        )

    @contextmanager
    def without(patient):
        write(patients != patients[2 * patient])
        yield
        write(np.full(120, True))

    write(np.full(120, True))
    return settings({"source": "npz", "root": "{hospital}.npz"}), tmp_path, "cleveland", without


@pytest.fixture
def heart(tmp_path, monkeypatch):
    records, sites = fed_heart.read_heart()
    own = np.flatnonzero(sites == 0)
    means = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
    stds = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]

    @contextmanager
    def without(patient):
        kept = np.flatnonzero(np.arange(len(sites)) != own[patient])
        with monkeypatch.context() as patch:
            patch.setattr(fed_heart, "read_heart", lambda: (records.take(kept), sites[kept]))
            yield

    data = {"source": "fed-heart", "standardise": "public"}
    data |= {"public_mean": means, "public_std": stds}
    return settings(data), tmp_path, "cleveland", without


@pytest.mark.parametrize("source", ["npz", "heart"])
def test_one_patient_of_the_file_moves_the_sum_by_no_more_than_the_clip(request, source):
    study, folder, hospital, without = request.getfixturevalue(source)
    assert study.data.held_out == "each-alone"
    assert 0.5 < largest_move(study, folder, hospital, without) <= 1
    assert largest_move(by_class(study), folder, hospital, without) > 1.5  # others come and go with one


def test_privacy_of_patients_cannot_be_asked_for_with_another_split():
    with pytest.raises(ValueError, match=r'set data\.held_out = "each-alone"'):
        settings({"source": "fed-heart", "held_out": "by-class"})
    of_hospitals = {"unit": "hospital", "patients": None}
    assert (
        settings({"source": "fed-heart", "held_out": "by-class"}, **of_hospitals).data.held_out == "by-class"
    )
    assert settings({"source": "fed-heart"}, **of_hospitals).data.held_out is None


@pytest.mark.parametrize("mixed", ["refuse", "resample"])
def test_nor_with_volumes_that_the_first_patients_spacing_decides_about(mixed):
    images = {"format": "nifti", "mixed_spacing": mixed}
    data = {"source": "imaging", "root": "images/{hospital}", "imaging": images}
    if mixed == "refuse":
        assert settings(data).data.imaging.spacing is None
        return
    with pytest.raises(ValueError, match=r"give data\.imaging\.spacing"):
        settings(data)
    assert settings({**data, "imaging": {**images, "spacing": [1.0, 1.0, 2.0]}})


def test_nor_with_a_minimum_that_one_patient_may_reach():
    with pytest.raises(ValueError, match=r"leave data\.minimum_records out"):
        settings({"source": "fed-heart", "minimum_records": 30})


@pytest.mark.parametrize("unit", ["patient", "hospital"])
def test_records_that_do_not_say_whose_they_are_count_for_no_patient(npz, unit):
    """(C) Each record of a patient would be clipped by itself: five of them move the sum by five clips."""
    study, folder, hospital, _ = npz
    np.savez(folder / "cleveland.npz", classes=2, x=np.eye(40, 5), y=np.arange(40) % 2)
    if unit == "patient":
        with pytest.raises(DataError, match="do not say whose they are: give an array patients"):
            sent(study, folder, hospital)
        return
    study = settings({"source": "npz", "root": "{hospital}.npz"}, unit="hospital", patients=None)
    assert len(sent(study, folder, hospital))


def test_a_record_of_a_table_is_a_patient_by_itself():
    assert fed_heart.read_heart()[0].patients is None
    assert len(Records(np.zeros((3, 2), np.float32), np.zeros(3, np.int64)).patient_groups()) == 3
