"""The picture of gradient inversion: each original beside the prior and what each onlooker could make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from securefl.attacks.inversion_trial import SUCCESS, InversionReport
from securefl.attacks.views import COORDINATOR, PARTIES, PLAINTEXT, SUM, TITLES

_CELL = 1.25
"""Side of an image, in inches."""


def inversion_picture(report: InversionReport, path: Path, rows: int = 5, note: str = "") -> Path:
    """Draw the grid as a PNG: a row a target, a column a view, the SSIM under each image.

    For each view the attack with the largest mean SSIM is shown, which flatters the attacker.

    Args:
        report: of :func:`securefl.attacks.inversion_run.run_inversion`.
        path: of the PNG.
        rows: targets shown at most; the first ones, not the best.
        note: what the images are, such as "synthetic lesions"; under the title.

    Returns:
        ``path``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = min(rows, report.targets)
    views = list(dict.fromkeys(result.view for result in report.results))
    columns = 2 + len(views)
    style: Any = {"font.size": 8.5, "font.family": "sans-serif"}
    with mpl.rc_context(style):
        figure = Figure(
            figsize=(columns * _CELL + 0.3, shown * (_CELL + 0.2) + 1.05), dpi=160, layout="constrained"
        )
        axes = figure.subplots(shown, columns, squeeze=False)
        heads = ["original", "prior\n(mean image)", *(_head(report, view) for view in views)]
        for k in range(shown):
            cells: list[tuple[Any, float | None]] = [
                (report.originals[k], None),
                (report.prior, report.prior_scores[k]),
            ]
            for view in views:
                best = report.best(view)
                cells.append((report.images[view, best.method][k], best.each[k]))
            for column, (image, score) in enumerate(cells):
                place = axes[k][column]
                _show(place, image, report.limits)
                place.set_xlabel(
                    " " if score is None else f"SSIM {score + 0.0:.2f}".replace("-0.00", "0.00"), labelpad=2
                )
                if score is not None and score >= SUCCESS:
                    place.xaxis.label.set_color("#B03A00")
                    place.xaxis.label.set_fontweight("bold")
                if k == 0:
                    place.set_title(heads[column], fontsize=8.5, pad=4)
        title = (
            f"{report.study}: what is left of one record" if report.study else "What is left of one record"
        )
        figure.suptitle(title + (f"\n{note}" if note else ""), fontsize=10.5)
        figure.supxlabel(_legend(report), fontsize=7.5, color="0.3")
        figure.savefig(path, facecolor="white")
    return path


def _head(report: InversionReport, view: str) -> str:
    heads = {
        PLAINTEXT: "one plaintext\nupdate",
        COORDINATOR: "the\ncoordinator",
        PARTIES: "all parties\nbut one",
        SUM: "the opened sum,\n" + ("with noise" if report.private else "no noise"),
    }
    return heads.get(view, view)


def _show(axes: Any, image: Any, limits: tuple[float, float]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
        spine.set_color("0.6")
    if image.shape[0] == 3:
        low, high = limits
        axes.imshow(np.clip((image.transpose(1, 2, 0) - low) / (high - low), 0, 1), interpolation="nearest")
    else:
        axes.imshow(image[0], cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")


def _legend(report: InversionReport) -> str:
    parts = []
    for view in dict.fromkeys(result.view for result in report.results):
        best = report.best(view)
        parts.append(f"{TITLES[view]}: {best.method}, mean SSIM {best.ssim:.2f}")
    lines = [f"prior: mean SSIM {np.mean(report.prior_scores):.2f}", *parts]
    half = (len(lines) + 1) // 2
    return (
        f"Over {report.targets} targets. " + "; ".join(lines[:half]) + ";\n" + "; ".join(lines[half:]) + "."
    )
