"""The ways to train that are compared. All take the same steps, on the same draws' law, with the same guarantee.

With z the noise multiplier of the target, C the clip and K hospitals, the noise on each coordinate of a round's sum has
the standard deviation

    centre       z C                 a trusted centre has all records and adds noise once
    ours         z C √(P / (P - t))  every party adds its part, so that the P - t honest ones' are enough
    noised-alone z C √K              each hospital protects its own sum by itself before it sends it
    alone        z C                 a hospital that trains on its own patients only

so that, at the same epsilon for each patient, they differ in noise and in how many patients they learn from. "ours" and
"noised-alone" are computed in one process by the pieces that hospitals and parties run (``attacks.central``): sharing,
sealing and opening change no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from securefl.attacks.central import train_plain, train_private
from securefl.data import Records
from securefl.errors import StudyError
from securefl.models import build_model
from securefl.roles.private_terms import PrivateTerms
from securefl.study import Study
from securefl.training.schedule import schedule_factor

Arm = Literal["ours", "centre", "noised-alone", "alone"]
ARMS: tuple[Arm, ...] = get_args(Arm)


@dataclass(frozen=True)
class Trainees:
    """Whose records are trained on, standardised by the study's public constants.

    Attributes:
        union: of all hospitals.
        hospitals: each one's own, by name.
        classes: of the task.
    """

    union: Records
    hospitals: Mapping[str, Records]
    classes: int


def models(
    study: Study, private: PrivateTerms | None, arm: Arm, trainees: Trainees
) -> Mapping[str, nn.Module]:
    """The models that an arm ends with: one, or for "alone" one of each hospital, by name.

    Args:
        study: with a table ``[privacy]``, whose rate and public number of patients hold in any case.
        private: the noise of the target; None trains without clip and noise.

    Raises:
        StudyError: the unit of privacy is not the patient.
    """
    privacy = study.settings.privacy
    if privacy is None or privacy.unit != "patient":
        raise StudyError('Arms are compared for privacy.unit = "patient" only: change the study.')
    initial = build_model(
        study.settings.model, study.folder, trainees.union.shape, trainees.classes, study.settings.seed
    )
    hospitals = len(trainees.hospitals)
    if arm == "alone":
        return {
            # Each divides by its own number of patients: there is no other public one.
            name: _trained(study, private, initial, records, 1, len(records.patient_groups()))
            for name, records in trainees.hospitals.items()
        }
    times = {"ours": None, "centre": 1, "noised-alone": hospitals}[arm]
    return {"": _trained(study, private, initial, trainees.union, times, privacy.patients or 1)}


def _trained(
    study: Study,
    private: PrivateTerms | None,
    initial: nn.Module,
    records: Records,
    times: int | None,
    patients: int,
) -> nn.Module:
    """A model; ``times`` is how often the target's noise is added, None for the parties' as in a run."""
    settings = study.settings
    rate = settings.privacy.sampling_rate if settings.privacy else 1.0
    momentum = settings.server.momentum if settings.server.optimizer == "fedavgm" else 0.0
    schedule, rounds = _schedule(study), settings.training.rounds
    if private is None:
        return train_plain(
            initial, records, rounds=rounds, rate=rate, denominator=rate * patients,
            learning_rate_schedule=schedule, momentum=momentum,
        )  # fmt: skip
    variance, parties = private.party_variance, private.parties
    if times is not None:
        variance, parties = math.ceil((private.multiplier * private.clip_units) ** 2), times
    return train_private(
        initial, records, rounds=rounds, rate=rate, clip=private.settings.clip,
        fraction_bits=private.encoding.fraction_bits, party_variance=variance, parties=parties,
        denominator=rate * patients, learning_rate_schedule=schedule, momentum=momentum,
    )  # fmt: skip


def _schedule(study: Study) -> Callable[[int], float]:
    training = study.settings.training
    factor = study.settings.server.learning_rate * training.learning_rate
    return lambda round_: factor * schedule_factor(training.schedule, round_, training.rounds)
