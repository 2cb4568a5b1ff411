"""Gradients of patients: against plain autograd and against Opacus, and of nothing but the patient's own records."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout

from securefl.data import Records
from securefl.models import Layout
from securefl.models.build import cnn, logistic, mlp
from securefl.training.patient_gradients import PatientGradients

SHAPE = (1, 12, 12)
BUILD = {
    "logistic": lambda: logistic(SHAPE, 3),
    "mlp": lambda: mlp(SHAPE, 3, [9, 5], 0.0),
    "cnn": lambda: cnn(SHAPE, 3, [4, 6], 0.0, False),
    "cnn, row by row in memory": lambda: cnn(SHAPE, 3, [4, 6], 0.0, False).to(
        memory_format=torch.contiguous_format
    ),
}


def built(build, seed=5):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def records(slices, seed=0, shape=SHAPE, classes=3):
    """Patients with so many slices each, in mixed order."""
    draw = np.random.default_rng(seed)
    patients = draw.permutation(np.repeat(np.arange(len(slices)) * 7 + 3, slices))
    n = len(patients)
    return Records(
        draw.normal(size=(n, *shape)).astype(np.float32),
        draw.integers(classes, size=n),
        patients.astype(np.int64),
    )


def by_autograd(model, data, patient):
    """The gradient of one patient's mean loss: one ordinary backward pass over the records, found by their number."""
    number = list(dict.fromkeys(data.patients.tolist()))[patient]
    own = np.flatnonzero(data.patients == number)
    model.train().zero_grad()
    cross_entropy(model(torch.from_numpy(data.features[own])), torch.from_numpy(data.labels[own])).backward()
    gradient = {name: p.grad.numpy().astype(np.float64) for name, p in model.named_parameters()}
    model.zero_grad()
    return np.concatenate([gradient[name].ravel() for name in Layout.of(model).names])


def gradients(model, data, batch=32, patients=None):
    source = PatientGradients(model, data, batch)
    return list(source.of(range(len(source)) if patients is None else patients))


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("batch", [1, 3, 32])
def test_each_patients_gradient_is_that_of_the_mean_loss_over_the_records(name, batch):
    model, data = built(BUILD[name]), records([4, 1, 7, 2, 40])
    found = gradients(model, data, batch)
    assert len(found) == 5
    for k, gradient in enumerate(found):
        assert gradient.dtype == np.float64
        assert np.allclose(gradient, by_autograd(model, data, k), rtol=1e-4, atol=1e-6)
        assert np.linalg.norm(gradient) > 0.01
    assert not np.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("name", ["logistic", "mlp", "cnn, row by row in memory"])
def test_they_are_the_means_of_opacus_grad_samples(name):
    from opacus.grad_sample import GradSampleModule

    model, data = built(BUILD[name]), records([4, 1, 7, 2])
    found = gradients(model, data)
    per_record = GradSampleModule(built(BUILD[name]), loss_reduction="sum").train()
    cross_entropy(
        per_record(torch.from_numpy(data.features)), torch.from_numpy(data.labels), reduction="sum"
    ).backward()
    samples = np.concatenate(
        [p.grad_sample.reshape(len(data), -1).numpy() for p in per_record.parameters()], axis=1
    )
    for gradient, group in zip(found, data.patient_groups(), strict=True):
        assert np.allclose(gradient, samples[group].mean(0), rtol=1e-4, atol=1e-6)


def test_a_record_without_a_patients_number_is_a_patient():
    model, data = built(BUILD["mlp"]), records([1] * 6)
    plain = Records(data.features, data.labels)
    found = gradients(model, plain)
    assert len(found) == 6
    for k, gradient in enumerate(found):
        assert np.allclose(gradient, by_autograd(model, data, k), rtol=1e-4, atol=1e-6)


def test_many_slices_of_one_kind_make_no_larger_gradient():
    """The mean of 50 copies is one copy's gradient; their sum would be 50 times as long."""
    model, one = built(BUILD["mlp"]), records([1])
    many = Records(np.repeat(one.features, 50, 0), np.repeat(one.labels, 50), np.full(50, 3))
    assert np.allclose(gradients(model, one)[0], gradients(model, many)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", BUILD)
def test_not_a_bit_depends_on_the_other_patients(name):
    model, data = built(BUILD[name]), records([4, 1, 7, 2, 5])
    found = gradients(model, data)
    for k in range(5):
        number = list(dict.fromkeys(data.patients.tolist()))[k]
        alone = data.take(np.flatnonzero(data.patients == number))
        assert np.array_equal(gradients(model, alone)[0], found[k])
        assert np.array_equal(gradients(model, data, patients=[k])[0], found[k])
    for k, gradient in zip([3, 0, 2], gradients(model, data, patients=[3, 0, 2]), strict=True):
        assert np.array_equal(gradient, found[k])


class Mixing(nn.Module):
    """Subtracts the mean of the batch: in a common batch everybody's records would be in everybody's gradient."""

    def __init__(self):
        super().__init__()
        self.inner = logistic(SHAPE, 3)

    def forward(self, x):
        return self.inner(x - x.mean(0))


def test_a_model_that_mixes_a_batch_mixes_one_patient():
    model, data = built(Mixing), records([3, 3, 3])
    whole, less = gradients(model, data), gradients(model, data, patients=[0, 2])
    assert np.array_equal(whole[0], less[0])
    assert np.array_equal(whole[2], less[1])

    def together(at):
        model.zero_grad()
        losses = cross_entropy(
            model(torch.from_numpy(data.features[at])), torch.from_numpy(data.labels[at]), reduction="none"
        )
        losses[0].backward()
        return model.inner[1].weight.grad.numpy().copy()

    assert not np.allclose(together(np.arange(9)), together(np.array([0, 1, 2, 6, 7, 8])), atol=1e-3)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_gradient_that_is_not_finite_is_zero_and_the_others_stay(value):
    model, data = built(BUILD["mlp"]), records([4, 4, 4])
    before = gradients(model, data)
    features = data.features.copy()
    features[data.patient_groups()[1][2]] = value
    with np.errstate(all="ignore"):
        found = gradients(model, data.with_features(features))
    assert not found[1].any()
    assert np.array_equal(found[0], before[0])
    assert np.array_equal(found[2], before[2])


class Choosy(nn.Module):
    """Fails at records that are brighter than most."""

    def __init__(self):
        super().__init__()
        self.inner = logistic(SHAPE, 3)

    def forward(self, x):
        if float(x.max()) > 50:
            raise ValueError("too bright")
        return self.inner(x)


def test_records_at_which_the_model_fails_give_zero_and_nobody_hears_of_it(capsys, caplog):
    model, data = built(Choosy), records([4, 4, 4])
    features = data.features.copy()
    features[data.patient_groups()[2][0]] = 100
    found = gradients(model, data.with_features(features))
    assert found[0].any()
    assert found[1].any()
    assert not found[2].any()
    assert not caplog.text
    assert not any(capsys.readouterr())


class Odd(nn.Module):
    """A frozen layer, a layer that is not used, and a weight that is used twice."""

    def __init__(self):
        super().__init__()
        self.frozen, self.unused = nn.Linear(4, 4), nn.Linear(2, 2)
        self.twice = nn.Linear(4, 4)
        self.last = nn.Linear(4, 3)
        self.last_again = self.last
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.last(self.twice(torch.tanh(self.twice(self.frozen(x)))))


def test_what_is_frozen_or_not_used_has_zeros_in_its_place():
    model, data = built(Odd), records([2, 3], shape=(4,))
    layout = Layout.of(model)
    found = gradients(model, data)
    model.train().zero_grad()
    own = data.patient_groups()[1]
    cross_entropy(model(torch.from_numpy(data.features[own])), torch.from_numpy(data.labels[own])).backward()
    start = 0
    parameters = dict(model.named_parameters())
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        piece, gradient = found[1][start : start + math.prod(shape)], parameters[name].grad
        expected = np.zeros(math.prod(shape)) if gradient is None else gradient.numpy().ravel()
        assert np.allclose(piece, expected, rtol=1e-4, atol=1e-6)
        assert piece.any() == (name.split(".")[0] in ("twice", "last"))
        start += math.prod(shape)
    assert start == len(found[1]) == layout.trainable_size


class Batches(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.sizes = logistic(SHAPE, 3), []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.inner(x)


def test_a_batch_is_no_larger_than_asked_and_no_records_of_two_patients():
    model = built(Batches)
    data = records([4, 1, 9])
    gradients(model, data, batch=4)
    sizes = {
        len(group): [4] * (len(group) // 4) + [len(group) % 4] * (len(group) % 4 > 0)
        for group in data.patient_groups()
    }
    assert model.sizes == [size for group in data.patient_groups() for size in sizes[len(group)]]


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(400, 2, bias=False)

    def forward(self, x):
        return self.inner(dropout(x, 0.5, self.training))


def test_dropout_is_drawn_anew_for_each_patient_and_leaves_no_trace():
    """As the masks cannot be computed, and each patient has some of her own, leaving one out shifts nobody's."""
    model = built(Dropping)
    data = Records(np.ones((3, 400), np.float32), np.zeros(3, np.int64))
    state = torch.get_rng_state()
    masks = []
    for _ in range(2):
        torch.manual_seed(11)  # whatever a study's seed does
        masks += [tuple(gradient[:400] != 0) for gradient in gradients(model, data)]
    assert len(set(masks)) == 6
    assert all(120 < sum(mask) < 280 for mask in masks)
    torch.manual_seed(11)
    after = torch.get_rng_state()
    gradients(model, data)
    assert torch.equal(torch.get_rng_state(), after)
    torch.set_rng_state(state)


def test_without_dropout_a_gradient_repeats():
    model, data = built(BUILD["cnn"]), records([4, 9, 1])
    for first, second in zip(gradients(model, data), gradients(model, data), strict=True):
        assert np.array_equal(first, second)
