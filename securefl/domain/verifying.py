"""A finished run, checked in a process of its own that sees nothing else: building its model runs the study's code."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from securefl.domain import sandbox
from securefl.domain.errors import ReleaseError
from securefl.domain.sandbox import Cell, Limits

SECONDS = 900.0


@dataclass(frozen=True)
class Record:
    """What ``securefl verify`` said.

    Attributes:
        accepted: whether the whole record holds, to its end.
        sentence: in words; of the first fault, if there is one.
        included: the hospitals in each round's sum, from round 0.
        claims: what follows from the record.
        confinement: what confined the process.
    """

    accepted: bool
    sentence: str
    included: tuple[tuple[str, ...], ...]
    claims: tuple[str, ...]
    confinement: str


def verify_confined(run: Path, consortium: Path) -> Record:
    """Check a run's whole record under these members' keys.

    Args:
        run: folder with ``study``, ``receipts``, ``run.json`` and ``model.safetensors``.
        consortium: ``consortium.toml`` as this member has it.

    Raises:
        ReleaseError: the check did not end by itself.
    """
    run, consortium = run.resolve(), consortium.resolve()
    with tempfile.TemporaryDirectory(prefix="securefl-") as name:
        folder = Path(name).resolve()
        for part in ("work", "root"):
            (folder / part).mkdir(mode=0o700)
        command = [
            sys.executable,
            "-P",
            "-m",
            "securefl",
            "verify",
            str(run),
            "--consortium",
            str(consortium),
            "--json",
        ]
        confined = sandbox.start(
            Cell(
                command=command,
                folder=folder / "work",
                root=folder / "root",
                log=folder / "log",
                files={run: False, consortium: False, folder / "work": True},
                environment={"HOME": str(folder / "work"), "TMPDIR": str(folder / "work")},
                limits=Limits(seconds=SECONDS),
                unwalled=sandbox.hindrance(),
            )
        )
        ended = confined.wait(SECONDS + 60)
        said = (folder / "log").read_text(errors="replace")
    return _read(said, ended, str(confined.confinement))


def _read(said: str, ended: str, confinement: str) -> Record:
    start = said.find("{")
    try:
        found = json.loads(said[start:]) if start >= 0 else None
        if found is not None:
            return Record(
                accepted=bool(found["accepted"]), sentence=str(found["sentence"]),
                included=tuple(tuple(map(str, receipt["included"])) for receipt in found["receipts"]),
                claims=tuple(map(str, found["claims"])), confinement=confinement,
            )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        pass
    last = said.strip().splitlines()[-1:] or [ended]
    raise ReleaseError(f"The run could not be checked: {last[0][:300]}")
