"""The ways to train that are compared. All take the same steps, on the same draws' law, with the same guarantee.

With z the noise multiplier of the target, C the clip and K hospitals, the noise on each coordinate of a round's sum has
the standard deviation

    centre       z C                 a trusted centre has all records and adds noise once
    ours         z C √(P / (P - t))  every party adds its part, so that the P - t honest ones' are enough
    noised-alone z C √K              each hospital protects its own sum by itself before it sends it
    alone        z C                 a hospital that trains on its own patients only

so that, at the same epsilon for each patient, they differ in noise and in how many patients they learn from. Without a
target there is no noise; the clip stays, so that the learning rate means what it means with noise. "ours" and
"noised-alone" are computed in one process by the pieces that hospitals and parties run (``attacks.central``): sharing,
sealing and opening change no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from securefl.attacks.central import train_private
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
        private: the noise of the target; None trains without noise.

    Raises:
        StudyError: the unit of privacy is not the patient.
    """
    privacy = study.settings.privacy
    if privacy is None or privacy.unit != "patient":
        raise StudyError('Arms are compared for privacy.unit = "patient" only: change the study.')
    settings, hospitals = study.settings, len(trainees.hospitals)
    initial = build_model(settings.model, study.folder, trainees.union.shape, trainees.classes, settings.seed)
    # Without a target the clip and the ring are those of the study's own.
    terms = private or PrivateTerms.of(
        privacy, settings.training, settings.aggregation, hospitals, settings.consortium.parties
    )
    noise = Noise(0, 0) if private is None else _noise(private, arm, hospitals)
    if arm == "alone":
        return {
            # Each divides by its own number of patients: there is no other public one.
            name: _trained(study, terms, noise, initial, records, len(records.patient_groups()))
            for name, records in trainees.hospitals.items()
        }
    return {"": _trained(study, terms, noise, initial, trainees.union, privacy.patients or 1)}


@dataclass(frozen=True)
class Noise:
    """What is added to each coordinate of a sum: ``times`` draws of this variance, in units squared."""

    variance: int
    times: int


def _noise(private: PrivateTerms, arm: Arm, hospitals: int) -> Noise:
    if arm == "ours":
        return Noise(private.party_variance, private.parties)
    return Noise(
        math.ceil((private.multiplier * private.clip_units) ** 2), hospitals if arm == "noised-alone" else 1
    )


def _trained(
    study: Study, terms: PrivateTerms, noise: Noise, initial: nn.Module, records: Records, patients: int
) -> nn.Module:
    """A model that learns from some records, over a public number of patients."""
    server, rate = study.settings.server, terms.settings.sampling_rate
    return train_private(
        initial,
        records,
        rounds=study.settings.training.rounds,
        rate=rate,
        clip=terms.settings.clip,
        fraction_bits=terms.encoding.fraction_bits,
        party_variance=noise.variance,
        parties=noise.times,
        denominator=rate * patients,
        learning_rate_schedule=_schedule(study),
        momentum=server.momentum if server.optimizer == "fedavgm" else 0.0,
    )


def _schedule(study: Study) -> Callable[[int], float]:
    training = study.settings.training
    factor = study.settings.server.learning_rate * training.learning_rate
    return lambda round_: factor * schedule_factor(training.schedule, round_, training.rounds)
