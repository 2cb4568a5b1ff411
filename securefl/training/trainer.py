"""What a hospital computes from its records: the numbers that go, encoded and shared, into a round."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from securefl.data import HospitalData, Records, standardise
from securefl.models import Layout, build_model
from securefl.study.schema import StudySettings
from securefl.training.local import round_seed, train
from securefl.training.schedule import schedule_factor

if TYPE_CHECKING:
    from securefl.training.private import PrivateTrainer

Vector = NDArray[np.float64]


class Trainer:
    """One hospital's records and model. It keeps no state from round to round but the opened statistics.

    Args:
        settings: the study's.
        folder: the study folder (a model's Python file stands there).
        hospital: whose records these are.
        data: the records, as loaded.
    """

    def __init__(self, settings: StudySettings, folder: Path, hospital: str, data: HospitalData) -> None:
        self._settings = settings
        self._hospital = hospital
        self._data = data
        shape = data.train.features.shape[1:]
        self._model = build_model(settings.model, folder, shape, data.classes, settings.seed)
        self.layout = Layout.of(self._model)
        self._initial = self.layout.flatten(self._model)
        self._records = data.train
        self._weight: float | None = None
        self._statistics: Vector | None = None

    def initial_model(self) -> Vector:
        """The model that the study's seed gives, the same at every hospital. (D,) float64."""
        return self._initial.copy()

    def statistics(self) -> Vector:
        """The number of training records, then the sums that standardisation needs."""
        return standardise.statistics_vector(self._data.train, self._settings.data.standardise)

    def use_statistics(self, total: Vector) -> None:
        """Take the opened sums: the common denominator N, and the scaling of the inputs.

        Raises:
            StatisticsError: they can be no records'; nothing is taken.
        """
        if self._statistics is not None and np.array_equal(self._statistics, total):
            return
        self._records = scaled(self._data.train, total, self._settings)
        self._statistics, self._weight = total, len(self._data.train) / float(total[0])

    def update(self, model: Vector, round_: int) -> Vector:
        """Train from ``model`` and return (n_k / N) (local - global): (D,) float64, clipped to the study's norm bound.

        ``use_statistics`` comes first. The same arguments give the same bits.
        """
        training = self._settings.training
        if self._weight is None:
            raise ValueError("The statistics have not been opened yet.")
        self.layout.load(self._model, model)
        start = self.layout.flatten(self._model)
        train(
            self._model,
            self._records,
            training,
            factors=[schedule_factor(training.schedule, round_, training.rounds)] * training.local_epochs,
            seed=round_seed(self._settings.seed, self._hospital, round_),
        )
        change = (self.layout.flatten(self._model) - start) * self._weight
        return clipped(change, self._settings.aggregation.norm_bound)


def make_trainer(
    settings: StudySettings, folder: Path, hospital: str, data: HospitalData, private_bits: int | None
) -> Trainer | PrivateTrainer:
    """A hospital's trainer: of a private study if its encoding's fraction bits are given."""
    if private_bits is None:
        return Trainer(settings, folder, hospital, data)
    # Late: gradients of single patients take Opacus.
    from securefl.training.private import PrivateTrainer

    return PrivateTrainer(settings, folder, hospital, data, private_bits)


def clipped(update: Vector, bound: float | None) -> Vector:
    """The update, scaled down to the bound on its L2 norm if it is longer; all of it, buffers included."""
    norm = float(np.linalg.norm(update))
    # A norm that is not finite is left to the encoding, which refuses the update and says why.
    return update if bound is None or not bound < norm < math.inf else update * (bound / norm)


def scaled(records: Records, total: Vector, settings: StudySettings) -> Records:
    """Records with standardised inputs, by the opened statistics."""
    mode = settings.data.standardise
    shape = records.features.shape[1:]
    scaling = standardise.public_scaling(settings.data, shape) or standardise.scaling(total, mode, shape)
    return records if scaling is None else standardise.apply(scaling, records)


def statistics_size(shape: tuple[int, ...], mode: str) -> int:
    """Elements of the statistics vector: the count, then a sum and a sum of squares for each scaled feature."""
    scaled_features = {"none": 0, "public": 0, "features": shape[0], "channels": shape[0]}[mode]
    return 1 + 2 * scaled_features
