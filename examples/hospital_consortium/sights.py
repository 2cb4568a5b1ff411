"""What each could see, found by looking: every patient's row is searched for in every byte that each person holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table


def show_sights(out: Path, hospitals: list[str], parties: list[str]) -> None:
    """Print a table: who holds what, and how many patients' rows are in it."""
    rows = {name: private_rows(out / "data" / name / "private" / "records.csv") for name in hospitals}
    holders = [("the shared folder", [out / "relay"], "sealed letters, public cards")]
    holders += [
        ("researcher", [out / "homes" / "researcher@lab.example", out / "study", out / "model"],
         "mock data, decisions, the released model, receipts"),
        ("coordinator", [out / "homes" / "coordinator@hub.example", out / "folders" / "coordinator"],
         "sealed envelopes, each round's sum and model"),
    ]  # fmt: skip
    holders += [
        (party, [out / "homes" / f"{party}@committee.example", out / "folders" / party],
         "one share of each update, each round's sum")
        for party in parties
    ]  # fmt: skip
    holders += [
        (name, [out / "homes" / f"{name}@hospital.example", out / "folders" / name, out / "data" / name],
         "its own patients, its own updates, each round's sum and model")
        for name in hospitals
    ]  # fmt: skip
    table = Table(
        title="What each of them holds at the end, and how many patients' rows are in it",
        title_justify="left",
    )
    for column in ("who", "holds", "files", "MB", *hospitals):
        table.add_column(column, justify="left" if column in ("who", "holds") else "right")
    for who, folders, what in holders:
        files = [p for folder in folders for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
        content = [path.read_bytes() for path in files]
        everything = b"\n\n".join(content)
        found = {
            name: sum(any(form in everything for form in row) for row in rows[name]) for name in hospitals
        }
        size = sum(map(len, content)) / 1e6
        counts = [f"{found[name]} of {len(rows[name])}" for name in hospitals]
        table.add_row(who, what, f"{len(files)}", f"{size:.1f}", *counts)
    Console(width=max(140, Console().width)).print(table)
    print("A row counts if it is there as text, or as the ten numbers in the computer's own form (float32).")


def private_rows(path: Path) -> list[tuple[bytes, bytes]]:
    """Every patient: as the table's line, and as ten float32 numbers."""
    lines = path.read_text().splitlines()[1:]
    numbers = np.loadtxt(lines, delimiter=",", dtype=np.float32)[:, :-1]
    return [(line.encode(), row.tobytes()) for line, row in zip(lines, numbers, strict=True)]
