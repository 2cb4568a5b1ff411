"""Local training: against plain gradient descent in NumPy, with its schedules, and without a trace elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from securefl.data import Records
from securefl.study.training_settings import Schedule, TrainingSettings
from securefl.training.local import round_seed, train
from securefl.training.schedule import schedule_factor


def records(count=40, features=3, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    return Records(draw.normal(size=(count, features)).astype(np.float32), draw.integers(classes, size=count))


def logistic(features=3, classes=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(features, classes)).double().float()


def settings(**changes):
    return TrainingSettings(**{"rounds": 1, "learning_rate": 0.1, "batch_size": 8, **changes})


def weights(model):
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def by_hand(model, data, order, rate, batch, momentum=0.0, decay=0.0, adam=False):
    """SGD with momentum, or Adam, on softmax regression, in float64."""
    w, b = (p.detach().numpy().astype(np.float64) for p in model.parameters())
    theta = [w.copy(), b.copy()]
    m, v, t = [np.zeros_like(x) for x in theta], [np.zeros_like(x) for x in theta], 0
    x, y = data.features.astype(np.float64), data.labels
    for epoch in order:
        for start in range(0, len(epoch), batch):
            at = epoch[start : start + batch]
            scores = x[at] @ theta[0].T + theta[1]
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            p[np.arange(len(at)), y[at]] -= 1
            p /= len(at)
            gradient, t = [p.T @ x[at], p.sum(0)], t + 1
            for i, g in enumerate(gradient):
                g = g + decay * theta[i]
                if adam:
                    m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
                    theta[i] -= rate * (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
                else:
                    m[i] = momentum * m[i] + g
                    theta[i] -= rate * m[i]
    return np.concatenate([part.ravel() for part in theta])


@pytest.mark.parametrize(
    "changes",
    [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"batch_size": 64}, {"optimizer": "adam"}],
)
def test_training_is_plain_gradient_descent(changes):
    model, data, chosen = logistic(), records(), settings(**changes)
    generator = torch.Generator().manual_seed(9)
    order = [torch.randperm(len(data), generator=generator).numpy() for _ in range(3)]
    expected = by_hand(
        model, data, order, chosen.learning_rate, chosen.batch_size, chosen.momentum, chosen.weight_decay,
        adam=chosen.optimizer == "adam",
    )  # fmt: skip
    before = weights(model)
    train(model, data, chosen, factors=[1.0] * 3, seed=9)
    assert np.allclose(weights(model), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(weights(model), before, atol=1e-2)


def test_the_factors_are_those_of_the_passes():
    data = records()
    still, half, whole, twice = (logistic() for _ in range(4))
    train(still, data, settings(), factors=[0.0], seed=1)
    train(half, data, settings(learning_rate=0.2), factors=[0.5], seed=1)
    train(whole, data, settings(), factors=[1.0], seed=1)
    train(twice, data, settings(), factors=[1.0, 0.0], seed=1)
    assert np.array_equal(weights(still), weights(logistic()))
    assert np.array_equal(weights(half), weights(whole))
    assert np.array_equal(weights(twice), weights(whole))


def net(dropout=0.5):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def test_dropout_repeats_with_the_seed_and_not_without():
    def trained(seed, noise):
        torch.manual_seed(noise)  # whatever the process did before
        model = net()
        train(model, records(), settings(batch_size=40), factors=[1.0] * 2, seed=seed)
        return weights(model)

    with torch.random.fork_rng(devices=[]):
        assert np.array_equal(trained(1, 11), trained(1, 12))
        assert not np.array_equal(trained(1, 11), trained(2, 11))


def test_the_global_generator_is_as_it_was():
    state = torch.get_rng_state()
    train(net(), records(), settings(), factors=[1.0], seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluating_between_the_passes_changes_nothing():
    plain, watched, seen = net(), net(), []

    def look():
        watched.eval()
        seen.append(float(watched(torch.zeros(1, 3)).detach().sum()))

    train(plain, records(), settings(), factors=[1.0] * 3, seed=3)
    train(watched, records(), settings(), factors=[1.0] * 3, seed=3, after_epoch=look)
    assert np.array_equal(weights(plain), weights(watched))
    assert len(set(seen)) == 3


def test_every_pass_sees_every_record_once():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.seen = nn.Linear(3, 3), []

        def forward(self, x):
            self.seen.append(x.detach().clone())
            return self.inner(x)

    model, data = Counting(), records(37)
    train(model, data, settings(batch_size=8), factors=[1.0, 1.0], seed=3)
    sizes = [len(batch) for batch in model.seen]
    assert sizes == [8, 8, 8, 8, 5] * 2
    for epoch in (model.seen[:5], model.seen[5:]):
        rows = sorted(map(tuple, torch.cat(epoch).tolist()))
        assert rows == sorted(map(tuple, data.features.tolist()))
    assert not torch.equal(torch.cat(model.seen[:5]), torch.cat(model.seen[5:]))


# -- schedules -----------------------------------------------------------------------------------------------


def factors(rounds, **changes):
    schedule = Schedule(**changes)
    return [schedule_factor(schedule, r, rounds) for r in range(1, rounds + 1)]


def test_the_shapes_of_the_schedules_and_their_ends():
    assert factors(4) == [1.0] * 4
    assert factors(5, kind="linear", final_factor=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    cosine = factors(5, kind="cosine", final_factor=0.0)
    assert cosine == pytest.approx([1.0, 0.8535533906, 0.5, 0.1464466094, 0.0])
    assert factors(6, kind="step", step_rounds=2, step_factor=0.5) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "step"])
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_every_schedule_warms_up_and_stays_within_0_and_1(kind, warmup):
    values = factors(12, kind=kind, warmup_rounds=warmup, final_factor=0.1)
    assert values[:warmup] == pytest.approx([(i + 1) / (warmup + 1) for i in range(warmup)])
    assert values[warmup] == 1.0
    assert all(0 < value <= 1 for value in values)
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    if kind in ("cosine", "linear"):
        assert values[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "step"])
@pytest.mark.parametrize(("rounds", "warmup"), [(1, 0), (1, 5), (2, 1), (2, 2)])
def test_short_studies_have_a_schedule_too(kind, rounds, warmup):
    assert all(0 < value <= 1 for value in factors(rounds, kind=kind, warmup_rounds=warmup))


def test_every_hospital_and_round_has_its_own_seed():
    seeds = {round_seed(s, h, r) for s in (0, 1) for h in ("va", "st-anna", "v") for r in (1, 2, 11)}
    assert len(seeds) == 18
    assert round_seed(1, "va", 2) == round_seed(1, "va", 2)
