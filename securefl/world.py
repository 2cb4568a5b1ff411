"""What a study amounts to on this computer: the model, its sizes, and a simulation's records.

Coordinator and baselines share it. A study that is no simulation has no test records here: nobody outside a hospital
sees any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from securefl.data import HospitalData, Records, input_shape_and_classes, load_all, standardise
from securefl.models import Layout, build_model
from securefl.roles.messages import Settled
from securefl.roles.replica import Replica
from securefl.roles.terms import STATISTICS, UPDATE, Terms
from securefl.study import Study
from securefl.training.evaluate import Score, evaluate
from securefl.training.private_model import check_patients
from securefl.training.server import Vector
from securefl.training.trainer import scaled, statistics_size


@dataclass(frozen=True)
class World:
    """See the module.

    Attributes:
        study, terms: what runs.
        data: a simulation's records by hospital, else empty.
        test: a simulation's held-out records, all hospitals', else None.
        model: built from the study's seed; ``evaluate`` loads other weights into it.
        shape: of one record.
        layout: how the model stands in a vector.
        initial: the model's first weights, (D,) float64.
        sizes: elements of the statistics and of an update.
        classes: of the task.
    """

    study: Study
    terms: Terms
    data: dict[str, HospitalData]
    test: Records | None
    model: nn.Module
    shape: tuple[int, ...]
    layout: Layout
    initial: Vector
    sizes: dict[str, int]
    classes: int

    @classmethod
    def of(cls, study: Study, terms: Terms) -> World:
        """Build the model and, for a simulation, load the records.

        Raises:
            SecureFLError: the study cannot run with this model, or with these records.
        """
        settings, names = study.settings, list(terms.hospitals)
        shape, classes = input_shape_and_classes(settings.data, study.folder, names, settings.seed)
        model = build_model(settings.model, study.folder, shape, classes, settings.seed)
        layout = Layout.of(model)
        data = load_all(settings.data, study.folder, names, settings.seed) if study.simulation else {}
        sizes = {STATISTICS: statistics_size(shape, settings.data.standardise), UPDATE: layout.size}
        terms.norm_check(UPDATE, layout.size)
        if terms.private is not None:
            terms.private.mechanism(layout.size)  # refuses a ring that is too coarse
            for hospital, held in data.items():
                check_patients(terms.private.settings, hospital, len(held.train.patient_groups()))
        test = pooled([d.test for d in data.values()]) if data else None
        return cls(study, terms, data, test, model, shape, layout, layout.flatten(model), sizes, classes)

    def start(self) -> Replica:
        """The replica before the first outcome."""
        return Replica.initial(self.terms, self.initial)

    def follow(self, replica: Replica, settled: Settled) -> Replica:
        """The replica after one more outcome.

        Raises:
            RefusedError: see ``Replica.follow``.
            StatisticsError: round 0 opened what can be no records' sums.
        """
        after = replica.follow(settled, self.terms, self.study.settings.server, self.layout.trainable_size)
        if settled.signed.outcome.round == 0 and self.terms.private is None:
            standardise.scaling(after.statistics, self.study.settings.data.standardise, self.shape)
        return after

    def score(self, model: Vector, statistics: Vector) -> Score | None:
        """How good these weights are on the held-out records; None outside a simulation."""
        if self.test is None:
            return None
        self.layout.load(self.model, model)
        return evaluate(self.model, scaled(self.test, statistics, self.study.settings))


def pooled(parts: list[Records]) -> Records:
    """Records in one piece, in the order given; patients of different parts stay different patients."""
    features, labels = (np.concatenate([getattr(p, name) for p in parts]) for name in ("features", "labels"))
    if all(p.patients is None for p in parts):
        return Records(features, labels)
    patients = np.empty(len(labels), dtype=np.int64)
    groups = [
        group + start for p, start in zip(parts, _starts(parts), strict=True) for group in p.patient_groups()
    ]
    for numbered, group in enumerate(groups):
        patients[group] = numbered
    return Records(features, labels, patients)


def _starts(parts: list[Records]) -> list[int]:
    """Where each part begins in the whole."""
    return [sum(len(p) for p in parts[:k]) for k in range(len(parts))]
