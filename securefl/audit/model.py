"""The model that a study begins with, and the file that a run ends with: built and read without any hospital's records.

A model of the study's own Python code is built by running that code, as every hospital did. Whoever calls this has
checked that the committee's pinned keys signed for those bytes, and gives a folder with no others in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from securefl.audit.verdict import BrokenError
from securefl.data import input_shape_and_classes
from securefl.models import Layout, build_model
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.study import Study
from securefl.training.determinism import single_thread
from securefl.training.server import Vector
from securefl.training.trainer import statistics_size

_ALIGNMENT = 8
"""A safetensors header is filled up with spaces to a multiple of so many bytes."""


@dataclass(frozen=True)
class InitialModel:
    """What training starts from.

    Attributes:
        module: takes other weights from ``layout.load``.
        start: the replica before the first outcome.
        statistics: elements of round 0's vector.
    """

    module: nn.Module
    layout: Layout
    start: Replica
    statistics: int

    @classmethod
    def of(cls, study: Study, terms: Terms, origin: Path) -> InitialModel:
        """Build it from the study's seed.

        Args:
            study: in a folder that holds its files and no others: its code is run from there.
            origin: the folder that the study was run from; a relative ``data.root`` starts there.

        Raises:
            DataError: only the hospitals' records tell their shape, and they are not here.
            ModelError: the study's code fails.
        """
        single_thread()
        settings, data = study.settings, study.settings.data
        if data.root is not None:
            data = data.model_copy(update={"root": str(origin / data.root)})
        shape, classes = input_shape_and_classes(data, study.folder, list(terms.hospitals), settings.seed)
        module = build_model(settings.model, study.folder, shape, classes, settings.seed)
        layout = Layout.of(module)
        start = Replica.initial(terms, layout.flatten(module))
        return cls(module, layout, start, statistics_size(shape, data.standardise))


@dataclass(frozen=True)
class ModelFile:
    """The content of ``model.safetensors``.

    Attributes:
        round: the rounds of training after which the file says it was written.
        tensors: by name.
    """

    round: int
    tensors: Mapping[str, torch.Tensor]

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Read it; every byte counts, those between the tensors' descriptions too.

        Raises:
            BrokenError: it is damaged, or is not written as a run writes it.
        """
        data = path.read_bytes()
        try:
            tensors = load(data)
            header = data[8 : 8 + int.from_bytes(data[:8], "little")]
            described: dict[str, Any] = json.loads(header)
            round_ = described["__metadata__"]["round"]
            if not isinstance(round_, str) or str(int(round_)) != round_:
                raise ValueError(round_)
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BrokenError(path.name, f"{path.name} is damaged.") from error
        compact = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
        if header != compact + b" " * (-len(compact) % _ALIGNMENT) or set(described["__metadata__"]) != {
            "round"
        }:
            raise BrokenError(path.name, f"{path.name} has bytes that no run writes.")
        return cls(int(round_), tensors)

    def check(self, model: InitialModel, vector: Vector, name: str) -> None:
        """Compare with weights, bit for bit.

        Raises:
            BrokenError: a tensor is missing, too many, or another.
        """
        model.layout.load(model.module, vector)
        expected = {key: tensor.contiguous() for key, tensor in model.module.state_dict().items()}
        for key in sorted(expected.keys() | self.tensors.keys()):
            if key not in expected or key not in self.tensors or not _same(expected[key], self.tensors[key]):
                raise BrokenError(
                    name, f"{name} does not hold the model that the outcomes give: {key} differs."
                )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
