"""What a run folder says without a signature, held against the chain as far as the chain knows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from protocols.chain import Closing
from securefl.audit.verdict import BrokenError, Receipt
from securefl.roles.terms import UPDATE, Terms
from securefl.run_folder import RUN_FILE, RunFolder
from securefl.study import Study

_SIGNED = ("model.safetensors", "receipts", "study")
_PARTLY = {
    "history.jsonl": "but rounds, attempts and who was in them",
    "homes": "but the parties' copies of the receipts",
    RUN_FILE: "but study and version",
    "summary.json": "but rounds, members, sizes and model",
}


def check_summary(path: Path, study: Study, terms: Terms, closing: Closing, parameters: int | None) -> str:
    """``summary.json`` has the rounds, members, sizes and model of the chain; returns what was found.

    Args:
        parameters: D, None if not known.

    Raises:
        BrokenError: a figure differs, or the file is damaged.
    """
    summary = _table(path.read_bytes(), path.name)
    expected = {
        "name": study.settings.name,
        "averaged_rounds": study.settings.averaged_rounds,
        "rounds": closing.rounds - 1,
        "parties": len(terms.parties),
        "hospitals": len(terms.hospitals),
        "width": terms.encoding(UPDATE).width,
        "model": closing.model.hex(),
        "study": terms.study.hex(),
        **({"parameters": parameters} if parameters is not None else {}),
    }
    for key, value in expected.items():
        if key not in summary or summary[key] != value:
            raise BrokenError(path.name, f"{path.name} says {key} {summary.get(key)}, the chain {value}.")
    return "Rounds, members, sizes and model are the chain's; the rest is the coordinator's word."


def check_history(path: Path, receipts: Sequence[Receipt], closed: bool) -> str:
    """``history.jsonl`` has a line for each receipt, with its attempt and hospitals; returns what was found.

    While a study goes on, its last line may be cut or missing: it is written after the receipt.

    Raises:
        BrokenError: a line is missing, too many, damaged, or says something else.
    """
    name = path.name
    *lines, rest = path.read_bytes().split(b"\n")
    complete = not rest and len(lines) == len(receipts)
    if not complete and (closed or len(lines) not in (len(receipts), len(receipts) - 1)):
        raise BrokenError(
            name, f"{name} has {len(lines)} whole lines, and there are {len(receipts)} receipts."
        )
    for line, receipt in zip(lines, receipts, strict=False):
        told = _table(line, f"{name}, line {receipt.round + 1},")
        expected = {"round": receipt.round, "attempt": receipt.attempt, "included": list(receipt.included)}
        wrong = [key for key, value in expected.items() if told.get(key) != value]
        if wrong or not _reasons(told.get("absent")) <= set(receipt.absent.items()):
            what = (wrong or ["absent"])[0]
            raise BrokenError(
                name, f"{name} tells something else of round {receipt.round} than its receipt: {what}."
            )
    return "Rounds, attempts and hospitals are the receipts'; the rest is the coordinator's word."


def not_signed(run: RunFolder, study: Study | None) -> list[str]:
    """What lies in the folder under nobody's signature, in the order of the names; ``study`` is None if not known."""
    own_members = study is None or study.settings.consortium.file is None
    signed = [*_SIGNED, *([run.consortium_file.name] if own_members else [])]
    found = [path.name for path in run.path.iterdir() if path.name not in signed and path.name != ".lock"]
    named = [f"{name} ({_PARTLY[name]})" if name in _PARTLY else name for name in found]
    return sorted([*named, *_beside(run.path / "study", study.files if study else ())])


def _beside(folder: Path, files: Iterable[str]) -> list[str]:
    known = set(files)
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return [f"study/{name}" for name in names if name not in known]


def _reasons(absent: Any) -> set[tuple[str, str]]:
    if not isinstance(absent, dict) or not all(isinstance(why, dict) for why in absent.values()):
        return {("", "")}
    return {(hospital, str(why.get("reason"))) for hospital, why in absent.items()}


def _table(data: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BrokenError(name.split(",")[0], f"{name} cannot be read.")
    return found
