"""A model's state as one vector: complete, in a fixed order, exact, and independent of the module's past."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from securefl.errors import ModelError
from securefl.models import Layout


class Everything(nn.Module):
    """Tied weights, float, integer, boolean and unsaved buffers, a frozen parameter, channels-last memory."""

    mask: torch.Tensor
    scratch: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalisation = nn.BatchNorm2d(3)
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.zeros(5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.normalisation(self.convolution(x)).mean(dim=(2, 3))
        return self.second(self.first(hidden))  # type: ignore[no-any-return]


@pytest.fixture
def model() -> Everything:
    torch.manual_seed(0)
    return Everything()


def trained(model: nn.Module, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, 2, 6, 6)), torch.arange(8) % 3).backward()
        optimizer.step()
    return model


def test_parameters_come_first_and_tied_ones_once(model: Everything) -> None:
    layout = Layout.of(model)
    assert layout.names == (
        "frozen",
        "convolution.weight",
        "convolution.bias",
        "normalisation.weight",
        "normalisation.bias",
        "first.weight",
        "first.bias",
        "second.bias",
        "normalisation.running_mean",
        "normalisation.running_var",
    )
    assert layout.shapes[1] == (3, 2, 3, 3)
    assert (
        layout.trainable_size == sum(p.numel() for p in model.parameters()) == 2 + 54 + 3 + 3 + 3 + 9 + 3 + 3
    )
    assert layout.size == layout.trainable_size + 6
    assert [name for name, _ in layout.integers] == ["mask", "normalisation.num_batches_tracked"]
    wanted = set(model.state_dict()) - {"second.weight", "mask", "normalisation.num_batches_tracked"}
    assert set(layout.names) == wanted


def test_there_and_back_is_exact(model: Everything) -> None:
    layout = Layout.of(model)
    vector = layout.flatten(trained(model, 3))
    assert vector.dtype == np.float64
    assert vector.shape == (layout.size,)
    other = Everything()
    layout.load(other, vector)
    assert np.array_equal(layout.flatten(other), vector)
    state, loaded = model.state_dict(), other.state_dict()
    assert all(torch.equal(state[name], loaded[name]) for name in layout.names)
    assert other.second.weight is other.first.weight


def test_coordinates_lie_in_plain_order_whatever_the_memory_format(model: Everything) -> None:
    assert not model.convolution.weight.is_contiguous()
    flat = Layout.of(model).flatten(model)
    wanted = [model.convolution.weight[o, i, r, c].item() for o, i, r, c in np.ndindex(3, 2, 3, 3)]
    assert flat[2:56].tolist() == wanted


def test_values_are_rounded_to_float32(model: Everything) -> None:
    layout = Layout.of(model)
    vector = np.random.default_rng(0).normal(size=layout.size)
    layout.load(model, vector)
    assert np.array_equal(layout.flatten(model), vector.astype(np.float32).astype(np.float64))
    assert not np.array_equal(layout.flatten(model), vector)


def test_integer_buffers_return_to_the_initial_values(model: Everything) -> None:
    layout = Layout.of(model)
    start = layout.flatten(model)
    trained(model, 5)
    model.mask.fill_(True)
    assert model.normalisation.num_batches_tracked == 5
    layout.load(model, start)
    assert model.normalisation.num_batches_tracked == 0
    assert model.mask.tolist() == [True, False]


def test_training_after_load_does_not_depend_on_the_modules_past(model: Everything) -> None:
    layout = Layout.of(model)
    start = layout.flatten(model)
    used = trained(copy.deepcopy(model), 4)
    results = []
    for module in (model, used):
        layout.load(module, start)
        torch.manual_seed(9)
        results.append(layout.flatten(trained(module, 3)))
    assert np.array_equal(*results)


def test_buffers_are_averaged_with_the_rest(model: Everything) -> None:
    layout = Layout.of(model)
    start = layout.flatten(model)
    vectors = []
    for seed in (1, 2):
        module = copy.deepcopy(model)
        torch.manual_seed(seed)
        vectors.append(layout.flatten(trained(module, 2)))
    layout.load(model, start + sum(0.5 * (vector - start) for vector in vectors))
    means = [vector[layout.trainable_size : layout.trainable_size + 3] for vector in vectors]
    assert np.allclose(model.normalisation.running_mean.numpy(), sum(means) / 2, atol=1e-7)
    assert np.abs(means[0] - means[1]).max() > 1e-4
    assert (model.normalisation.running_var > 0).all()


def test_layouts_of_one_architecture_are_equal(model: Everything) -> None:
    assert Layout.of(model) == Layout.of(Everything())
    assert Layout.of(nn.Linear(2, 3)) != Layout.of(nn.Linear(3, 2))


def test_what_does_not_fit_is_refused(model: Everything) -> None:
    layout = Layout.of(nn.Linear(2, 3))
    with pytest.raises(ModelError, match="has 9 coordinates, but the vector has shape"):
        layout.load(nn.Linear(2, 3), np.zeros(8))
    for other in (nn.Linear(3, 2), nn.Linear(2, 3, bias=False), model):
        with pytest.raises(ModelError, match="differ from the study's model"):
            layout.flatten(other)
        with pytest.raises(ModelError, match="differ from the study's model"):
            layout.load(other, np.zeros(9))
    with pytest.raises(ModelError, match="float64"):
        Layout.of(nn.Linear(2, 3).double())
