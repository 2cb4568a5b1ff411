"""The table of a hospital's images: which file belongs to which patient, with which label.

A message names the row and the declared file. It never repeats a patient's id.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from securefl.errors import DataError

COLUMNS = ("patient", "file", "label")
MAXIMUM_LABEL = 10**6


@dataclass(frozen=True)
class Entry:
    """One declared image. ``where`` names it in messages; ``label`` is None where a mask gives the labels."""

    where: str
    patient: str = field(repr=False)
    path: Path
    label: int | None = None
    mask: Path | None = None


def read_table(folder: Path, table: str, hospital: str, labelled: bool) -> list[Entry]:
    """The table's rows, in its order, of which the heading is row 1.

    table: CSV in UTF-8, with commas. Columns other than patient, file and label are ignored. file: relative to
    ``folder``, which it must not leave. label: integers from 0; where not ``labelled``, it may be missing.

    Raises:
        DataError: the table or a file is missing or malformed, or patients and files contradict one another.
    """
    rows = _rows(folder, table, hospital)
    needed = COLUMNS if labelled else COLUMNS[:2]
    missing = [name for name in needed if name not in rows[0]]
    if missing or len(set(rows[0])) < len(rows[0]):
        raise DataError(
            f"Hospital {hospital}, {table}: the first row must name the columns {', '.join(needed)}, once each and "
            f"separated by commas, but {', '.join(missing) or 'a name'} "
            f"{'is missing' if missing else 'stands there twice'}."
        )
    if not any(rows[1:]):
        raise DataError(f"Hospital {hospital}, {table} has no rows below its heading; list the files in it.")
    entries = [
        _entry(folder, hospital, f"row {number} of {table}", rows[0], cells, labelled)
        for number, cells in enumerate(rows[1:], start=2)
        if cells
    ]
    check_patients(entries)
    return entries


def inside(folder: Path, file: str, where: str) -> Path:
    """``file``'s path, with links followed.

    Raises:
        DataError: it leads out of ``folder``, or is no path.
    """
    try:
        path, home = (folder / file).resolve(), folder.resolve()
    except (OSError, ValueError, RuntimeError):
        path, home = Path(), folder
    if not path.is_relative_to(home):
        raise DataError(f"{where}: the path leads out of the hospital's folder; put the file into it.")
    return path


def check_patients(entries: Iterable[Entry]) -> None:
    """That no file stands twice, and no two spellings could be one patient's id.

    Raises:
        DataError: the same file twice, for one patient or two; or ids that differ only by case, spaces or leading
            zeros.
    """
    files: dict[Path, Entry] = {}
    spellings: dict[str, Entry] = {}
    for entry in entries:
        other = files.setdefault(entry.path, entry)
        if other is not entry:
            whose = (
                "the same patient"
                if patient_key(other.patient) == patient_key(entry.patient)
                else "two patients"
            )
            raise DataError(
                f"{entry.where}: {other.where} already lists this file, for {whose}; list each file once."
            )
        other = spellings.setdefault(patient_key(entry.patient), entry)
        if other.patient != entry.patient:
            raise DataError(
                f"{entry.where}: the patient's id differs only by case, spaces or leading zeros from that of "
                f"{other.where}; write one patient's id in one way, and give two patients clearly different ids."
            )


def patient_key(patient: str) -> str:
    """What is equal for spellings of one id: without case, white space, and zeros that lead a number."""
    plain = re.sub(r"\s+", "", unicodedata.normalize("NFKC", patient)).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def _rows(folder: Path, table: str, hospital: str) -> list[list[str]]:
    path = inside(folder, table, f"Hospital {hospital}, {table}")
    if not path.is_file():
        raise DataError(
            f"Hospital {hospital}: the table {table} is missing in the folder of its images; put it there, with the "
            f"columns {', '.join(COLUMNS)}."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"Hospital {hospital}, {table} is no readable CSV file in UTF-8 ({type(error).__name__}); save it again."
        ) from None
    return [[cell.strip() for cell in rows[0]], *rows[1:]]


def _entry(
    folder: Path, hospital: str, row: str, heading: list[str], cells: list[str], labelled: bool
) -> Entry:
    if len(cells) != len(heading):
        raise DataError(
            f"Hospital {hospital}, {row} has {len(cells)} cells under {len(heading)} columns; correct the row."
        )
    values = dict(zip(heading, cells, strict=True))
    file = values["file"].strip()
    where = f"Hospital {hospital}, {row} ({file or 'no file'})"
    if not file or not patient_key(values["patient"]):
        raise DataError(
            f"{where}: the {'patient' if file else 'file'} is missing; fill it in or remove the row."
        )
    path = inside(folder, file, where)
    if not os.path.exists(path):  # unlike Path.exists, also False for a name that is too long
        raise DataError(f"{where}: the file does not exist; put it there, or correct the table.")
    return Entry(where, values["patient"], path, _label(values.get("label", "").strip(), where, labelled))


def _label(text: str, where: str, labelled: bool) -> int | None:
    if not text and not labelled:
        return None
    if not text:
        raise DataError(f"{where}: the label is missing; give each row a label, an integer from 0.")
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > MAXIMUM_LABEL:
        raise DataError(
            f"{where}: the label must be an integer from 0 to {MAXIMUM_LABEL}; number the classes from 0."
        )
    return int(text)
