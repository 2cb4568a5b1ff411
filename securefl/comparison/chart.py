"""Utility over epsilon as a picture: one line an arm, with standard errors, and training without privacy beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from securefl.comparison.run import Mean

LOOKS = {
    "ours": ("#0072B2", "o", "ours: the parties' noise"),
    "centre": ("#009E73", "s", "a trusted centre"),
    "noised-alone": ("#D55E00", "^", "noise at each hospital"),
    "alone": ("#CC79A7", "v", "each hospital alone"),
}
"""Colour (Okabe and Ito's), marker and name of each arm."""


def chart(means: Sequence[Mean], path: Path) -> Path:
    """Write the PNG and return its path; AUC where the task has one, else accuracy."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    auc = all(mean.auc is not None for mean in means)
    private = sorted({mean.epsilon for mean in means if mean.epsilon is not None})
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        for arm, (colour, marker, name) in LOOKS.items():
            line = [m for m in means if m.arm == arm and m.epsilon is not None]
            line.sort(key=lambda m: m.epsilon or 0.0)
            if line:
                values, errors = zip(*((_value(m, auc), _error(m, auc)) for m in line), strict=True)
                axes.errorbar(
                    [m.epsilon or 0.0 for m in line],
                    values,
                    errors,
                    color=colour,
                    marker=marker,
                    label=name,
                    capsize=3,
                )
            for m in means:
                if m.arm == arm and m.epsilon is None:
                    axes.axhline(
                        _value(m, auc), color=colour, linestyle=":", label=f"{name.split(':')[0]}, no privacy"
                    )
        axes.set_xscale("log")
        axes.set_xticks(private, [f"{epsilon:g}" for epsilon in private])
        axes.minorticks_off()
        axes.set_xlabel("epsilon for each patient (delta as in the study); smaller protects more")
        axes.set_ylabel("AUC on held-out records" if auc else "accuracy on held-out records")
        axes.grid(alpha=0.2)
        axes.legend(frameon=False, fontsize=9)
        figure.savefig(path, dpi=150)
    return path


def _value(mean: Mean, auc: bool) -> float:
    return mean.auc if auc and mean.auc is not None else mean.accuracy


def _error(mean: Mean, auc: bool) -> float:
    return (mean.auc_error if auc else mean.accuracy_error) or 0.0
