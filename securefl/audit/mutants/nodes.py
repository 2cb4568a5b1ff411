"""Mutants whose nodes run a study with everything that the hospital has, or whatever app their SuperLink sends."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securefl.audit.quiet import quiet
from securefl.audit.registry import Finding, Mutant
from securefl.domain import sandbox
from securefl.domain.sandbox import Cell, Limits

# -- a study's code as the owner -------------------------------------------------------------------------------------

VARIABLE, SECRET = "SECUREFL_AUDIT_PASSWORD", "of the hospital's database"
_CODE = """
import json, os, socket, sys
records, key, variable, port, outside = sys.argv[1:]
found = {"records": open(records).read(), "the environment": variable in os.environ}
tries = {
    "another file": lambda: open(key).close(),
    "writing to the records": lambda: open(records, "a").close(),
    "the network": lambda: socket.create_connection(("127.0.0.1", int(port)), 5).close(),
    "another process": lambda: os.kill(int(outside), 0),
}
for what, attempt in tries.items():
    try:
        attempt()
        found[what] = True
    except OSError:
        found[what] = False
print(json.dumps(found))
"""
"""What a study's code looks for besides its records."""


@dataclass(frozen=True)
class Computer:
    """A hospital's computer: records, a key beside them, a variable of the service's, and a port that listens."""

    folder: Path
    port: int

    def code(self) -> list[str]:
        """The study's code, as a command."""
        records, key = self.folder / "data" / "records", self.folder / "keys" / "key"
        return [
            sys.executable,
            "-c",
            _CODE,
            str(records),
            str(key),
            VARIABLE,
            str(self.port),
            str(os.getpid()),
        ]


@contextmanager
def _computer() -> Iterator[Computer]:
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name, socket.socket() as server:
        folder = Path(name).resolve()
        for part in ("data", "keys", "work", "root"):
            (folder / part).mkdir()
        (folder / "data" / "records").write_text("patients")
        (folder / "keys" / "key").write_text("secret")
        server.bind(("127.0.0.1", 0))
        server.listen()
        os.environ[VARIABLE] = SECRET
        try:
            yield Computer(folder, server.getsockname()[1])
        finally:
            del os.environ[VARIABLE]


def as_the_owner(computer: Computer) -> str:
    """The naive runner, as Syft's: a process like any of the owner's."""
    # The command is the one that is confined below.
    return subprocess.run(computer.code(), capture_output=True, text=True, check=True).stdout  # noqa: S603


def _reached(said: str) -> tuple[list[str], bool]:
    """What the code reached besides its records, and whether it read those."""
    found: Mapping[str, Any] = json.loads(said)
    return [what for what, value in found.items() if value is True], found["records"] == "patients"


def _runner_breaks() -> Finding:
    with _computer() as computer:
        reached, read = _reached(as_the_owner(computer))
    said = f"The study's code reached {len(reached)} things besides its records: {', '.join(reached)}."
    return Finding(len(reached) == 5 and read, said, {"reached": len(reached)})


def _runner_caught() -> Finding:
    hindrance = sandbox.hindrance()
    with _computer() as computer:
        folder = computer.folder
        confined = sandbox.start(
            Cell(
                command=computer.code(),
                folder=folder / "work",
                root=folder / "root",
                log=folder / "log",
                files={folder / "data": False, folder / "work": True},
                limits=Limits(seconds=60),
                unwalled=hindrance,
            )
        )
        confined.wait(60)
        reached, read = _reached((folder / "log").read_text())
    numbers = {"reached": len(reached), "complete": int(confined.confinement.complete)}
    if hindrance:
        said = f"This computer cannot show it: a node here reaches {', '.join(reached) or 'nothing else'}. {hindrance}"
        return Finding(False, said, numbers, shown=False)
    said = f"It read its records, and reached {len(reached)} other things; the node's log says: {confined.confinement}."
    return Finding(not reached and read and confined.confinement.complete, said, numbers)


# -- the app that the SuperLink sends --------------------------------------------------------------------------------


def _changed_app() -> bytes:
    from flwr.cli.build import build_fab_from_files

    from securefl.flower.bundle import app_files

    files = app_files()
    files["securefl_client.py"] += b"print('records')\n"
    return build_fab_from_files(files)[0]


def _runs(factory: Callable[[Any], Any], content: bytes, claimed: str = "") -> bool:
    """Whether a SuperNode stores an app that its SuperLink sends, or begins a task of it."""
    from flwr.supercore.constant import TaskType
    from flwr.supercore.fab import Fab
    from flwr.supercore.object_store import ObjectStoreFactory

    state = factory(ObjectStoreFactory()).state()
    digest = claimed or hashlib.sha256(content).hexdigest()
    with suppress(ValueError):  # Flower itself refuses a wrong digest
        state.store_fab(Fab(digest, content, {}))
    begun = state.create_task(task_type=TaskType.CLIENT_APP, run_id=1, fab_hash=digest)
    stored = state.get_fab(digest)
    return stored is not None or (begun is not None and not claimed)


def _app_breaks() -> Finding:
    from flwr.supernode.nodestate import NodeStateFactory

    ran = _runs(NodeStateFactory, _changed_app())
    taken = "stored and began" if ran else "did not take"
    said = f"Flower's own SuperNode {taken} an app with a line of the SuperLink's."
    return Finding(ran, said, {"ran": int(ran)})


def _app_caught() -> Finding:
    from securefl.flower.supernode import OwnAppFactory, own_app

    changed, own = _changed_app(), own_app()
    tries = ("", hashlib.sha256(own).hexdigest())  # under its own digest, and under ours
    with quiet(OwnAppFactory.__module__):
        ran = sum(_runs(OwnAppFactory, changed, claimed) for claimed in tries)
        honest = _runs(OwnAppFactory, own)
    said = (
        f"Sent twice, once under our app's digest, it was taken {ran} times; our own app "
        f"{'was taken' if honest else 'was not'}."
    )
    return Finding(not ran and honest, said, {"ran": ran})


MUTANTS = (
    Mutant(
        "runner-as-the-owner",
        "node-is-confined",
        "An approved study runs as a process of the owner's, with his environment.",
        _runner_breaks,
        _runner_caught,
    ),
    Mutant(
        "app-from-the-superlink",
        "members-run-one-app",
        "A SuperNode stores and runs the app that its SuperLink sends.",
        _app_breaks,
        _app_caught,
    ),
)
