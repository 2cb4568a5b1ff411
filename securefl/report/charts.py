"""The page's charts, as inline SVG without scripts, fonts or addresses of their own. Same input, same bytes.

Colours are Okabe and Ito's, which colour-blind readers tell apart; text and axes take the page's colour, light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from protocols.envelope import OVERHEAD_BYTES
from protocols.prg import SEED_BYTES
from securefl.report.evidence import Evidence

BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}
_SECURE: Any = {"label": "federated, secure", "color": BLUE, "linewidth": 2.6, "zorder": 4}
_PLAINTEXT: Any = {
    "label": "same, in the clear", "color": ORANGE, "linewidth": 1.4, "linestyle": (0, (3, 3)), "zorder": 5,
}  # fmt: skip
_FLOAT: Any = {"label": "ordinary averaging", "color": GREEN, "linewidth": 5.0, "alpha": 0.45, "zorder": 3}
_ZOOM_FROM = 8
"""Rounds from which on the last ones are also drawn enlarged."""


def accuracy_chart(evidence: Evidence) -> Markup | None:
    """Accuracy by round with the baselines; None if no accuracy is known."""
    lines = [line for line in evidence.rounds if line["accuracy"] is not None]
    if not lines:
        return None
    rounds = np.array([line["round"] for line in lines])
    secure = np.array([line["accuracy"] for line in lines])
    zoomed = len(rounds) >= _ZOOM_FROM
    with mpl.rc_context(_style("accuracy")):
        figure = Figure(figsize=(9.0, 4.4), layout="constrained")
        both = figure.subplots(1, 2, width_ratios=[3, 2]) if zoomed else [figure.subplots()]
        for axes in both:
            # Where the three coincide, they show as a core with dashes on it and a rim around it.
            axes.plot(rounds, secure, **_SECURE)
            _draw_rounds(axes, evidence, "plaintext", **_PLAINTEXT)
            _draw_rounds(axes, evidence, "float", **_FLOAT)
            _draw_levels(axes, evidence, int(rounds[-1]))
            axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if len(rounds) == 1:
                axes.plot(rounds, secure, "o", color=BLUE)
        both[0].set_ylabel("accuracy on held-out records")
        both[0].set_ylim(0, 1.01)
        if zoomed:
            _zoom(both[1], evidence, rounds, secure)
        handles, labels = both[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return _svg(figure)


def time_chart(evidence: Evidence) -> Markup | None:
    """Seconds of every round: training, aggregation, evaluation; None if no round was timed."""
    lines = [line for line in evidence.rounds if line["seconds"] is not None]
    if not lines:
        return None
    rounds = [line["round"] for line in lines]
    training = np.array([line["training_seconds"] or 0.0 for line in lines])
    aggregation = np.array([line["aggregation_seconds"] or 0.0 for line in lines])
    evaluation = np.array([line.get("evaluation_seconds") or 0.0 for line in lines])
    with mpl.rc_context(_style("time")):
        figure = Figure(figsize=(9.0, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.bar(rounds, training, width=0.8, color=SKY, label="training")
        axes.bar(rounds, aggregation, width=0.8, bottom=training, color=VERMILION, label="aggregation")
        axes.bar(
            rounds, evaluation, width=0.8, bottom=training + aggregation, color="0.75", label="evaluation"
        )
        axes.set_xlabel("round")
        axes.set_ylabel("seconds")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)
        figure.legend(loc="outside upper right", ncols=3)
        return _svg(figure)


def bytes_chart(summary: Mapping[str, Any]) -> Markup | None:
    """Upload of one hospital in one round against the bare update in the clear; None if it was not measured."""
    upload, parameters = summary.get("upload_bytes_per_hospital_round"), summary.get("parameters")
    if not upload or not parameters:
        return None
    pieces = upload_pieces(summary)
    with mpl.rc_context(_style("bytes")):
        figure = Figure(figsize=(9.0, 1.9), layout="constrained")
        axes = figure.subplots()
        left = 0.0
        for (name, size), colour in zip(pieces.items(), (BLUE, ORANGE, PURPLE, VERMILION), strict=False):
            axes.barh(1, size / 1000, left=left / 1000, height=0.6, color=colour, label=name)
            left += size
        axes.barh(0, 4 * parameters / 1000, height=0.6, color="#999999")
        axes.set_yticks([1, 0], ["shared and sealed", "float32, in the clear"])
        for place, length in ((1, left), (0, 4.0 * parameters)):
            label = f"{length:,.0f} bytes"
            axes.annotate(label, (length / 1000, place), (6, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, max(left, 4 * parameters) / 1000 * 1.22)
        axes.set_xlabel("kilobytes from one hospital in one round")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper center", ncols=4)
        return _svg(figure)


def upload_pieces(summary: Mapping[str, Any]) -> dict[str, int]:
    """What the measured upload consists of, in bytes; the last piece is what the others leave of it."""
    parties, width = int(summary["parties"]), int(summary["width"])
    vector = int(summary["parameters"]) * width // 8
    seeds = (parties - 1) * SEED_BYTES
    sealing = parties * OVERHEAD_BYTES
    pieces = {"one vector": vector, "seeds": seeds, "sealing": sealing}
    rest = int(summary["upload_bytes_per_hospital_round"]) - sum(pieces.values())
    return {**pieces, "digests, signature, framing": rest} if rest > 0 else pieces


def _draw_rounds(axes: Axes, evidence: Evidence, name: str, **look: Any) -> None:
    values = _accuracies(evidence, name)
    if values.size:
        axes.plot(np.arange(1, values.size + 1), values, **look)


def _draw_levels(axes: Axes, evidence: Evidence, last: int) -> None:
    """Pooled and local: curves where there are as many epochs as rounds, else the level that they end at."""
    local = _accuracies(evidence, "local")
    if local.size:
        each = np.array(list((evidence.baselines["local"].get("hospitals") or {}).values()), dtype=float)
        if each.ndim == 2 and each.shape[1] == local.size:
            low, high = _level(each.min(axis=0), last), _level(each.max(axis=0), last)
            axes.fill_between(np.arange(1, last + 1), low, high, color=PURPLE, alpha=0.18, linewidth=0)
        label = "each hospital alone (mean, range)" if each.size else "each hospital alone (mean)"
        axes.plot(np.arange(1, last + 1), _level(local, last), color=PURPLE, linewidth=1.4, label=label)
    pooled = _accuracies(evidence, "pooled")
    if pooled.size:
        label = "all records pooled" + ("" if pooled.size == last else f" ({pooled.size} epochs)")
        axes.plot(
            np.arange(1, last + 1), _level(pooled, last), color=VERMILION, linestyle=(0, (6, 2, 1, 2)), linewidth=1.4,
            label=label,
        )  # fmt: skip


def _level(values: np.ndarray, rounds: int) -> np.ndarray:
    return values if values.size == rounds else np.full(rounds, values[-1])


def _zoom(axes: Axes, evidence: Evidence, rounds: np.ndarray, secure: np.ndarray) -> None:
    """The right-hand side: the last rounds, and only the accuracies near the study's own."""
    first = int(rounds[-1]) - min(max(10, 2 * _averaged(evidence)), len(rounds) // 2) + 1
    late = [secure[rounds >= first], *(_accuracies(evidence, n)[first - 1 :] for n in ("plaintext", "float"))]
    pooled = _accuracies(evidence, "pooled")
    values = np.concatenate([*late, pooled[-1:]])
    values = values[np.isfinite(values)]
    margin = max(0.005, 0.1 * float(np.ptp(values)))
    axes.set_ylim(float(values.min()) - margin, min(1.0, float(values.max())) + margin)
    axes.set_xlim(first - 0.3, int(rounds[-1]) + 0.3)
    end = int(rounds[-1]) + 0.5
    axes.axvspan(end - _averaged(evidence), end, color=_INK, alpha=0.06, linewidth=0)
    axes.set_title("the last rounds, enlarged; shaded: averaged", fontsize=10)


def _averaged(evidence: Evidence) -> int:
    return evidence.study.settings.averaged_rounds if evidence.study else 5


def _accuracies(evidence: Evidence, name: str) -> np.ndarray:
    values = evidence.baselines.get(name, {}).get("accuracy") or []
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _style(name: str) -> Any:
    # The salt names the marks that SVG refers to: each chart needs its own, or they would mix on one page.
    return {**_STYLE, "svg.hashsalt": name}


def _svg(figure: Figure) -> Markup:
    """Only the drawing: no prolog, no metadata, no name spaces, the page's font and colour."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg class="chart" role="img" viewBox="\1">', svg, count=1
    )
    # Matplotlib numbers its groups anew in each figure; nothing refers to them.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    return Markup(svg.replace(_INK, "currentColor"))
