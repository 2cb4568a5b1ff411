"""How good a model is on records that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from securefl.data import Records

_BATCH = 1000


@dataclass(frozen=True)
class Score:
    """Results on ``count`` records: how many were classified correctly, and the mean cross entropy in nats."""

    count: int
    correct: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share classified correctly, 0 to 1."""
        return self.correct / self.count


def evaluate(model: nn.Module, records: Records) -> Score:
    """Score a model, in evaluation mode, in batches of a fixed size (so that results repeat)."""
    features, labels = torch.from_numpy(records.features), torch.from_numpy(records.labels)
    model.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for x, y in zip(features.split(_BATCH), labels.split(_BATCH), strict=True):
            logits = model(x)
            correct += int((logits.argmax(1) == y).sum())
            loss += float(cross_entropy(logits, y, reduction="sum"))
    return Score(len(records), correct, loss / max(1, len(records)))
