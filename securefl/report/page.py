"""``report.html``: one file that holds everything it shows. The same run folder gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from securefl import durable
from securefl.audit import verify
from securefl.audit.verdict import rounds
from securefl.engines import exhibits
from securefl.report.evidence import Evidence, gather
from securefl.report.evidence_privacy import spent_by
from securefl.report.receipts import absences, mark
from securefl.report.results import accuracy_rows, aggregate_rows, averaging, sampling_error
from securefl.run_folder import RunFolder

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class HeatRow:
    """A hospital's records: per class the count and its part of the largest count of any hospital."""

    name: str
    cells: Sequence[tuple[int, float]]
    total: int


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` into a run folder and return its path. An unfinished run gets what there is so far.

    Raises:
        RunError: there is no run in the folder.
        EngineError: the file cannot be written.
    """
    path = run.path / REPORT_FILE
    durable.write(path, render(run).encode(), mode=0o644)
    return path


def render(run: RunFolder) -> str:
    """The page's HTML."""
    # Matplotlib takes a while to import, and whoever imports this module may only want the table.
    from securefl.report import charts, views

    evidence, verdict = gather(run), verify(run.path)
    first = next((receipt for receipt in verdict.receipts if receipt.round == exhibits.ROUND), None)
    records = sum(evidence.partition.get("test", []))
    environment = Environment(
        loader=PackageLoader("securefl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    private = evidence.terms is not None and evidence.terms.private is not None
    measured = bool(evidence.summary.get("upload_bytes_per_hospital_round"))
    return environment.get_template("report.html.j2").render(
        evidence=evidence,
        info=evidence.info,
        summary=evidence.summary,
        terms=evidence.terms,
        spent=spent_by(run, evidence).sentence if private else "",
        norm_bound=_norm_bound(evidence),
        settings=evidence.study.settings if evidence.study else None,
        accuracies=accuracy_rows(evidence.summary),
        aggregates=aggregate_rows(evidence.summary, private if evidence.terms else None),
        averaging=averaging(evidence.summary),
        test_records=records,
        sampling_error=sampling_error(evidence.summary.get("accuracy"), records),
        accuracy_chart=charts.accuracy_chart(evidence),
        time_chart=charts.time_chart(evidence),
        bytes_chart=charts.bytes_chart(evidence.summary),
        pieces=charts.upload_pieces(evidence.summary) if measured else {},
        heat=heat_map(evidence.partition),
        absences=absences(verdict, evidence.history),
        exhibition=views.exhibition(evidence, first),
        bins=views.BINS,
        verdict=verdict,
        mark=mark(verdict),
        unverified=rounds(verdict.unverified) if verdict.unverified else "",
        toml=_toml(evidence),
        files=_files(evidence),
        environment=_environment(evidence.info),
    )


def _norm_bound(evidence: Evidence) -> str:
    """The length that the committee checks what hospitals send against; empty if it checks none."""
    terms = evidence.terms
    if terms is None or not terms.checks_norms:
        return ""
    if terms.private is None:
        return str(terms.norm_bound)
    return f"{math.ldexp(terms.private.norm_bound_units, -terms.update.fraction_bits):g}"


def heat_map(partition: Mapping[str, Any]) -> list[HeatRow]:
    """The rows of the table of who had which records; empty if it is not known."""
    hospitals: dict[str, list[int]] = partition.get("hospitals", {})
    largest = max((max(counts, default=0) for counts in hospitals.values()), default=0) or 1
    return [
        HeatRow(name, [(count, count / largest) for count in counts], sum(counts))
        for name, counts in hospitals.items()
    ]


def _toml(evidence: Evidence) -> str:
    return evidence.study.files["study.toml"].decode() if evidence.study else ""


def _files(evidence: Evidence) -> list[tuple[str, int, str]]:
    files = evidence.study.files if evidence.study else {}
    return [(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()]


def _environment(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = {
        "fingerprint": "CPU class and versions",
        "securefl": "securefl",
        "engine": "engine",
        "started": "started",
        "workers": "hospital processes",
    }
    rows = [(label, _plain(info[key])) for key, label in named.items() if key in info]
    return [*rows, ("this page written by securefl", version("securefl"))]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
