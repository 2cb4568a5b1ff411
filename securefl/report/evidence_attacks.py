"""The attacks that were run on a simulation: what ``securefl attack`` left, as tables and pictures.

Every attack writes its own JSON: single values, and rows of values. They are shown as they stand, without an opinion:
this page should not have to change when an attack counts something more. Pictures show records and reconstructions of
them, so they are taken up only where the records are public ones.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securefl.report.evidence import Evidence
from securefl.run_folder import RunFolder

FOLDER = "attacks"
COMMAND = "securefl attack RUN"
ATTACKS = {
    "inversion": (
        "Gradient inversion",
        "Tries to compute a record from an update: from one in the clear, where it must succeed, from what the "
        "coordinator and colluding parties see, and from the opened sum.",
    ),
    "membership": (
        "Membership inference",
        "Tries to tell from the released model whether a patient's records were used to train it.",
    ),
    "canaries": (
        "Lower bound on epsilon from canaries",
        "Puts known records into one training, and counts how many can be told again from what was released. "
        "Epsilon is at least the stated bound, at the stated confidence.",
    ),
}  # fmt: skip
PUBLIC = ("mnist-5k", "mnist", "fashion-mnist", "cifar10", "fed-heart", "mri-lesions")
"""Sources whose records anyone may see."""
ROWS = 60
"""Rows of one table on the page; the file has them all."""
LARGEST_PICTURE = 4_000_000
"""Bytes; a larger picture is named and not embedded."""


@dataclass(frozen=True)
class Table:
    """Rows of values, as text.

    Attributes:
        left_out: rows that are in the file and not here.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int


@dataclass(frozen=True)
class Picture:
    """A PNG beside the results. ``data`` is a data URI, or empty with ``why`` in words; ``note``: what it shows."""

    name: str
    sha256: str
    data: str
    why: str
    note: str = ""


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        id: its file's name without ending.
        title, tries: what it is.
        state: "run", "not run", or "unreadable".
        sentence: how it stands, in words.
        facts: single values, name and text.
        tables: rows of values.
        pictures: what lies beside the file.
        results: the file's own content.
    """

    id: str
    title: str
    tries: str
    state: str
    sentence: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    results: Mapping[str, Any] | None = None


def attacks(run: RunFolder, evidence: Evidence) -> list[Attack]:
    """Every known attack, run or not."""
    return [_attack(run.path / FOLDER, name, evidence) for name in ATTACKS]


def _attack(folder: Path, name: str, evidence: Evidence) -> Attack:
    title, tries = ATTACKS[name]
    if not evidence.simulation:
        return Attack(
            name, title, tries, "not run",
            "Not run: attacks need the records in one place, so they are for studies marked [simulation].",
        )  # fmt: skip
    try:
        results = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return Attack(name, title, tries, "not run", f"Not run: {COMMAND}")
    except (OSError, ValueError):
        results = None
    if isinstance(results, list):
        results = {"results": results}
    if not isinstance(results, dict):
        return Attack(name, title, tries, "unreadable", f"{FOLDER}/{name}.json cannot be read: run it again.")
    facts, tables = shown(results)
    pictures = [_picture(path, evidence) for path in sorted(folder.glob(f"{name}*.png"))]
    said = f"Run; all figures stand in {FOLDER}/{name}.json, under nobody's signature."
    return Attack(name, title, tries, "run", said, facts, tables, pictures, _finite(results))


def shown(results: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Table]]:
    """Single values, and a table for each list or dictionary of rows."""
    facts, tables = list[tuple[str, str]](), list[Table]()
    for key, value in results.items():
        name = _words(key)
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            tables.append(_table(name, value))
        elif isinstance(value, dict) and value and all(isinstance(row, dict) for row in value.values()):
            tables.append(_table(name, [{"": row_name, **row} for row_name, row in value.items()]))
        elif isinstance(value, dict) and value:
            rows = [[str(k), _text(v)] for k, v in value.items()]
            tables.append(Table(name, ["", "value"], rows[:ROWS], max(0, len(rows) - ROWS)))
        else:
            facts.append((name, _text(value)))
    return facts, tables


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))
    cells = [[_text(row[column]) if column in row else "" for column in columns] for row in rows[:ROWS]]
    return Table(name, [_words(column) for column in columns], cells, max(0, len(rows) - ROWS))


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if value and all(isinstance(v, str) for v in value):
            return " ".join(value)
        plain = [v for v in value if isinstance(v, int | float) or v is None]
        if len(value) == 2 and len(plain) == 2:
            return f"{_text(value[0])} to {_text(value[1])}"
        return ", ".join(map(_text, value)) if len(value) <= 3 else f"{len(value):,} values"
    if isinstance(value, dict):
        if value.keys() == {"value", "low", "high"}:
            return f"{_text(value['value'])} ({_text(value['low'])} to {_text(value['high'])})"
        return "; ".join(f"{_words(k)}: {_text(v)}" for k, v in value.items())
    return str(value)


def _finite(value: Any) -> Any:
    """The same without infinities and NaN, which are no JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def _picture(path: Path, evidence: Evidence) -> Picture:
    try:
        content = path.read_bytes()
    except OSError:
        return Picture(path.name, "", "", "It cannot be read.")
    digest = hashlib.sha256(content).hexdigest()
    source = evidence.study.settings.data.source if evidence.study else ""
    why = ""
    if source not in PUBLIC:
        why = "Not embedded: it may show patients' records. It lies in the run folder."
    elif not content.startswith(b"\x89PNG\r\n\x1a\n"):
        why = "Not embedded: it is no PNG."
    elif len(content) > LARGEST_PICTURE:
        why = "Not embedded: it is too large. It lies in the run folder."
    data = "" if why else "data:image/png;base64," + base64.b64encode(content).decode()
    note = "Lesions in it are synthetic lesions." if source == "mri-lesions" else ""
    return Picture(path.name, digest, data, why, note)
