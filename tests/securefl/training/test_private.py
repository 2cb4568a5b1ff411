"""A hospital's part in a private round: one patient moves the integers by no more than the clip, exactly."""

from __future__ import annotations

import inspect
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from protocols.bounded_rounding import bounded_rounding
from securefl.data import HospitalData, Records
from securefl.errors import DataError, ModelError, StudyError
from securefl.roles.hospital import Trains
from securefl.study.schema import StudySettings
from securefl.training import private
from securefl.training.local import round_seed, train
from securefl.training.private import PrivateTrainer

BITS = 16
CLIP = 0.5
C = 2**15
"""The clip in units of 2^-16."""


def settings(unit="patient", **changes):
    size = {"patients": 100, "largest_hospital": 40} if unit == "patient" else {}
    tables = {
        "name": "Private",
        "seed": 3,
        "consortium": {"hospitals": 3},
        "data": {"source": "fed-heart"},
        "model": {"kind": "cnn", "channels": [3, 4]},
        "training": {"rounds": 2, "learning_rate": 0.5, "batch_size": 4},
        "privacy": {"unit": unit, "epsilon": 1.0, "delta": 1e-5, "clip": CLIP, **size},
        "simulation": {},
    }
    for table, values in changes.items():
        tables[table] = {**tables[table], **values}
    return StudySettings.model_validate(tables)


def records(patients=12, slices=4, seed=0, shape=(1, 10, 10)):
    draw = np.random.default_rng(seed)
    n = patients * slices
    features = draw.normal(size=(n, *shape)).astype(np.float32) * 4
    return Records(features, draw.integers(2, size=n), np.repeat(np.arange(patients) + 5, slices))


def everybody(units, rate):
    return np.arange(units)


def made(data=None, chosen=None, sampler=everybody, bits=BITS, hospital="va"):
    data = records() if data is None else data
    chosen = settings() if chosen is None else chosen
    return PrivateTrainer(chosen, Path(), hospital, HospitalData(data, data, 2), bits, _sampler=sampler)


def units(update, bits=BITS):
    """The integers that an update consists of; it must consist of nothing else."""
    values = [value * 2**bits for value in update.tolist()]
    assert all(value == int(value) for value in values)
    return np.array([int(value) for value in values], dtype=object)


def without(data, patient):
    return data.take(np.flatnonzero(data.patients != patient))


def squared(integers):
    return sum(int(value) ** 2 for value in integers)


# -- unit "patient" ----------------------------------------------------------------------------------------------------


def test_the_update_is_minus_the_sum_of_the_patients_clipped_gradients():
    data, trainer = records(), made()
    model = trainer.initial_model()
    update = trainer.update(model, 1)
    expected = 0
    for group in data.patient_groups():
        trainer._model.train().zero_grad()
        torch.nn.functional.cross_entropy(
            trainer._model(torch.from_numpy(data.features[group])), torch.from_numpy(data.labels[group])
        ).backward()
        gradient = np.concatenate([p.grad.numpy().ravel() for p in trainer._model.parameters()]).astype(float)
        assert np.linalg.norm(gradient) > CLIP  # so that it is clipped
        expected = expected - gradient * (CLIP / np.linalg.norm(gradient))
    assert update.dtype == np.float64
    assert np.allclose(update, expected, atol=13 * 2.0**-BITS)
    assert np.linalg.norm(update) > 1


@pytest.mark.parametrize("patient", range(12))
def test_one_patient_moves_the_integers_by_no_more_than_the_clip_exactly(patient):
    """With and without, the same others being drawn. In Python's integers, without rounding."""
    whole = made()
    model = whole.initial_model()
    with_all = units(whole.update(model, 1))
    less = units(made(without(records(), patient + 5)).update(model, 1))
    moved = squared(with_all - less)
    assert 0.99 * C**2 < moved <= C**2


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_whoever_else_is_there(kind):
    """Samples of any size, the patient first, in the middle or last: the others' integers stay as they are."""
    chosen, data = settings(model={"kind": kind}), records(patients=30, slices=2)
    whole = made(data, chosen)
    model = whole.initial_model()
    draw = np.random.default_rng(8)
    for size in (1, 2, 3, 7, 29):
        drawn = np.sort(draw.permutation(30)[:size])
        for gone in (drawn[0], drawn[size // 2], drawn[-1]):
            with_all = units(made(data, chosen, lambda n, q, d=drawn: d).update(model, 1))
            others = drawn[drawn != gone]
            less = units(made(data, chosen, lambda n, q, d=others: d).update(model, 1))
            alone = units(made(data, chosen, lambda n, q, g=gone: np.array([g])).update(model, 1))
            assert (with_all == less + alone).all()
            assert 0 < squared(alone) <= C**2


def test_without_clipping_or_with_rounding_after_it_a_patient_moves_more(monkeypatch):
    """The control: what this test measures is exceeded where the bound is not kept."""

    def furthest():
        whole = made()
        model = whole.initial_model()
        with_all = units(whole.update(model, 1))
        return max(
            squared(with_all - units(made(without(records(), k + 5)).update(model, 1))) for k in range(12)
        )

    def rounded(x, clip, bits):
        return np.rint(x * 2.0**bits).astype(np.int64)

    def clipped_then_rounded(x, clip, bits):
        return np.rint(x * (clip / np.linalg.norm(x))).astype(np.int64)

    assert furthest() <= C**2
    monkeypatch.setattr(private, "bounded_rounding", rounded)
    assert furthest() > 4 * C**2
    monkeypatch.setattr(private, "bounded_rounding", clipped_then_rounded)
    assert furthest() > C**2


def test_every_attempt_draws_anew_though_everything_else_is_the_same():
    sampled = settings(privacy={"sampling_rate": 0.5})

    def updates():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        trainer = PrivateTrainer(sampled, Path(), "va", HospitalData(records(), records(), 2), BITS)
        model = trainer.initial_model()
        return [tuple(trainer.update(model, 1)) for _ in range(4)]

    with torch.random.fork_rng(devices=[]):
        assert len(set(updates() + updates())) >= 6  # of 2^12 samples each; fewer once in 10^7 runs


def test_the_sampler_is_the_systems_where_nobody_says_another(monkeypatch):
    asked = []
    monkeypatch.setattr(private, "poisson_sample", lambda *units_and_rate: asked.append(units_and_rate) or [])
    trainer = PrivateTrainer(settings(), Path(), "va", HospitalData(records(), records(), 2), BITS)
    assert not trainer.update(trainer.initial_model(), 1).any()
    assert len(asked) == 1


def test_what_is_drawn_is_all_that_differs():
    first, second = made(), made()
    model = first.initial_model()
    assert np.array_equal(first.update(model, 1), second.update(model, 1))
    assert np.array_equal(
        first.update(model, 1), first.update(model, 2)
    )  # the rate comes at the server's step


def test_the_sampler_is_asked_for_the_patients_at_the_public_rate():
    asked = []

    def sampler(count, rate):
        asked.append((count, rate))
        return np.array([0], dtype=np.int64)

    trainer = made(chosen=settings(privacy={"sampling_rate": 0.25}), sampler=sampler)
    trainer.update(trainer.initial_model(), 1)
    assert asked == [(12, 0.25)]


def test_an_empty_sample_and_an_empty_hospital_send_zeros():
    for trainer in (
        made(sampler=lambda n, q: np.empty(0, dtype=np.int64)),
        made(records(patients=0)),
    ):
        update = trainer.update(trainer.initial_model(), 1)
        assert update.shape == trainer.initial_model().shape
        assert not update.any()
        assert trainer.statistics().tolist() == [1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_patient_with_records_that_are_no_numbers_counts_as_not_there(value):
    data = records()
    features = data.features.copy()
    features[data.patients == 9] = value
    trainer = made(data.with_features(features))
    model = trainer.initial_model()
    assert np.array_equal(trainer.update(model, 1), made(without(data, 9)).update(model, 1))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_model_that_diverged_gives_zeros(value):
    trainer = made()
    update = trainer.update(np.full(trainer.layout.size, value), 1)
    assert update.shape == (trainer.layout.size,)
    assert not update.any()


def test_no_count_leaves_and_the_roll_call_changes_nothing():
    large, small = made(), made(records(patients=3))
    assert large.statistics().tolist() == small.statistics().tolist() == [1.0]
    model = large.initial_model()
    before = large.update(model, 1)
    large.use_statistics(np.array([5.0]))
    assert np.array_equal(large.update(model, 1), before)


def test_the_largest_hospital_is_the_studys_word():
    forty = records(patients=40, slices=1)
    made(forty)
    with pytest.raises(DataError, match="more than the 40 patients") as refused:
        made(records(patients=41, slices=1))
    assert "41" not in str(refused.value)  # how many there are is the hospital's
    with pytest.raises(DataError, match="more than the 39 patients"):
        made(forty, settings(privacy={"largest_hospital": None, "patients": 39}))
    made(records(patients=10, slices=30))  # slices do not count


def test_public_constants_scale_the_inputs():
    constants = {"source": "fed-heart", "standardise": "public", "public_mean": [1.5], "public_std": [2.0]}
    data = records()
    scaled = data.with_features(((data.features.astype(np.float64) - 1.5) / 2.0).astype(np.float32))
    trainer = made(data, settings(data=constants))
    model = trainer.initial_model()
    assert np.array_equal(trainer.update(model, 1), made(scaled).update(model, 1))


def test_integers_beyond_those_of_float64_are_refused():
    """40 vectors of 2^47 units and more do not add up exactly in a float64."""
    fits = made(bits=48)
    update = units(fits.update(fits.initial_model(), 1), 48)
    assert 0 < squared(update) <= (12 * 2**47) ** 2
    with pytest.raises(StudyError, match="do not add up"):
        made(bits=49)
    with pytest.raises(StudyError, match="units of the ring"):
        made(bits=0)


def test_what_mixes_patients_is_refused():
    with pytest.raises(ModelError, match="GroupNorm"):
        made(
            chosen=settings().model_copy(
                update={"model": settings().model.model_copy(update={"batch_norm": True})}
            )
        )


# -- unit "hospital" ---------------------------------------------------------------------------------------------------


LOCAL = {"local_epochs": 3, "momentum": 0.5}


@pytest.mark.parametrize("clip", [0.05, 1000.0])
def test_a_hospitals_update_is_its_training_clipped_as_one_vector(clip):
    chosen = settings("hospital", training=LOCAL, privacy={"clip": clip})
    data, trainer = records(), made(chosen=chosen)
    model = trainer.initial_model()
    update = trainer.update(model, 1)
    trainer.layout.load(trainer._model, model)
    start = trainer.layout.flatten(trainer._model)
    train(trainer._model, data, chosen.training, factors=[1.0] * 3, seed=round_seed(3, "va", 1))
    change = trainer.layout.flatten(trainer._model) - start
    assert np.array_equal(units(update), bounded_rounding(change, int(clip * 2**BITS), BITS))
    assert squared(units(update)) <= int(clip * 2**BITS) ** 2
    assert np.linalg.norm(update) == pytest.approx(min(clip, np.linalg.norm(change)), rel=0.01)
    assert 0.1 < np.linalg.norm(change) < 100


def test_a_hospital_has_one_weight_whatever_its_size():
    """The same records twice: no larger update, unlike where hospitals are weighted by their records."""
    chosen = settings("hospital", privacy={"clip": 0.05})
    data = records()
    twice = Records(np.repeat(data.features, 2, 0), np.repeat(data.labels, 2), np.repeat(data.patients, 2))
    for given in (data, twice):
        trainer = made(given, chosen)
        length = math.sqrt(squared(units(trainer.update(trainer.initial_model(), 1))))
        assert 0.95 * 0.05 * 2**BITS < length <= 0.05 * 2**BITS


def test_a_hospital_that_is_not_drawn_sends_zeros():
    asked = []

    def never(count, rate):
        asked.append((count, rate))
        return np.empty(0, dtype=np.int64)

    trainer = made(chosen=settings("hospital", privacy={"sampling_rate": 0.3}), sampler=never)
    assert not trainer.update(trainer.initial_model(), 1).any()
    assert asked == [(1, 0.3)]


def test_a_hospital_is_drawn_anew_in_each_attempt():
    data = records(patients=2, slices=2)
    chosen = settings("hospital", privacy={"sampling_rate": 0.5})
    trainer = PrivateTrainer(chosen, Path(), "va", HospitalData(data, data, 2), BITS)
    model = trainer.initial_model()
    drawn = [bool(trainer.update(model, 1).any()) for _ in range(60)]
    assert 8 <= sum(drawn) <= 52  # else once in 10^8 runs


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_hospital_whose_training_fails_sends_zeros(value, monkeypatch):
    data = records()
    features = data.features.copy()
    features[0] = value
    chosen = settings("hospital")
    trainer = made(data.with_features(features), chosen)
    model = trainer.initial_model()
    assert not trainer.update(model, 1).any()
    assert not made(records(patients=0), chosen).update(model, 1).any()

    def fails(*_, **__):
        raise RuntimeError("a record that the model cannot take")

    monkeypatch.setattr(private, "train", fails)
    assert not made(chosen=chosen).update(model, 1).any()


# -- both --------------------------------------------------------------------------------------------------------------


def test_it_is_what_a_hospital_machine_trains_with():
    methods = [name for name, _ in inspect.getmembers(Trains, inspect.isfunction) if not name.startswith("_")]
    assert len(methods) == 4
    for name in methods:
        assert inspect.signature(getattr(PrivateTrainer, name)) == inspect.signature(getattr(Trains, name))


@pytest.mark.parametrize("unit", ["patient", "hospital"])
def test_a_model_of_another_size_is_refused(unit):
    trainer = made(chosen=settings(unit))
    with pytest.raises(ModelError, match="coordinates"):
        trainer.update(np.zeros(trainer.layout.size + 1), 1)


def test_all_hospitals_begin_with_the_studys_model():
    assert np.array_equal(
        made(hospital="va").initial_model(), made(records(2), hospital="st-anna").initial_model()
    )
    start = made().initial_model()
    start += 1
    assert not np.array_equal(made().initial_model(), start)
