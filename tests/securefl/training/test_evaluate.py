"""Scores against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from securefl.data import Records
from securefl.training import evaluate as module
from securefl.training.evaluate import Score, evaluate


def case(count, seed=0):
    draw = np.random.default_rng(seed)
    records = Records(draw.normal(size=(count, 4)).astype(np.float32), draw.integers(3, size=count))
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(draw.normal(size=(3, 4))))
        model.bias.copy_(torch.from_numpy(draw.normal(size=3)))
    return model, records


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500])
def test_accuracy_and_loss_are_those_of_plain_numpy(count):
    model, records = case(count)
    w, b = (p.detach().numpy().astype(np.float64) for p in model.parameters())
    scores = records.features @ w.T + b
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(count), records.labels]
    score = evaluate(model, records)
    assert score.correct == int((scores.argmax(1) == records.labels).sum())
    assert (score.count, score.accuracy) == (count, score.correct / count)
    assert score.loss == pytest.approx(losses.mean(), rel=1e-5)


def test_the_batch_does_not_change_the_counts(monkeypatch):
    model, records = case(257)
    whole = evaluate(model, records)
    monkeypatch.setattr(module, "_BATCH", 10)
    assert evaluate(model, records).correct == whole.correct


def test_dropout_and_batch_norm_are_in_evaluation_mode_and_unchanged():
    _, records = case(50)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 3)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert evaluate(model, records) == evaluate(model, records)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_accuracy_is_a_share():
    assert Score(8, 2, 0.5).accuracy == 0.25
