"""Training in one process: the federation's numbers, exactly, when draws and noise are known."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from protocols.bounded_rounding import bounded_rounding
from securefl.attacks.central import Pieces, Plan, honest, noisy_sum, releases, train_private
from securefl.data.records import Records
from securefl.models import Layout
from securefl.models.build import logistic
from securefl.training.patient_gradients import PatientGradients


def some_records(count: int = 30, patients: bool = True) -> Records:
    random = np.random.default_rng(3)
    features = random.normal(size=(count, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    return Records(features, labels, random.integers(0, count // 3, count) if patients else None)


def small_model() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return logistic((4,), 2)


def known(variance: int = 0) -> tuple[Plan, Pieces]:
    """Everybody is drawn; a party's noise is the same each time."""
    plan = Plan(3, 1.0, 0.5, 16, variance, 3, 10.0, lambda r: 1.0 / r, 0.5)
    return plan, replace(honest(), noise=lambda size, variance: np.full(size, variance, np.int64))


def test_rounds_are_those_of_the_definition() -> None:
    """By hand: sum of clipped integers and of each party's noise, over the denominator, with momentum."""
    records, model, (plan, pieces) = some_records(), small_model(), known(variance=5)
    layout, working = Layout.of(model), small_model()
    x = layout.flatten(model)
    velocity = np.zeros_like(x)
    for release in releases(model, lambda m: pieces.gradients(m, records), plan, pieces):
        layout.load(working, x)
        patients = PatientGradients(working, records, 64)
        total = sum(bounded_rounding(g, 2**15, 16) for g in patients.of(np.arange(len(patients)))) + 3 * 5
        np.testing.assert_array_equal(release.total, total)
        velocity = 0.5 * velocity - total / 2**16 / 10 / release.round
        x = x + velocity
        np.testing.assert_allclose(release.after.model, x, rtol=1e-12)
    assert release.round == 3


def test_the_model_given_is_left_alone_and_noise_is_fresh() -> None:
    records, model = some_records(), small_model()
    before = Layout.of(model).flatten(model)
    arguments = dict(
        rounds=2, rate=0.5, clip=1.0, fraction_bits=16, party_variance=2**30, parties=2, denominator=5.0,
        learning_rate_schedule=lambda r: 0.1,
    )  # fmt: skip
    first, second = (Layout.of(model).flatten(train_private(model, records, **arguments)) for _ in range(2))
    np.testing.assert_array_equal(Layout.of(model).flatten(model), before)
    assert not np.array_equal(first, second)


def test_noise_has_the_variance_of_all_parties() -> None:
    plan = replace(known()[0], party_variance=10_000)
    total = noisy_sum((), 20_000, plan, honest())
    assert total.var() == pytest.approx(3 * 10_000, rel=0.05)
    assert not noisy_sum((), 10, replace(plan, party_variance=0), honest()).any()


def test_a_patient_moves_the_sum_by_the_clip_at_most() -> None:
    """The control: with a bound that forgets to clip, the same patient moves it further."""
    records, (plan, pieces) = some_records(), known()
    assert records.patients is not None
    hers = records.patients == records.patients[0]
    # Far out, and of the class that the model takes her for least.
    records.features[hers] *= 100
    scores = small_model()(torch.from_numpy(records.features[hers]))
    records.labels[hers] = scores.argmin(1).numpy()
    without = records.take(np.flatnonzero(~hers))
    forgetful = replace(pieces, bound=lambda g, c, f: np.rint(np.ldexp(g, f)).astype(np.int64))

    def moved(pieces: Pieces) -> float:
        first = [
            next(releases(small_model(), lambda m, r=r: pieces.gradients(m, r), plan, pieces)).total
            for r in (records, without)
        ]
        return float(np.linalg.norm(first[0] - first[1]))

    assert moved(pieces) <= plan.clip_units
    assert moved(forgetful) > plan.clip_units


def plainly(
    model: nn.Module, records: Records, rounds: int, denominator: float, rate: float, momentum: float
) -> nn.Module:
    """Gradient descent with momentum, by torch alone: the mean loss of each patient, added over the patients."""
    trained = copy.deepcopy(model)
    descent = torch.optim.SGD(trained.parameters(), lr=rate / denominator, momentum=momentum)
    features, labels = torch.from_numpy(records.features), torch.from_numpy(records.labels)
    for _ in range(rounds):
        descent.zero_grad()
        for group in records.patient_groups():
            cross_entropy(trained(features[group]), labels[group]).backward()
        descent.step()
    return trained


def test_without_noise_and_with_a_wide_clip_it_is_gradient_descent() -> None:
    records, model = some_records(), small_model()
    common = dict(rounds=5, rate=1.0, denominator=10.0, learning_rate_schedule=lambda r: 0.3, momentum=0.4)
    plain = plainly(model, records, rounds=5, denominator=10.0, rate=0.3, momentum=0.4)
    private = train_private(model, records, clip=1e3, fraction_bits=30, party_variance=0, parties=3, **common)
    narrow = train_private(model, records, clip=1e-2, fraction_bits=30, party_variance=0, parties=3, **common)
    layout = Layout.of(model)
    np.testing.assert_allclose(layout.flatten(plain), layout.flatten(private), atol=1e-5)
    assert np.abs(layout.flatten(plain) - layout.flatten(narrow)).max() > 1e-2
