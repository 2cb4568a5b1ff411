"""What a hospital computes in a private round: clipped integers of patients that were drawn, and nothing else.

Adversary: sees the model before and, with noise, the sum of all hospitals' vectors; and that this hospital answered. It
    knows the study, its seed, and every record but one unit's.
Promise: the hospital's integer vector with one patient and without differ by at most C in L2 norm, exactly (unit
    "hospital": the whole vector is at most C long), given who else was drawn. An honest hospital always answers, with a
    vector of the same size, whatever its records are and whoever was drawn. How long it took is not hidden.
Source: unit "patient": DP-SGD, Abadi et al. 2016, algorithm 1, the sum of line 9 without its noise, which the parties
    add. Unit "hospital": DP-FedAvg, McMahan et al. 2018, algorithm 1 with flat clipping and equal weights.

No count leaves: hospitals are not weighted by their records, the denominator is the study's public number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocols.bounded_rounding import bounded_rounding
from securefl.data import HospitalData, standardise
from securefl.errors import StudyError
from securefl.models import Layout, build_model
from securefl.study.schema import StudySettings
from securefl.training.local import round_seed, train
from securefl.training.patient_gradients import PatientGradients
from securefl.training.private_model import (
    check_patients,
    check_patients_are_told,
    check_private_model,
    check_private_settings,
)
from securefl.training.sampling import poisson_sample
from securefl.training.schedule import schedule_factor

Vector = NDArray[np.float64]
Sampler = Callable[[int, float], NDArray[np.int64]]

_EXACT = 2**53
"""Integers up to it are float64 numbers, in which an update is handed on."""


class PrivateTrainer:
    """One hospital's records and model in a private study. It keeps no state from round to round.

    Args:
        settings: the study's, with a table ``[privacy]``.
        folder: the study folder (a model's Python file stands there).
        hospital: whose records these are.
        data: the records, as loaded.
        fraction_bits: f; a unit of the ring is 2^-f.

    Raises:
        StudyError: settings that mean nothing under privacy, or a clip that does not fit the ring.
        ModelError: the model mixes records or has buffers.
        DataError: more patients than the study says that a hospital has, records that do not say whose they are, or
            public constants of another shape.
    """

    def __init__(
        self,
        settings: StudySettings,
        folder: Path,
        hospital: str,
        data: HospitalData,
        fraction_bits: int,
        *,
        _sampler: Sampler | None = None,
    ) -> None:
        self._privacy = check_private_settings(settings)
        self._settings, self._hospital = settings, hospital
        self._fraction_bits, self._sampler = fraction_bits, _sampler or poisson_sample
        check_patients_are_told(settings, hospital, data.train)
        shape = data.train.shape
        self._model = build_model(settings.model, folder, shape, data.classes, settings.seed)
        check_private_model(self._model, settings, shape)
        self.layout = Layout.of(self._model)
        self._initial = self.layout.flatten(self._model)
        scaling = standardise.public_scaling(settings.data, shape)
        self._records = data.train if scaling is None else standardise.apply(scaling, data.train)
        self._gradients = PatientGradients(self._model, self._records, settings.training.batch_size)
        self._clip_units = self._checked_clip(check_patients(self._privacy, hospital, len(self._gradients)))

    def initial_model(self) -> Vector:
        """The model that the study's seed gives, the same at every hospital. (D,) float64."""
        return self._initial.copy()

    def statistics(self) -> Vector:
        """A roll call: one for this hospital, whatever it holds. (1,) float64."""
        return np.array([1.0])

    def use_statistics(self, total: Vector) -> None:
        """Take the opened roll call. Nothing depends on it: the denominator is the study's, see the server's step."""

    def update(self, model: Vector, round_: int) -> Vector:
        """What this hospital adds in one attempt of a round, at ``model``: float64 (D,) of whole multiples of 2^-f.

        Unit "patient": minus the sum of the drawn patients' clipped gradients; the learning rate comes later, at the
        server's step. Unit "hospital": the clipped change of the model by local training if the hospital is drawn, else
        zeros. Each call draws anew, so that the same arguments give other vectors.

        Raises:
            ModelError: ``model`` has another size.
        """
        self.layout.load(self._model, model)
        total = self._patients_sum() if self._privacy.unit == "patient" else self._hospital_change(round_)
        return np.ldexp(total.astype(np.float64), -self._fraction_bits)

    def _patients_sum(self) -> NDArray[np.int64]:
        total = np.zeros(self.layout.size, dtype=np.int64)
        drawn = self._sampler(len(self._gradients), self._privacy.sampling_rate)
        for gradient in self._gradients.of(drawn):
            total -= bounded_rounding(gradient, self._clip_units, self._fraction_bits)
        return total

    def _hospital_change(self, round_: int) -> NDArray[np.int64]:
        # Trained also when not drawn: it takes the same time.
        change = bounded_rounding(self._change(round_), self._clip_units, self._fraction_bits)
        return change * len(self._sampler(1, self._privacy.sampling_rate))

    def _change(self, round_: int) -> Vector:
        training = self._settings.training
        start = self.layout.flatten(self._model)
        if not len(self._records):
            return np.zeros_like(start)
        try:
            train(
                self._model,
                self._records,
                training,
                factors=[schedule_factor(training.schedule, round_, training.rounds)] * training.local_epochs,
                seed=round_seed(self._settings.seed, self._hospital, round_),
            )
        except Exception:
            # As with a patient's gradient: that some records cannot be trained on would tell of them.
            return np.zeros_like(start)
        return self.layout.flatten(self._model) - start

    def _checked_clip(self, summands: int) -> int:
        """C, the clip in units of 2^-f, rounded down."""
        clip_units = math.floor(Fraction(self._privacy.clip) * Fraction(2) ** self._fraction_bits)
        if not 1 <= clip_units * summands <= _EXACT:
            raise StudyError(
                f"privacy.clip is {clip_units} units of the ring, and {summands} vectors of that length do not add up "
                "exactly; set aggregation.width = 32 and privacy.largest_hospital."
            )
        return clip_units
