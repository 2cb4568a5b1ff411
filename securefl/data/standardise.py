"""Standardising inputs by sums that are added securely: what each hospital sends, and what the total is used for.

A hospital's vector is [n, sum_1, ..., sum_F, sumsq_1, ..., sumsq_F] over its training records only, float64: the
number of records, then the sum and the sum of squares of each feature (or channel). Vectors add; the total gives the
mean and the variance of all hospitals' records, as sumsq/n - mean^2, and nothing of one hospital.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from securefl.data.records import Records
from securefl.errors import DataError, StatisticsError

if TYPE_CHECKING:
    from securefl.study.data_settings import DataSettings

Mode = Literal["none", "features", "channels", "public"]
StatisticsVector = npt.NDArray[np.float64]

RELATIVE_FLOOR = 1e-9
"""A variance below this part of the mean square is rounding of a constant, and counts as zero."""
ROUNDING = 2.0**-10
"""More than encoding moves a mean: K hospitals, 1000 at most, round each sum by half of a step below K 2^-19."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """How inputs are scaled: (x - mean) / std. Both float64 (F,), along the first axis of a record's shape."""

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]


def statistics_vector(records: Records, mode: Mode) -> StatisticsVector:
    """One hospital's sums, float64: (1,) for "none", (1 + 2F,) for F features or channels.

    Raises:
        DataError: the mode does not fit the records' shape.
    """
    count = np.array([len(records)], dtype=np.float64)
    if mode in ("none", "public"):
        return count
    _check(mode, records.shape)
    values = records.features.astype(np.float64)
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    return np.concatenate([count, values.sum(axis=axes), np.square(values).sum(axis=axes)])


def scaling(total: StatisticsVector, mode: Mode, shape: tuple[int, ...]) -> Scaling | None:
    """The scaling that the hospitals' total gives, or None for "none". A feature without variance keeps std 1.

    total: float64, the sum of the hospitals' vectors; shape: of one record. A channel's sums are over n*H*W values.

    Raises:
        StatisticsError: the total has another length than the shape asks for, is not finite, counts no record, or has
            a mean square below the square of the mean. Sums that some records could have are believed.
    """
    features = 0 if mode in ("none", "public") else _check(mode, shape)
    total = np.asarray(total, dtype=np.float64)
    if total.shape != (1 + 2 * features,) or not np.isfinite(total).all() or total[0] < 1:
        raise StatisticsError(f"they are not {1 + 2 * features} finite numbers over at least one record")
    if not features:
        return None
    count = total[0] * int(np.prod(shape[1:], dtype=np.int64))
    mean, square = total[1 : 1 + features] / count, total[1 + features :] / count
    variance = square - mean * mean
    impossible = variance < -(RELATIVE_FLOOR * np.abs(square) + 2 * ROUNDING * (1 + np.abs(mean)))
    if impossible.any():
        raise StatisticsError(
            f"number {1 + int(np.argmax(impossible))} of {features} features or channels has a mean square below the "
            "square of its mean"
        )
    varies = variance > RELATIVE_FLOOR * square
    return Scaling(mean, np.sqrt(np.where(varies, variance, 1.0)))


def apply(scaling: Scaling, records: Records) -> Records:
    """The records scaled, in float64 and then rounded to float32.

    Raises:
        DataError: the scaling is for another number of features or channels.
    """
    if records.features.ndim < 2 or records.features.shape[1] != len(scaling.mean):
        raise DataError(
            f"The scaling is for {len(scaling.mean)} features or channels, but records have shape {records.shape}; "
            "make all hospitals' records alike."
        )
    along = (1, -1, *[1] * (records.features.ndim - 2))
    values = (records.features.astype(np.float64) - scaling.mean.reshape(along)) / scaling.std.reshape(along)
    return records.with_features(values.astype(np.float32))


def public_scaling(settings: DataSettings, shape: tuple[int, ...]) -> Scaling | None:
    """The scaling by the study's own constants, or None where it has none.

    Raises:
        DataError: there is not one constant for each feature (channel) of a record of ``shape``.
    """
    if settings.public_mean is None or settings.public_std is None:
        return None
    if len(settings.public_mean) != shape[0]:
        raise DataError(
            f"data.public_mean has {len(settings.public_mean)} numbers, but records have {shape[0]} features or "
            "channels: give one for each."
        )
    return Scaling(np.array(settings.public_mean), np.array(settings.public_std))


def _check(mode: Mode, shape: tuple[int, ...]) -> int:
    """How many features or channels the mode scales."""
    wanted = {"features": 1, "channels": 3}.get(mode)
    if wanted is None or len(shape) != wanted:
        kind = "one axis (features)" if mode == "features" else "three axes (channels, height, width)"
        raise DataError(
            f'data.standardise = "{mode}" is for records with {kind}, not for shape {shape}; change it.'
        )
    return shape[0]
