"""Run a study from beginning to end: prepare, train, compare, report. The command line and notebooks call this."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import nn

from securefl import consortium as members
from securefl import durable, plain_text
from securefl.engines.coordination import MakeEngine
from securefl.engines.local import LocalEngine
from securefl.engines.local.children import free_ports
from securefl.errors import DataError, EngineError, RunError
from securefl.report import summary_table, write_report
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.run_files import Figures, read_table
from securefl.run_folder import RUN_FILE, RunFolder
from securefl.study import Study
from securefl.study_check import members_of
from securefl.summary import Summary, diagnosis, privacy, summarise
from securefl.training.determinism import ENVIRONMENT, fingerprint, single_thread
from securefl.watch import Line, Watch, mended
from securefl.world import World

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class EngineKind:
    """What carries the messages of a run, by its name in ``run.json``."""

    name: str
    make: MakeEngine


@dataclass(frozen=True)
class Result:
    """A run that has ended or was stopped.

    Attributes:
        path: the run folder.
        finished: whether the study is closed and compared; a stopped run goes on with ``resume=True``.
        history: one entry a round, the statistics round first.
        summary: the figures of ``summary.json``; empty for a stopped run.
        model: the final model with its weights, in evaluation mode.
    """

    path: Path
    finished: bool
    history: list[Line]
    summary: Summary
    model: nn.Module

    def report(self) -> Path:
        """Write ``report.html`` and return its path."""
        return write_report(RunFolder(self.path))

    def _repr_html_(self) -> str:
        from rich.console import Console

        console = Console(record=True, width=100, file=open(os.devnull, "w"))  # noqa: SIM115
        console.print(
            summary_table(self.summary) if self.finished else f"Stopped after {len(self.history)} rounds."
        )
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def run(
    study: Study | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    base_port: int | None = None,
    progress: bool = True,
    insecure_unchecked: bool = False,
    engine: EngineKind | None = None,
) -> Result:
    """Run a study: on this computer, or as the coordinator of another engine.

    Args:
        study: loaded, or its folder.
        out: folder for everything that the run leaves; empty or new.
        resume: go on with the run that is in ``out``.
        overwrite: empty ``out`` first, if it is the folder of a run.
        workers: processes for the hospitals (default: one a processor). The model does not depend on it.
        base_port: first port of the parties' mesh, on the loopback address (default: free ones are found).
        progress: show a bar and a line a round.
        insecure_unchecked: check neither norms nor sums; run folder, report and every receipt say so. A resumed run
            stays what it was.
        engine: default: processes of this computer.

    Raises:
        SecureFLError: one sentence that says what is wrong. What was settled is on disk: run again with ``resume``.
    """
    single_thread()
    study = study if isinstance(study, Study) else Study.load(study)
    folder = RunFolder(Path(out).absolute())
    workers = workers or os.cpu_count() or 1
    kind = engine or EngineKind("local", lambda run, s, c: LocalEngine(run, s, c, workers, base_port))
    # What keeps a new run from running is said before anything is written, or an earlier run overwritten.
    new = None
    if not (resume and (folder.path / RUN_FILE).exists()):
        folder.check_place(study)
        new = _new_world(study, base_port, insecure_unchecked, local=engine is None)
    with folder.locked():
        # Here and not later: from now on somebody may ask this run to stop.
        folder.stop_file.unlink(missing_ok=True)
        _enter(folder, study, resume, overwrite, kind.name, workers, insecure_unchecked)
        terms = Terms.of(study, folder.consortium(study), folder.unchecked())
        if folder.info()["study"] != terms.study.hex():
            raise RunError(
                f"{folder.path} holds a run of another study, or of this one before it was changed: "
                "choose another --out, or add --overwrite."
            )
        world = replace(new, terms=terms) if new else World.of(study, terms)
        _write_partition(folder, world)
        replica, lines = mended(folder, world)
        folder.write_history(lines)
        finished = folder.closing() is not None
        if not finished:
            finished, replica = _train(folder, world, replica, kind.make, progress)
        _write_model(folder, world, replica)
        summary: Summary = {}
        if finished:
            shutil.rmtree(folder.clear, ignore_errors=True)
            finished = _compare(folder, study, progress)
        if finished:
            summary = {
                **summarise(folder, study, terms, world.layout.size),
                **diagnosis(world, replica),
                **privacy(folder, terms, world.layout.size),
            }
            durable.write(folder.summary_file, json.dumps(summary, indent=2).encode(), mode=0o644)
        result = _result(folder, world, replica, finished, summary)
        result.report()
        folder.stop_file.unlink(missing_ok=True)
        return result


def load_result(path: str | Path) -> Result:
    """The result of an earlier run, from its folder and the study that stands in it."""
    folder = RunFolder(Path(path).absolute())
    study = _as_it_ran(Study.load(folder.path / "study"), Path(folder.info().get("folder", "")))
    world = World.of(study, Terms.of(study, folder.consortium(study), folder.unchecked()))
    replica, _ = mended(folder, world)
    try:
        summary = read_table(Figures, folder.summary_file, "a run with --resume writes it again.")
    except FileNotFoundError:
        summary = {}
    return _result(folder, world, replica, folder.closing() is not None and bool(summary), summary)


def _as_it_ran(kept: Study, folder: Path) -> Study:
    """The copy in a run folder, with a relative ``data.root`` led back to where the study was read from."""
    data = kept.settings.data
    if data.root is None:
        return kept
    data = data.model_copy(update={"root": str(folder / data.root)})
    return replace(kept, settings=kept.settings.model_copy(update={"data": data}))


def _new_world(study: Study, base_port: int | None, unchecked: bool, local: bool) -> World:
    """What a new run will run, with its members' keys (if they are here) and ports looked at; nothing is written."""
    consortium = members_of(study)
    if study.settings.consortium.file and local:
        for member in consortium.members:
            members.load_keys(
                (study.folder / study.settings.consortium.file).parent / "keys" / member.name, member
            )
    if base_port is not None:
        deals = study.settings.checks_norms is not None and not unchecked
        free_ports(len(consortium.parties) + deals, base_port)
    world = World.of(study, Terms.of(study, consortium, unchecked))
    if world.test is not None and not len(world.test):
        raise DataError("There are no held-out records: raise data.test_fraction.")
    return world


def _enter(
    folder: RunFolder, study: Study, resume: bool, overwrite: bool, engine: str, workers: int, unchecked: bool
) -> None:
    if overwrite and not resume:
        folder.overwrite()
    if resume and (folder.path / RUN_FILE).exists():
        began = folder.info().get("engine", "local")
        if began != engine:
            raise RunError(
                f"{folder.path} holds a run of the {began} engine: add --engine {began}, or choose another --out."
            )
        then = folder.info().get("fingerprint")
        if then != fingerprint():
            print(
                f"Warning: this run began on {then} and goes on on {fingerprint()}: "
                "the same model, bit for bit, is not promised.",
                file=sys.stderr,
            )
        return
    info = {
        "name": study.settings.name,
        "engine": engine,
        "folder": str(study.folder),
        "fingerprint": fingerprint(),
        "securefl": version("securefl"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "workers": workers,
        "insecure_unchecked": unchecked,
    }
    folder.prepare(study, info)


def _train(
    folder: RunFolder,
    world: World,
    replica: Replica,
    make: MakeEngine,
    progress: bool,
) -> tuple[bool, Replica]:
    study = world.study
    with _bar(study, replica.place.round, progress) as (show, warn), _stop_signals() as stopped:
        watch = Watch(folder, world, show, warn)
        latest = [replica]

        def follow(before: Replica, settled: Any) -> Replica:
            latest[0] = world.follow(before, settled)
            return latest[0]

        with make(folder, study, folder.consortium(study)) as engine:
            end = engine.drive(
                replica, world.sizes, follow, watch, lambda: stopped.is_set() or folder.stop_file.exists()
            )
    return end is not None, latest[0]


@contextmanager
def _bar(
    study: Study, done: int, progress: bool
) -> Iterator[tuple[Callable[[Line], None], Callable[[str], None]]]:
    from tqdm import tqdm

    rounds = study.settings.training.rounds
    with tqdm(total=rounds, initial=max(0, done - 1), disable=not progress, unit="round", leave=False) as bar:

        def show(line: Line) -> None:
            if progress:
                bar.write(_shown(line, rounds))
            if line["round"]:
                bar.update()

        def warn(sentence: str) -> None:
            bar.write(f"Warning: {sentence}", file=sys.stderr)

        yield show, warn


def _shown(line: Line, rounds: int) -> str:
    if line["round"] == 0:
        return f"round 0 (statistics): {len(line['included'])} hospitals counted, {line['seconds']:.1f} s"
    accuracy = f"accuracy {line['accuracy']:.4f}, " if line["accuracy"] is not None else ""
    absent = "".join(
        f"; without {h}: {plain_text.line(why['explanation'])}" for h, why in line["absent"].items()
    )
    return (
        f"round {line['round']}/{rounds}: {accuracy}{len(line['included'])} hospitals, {line['seconds']:.2f} s "
        f"({line['aggregation_seconds']:.2f} s of it aggregation){absent}"
    )


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Let SIGTERM and the first Ctrl-C end the run after the round; only the main thread can listen."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def ask(number: int, _frame: object) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _compare(folder: RunFolder, study: Study, progress: bool) -> bool:
    """Compute the baselines that are still missing, shared out over one process a processor.

    Returns:
        Whether all are there; if somebody asks the run to stop, those that are not done are made by a later one.
    """
    wanted = study.settings.baselines
    missing = [
        name for name in wanted if name != "plaintext" and not (folder.baselines / f"{name}.json").exists()
    ]
    if not missing:
        return True
    if progress:
        print(f"Comparing with {', '.join(missing)} ...", file=sys.stderr)
    shares = [missing[i :: os.cpu_count() or 1] for i in range(min(len(missing), os.cpu_count() or 1))]
    running = [_start_baselines(folder, study, names) for names in shares]
    try:
        while not all(process.poll() == 0 for process in running):
            for names, process in zip(shares, running, strict=True):
                if process.poll() not in (None, 0):
                    raise EngineError(
                        f"The baselines {', '.join(names)} failed: see {folder.logs / 'baselines.log'}."
                    )
            if folder.stop_file.exists():
                return False
            time.sleep(_POLL_SECONDS)
        return True
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start_baselines(folder: RunFolder, study: Study, names: Sequence[str]) -> subprocess.Popen[bytes]:
    arguments = ["baselines", *names, "--study", str(study.folder), "--out", str(folder.path)]
    with (durable.private_folder(folder.logs) / "baselines.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "securefl", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )


def _write_partition(folder: RunFolder, world: World) -> None:
    if world.test is None:
        return
    counts = {h: np.bincount(d.train.labels, minlength=world.classes).tolist() for h, d in world.data.items()}
    test = np.bincount(world.test.labels, minlength=world.classes).tolist()
    partition = {"classes": world.classes, "hospitals": counts, "test": test}
    durable.write(folder.path / "partition.json", json.dumps(partition).encode(), mode=0o644)


def _write_model(folder: RunFolder, world: World, replica: Replica) -> None:
    world.layout.load(world.model, replica.state.model)
    tensors = {name: tensor.contiguous().clone() for name, tensor in world.model.state_dict().items()}
    # One entry of metadata: safetensors writes several in no fixed order, and a model's bytes must repeat.
    metadata = {"round": str(replica.state.round)}
    durable.write(folder.model_file, save(tensors, metadata), mode=0o644)


def _result(folder: RunFolder, world: World, replica: Replica, finished: bool, summary: Summary) -> Result:
    world.layout.load(world.model, replica.state.model)
    return Result(folder.path, finished, folder.history(), summary, world.model.eval())
