"""Membership inference on a released model: was this patient among those it was trained on?

Adversary: has the model and a patient's records, and can train models like it on patients of which it knows who took
    part. It sees nothing of the training.
Source: ``loss``: Yeom, Giacomelli, Fredrikson and Jha 2018, "Privacy Risk in Machine Learning", section 3.2 (a small
    loss is a member's), with every threshold in place of one. ``lira``: Carlini, Chien, Nasr, Song, Terzis and Tramèr
    2022, "Membership Inference Attacks From First Principles", algorithm 1 (online), with one query.

A patient's confidence is the mean, over the patient's records, of log(p / (1 - p)) for the true label's probability p:
Carlini et al., section V-B, found it nearly Gaussian. LiRA fits one Gaussian to a patient's confidences under shadow
models that were trained with the patient and one to those without, and scores by the ratio of their densities. With
fewer than ``FEW`` shadows the variances are those of all patients together (their section V-C).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from securefl.attacks.central import honest, last_model, releases
from securefl.attacks.released import Released, plan_of, rebuilt
from securefl.attacks.roc import Roc
from securefl.data import Records
from securefl.errors import DataError, RunError
from securefl.training.determinism import seed_for

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Shadow = Callable[[Records, int], nn.Module]
"""Trains a model like the attacked one on some records; the number tells the shadows apart."""

FEW = 64
LEAST = 4
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class MembershipResult:
    """One attack on one model.

    Attributes:
        attack: "lira" or "loss".
        scores: (patients,) float64, higher for those taken for members.
        membership: (patients,) bool, the truth.
        roc: the curve.
    """

    attack: str
    scores: Floats
    membership: Flags
    roc: Roc

    @classmethod
    def of(cls, attack: str, scores: Floats, membership: Flags) -> MembershipResult:
        """The result of some scores."""
        return cls(attack, scores, membership, Roc.of(scores, membership))


def confidences(model: nn.Module, records: Records) -> tuple[Floats, Floats]:
    """Each patient's mean confidence log(p / (1 - p)) in the true label, and mean loss in nats: float64 (patients,)."""
    import torch

    features, labels = torch.from_numpy(records.features), torch.from_numpy(records.labels)
    model.eval()
    found, losses = [], []
    with torch.no_grad():
        for x, y in zip(features.split(_BATCH), labels.split(_BATCH), strict=True):
            logits = model(x).double()
            mine = logits.gather(1, y[:, None])[:, 0]
            others = logits.scatter(1, y[:, None], -torch.inf).logsumexp(1)
            found.append((mine - others).numpy())
            losses.append((logits.logsumexp(1) - mine).numpy())
    confidence, loss = np.concatenate(found), np.concatenate(losses)
    groups = records.patient_groups()
    return np.array([confidence[g].mean() for g in groups]), np.array([loss[g].mean() for g in groups])


def splits(patients: int, members: int, shadows: int, seed: int) -> Flags:
    """Who is trained on by which shadow: (shadows, patients) bool.

    Each patient is in as near the same share of the shadows as the members are of all patients, but in two at least and
    out of two at least. ``seed`` is of the attack alone.

    Raises:
        DataError: fewer than ``LEAST`` shadows, or not 0 < members < patients.
    """
    if shadows < LEAST or not 0 < members < patients:
        raise DataError(f"LiRA needs at least {LEAST} shadow models, and members and non-members.")
    inside = min(max(round(shadows * members / patients), 2), shadows - 2)
    order = np.random.Generator(np.random.PCG64(seed)).random((shadows, patients)).argsort(axis=0)
    return np.asarray(order.argsort(axis=0) < inside)


def lira(confidence: Floats, shadows: Floats, inside: Flags, *, few: int = FEW) -> Floats:
    """LiRA's scores, log p(confidence | in) - log p(confidence | out).

    Args:
        confidence: (n,) each patient's under the attacked model.
        shadows: (s, n) the same under each shadow.
        inside: (s, n) which shadow was trained on whom.
        few: below so many shadows, one variance for all patients.

    Returns:
        (n,) float64; 0, no evidence, for a patient whom no shadow, or every shadow, was trained on.
    """
    scores = np.zeros_like(confidence)
    known = inside.any(axis=0) & ~inside.all(axis=0)
    for flags, sign in ((inside, 1.0), (~inside, -1.0)):
        count = np.maximum(flags.sum(axis=0), 1)
        mean = np.where(flags, shadows, 0.0).sum(axis=0) / count
        squares = np.where(flags, (shadows - mean) ** 2, 0.0).sum(axis=0)
        if len(shadows) < few:
            # A mean of k values takes one degree of freedom of each patient.
            free = int(np.maximum(flags.sum(axis=0) - 1, 0).sum())
            variance = np.full_like(mean, squares.sum() / max(free, 1))
        else:
            variance = squares / np.maximum(count - 1, 1)
        variance = np.maximum(variance, 1e-12)
        scores += sign * -0.5 * (np.log(variance) + (confidence - mean) ** 2 / variance)
    return np.where(known, scores, 0.0)


def attack_model(
    model: nn.Module,
    members: Records,
    non_members: Records,
    shadow: Shadow,
    *,
    shadows: int,
    seed: int,
    seconds: float | None = None,
) -> tuple[list[MembershipResult], int]:
    """Attack a model by the loss and, with shadow models, by LiRA.

    Args:
        model: the attacked one.
        members, non_members: records as the model takes them.
        shadow: trains one shadow model.
        shadows: how many; 0 for the loss alone.
        seed: of the shadows' splits.
        seconds: after which no further shadow is begun, once there are ``LEAST``; None for no limit.

    Returns:
        The results, and the number of shadows that were trained.
    """
    from securefl.world import pooled

    everyone = pooled([members, non_members])
    groups, count = everyone.patient_groups(), len(members.patient_groups())
    membership = np.arange(len(groups)) < count
    confidence, loss = confidences(model, everyone)
    results = [MembershipResult.of("loss", -loss, membership)]
    if not shadows:
        return results, 0
    inside, began, seen = splits(len(groups), count, shadows, seed), time.monotonic(), []
    for number, flags in enumerate(inside):
        if seconds is not None and number >= LEAST and time.monotonic() - began > seconds:
            break
        chosen = np.concatenate([groups[i] for i in np.flatnonzero(flags)])
        seen.append(confidences(shadow(everyone.take(chosen), number), everyone)[0])
    scores = lira(confidence, np.array(seen), inside[: len(seen)])
    return [MembershipResult.of("lira", scores, membership), *results], len(seen)


@dataclass(frozen=True, eq=False)
class MembershipReport:
    """Membership inference on a run's released model.

    Attributes:
        study: its name.
        private: whether the model was trained with privacy.
        results: of each attack.
        shadows, wanted: models trained for LiRA, and those that were asked for.
        seconds: that it took.
    """

    study: str
    private: bool
    results: tuple[MembershipResult, ...]
    shadows: int
    wanted: int
    seconds: float

    @property
    def notes(self) -> list[str]:
        """What a reader has to know, in sentences."""
        roc = self.results[0].roc
        notes = [
            f"Members are the {roc.members} patients trained on, non-members the {roc.non_members} held out; these "
            f"support false-positive rates from {roc.smallest_fpr:.2g}.",
            "Shadow models were trained in one process, "
            + (
                "by the private study's own mechanism."
                if self.private
                else "on pooled records, as many epochs."
            ),
        ]
        if self.shadows < self.wanted:
            notes.append(
                f"Only {self.shadows} of {self.wanted} shadow models were trained: more took too long."
            )
        if self.shadows < FEW:
            notes.append(
                f"With {self.shadows} shadow models all patients share one variance; more would attack better."
            )
        return notes

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the curves but not the scores of single patients."""
        return {
            "study": self.study, "private": self.private, "shadows": self.shadows, "shadows_wanted": self.wanted,
            "seconds": self.seconds, "notes": self.notes,
            "attacks": {result.attack: result.roc.to_json() for result in self.results},
        }  # fmt: skip

    def picture(self) -> bytes:
        """The ROC curves, PNG."""
        from securefl.attacks.roc_picture import roc_png

        names = {"lira": f"LiRA, {self.shadows} shadows", "loss": "loss threshold"}
        kind = "with privacy" if self.private else "without privacy"
        curves = {names[result.attack]: result.roc for result in self.results}
        return roc_png(curves, f"Membership inference by patient, {kind}")


def run_membership(run: Path, shadows: int, seed: int, seconds: float | None = None) -> MembershipReport:
    """Attack the released model of a finished simulation.

    Args:
        run: its folder.
        shadows: models to train for LiRA; 0 for the loss threshold alone, else at least ``LEAST``.
        seed: of the attack.
        seconds: after which no further shadow is begun.

    Raises:
        RunError: no finished run of a simulation, or one that is private by hospital.
        DataError: too few shadows, or no patient held out.
    """
    began = time.monotonic()
    found = rebuilt(run)
    results, trained = attack_model(
        found.model, found.members, found.non_members, _shadow(found, seed),
        shadows=shadows, seed=seed, seconds=seconds,
    )  # fmt: skip
    return MembershipReport(
        found.world.study.settings.name,
        found.world.terms.private is not None,
        tuple(results),
        trained,
        shadows,
        time.monotonic() - began,
    )


def _shadow(found: Released, seed: int) -> Shadow:
    """How a model like the released one is trained in one process, by the study's settings."""
    world = found.world
    initial = copy.deepcopy(found.model)
    world.layout.load(initial, world.initial)
    if world.terms.private is None:
        return lambda records, number: _plain(found, initial, records, seed_for(seed, "shadow", number))
    if world.terms.private.settings.unit != "patient":
        raise RunError("Shadow models are trained patient by patient; this study is private by hospital.")
    plan, pieces = plan_of(world), honest()
    return lambda records, number: last_model(
        initial, releases(initial, lambda working: pieces.gradients(working, records), plan, pieces)
    )


def _plain(found: Released, initial: nn.Module, records: Records, seed: int) -> nn.Module:
    from securefl.training.local import train
    from securefl.training.schedule import schedule_factor

    training, model = found.world.study.settings.training, copy.deepcopy(initial)
    epochs = training.rounds * training.local_epochs
    factors = [schedule_factor(training.schedule, epoch + 1, epochs) for epoch in range(epochs)]
    train(model, records, training, factors=factors, seed=seed)
    return model.eval()
