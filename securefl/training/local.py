"""A hospital's local training: some epochs of SGD or Adam on its own records.

Source: FedAvg's ClientUpdate, McMahan et al. 2017, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from securefl.data import Records
from securefl.study.training_settings import TrainingSettings
from securefl.training.determinism import seed_for


def train(
    model: nn.Module,
    records: Records,
    settings: TrainingSettings,
    *,
    factors: Sequence[float],
    seed: int,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Train ``model`` in place with a new optimizer.

    Args:
        records: the hospital's own training records.
        factors: of the learning rate, one for each pass over the records.
        after_epoch: called after each pass; it may evaluate the model.
        seed: of the order of the records and of dropout; the global generator is restored afterwards.
    """
    optimizer = _optimizer(model, settings)
    features, labels = torch.from_numpy(records.features), torch.from_numpy(records.labels)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for factor in factors:
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor
            for batch in torch.randperm(len(records), generator=order).split(settings.batch_size):
                optimizer.zero_grad()
                cross_entropy(model(features[batch]), labels[batch]).backward()
                optimizer.step()
            if after_epoch is not None:
                after_epoch()


def _optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    rate = settings.learning_rate
    if settings.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def round_seed(study_seed: int, hospital: str, round_: int) -> int:
    """The seed of one hospital's training in one round."""
    return seed_for(study_seed, "round", hospital, round_)
