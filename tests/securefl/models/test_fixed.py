"""A model's fixed front: the same scores and gradients, computed once for each patient and from that patient only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from securefl.data import Records
from securefl.models.filtered_cnn import PublicFilters, filtered_cnn
from securefl.models.fixed import FixedFront, after_front, has_front, past_front, through_front
from securefl.training.patient_gradients import PatientGradients


@pytest.fixture
def records() -> Records:
    draw = np.random.default_rng(3)
    features = draw.normal(size=(24, 1, 12, 12)).astype(np.float32)
    return Records(features, draw.integers(0, 2, 24), np.repeat(np.arange(8), 3))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return filtered_cnn((1, 12, 12), 2, [6])


class Unmarked(nn.Module):
    """The same filters, which nothing knows to be fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = PublicFilters()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images)


def _with_first(model: nn.Module, first: nn.Module) -> nn.Module:
    return nn.Sequential(first, *list(model.children())[1:])


def test_the_rest_gives_the_scores_of_the_model(model: nn.Module, records: Records) -> None:
    rest, seen = past_front(model, records)
    assert has_front(model)
    assert not has_front(rest)
    with torch.no_grad():
        expected = model(torch.from_numpy(records.features))
        found = rest(torch.from_numpy(seen.features))
        wrong = rest(torch.from_numpy(seen.features[::-1].copy()))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(wrong, expected)
    assert np.array_equal(seen.labels, records.labels)
    assert seen.patient_groups()[2].tolist() == [6, 7, 8]


def test_the_rest_shares_the_weights(model: nn.Module, records: Records) -> None:
    rest, seen = past_front(model, records)
    features = torch.from_numpy(seen.features)
    before = rest(features).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert not torch.allclose(rest(features), before)
    assert [id(p) for p in rest.parameters()] == [id(p) for p in model.parameters()]


def test_a_model_without_a_front_stays_as_it_is(records: Records) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    assert past_front(model, records) == (model, records)
    assert after_front(model) is model


def test_a_front_with_weights_is_none(model: nn.Module) -> None:
    class Learns(FixedFront):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    assert has_front(model)
    assert not has_front(_with_first(model, Learns()))


def test_no_records_pass(model: nn.Module, records: Records) -> None:
    none = records.take(np.array([], dtype=np.int64))
    assert len(past_front(model, none)[1]) == 0


def test_gradients_are_those_of_the_whole_model(model: nn.Module, records: Records) -> None:
    whole = _with_first(model, Unmarked())
    assert not has_front(whole)
    found = list(PatientGradients(model, records, 64).of(range(8)))
    expected = list(PatientGradients(whole, records, 64).of(range(8)))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert not np.allclose(found[0], found[1])


def test_the_front_runs_once_for_a_patient_and_the_gradient_follows_the_weights(
    model: nn.Module, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[int] = []
    forward = PublicFilters.forward

    def counted(self: PublicFilters, images: torch.Tensor) -> torch.Tensor:
        passed.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(PublicFilters, "forward", counted)
    gradients = PatientGradients(model, records, 64)
    first = list(gradients.of([2, 5]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    second = list(gradients.of([2, 5]))
    assert passed == [3, 3]
    assert not np.allclose(first[0], second[0])


def test_no_bit_of_a_patient_depends_on_the_others(model: nn.Module, records: Records) -> None:
    other = Records(records.features.copy(), records.labels, records.patients)
    other.features[6:] *= -3
    ours, theirs = past_front(model, records)[1], past_front(model, other)[1]
    assert np.array_equal(ours.features[:6], theirs.features[:6])
    assert not np.array_equal(ours.features[6:], theirs.features[6:])
    alone = through_front(model, torch.from_numpy(records.features[:3])).numpy()
    assert np.array_equal(alone, ours.features[:3])
