"""A first layer that learns nothing, so that what it makes of a record need be computed only once."""

from __future__ import annotations

import torch
from torch import nn

from securefl.data import Records
from securefl.data.records import Indices


class FixedFront(nn.Module):
    """Base of layers without weights, without chance, and for which each record stands alone.

    A model that is an ``nn.Sequential`` and begins with one is trained on what it makes of the records: the same
    numbers, without the work of repeating it in each round.
    """


def after_front(model: nn.Module) -> nn.Module:
    """What of a model comes after its fixed front; the model itself where it has none. The weights are shared."""
    if not has_front(model):
        return model
    return nn.Sequential(*list(model.children())[1:]).train(model.training)


def has_front(model: nn.Module) -> bool:
    """Whether the model begins with a fixed front, and its weights all come after it."""
    first = next(model.children(), None) if type(model) is nn.Sequential else None
    return isinstance(first, FixedFront) and not any(True for _ in first.parameters())


def through_front(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """What the front makes of some records' features, float32 (n, ...); they themselves where there is none."""
    if not has_front(model):
        return features
    with torch.no_grad():
        front: torch.Tensor = next(model.children())(features)
    return front


def past_front(model: nn.Module, records: Records) -> tuple[nn.Module, Records]:
    """The rest of a model, with the records as it sees them, so that it gives the scores that the model gives.

    Each patient passes the front alone: no bit of what it makes of one depends on another.
    """
    if not has_front(model) or not len(records):
        return model, records
    groups = records.patient_groups()
    first = _of(model, records, groups[0])
    seen = torch.empty((len(records), *first.shape[1:]))
    for group in groups:
        seen[torch.from_numpy(group)] = _of(model, records, group)
    return after_front(model), records.with_features(seen.numpy())


def _of(model: nn.Module, records: Records, group: Indices) -> torch.Tensor:
    return through_front(model, torch.from_numpy(records.features[group]))
