"""The model that a study names, built with initial weights that depend on nothing but the study's seed.

What could not be averaged as the study asks is refused here, before anything runs: parameters or buffers of
another type than float32, and batch normalisation with ``momentum=None``, whose running mean is weighted by
an integer counter that is not averaged.
"""

from __future__ import annotations

import hashlib
from itertools import chain, pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from securefl.data.user_module import load_function
from securefl.errors import ModelError
from securefl.models.filtered_cnn import filtered_cnn
from securefl.models.private_cnn import small_cnn

if TYPE_CHECKING:
    from securefl.study.training_settings import ModelSettings


def build_model(
    settings: ModelSettings, folder: Path, shape: tuple[int, ...], classes: int, seed: int
) -> nn.Module:
    """The model for records of ``shape``, giving one score a class: float32 (n, *shape) to (n, classes).

    folder: the study folder, where a user's ``file.py:build(shape, classes) -> nn.Module`` lies; seed: the
    study's. The weights are drawn from torch's CPU generator seeded for this call alone; its state outside is
    not touched.

    Raises:
        ModelError: the model cannot be built for the shape, does not give one score a class, or cannot be averaged.
    """
    digest = hashlib.sha256(f"securefl model {seed}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        if settings.kind == "logistic":
            model = logistic(shape, classes)
        elif settings.kind == "mlp":
            model = mlp(shape, classes, settings.hidden, settings.dropout)
        elif settings.kind == "cnn":
            model = cnn(shape, classes, settings.channels, settings.dropout, settings.batch_norm)
        elif settings.kind == "private-cnn":
            model = small_cnn(shape, classes, settings.channels)
        elif settings.kind == "filtered-cnn":
            model = filtered_cnn(shape, classes, settings.channels)
        elif settings.kind == "resnet18":
            # Late: torchvision takes a second to import.
            from securefl.models.resnet import resnet18

            model = resnet18(shape, classes)
        else:
            model = _from_module(settings.module or "", folder, shape, classes)
        check_averageable(model)
        _check_scores(model, shape, classes)
    return model


def logistic(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Logistic regression on all features, softmax over the classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), classes))


def mlp(shape: tuple[int, ...], classes: int, hidden: list[int], dropout: float) -> nn.Module:
    """Fully connected layers with ReLU between them; dropout (0: none) before the last."""
    sizes = [prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, *_dropout(dropout), nn.Linear(sizes[-1], classes))


def cnn(
    shape: tuple[int, ...], classes: int, channels: list[int], dropout: float, batch_norm: bool
) -> nn.Module:
    """A block for each of ``channels``: 3x3 convolution, optional batch normalisation, 2x2 max pooling, ReLU.

    Pooling is left out once height or width is 1, so any (C, H, W) will do; one linear layer follows the
    blocks.
    """
    if len(shape) != 3:
        raise ModelError(
            f'The model "cnn" is for records of shape (channels, height, width), not {shape}; use "mlp".'
        )
    before, height, width = shape
    layers: list[nn.Module] = []
    for after in channels:
        layers.append(nn.Conv2d(before, after, kernel_size=3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        if min(height, width) >= 2:
            # Before the ReLU, with which it commutes: a quarter of the values are left to rectify.
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers.append(nn.ReLU())
        before = after
    layers += [nn.Flatten(), *_dropout(dropout), nn.Linear(before * height * width, classes)]
    # Channels last in memory suits small convolutions on a CPU; shapes and values stay as they are.
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def check_averageable(model: nn.Module) -> None:
    """Refuse a model whose state cannot be averaged.

    Raises:
        ModelError: no parameters, parameters or buffers in other than float32, values that are not finite, or batch
            normalisation with a cumulative average.
    """
    if not any(True for _ in model.parameters()):
        raise ModelError(
            "The model has no parameters, so there is nothing to train; give it at least one layer."
        )
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise ModelError(f"The model's {name} has no shape yet; use layers with sizes, not lazy ones.")
        floating = tensor.is_floating_point() or tensor.is_complex()
        if (floating or isinstance(tensor, nn.Parameter)) and tensor.dtype != torch.float32:
            raise ModelError(
                f"The model's {name} is {tensor.dtype}; securefl averages float32, so build it as such."
            )
        if floating and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"The model's {name} starts with values that are not finite; initialise it.")
    for name, layer in model.named_modules():
        if isinstance(layer, _NormBase) and layer.track_running_stats and layer.momentum is None:
            raise ModelError(
                f"The model's layer {name or type(layer).__name__} averages cumulatively (momentum=None) by a counter "
                "that is not averaged; give it a momentum, such as 0.1."
            )


def _from_module(reference: str, folder: Path, shape: tuple[int, ...], classes: int) -> nn.Module:
    build = load_function(folder, reference, ModelError)
    try:
        model = build(shape, classes)
    except Exception as fault:
        raise ModelError(f"{reference} fails for shape {shape}: {type(fault).__name__}: {fault}.") from fault
    if not isinstance(model, nn.Module):
        raise ModelError(f"{reference} must give a torch.nn.Module, not a {type(model).__name__}.")
    return model


def _check_scores(model: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Two records through the model, without training it: it must give two rows of scores."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            scores = model(torch.zeros((2, *shape), dtype=torch.float32))
    except Exception as fault:
        raise ModelError(f"The model cannot take records of shape {shape}: {fault}.") from fault
    finally:
        model.train(training)
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, classes):
        given = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ModelError(
            f"For 2 records the model must give scores of shape (2, {classes}), but it gives {given}."
        )


def _dropout(probability: float) -> list[nn.Module]:
    return [nn.Dropout(probability)] if probability else []
