"""``securefl run --engine flower``: hand a run to a SuperLink, and follow it from its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securefl import consortium as members
from securefl import durable
from securefl.errors import DataError, EngineError, StudyError
from securefl.flower.bundle import app_files, flower_environment, state_file
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.toml_file import parse_toml

FOLLOW_SECONDS = 0.5
GIVE_UP_SECONDS = 180.0
"""Without an answer of the SuperLink; longer than a ServerApp waits before it says so itself."""
FLOWERS_OWN = ":local:"
"""In place of an address: a SuperLink that Flower's command line starts for itself."""
ASK_SECONDS = 15.0
"""Between two questions to the SuperLink, which cost a process each."""


def distributed(path: Path) -> Study:
    """A study that may run over many computers: pooled data and shown updates are for one.

    The coordinator builds the model too, and holds no records. So the study says what a record looks like.

    Raises:
        StudyError: it is malformed, a simulation, or needs a hospital's records for the shape of the model.
        ConsortiumError: its consortium is missing or malformed.
    """
    study = Study.load(path)
    file = study.settings.consortium.file
    if study.simulation or file is None:
        raise StudyError(f"{path} is a simulation: run it with --engine local or --engine ray.")
    # Late: they take NumPy.
    from securefl.data import input_shape_and_classes

    hospitals = list(members.load(study.folder / file).hospitals)
    try:
        input_shape_and_classes(study.settings.data, study.folder, hospitals, study.settings.seed)
    except DataError as error:
        raise StudyError(
            'The coordinator cannot tell what a record looks like, since it holds none: take data.source = "module", '
            f"with a file that defines SHAPE and CLASSES. {error}"
        ) from error
    return study


def superlink_named(connection: str | None) -> str:
    """A SuperLink's name in Flower's configuration; its default one if None.

    Flower 1.41 would otherwise start a SuperLink of its own, without TLS, where members are not.

    Raises:
        EngineError: there is no such name, or it stands for none that members reach.
    """
    file = Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr") / "config.toml"
    try:
        known = parse_toml(file.read_bytes()).get("superlink", {})
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError) as error:
        raise EngineError(f"Flower's configuration {file} cannot be read: {error}.") from error
    name = connection or known.get("default")
    entry = known.get(name)
    address = entry.get("address") if isinstance(entry, dict) else None
    if not isinstance(address, str) or address == FLOWERS_OWN:
        what = f"no SuperLink {name}" if connection else "no SuperLink as its default"
        names = [
            n
            for n, e in known.items()
            if isinstance(e, dict) and e.get("address", FLOWERS_OWN) != FLOWERS_OWN
        ]
        raise EngineError(
            f"{file} has {what} that members reach: "
            + (
                f"choose --connection of {', '.join(names)}."
                if names
                else "the coordinator's register.sh writes one."
            )
        )
    return str(name)


def submit(
    study: Path,
    out: Path,
    connection: str | None,
    options: dict[str, bool],
) -> str:
    """Hand a run to the SuperLink, on whose computer study and folder stand; its number.

    Args:
        connection: name in Flower's configuration; its default one if None.
        options: ``resume``, ``overwrite``, ``insecure-unchecked``.

    Raises:
        EngineError: the SuperLink does not take it.
    """
    config = {"study": str(study.absolute()), "out": str(out.absolute()), **options}
    if any('"' in value or "\\" in value for value in config.values() if isinstance(value, str)):
        raise EngineError('Flower takes no path with " or \\ in it: rename the folder.')
    words = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in config.items())
    state_file(out.absolute()).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="securefl-") as folder:
        for name, data in app_files().items():
            (Path(folder) / name).write_bytes(data)
        said = _flwr("run", folder, *([connection] if connection else []), "--run-config", words)
    run = str(said.get("run-id", ""))
    if not run:
        raise EngineError(
            f"The SuperLink did not take the run: {said.get('error-message', 'no reason given')}."
        )
    return run


def follow(run: str, out: Path, connection: str | None, show: Callable[[dict[str, Any]], None]) -> str:
    """Show a line a round until the run has ended; its state, ``finished`` or ``stopped``.

    The first Ctrl-C asks the run to stop after its round, the second ends the following alone.

    Raises:
        EngineError: it failed, with its reason.
    """
    folder, shown, asked = RunFolder(out.absolute()), 0, time.monotonic()
    heard = asked
    stopping = False
    while True:
        try:
            time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            durable.write(folder.stop_file, b"stop\n")
            print("The run stops after its round; a second Ctrl-C only stops following it.", file=sys.stderr)
        state = _state(out, run)
        history = folder.history() if folder.history_file.exists() else []
        for line in history[shown:]:
            show(line)
        shown = max(shown, len(history))
        if state.get("state") in ("finished", "stopped"):
            return str(state["state"])
        if state.get("state") == "failed":
            raise EngineError(str(state["error"]))
        if time.monotonic() - asked > ASK_SECONDS:
            asked = time.monotonic()
            try:
                status = _status(run, connection)
                heard = asked
            except EngineError as error:
                if asked - heard > GIVE_UP_SECONDS:
                    raise EngineError(
                        f"The SuperLink is gone: start it, then run again with --resume. {error}"
                    ) from error
                continue
            if status.startswith("finished") and "state" not in _ended(out, run):
                raise EngineError(
                    f"Flower ended the run ({status}): see the SuperLink's log, and run again with --resume."
                )


def _state(out: Path, run: str) -> dict[str, Any]:
    try:
        state = json.loads(state_file(out.absolute()).read_text())
    except (OSError, ValueError):
        return {}
    return state if state.get("run") == run else {}


def _ended(out: Path, run: str) -> dict[str, Any]:
    state = _state(out, run)
    return state if state.get("state") in ("finished", "stopped", "failed") else {}


def _status(run: str, connection: str | None) -> str:
    """What the SuperLink says of a run: a ServerApp that was killed says nothing itself."""
    said = _flwr("list", *([connection] if connection else []), "--run-id", run)
    runs = said.get("runs") or [{}]
    return str(runs[0].get("status", ""))


def _flwr(command: str, *arguments: str) -> dict[str, Any]:
    environment = {**flower_environment(), "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-P", "-m", "flwr.cli.app", command, *arguments, "--format", "json"]
    ended = subprocess.run(line, capture_output=True, text=True, env=environment)
    start = ended.stdout.find("{")
    try:
        said: dict[str, Any] = json.loads(ended.stdout[start:])
    except ValueError as error:
        last = (ended.stderr or ended.stdout).strip().splitlines()[-1:] or ["no word"]
        raise EngineError(f"Flower's command line failed: {last[0].strip()}.") from error
    if not said.get("success", True):
        raise EngineError(
            f"Flower refuses: {str(said.get('error-message', 'no reason given')).strip().rstrip('.')}."
        )
    return said


def run_over_flower(
    study: Path, out: Path, connection: str | None, options: dict[str, bool], quiet: bool
) -> bool:
    """Submit a run and follow it; whether it is finished, and not only stopped.

    Raises:
        StudyError: it is malformed, or a simulation.
        EngineError: Flower does not take it, or it fails.
    """
    distributed(study)
    connection = superlink_named(connection)
    run = submit(study, out, connection, options)
    if not quiet:
        print(f"Flower runs it as {run}.", file=sys.stderr)

    def show(line: dict[str, Any]) -> None:
        if not quiet:
            accuracy = f", accuracy {line['accuracy']:.4f}" if line["accuracy"] is not None else ""
            print(
                f"round {line['round']}: {len(line['included'])} hospitals{accuracy}, {line['seconds']:.1f} s"
            )

    return follow(run, out, connection, show) == "finished"
