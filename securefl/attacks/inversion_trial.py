"""Every attack on every view of some records, and what it proves: held against the prior, with an interval.

The prior is the mean training image, the attacker's best guess without any update. *Success* is a mean structural
similarity (SSIM) of at least ``SUCCESS``. *No better than the prior* is said if the 95 % bootstrap interval of the mean
of SSIM(attack) - SSIM(prior) over the targets begins at 0 or below and ends at ``MARGIN`` or below: no gain is shown,
and none larger than the margin is left open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from securefl.attacks.image_quality import psnr, ssim
from securefl.attacks.inversion import METHODS, Vector, gradient_of, invert
from securefl.data import Records
from securefl.errors import ModelError, RunError

SUCCESS = 0.8
MARGIN = 0.05
RESAMPLES = 10_000
DEFAULT_METHODS = ("ratio", "idlg", "cosine")
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class InversionResult:
    """One attack on one view, over all targets.

    Attributes:
        view, method: of ``views.VIEWS`` and ``inversion.METHODS``.
        ssim, psnr: means over the targets; psnr in decibels.
        prior_ssim: mean of the prior's SSIM.
        difference: mean of SSIM(attack) - SSIM(prior).
        interval: its 95 % bootstrap interval.
        labels_found: targets of which the label was right, 0 to 1.
        each: SSIM of each target.
    """

    view: str
    method: str
    ssim: float
    psnr: float
    prior_ssim: float
    difference: float
    interval: tuple[float, float]
    labels_found: float
    each: tuple[float, ...]

    @property
    def succeeded(self) -> bool:
        """Whether the mean SSIM is at least ``SUCCESS``."""
        return self.ssim >= SUCCESS

    @property
    def no_better_than_prior(self) -> bool:
        """See the module."""
        return self.interval[0] <= 0 and self.interval[1] <= MARGIN

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the two verdicts."""
        verdicts = {"succeeded": self.succeeded, "no_better_than_prior": self.no_better_than_prior}
        return {**asdict(self), "interval": list(self.interval), "each": list(self.each), **verdicts}


@dataclass(frozen=True)
class InversionReport:
    """All results of a run, and the images for the picture.

    Attributes:
        study, hospital: whose records were attacked; empty outside a run.
        model: "study" or "small", see ``inversion_run``; empty outside a run.
        parameters: of the model.
        targets: how many.
        private: whether the opened sum has noise in it.
        skipped: methods that this model does not allow, with the reason.
        results: one for each view and method.
        originals, prior: (N, *shape) and (*shape), float32, as the model takes them.
        images: by view and method, (N, *shape).
        prior_scores: the prior's SSIM for each target.
        limits: range of the intensities.
    """

    study: str
    hospital: str
    model: str
    parameters: int
    targets: int
    private: bool
    skipped: Mapping[str, str]
    results: tuple[InversionResult, ...]
    originals: Picture = field(repr=False)
    prior: Picture = field(repr=False)
    images: Mapping[tuple[str, str], Picture] = field(repr=False)
    prior_scores: tuple[float, ...] = field(repr=False)
    limits: tuple[float, float]

    def best(self, view: str) -> InversionResult:
        """The attack with the largest mean SSIM on a view: the choice that flatters the attacker."""
        return max((r for r in self.results if r.view == view), key=lambda r: r.ssim)

    def to_json(self) -> dict[str, Any]:
        """What a report shows, without images."""
        plain = ("study", "hospital", "model", "parameters", "targets", "private")
        return {
            **{name: getattr(self, name) for name in plain},
            "skipped": dict(self.skipped),
            "prior_each": list(self.prior_scores),
            "intensities": list(self.limits),
            "success": SUCCESS,
            "margin": MARGIN,
            "results": [result.to_json() for result in self.results],
        }


@dataclass(frozen=True, eq=False)
class Targets:
    """What is attacked.

    Attributes:
        model: whose gradients they are.
        records: the N targets, one record each, as the model takes them.
        classes: of the task.
        prior: the attacker's best image without an update, (*shape).
        limits: smallest and largest intensity of records of this kind.
    """

    model: nn.Module
    records: Records
    classes: int
    prior: Picture
    limits: tuple[float, float]


def attack(
    attacked: Targets,
    see: Callable[[Vector], Mapping[str, Vector]],
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    clip: float | None = None,
    seed: int = 0,
    iterations: int = 400,
    restarts: int = 2,
    progress: Callable[[str], None] = lambda _line: None,
) -> InversionReport:
    """Run every method on every view of every target.

    Args:
        attacked: the targets.
        see: a record's gradient to what each onlooker takes for it, by name; called once a target.
        clip: norm to which gradients were clipped.

    Raises:
        RunError: fewer than two targets, or no method that the model allows.
    """
    count = len(attacked.records)
    if count < 2:
        raise RunError("An interval over the targets needs at least two: attack more patients.")
    shape, (low, high) = attacked.records.shape, attacked.limits
    usable, skipped = _usable(attacked, methods)
    images: dict[tuple[str, str], list[Picture]] = {}
    right: dict[tuple[str, str], int] = {}
    for k in range(count):
        record = attacked.records.take(np.array([k]))
        seen = see(gradient_of(attacked.model, record.features, record.labels))
        for view, vector in seen.items():
            for method in usable:
                found = invert(
                    attacked.model, vector, shape, attacked.classes, method, iterations=iterations, seed=seed + k,
                    restarts=restarts, low=low, high=high, clip=clip, start=attacked.prior,
                )  # fmt: skip
                images.setdefault((view, method), []).append(found.image)
                right[view, method] = right.get((view, method), 0) + (found.label == int(record.labels[0]))
        progress(f"target {k + 1} of {count}")
    originals = attacked.records.features
    span = high - low
    prior = np.array([ssim(attacked.prior, original, span) for original in originals])
    results = []
    for (view, method), found_images in images.items():
        pairs = list(zip(found_images, originals, strict=True))
        each = np.array([ssim(image, original, span) for image, original in pairs])
        noise = [psnr(image, original, span) for image, original in pairs]
        results.append(
            InversionResult(
                view, method, float(each.mean()), float(np.mean(noise)), float(prior.mean()),
                float((each - prior).mean()), bootstrap_interval(each - prior, seed), right[view, method] / count,
                tuple(map(float, each)),
            )
        )  # fmt: skip
    return InversionReport(
        study="", hospital="", model="", parameters=sum(p.numel() for p in attacked.model.parameters()), targets=count,
        private=False, skipped=skipped, results=tuple(results), originals=originals, prior=attacked.prior,
        images={key: np.array(found) for key, found in images.items()}, prior_scores=tuple(map(float, prior)),
        limits=attacked.limits,
    )  # fmt: skip


def bootstrap_interval(differences: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean (Efron 1979), of ``RESAMPLES`` resamples; (N,), N >= 2."""
    draw = np.random.default_rng(seed).integers(0, differences.size, (RESAMPLES, differences.size))
    low, high = np.percentile(differences[draw].mean(1), [2.5, 97.5])
    return float(low), float(high)


def _usable(attacked: Targets, methods: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The methods that this model allows, and why not the others."""
    usable, skipped = [], {}
    nothing = np.zeros(sum(p.numel() for p in attacked.model.parameters()))
    for method in methods:
        try:
            invert(attacked.model, nothing, attacked.records.shape, attacked.classes, method, iterations=1)
            usable.append(method)
        except ModelError as error:
            if method not in METHODS:
                raise
            skipped[method] = str(error)
    if not usable:
        raise RunError("None of the attacks works on this model: " + " ".join(skipped.values()))
    return usable, skipped
