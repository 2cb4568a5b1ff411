"""Real runs in real processes, shared by the tests here: each start costs seconds, so there are few."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

STUDY = """\
name = "Heart disease in real processes"
seed = 7
averaged_rounds = 3

[simulation]
baselines = ["plaintext"]

[consortium]
hospitals = ["cleveland", "hungary", "switzerland", "va"]
parties = 3

[data]
source = "fed-heart"
standardise = "features"

[model]
kind = "logistic"

[training]
rounds = 14
learning_rate = 0.05
batch_size = 16

[server]
optimizer = "fedavgm"
"""


@pytest.fixture(scope="module")
def computer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This computer, for one consortium with a SuperLink at a time: two at once wait for each other's processors."""
    # With xdist each process of tests has a folder of its own in the one that they share.
    with (tmp_path_factory.getbasetemp().parent / "consortium.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def heart_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four hospitals that trains in seconds."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text(STUDY)
    return folder


@dataclass(frozen=True)
class RunningStudy:
    """A ``securefl run`` in its own process."""

    out: Path
    process: subprocess.Popen[str]

    def rounds(self) -> int:
        """Lines of the history so far."""
        history = self.out / "history.jsonl"
        return history.read_text().count("\n") if history.exists() else 0

    def wait_for_rounds(self, count: int, seconds: float = 120) -> None:
        """Wait until the history has that many lines."""
        end = time.monotonic() + seconds
        while self.rounds() < count:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.rounds()} lines, exit {self.process.poll()}: {self.finish()}")
            time.sleep(0.01)

    def child(self, name: str) -> int:
        """The process number of a child: ``party-2`` or ``hospitals-1``."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            socket = next((w.decode() for w in words if w.endswith(f"{name}.sock".encode())), None)
            if socket and str(self.out).encode() in b" ".join(words):
                return int(entry.name)
        raise AssertionError(f"{name} is not running")

    def kill(self, name: str) -> None:
        """kill -9 of a child."""
        os.kill(self.child(name), signal.SIGKILL)

    def finish(self, seconds: float = 240) -> str:
        """Wait for the end; what it printed to standard error."""
        _, errors = self.process.communicate(timeout=seconds)
        return errors


StartStudy = Callable[..., RunningStudy]


@pytest.fixture
def start(heart_study: Path, tmp_path: Path) -> Iterator[StartStudy]:
    """Start a run of the study, of another ``text``, or with ``extra`` at its end; what is left of it is killed."""
    started: list[RunningStudy] = []

    def begin(out: Path, *arguments: str, extra: str = "", text: str = STUDY) -> RunningStudy:
        folder = heart_study
        if extra or text != STUDY:
            folder = tmp_path / "study"
            folder.mkdir(exist_ok=True)
            (folder / "study.toml").write_text(f"{text}\n{extra}")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "securefl",
                "run",
                str(folder),
                "--out",
                str(out),
                "--quiet",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(RunningStudy(out, process))
        return started[-1]

    yield begin
    for run in started:
        if run.process.poll() is None:
            run.process.kill()
            run.process.communicate()


@pytest.fixture(scope="session")
def undisturbed(heart_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(
        [sys.executable, "-m", "securefl", "run", str(heart_study), "--out", str(out), "--quiet"],
        check=True,
        capture_output=True,
        timeout=240,
    )
    return out
