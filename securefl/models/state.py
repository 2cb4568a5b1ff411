"""A model's state as one vector, and back.

The vector holds every parameter and then every float buffer (a batch normalisation's running mean and
variance), each in the order of the module's ``state_dict``. A parameter or buffer that the model uses in
several places is held once. So buffers are averaged like parameters, but can be told from them: they are the
coordinates from ``trainable_size`` on, where a server's momentum has no meaning and could make a variance
negative.

Integer and boolean buffers (``num_batches_tracked``, masks) are not in the vector: an average of counters
means nothing. ``load`` sets them to the initial model's values, so that a model is determined by its vector
alone, whatever the module that it is loaded into has been used for. Buffers that the module does not save
(``persistent=False``) are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from securefl.errors import ModelError
from securefl.models.build import check_averageable

StateVector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where each tensor of a model lies in its vector. Two models of one architecture have equal layouts.

    names, shapes: of the tensors, in the vector's order; size: the vector's length D; trainable_size: how
    many of its first coordinates are parameters. ``integers``: the initial values of integer buffers, by
    name.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    size: int
    trainable_size: int
    integers: tuple[tuple[str, torch.Tensor], ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, initial: nn.Module) -> Layout:
        """The layout of a model, whose integer buffers are taken as initial values.

        Raises:
            ModelError: the model cannot be averaged (see ``check_averageable``).
        """
        check_averageable(initial)
        parameters, buffers, integers = _tensors(initial)
        tensors = {**parameters, **buffers}
        return cls(
            names=tuple(tensors),
            shapes=tuple(tuple(tensor.shape) for tensor in tensors.values()),
            size=sum(tensor.numel() for tensor in tensors.values()),
            trainable_size=sum(tensor.numel() for tensor in parameters.values()),
            integers=tuple((name, tensor.detach().clone()) for name, tensor in integers.items()),
        )

    def flatten(self, module: nn.Module) -> StateVector:
        """The module's state, float64 (D,), exact.

        Raises:
            ModelError: the module has other tensors than this layout.
        """
        tensors = self._matching(module)
        return np.concatenate([tensor.detach().numpy().astype(np.float64).ravel() for tensor in tensors])

    def load(self, module: nn.Module, vector: npt.NDArray[np.floating]) -> None:
        """Set the module's state from a vector (D,), rounded to float32, and its integer buffers to initial
        values.

        Raises:
            ModelError: the vector has another length, or the module other tensors, than this layout.
        """
        if vector.shape != (self.size,):
            raise ModelError(
                f"The model has {self.size} coordinates, but the vector has shape {vector.shape}."
            )
        tensors = self._matching(module)
        integers = _tensors(module)[2]
        # Overflow gives infinities here; that an update is finite and in range is checked where it is
        # encoded.
        with np.errstate(over="ignore"):
            values = torch.from_numpy(vector.astype(np.float32))
        with torch.no_grad():
            for tensor, piece in zip(
                tensors, values.split([prod(shape) for shape in self.shapes]), strict=True
            ):
                tensor.copy_(piece.view(tensor.shape))
            for name, initial in self.integers:
                integers[name].copy_(initial)

    def _matching(self, module: nn.Module) -> list[torch.Tensor]:
        parameters, buffers, integers = _tensors(module)
        tensors = {**parameters, **buffers}
        shapes = tuple(tuple(tensor.shape) for tensor in tensors.values())
        kept = {name: initial.shape for name, initial in self.integers}
        found = {name: tensor.shape for name, tensor in integers.items()}
        if tuple(tensors) != self.names or shapes != self.shapes or kept != found:
            raise ModelError(
                "The module's parameters or buffers differ from the study's model; build it from the study."
            )
        return list(tensors.values())


def _tensors(
    module: nn.Module,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters, saved float buffers and saved other buffers, each tensor once, in ``state_dict`` order."""
    saved = module.state_dict(keep_vars=True)
    parameters: dict[str, torch.Tensor] = dict(module.named_parameters())
    buffers = {name: tensor for name, tensor in module.named_buffers() if name in saved}
    floats = {name: tensor for name, tensor in buffers.items() if tensor.is_floating_point()}
    return parameters, floats, {name: tensor for name, tensor in buffers.items() if name not in floats}
