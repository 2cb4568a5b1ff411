"""One gradient for each patient: of the mean cross entropy over the patient's own records.

Adversary: knows the model and all other patients' records, and compares sums with and without one patient.
Promise: a patient's gradient depends on the model and on this patient's records only, to the last bit. Adding or
    removing a patient changes no other patient's gradient, so that what clipping bounds is all that a patient does.
Source: DP-SGD, Abadi et al. 2016, algorithm 1, with a patient in place of an example, as for users in McMahan et al.
    2018, section 2.

Why the mean over the records and not their sum: the clip is one number for all patients. With sums, a patient with many
slices would be clipped for having many, and one with few would hardly be heard; the mean of each is of one size, and
every patient counts alike.

Why each patient passes through the network alone: in a common batch, which kernels the libraries choose, and in which
order they add, may depend on how many records there are and where a patient's stand among them. A last bit that changes
so is rounded up or down, and is a unit that the clip does not bound. Alone, there is nothing else to depend on,
whatever the model: one that mixes the records of a batch mixes one patient's. And as the mean over a patient's records
is one loss with one gradient, no per-record gradients need to exist: measured on small CNNs, this takes less time than
Opacus' grad samples of large batches, and the memory of one patient.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from securefl.data import Records
from securefl.data.records import Indices
from securefl.models.fixed import after_front, through_front

Vector = NDArray[np.float64]


class PatientGradients:
    """The gradients of one hospital's patients at the model's present parameters.

    Args:
        model: its parameters are read at each call, and nothing of it is changed but its mode.
        records: the hospital's.
        batch_size: most records that pass at a time; a patient with more has several batches. It bounds memory.
    """

    def __init__(self, model: nn.Module, records: Records, batch_size: int) -> None:
        self._model, self._rest = model, after_front(model)
        self._features = torch.from_numpy(records.features)
        self._labels = torch.from_numpy(records.labels)
        self._groups = records.patient_groups()
        self._batch_size = batch_size
        # What a fixed front makes of a patient's records, once the patient was drawn.
        self._seen: dict[int, torch.Tensor] = {}
        # In the order of Layout: parameters in the module's own order, each once.
        self._parameters = list(model.parameters())

    def __len__(self) -> int:
        """Patients."""
        return len(self._groups)

    def of(self, patients: Sequence[int] | Indices) -> Iterator[Vector]:
        """The gradient of each of these patients, one at a time: float64 (D_trainable,), sums of float32.

        A patient whose gradient is not finite, or at whose records the model raises an error, has a gradient of zero:
        that it happened would tell of the records. Dropout is drawn from the operating system's source for each
        patient; the global generator is restored afterwards.
        """
        self._model.train()
        self._rest.train()
        for patient in patients:
            state = torch.get_rng_state()
            try:
                # Of its own, or a patient who is left out would shift the masks of those who follow.
                torch.default_generator.manual_seed(secrets.randbits(63))
                gradient = self._gradient(int(patient))
            finally:
                torch.set_rng_state(state)
            yield gradient

    def _gradient(self, patient: int) -> Vector:
        try:
            gradient = self._sum(patient) / len(self._groups[patient])
        except Exception:
            # Whatever it was: the shape and kind of all records were tried with the model before (private_model).
            return self._zero()
        return gradient if np.isfinite(gradient).all() else self._zero()

    def _sum(self, patient: int) -> Vector:
        total, labels = self._zero(), self._labels[self._groups[patient]]
        batches = zip(
            self._records_of(patient).split(self._batch_size), labels.split(self._batch_size), strict=True
        )
        for x, y in batches:
            total += flat_gradient(cross_entropy(self._rest(x), y, reduction="sum"), self._parameters)
        return total

    def _records_of(self, patient: int) -> torch.Tensor:
        """A patient's features, as the part of the model that learns sees them."""
        if self._rest is self._model:
            return self._features[self._groups[patient]]
        if patient not in self._seen:
            self._seen[patient] = through_front(self._model, self._features[self._groups[patient]])
        return self._seen[patient]

    def _zero(self) -> Vector:
        return np.zeros(sum(p.numel() for p in self._parameters), dtype=np.float64)


def flat_gradient(loss: torch.Tensor, parameters: Sequence[nn.Parameter]) -> Vector:
    """The gradient of a loss as one vector, float64 (D_trainable,); zero where a parameter is frozen or not used."""
    trained = [p for p in parameters if p.requires_grad]
    found = dict(zip(trained, torch.autograd.grad(loss, trained, allow_unused=True), strict=True))
    pieces = [found.get(p) for p in parameters]
    flat = torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.reshape(-1)
            for g, p in zip(pieces, parameters, strict=True)
        ]
    )
    return flat.numpy().astype(np.float64)
