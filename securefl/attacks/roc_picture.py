"""ROC curves of membership inference on log axes, with their intervals, down to the rate that the patients support."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from securefl.attacks.roc import Roc
from securefl.errors import DataError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which colour-blind readers tell apart."""


def roc_png(curves: Mapping[str, Roc], title: str = "Membership inference, by patient") -> bytes:
    """A picture of some curves.

    Args:
        curves: by the name in the legend; at most six.
        title: above the picture.

    Returns:
        A PNG file of 1040 by 960 pixels. The same curves give the same picture.

    Raises:
        DataError: no curve, or more than there are colours.
    """
    if not 1 <= len(curves) <= len(COLOURS):
        raise DataError(f"A picture shows from 1 to {len(COLOURS)} curves, not {len(curves)}.")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    lowest = min(roc.smallest_fpr for roc in curves.values())
    figure = Figure(figsize=(6.5, 6.0), dpi=160, layout="constrained")
    axes = figure.subplots()
    axes.plot([1e-9, 1], [1e-9, 1], color="0.45", linestyle=(0, (3, 3)), linewidth=1.2, label="guessing")
    for (name, roc), colour in zip(curves.items(), COLOURS, strict=False):
        rates = np.geomspace(roc.smallest_fpr, 1, 400)
        points = np.searchsorted(roc.fpr, rates, side="right") - 1
        low, high = (ends[points] for ends in roc.tpr_interval)
        # A rate of zero has no place on a log axis: the line then runs along the lower edge, the interval does not.
        axes.fill_between(rates, np.maximum(low, 1e-9), high, color=colour, alpha=0.18, linewidth=0)
        auc = f"AUC {roc.auc.value:.2f} [{roc.auc.low:.2f}, {roc.auc.high:.2f}]"
        axes.plot(
            rates, np.maximum(roc.tpr[points], 1e-9), color=colour, linewidth=1.8, label=f"{name}, {auc}"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(lowest, 1)
    axes.set_ylim(min(lowest, 1 / max(roc.members for roc in curves.values())), 1.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    non_members = min(roc.non_members for roc in curves.values())
    axes.set_xlabel(f"false-positive rate (from {lowest:.2g}: what {non_members} non-members support)")
    axes.set_ylabel("true-positive rate")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=9, title="shaded: 95 % Clopper-Pearson")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
