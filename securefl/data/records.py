"""Records: arrays of features and labels, checked once when they enter and never changed afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from securefl.errors import DataError

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Patients = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Records:
    """Some patients' records with labels.

    features: float32, shape (n, *shape), finite. labels: int64, shape (n,), from 0 to classes - 1. patients: int64,
    shape (n,), a number for each patient of this hospital; None where each record is a patient of its own.
    """

    features: Features
    labels: Labels
    patients: Patients | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record's features."""
        return tuple(self.features.shape[1:])

    def take(self, indices: Indices) -> Records:
        """The records at these positions, in the order of ``indices``."""
        patients = None if self.patients is None else self.patients[indices]
        return Records(self.features[indices], self.labels[indices], patients)

    def with_features(self, features: Features) -> Records:
        """The same patients' records with other features, float32 (n, ...)."""
        return replace(self, features=features)

    def names(self) -> list[bytes]:
        """A name for each of ``patient_groups``, of its own number or content: nobody else's presence changes it."""
        if self.patients is not None:
            return [b"%d" % self.patients[group[0]] for group in self.patient_groups()]
        contents = zip(self.features, self.labels, strict=True)
        return [hashlib.sha256(b"%d " % label + features.tobytes()).digest() for features, label in contents]

    def patient_groups(self) -> list[Indices]:
        """Each patient's records, int64 positions, in the order in which the patients first appear."""
        if self.patients is None:
            return [np.array([k], dtype=np.int64) for k in range(len(self))]
        _, first, groups = np.unique(self.patients, return_index=True, return_inverse=True)
        order = np.argsort(groups, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(groups))[:-1]) if len(self) else []
        return [parts[k] for k in np.argsort(first)]


@dataclass(frozen=True, eq=False)
class HospitalData:
    """What one hospital holds: records to train on, held-out records, and the task's number of classes.

    ``classes`` is the same at every hospital, whichever labels the hospital's own records have.
    """

    train: Records
    test: Records
    classes: int


def with_patients(records: Records, patients: Any, where: str) -> Records:
    """The records with a number for each one's patient; as they are, where there is None.

    Raises:
        DataError: not one integer for each record.
    """
    if patients is None:
        return records
    numbers = np.asarray(patients)
    if numbers.dtype.kind not in "iu" or numbers.shape != records.labels.shape:
        raise DataError(
            f"{where}: patients must be one integer for each of the {len(records)} records, but they have type "
            f"{numbers.dtype} and shape {numbers.shape}."
        )
    return replace(records, patients=numbers.astype(np.int64))


def checked_records(features: Any, labels: Any, where: str, classes: int | None = None) -> Records:
    """Records from two arrays of numbers.

    features: real numbers, shape (n, ...) with at least one axis more than the labels; labels: integers, shape (n,).
    ``where`` names the file or hospital in messages; ``classes``, if known, bounds the labels.

    Raises:
        DataError: wrong kind or shape, a value that is not finite in float32, or a label out of range.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if features.dtype.kind not in "biuf" or features.ndim < 2 or 0 in features.shape[1:]:
        raise DataError(
            f"{where}: features must be an array of real numbers with the records on its first axis and at least "
            f"one more axis, but it has type {features.dtype} and shape {features.shape}."
        )
    if labels.dtype.kind not in "biu" or labels.shape != features.shape[:1]:
        raise DataError(
            f"{where}: labels must be one integer for each of the {len(features)} records, but they have type "
            f"{labels.dtype} and shape {labels.shape}."
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(features, dtype=np.float32)
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not finite.all():
        raise DataError(
            f"{where}: record {int(np.argmin(finite))} has a feature that is NaN, infinite or too large for "
            "float32; repair or remove such records."
        )
    if len(labels) and (labels.min() < 0 or (classes is not None and labels.max() >= classes)):
        allowed = "0 or more" if classes is None else f"from 0 to {classes - 1}"
        raise DataError(
            f"{where}: labels must be {allowed}, but they reach from {labels.min()} to {labels.max()}; number the "
            "classes from 0."
        )
    return Records(values, labels.astype(np.int64))
