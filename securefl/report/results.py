"""The final figures in words: one list of them, for the page and for the table at the end of ``securefl run``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from securefl.plain_text import line
from securefl.report.words import collusion

_ACCURACIES = {
    "accuracy": ("federated, secure", "On records nobody trained on."),
    "accuracy_plaintext": ("same, in the clear", "What the cryptography costs."),
    "accuracy_float": ("ordinary averaging", "Without rounding to integers."),
    "accuracy_pooled": ("all records pooled", "If records were to travel."),
    "accuracy_local_mean": ("each hospital alone", "Each on its own; their mean."),
}


@dataclass(frozen=True)
class Row:
    """One figure: its key in ``summary.json``, name, value, distance to the study's own accuracy, and meaning."""

    key: str
    name: str
    value: str
    difference: str
    meaning: str


def accuracy_rows(summary: Mapping[str, Any]) -> list[Row]:
    """The accuracies. A comparison that was not run says so."""
    rows = []
    for key, (name, meaning) in _ACCURACIES.items():
        value, difference = summary.get(key), ""
        if value is None and key != "accuracy" and summary.get("privacy"):
            continue  # under privacy there are none by default: ``securefl compare`` makes fairer ones
        if key != "accuracy" and value is not None and summary.get("accuracy") is not None:
            difference = _points(value - summary["accuracy"])
        if key == "accuracy_plaintext" and summary.get("plaintext_identical") is not None:
            identical = summary["plaintext_identical"]
            meaning = "The same model, bit for bit." if identical else "NOT the same model: look into it."
        rows.append(Row(key, name, "not run" if value is None else f"{value:.4f}", difference, meaning))
    return [*rows, *_diagnosis_rows(summary), *_privacy_rows(summary)]


def _diagnosis_rows(summary: Mapping[str, Any]) -> list[Row]:
    found: Mapping[str, Mapping[str, Any]] = summary.get("diagnosis") or {}
    rows = []
    for name, figures in found.items():
        if figures["auc"] is None:
            continue
        error = "" if figures["auc_error"] is None else f" ± {figures['auc_error']:.3f}"
        sensitivity = f"Sensitivity {figures['sensitivity']:.0%} at {figures['specificity']:.0%} specificity."
        of = "AUC" if name == "all" else f"AUC at {name}"
        rows.append(Row(f"auc-{name}", of, f"{figures['auc']:.4f}{error}", "", sensitivity))
    return rows


def _privacy_rows(summary: Mapping[str, Any]) -> list[Row]:
    spent = summary.get("privacy")
    if not spent:
        return []
    epsilon = spent["epsilon"][str(spent["colluding_parties"])]["pld"]
    colluding = collusion(spent["colluding_parties"])
    meaning = f"For each {spent['unit']}, at delta {spent['delta']:g}, if {colluding}."
    return [Row("privacy", "epsilon", f"{epsilon:.3f}", "", meaning)]


def aggregate_rows(summary: Mapping[str, Any], private: bool | None = None) -> list[Row]:
    """What the aggregation cost, and over how many it went.

    Args:
        private: whether the study is; None to take it from the summary, where what was spent stands.
    """
    upload, ratio, share = (
        summary.get(key) for key in ("upload_bytes_per_hospital_round", "upload_ratio", "aggregation_share")
    )
    parameters, width = summary.get("parameters"), summary.get("width")
    private = bool(summary.get("privacy")) if private is None else private
    first = "a roll call" if private else "one for statistics"
    values = {
        "upload_bytes_per_hospital_round": (
            "upload", f"{upload:,} bytes" if upload else None, "One hospital, one round.",
        ),
        "upload_ratio": (
            "upload, relative", f"{ratio:.3f} ×" if ratio else None,
            "Against float32 in the clear.",
        ),
        "aggregation_share": (
            "aggregation's share", f"{share:.1%}" if share is not None else None,
            "Of the rounds' wall time.",
        ),
        "hospitals": ("hospitals", _count(summary.get("hospitals")), "Each keeps its records."),
        "parties": ("parties", _count(summary.get("parties")), "Each has a share of an update."),
        "rounds": ("rounds", _count(summary.get("rounds")), f"After {first}."),
        "parameters": (
            "coordinates", _count(parameters), f"Of an update, {width} bits each." if width else "Of an update.",
        ),
        "seconds": (
            "time", f"{summary['seconds']:.1f} s" if summary.get("seconds") is not None else None,
            "All rounds; no comparisons.",
        ),
    }  # fmt: skip
    return [
        Row(key, name, value or "not known", "", meaning) for key, (name, value, meaning) in values.items()
    ]


def averaging(summary: Mapping[str, Any]) -> str:
    """What an accuracy is the mean of, as a sentence."""
    last = summary.get("averaged_rounds")
    if not last:
        return ""
    return f"Accuracies are means over the last {last} rounds (epochs, if pooled or alone)."


def sampling_error(accuracy: float | None, records: int) -> float | None:
    """Standard error of an accuracy measured on so many records, as a fraction; None if it cannot be said."""
    if accuracy is None or records < 1:
        return None
    return math.sqrt(accuracy * (1 - accuracy) / records)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The table that a run ends with.

    Args:
        summary: the content of ``summary.json``; what is missing is shown as such.
    """
    # As Text, in which a name in brackets is no markup.
    title = line(str(summary.get("name", "")))
    table = Table(
        title=Text(title, "bold") if title else None,
        caption=averaging(summary) or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("accuracy", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("what it means", style="dim")
    for row in accuracy_rows(summary):
        bad = row.key == "accuracy_plaintext" and summary.get("plaintext_identical") is False
        style = "bold" if row.key == "accuracy" else "red" if bad else None
        table.add_row(*_cells(row), style=style)
    table.add_section()
    for row in aggregate_rows(summary):
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[Text]:
    return [Text(line(text)) for text in (row.name, row.value, row.difference, row.meaning)]


def _points(difference: float) -> str:
    shown = f"{abs(difference) * 100:.2f}"
    if float(shown) == 0:
        return "0.00"
    return f"{'+' if difference > 0 else '−'}{shown}"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"
