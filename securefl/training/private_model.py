"""What a private study cannot have: models that mix patients or remember them, and settings that mean nothing in it.

All but too many patients is refused before a record is read. After that no model fails at some records and not at
others in a way that anybody sees (``patient_gradients``).
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from securefl.data import Records
from securefl.errors import DataError, ModelError, StudyError
from securefl.study.privacy_settings import PrivacySettings
from securefl.study.schema import StudySettings
from securefl.training.patient_gradients import flat_gradient

_MIXED = 1e-4
"""Difference of a record's scores, relative to their size, that rounding alone does not make."""


def check_private_settings(settings: StudySettings) -> PrivacySettings:
    """Refuse what leaves the promise of privacy, or does nothing in a private study; the table ``[privacy]``.

    Raises:
        StudyError: the study is not private; inputs are scaled by the hospitals' sums; with unit "patient", local
            training that is not one plain step.
    """
    if settings.privacy is None:
        raise StudyError("The study has no table [privacy], so nothing in it is private; add one.")
    if settings.data.standardise not in ("none", "public"):
        raise StudyError(
            f'Under privacy data.standardise = "{settings.data.standardise}" would release sums of records; use '
            '"public" with constants that are known without them, or "none".'
        )
    if settings.privacy.unit == "hospital":
        return settings.privacy
    training = settings.training
    faults = {
        "training.local_epochs = 1": training.local_epochs != 1,
        'training.optimizer = "sgd"': training.optimizer != "sgd",
        "training.momentum = 0 (the server's momentum does it)": training.momentum != 0,
        "training.weight_decay = 0": training.weight_decay != 0,
    }
    if any(faults.values()):
        needed = ", ".join(name for name, wrong in faults.items() if wrong)
        raise StudyError(
            f'With privacy.unit = "patient" a round is one step over all hospitals: set {needed}.'
        )
    return settings.privacy


def check_patients(privacy: PrivacySettings, hospital: str, patients: int) -> int:
    """The largest number of clipped vectors in one hospital's sum, by the study's public bounds.

    Args:
        privacy: the study's table ``[privacy]``.
        hospital: whose patients these are.
        patients: how many the hospital has to train on.

    Raises:
        DataError: they are more than the study allows for.
    """
    if privacy.unit == "hospital":
        return 1
    largest = privacy.largest_hospital or privacy.patients or 0
    if patients > largest:
        # Without the number: it is the hospital's.
        raise DataError(
            f"{hospital} has more than the {largest} patients that the study allows for (privacy.largest_hospital, or "
            "privacy.patients); leave some out, or let the study raise it."
        )
    return largest


def check_patients_are_told(settings: StudySettings, hospital: str, records: Records) -> None:
    """Refuse a hospital's own records that do not say whose they are, where each patient is promised something.

    Raises:
        DataError: two records could be one patient's, and count twice.
    """
    told = records.patients is not None or settings.data.source not in ("npz", "module")
    if settings.privacy is not None and settings.privacy.unit == "patient" and not told:
        raise DataError(
            f"The records of {hospital} do not say whose they are: give an array patients beside them, an integer for "
            "each record, the same for records of one patient."
        )


def check_private_model(model: nn.Module, settings: StudySettings, shape: tuple[int, ...]) -> None:
    """Refuse a model that mixes records, keeps anything of them, or cannot be trained on made-up records of ``shape``.

    Args:
        model: as built; it is not changed.
        settings: the study's. With unit "hospital" all records are one unit's and may be mixed; buffers may not be.

    Raises:
        ModelError: what and where.
    """
    kept = model.state_dict().keys()  # constants that a module does not save are in no vector
    for name, buffer in model.named_buffers():
        if name not in kept:
            continue
        if buffer.is_floating_point() or buffer.is_complex():
            raise ModelError(
                f"The model's buffer {name} would leave without noise or clip; under privacy use layers without "
                "floating-point buffers, such as GroupNorm in place of BatchNorm."
            )
    if settings.privacy is not None and settings.privacy.unit == "hospital":
        return
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            raise ModelError(
                f"The model's layer {name or type(layer).__name__} normalises over a batch and so mixes patients; "
                "under privacy use GroupNorm or LayerNorm."
            )
    # Late: Opacus takes seconds to import.
    from opacus.validators import ModuleValidator

    # A copy: what the trial leaves behind in it goes with it.
    trial = copy.deepcopy(model).train()
    faults = ModuleValidator.validate(trial)
    if faults:
        first = str(faults[0]).split(". ")[0].rstrip(".")
        raise ModelError(f"The model cannot be trained under privacy: {first}; replace that layer.")
    _check_by_trial(trial, shape)


def _check_by_trial(model: nn.Module, shape: tuple[int, ...]) -> None:
    """What no list of layers shows: made-up records pass, forwards and backwards, with others beside them or not."""
    draw = torch.Generator().manual_seed(0)
    one, other, third = (torch.randn(1, *shape, generator=draw) for _ in range(3))
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        first = _trained(model, torch.cat([one, other]))
        beside = _trained(model, torch.cat([one, 3 * third + 1]))
        again = _trained(model, torch.cat([one, other]))
    except Exception as fault:
        raise ModelError(
            f"The model cannot be trained on records of shape {shape}: {type(fault).__name__}: {fault}."
        ) from fault
    kept = all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    if not kept or not torch.equal(first, again):
        raise ModelError(
            "The model remembers records that it has seen, so a patient would change the gradients of others; keep "
            "nothing in forward()."
        )
    if not _same(first[:1], beside[:1]):
        raise ModelError(
            "The model's scores of a record depend on the other records of the batch; under privacy let each record be "
            "computed by itself."
        )


def _trained(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """The scores of some records in training mode, after a backward pass that has to succeed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # so that dropout is the same each time
        scores = model(features)
        flat_gradient(
            cross_entropy(scores, torch.zeros(len(features), dtype=torch.int64)), list(model.parameters())
        )
    return scores.detach()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a - b).abs() <= _MIXED * (a.abs().max() + 1)).all())
