"""A consortium on one computer, from the folders, scripts and commands that its members are told to use."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from securefl import deploy
from securefl.deploy.settings import COORDINATOR, PUBLIC
from securefl.errors import SecureFLError

HOSPITALS = ["cleveland", "hungary", "va"]
PARTIES = ["party-1", "party-2"]
PROGRAMS = Path(sys.executable).parent
STUDY = """\
name = "Three hospitals over Flower"
seed = 3

[consortium]
file = "consortium.toml"

[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
deadline_seconds = 240

[committee]
deadline_seconds = 120

[data]
source = "module"
module = "records.py:build"

[model]
kind = "logistic"

[training]
rounds = 2
learning_rate = 0.1
batch_size = 16

[server]
optimizer = "fedavgm"
"""
RECORDS = """\
import numpy as np
import torch
from pathlib import Path
from torch.utils.data import TensorDataset

SHAPE, CLASSES = (5,), 2  # the coordinator has no records to read them off


def build(hospital, split):
    # A hospital's own, in its folder `data` beside the study.
    with np.load(Path(__file__).parents[1] / "data" / f"{hospital}.npz") as records:
        x, y = torch.from_numpy(records["x"]), torch.from_numpy(records["y"])
    return TensorDataset(x[:32], y[:32]) if split == "train" else TensorDataset(x[32:], y[32:])
"""


class Deployed:
    """The members' folders, and the scripts that run in them.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folders, self.study = root, root / "all", root / "study"
        self.environment = {
            **os.environ,
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "FLWR_HOME": str(self.folders / COORDINATOR / "home" / "flwr"),
            "SECUREFL_PAUSE": "2",
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        superlink, *mesh, local = free_ports(2 + len(PARTIES))
        addresses = {party: f"127.0.0.1:{port}" for party, port in zip(PARTIES, mesh, strict=True)}
        deploy.init(self.folders, HOSPITALS, PARTIES, f"127.0.0.1:{superlink}", addresses, local_port=local)
        self.study.mkdir()
        (self.study / "study.toml").write_text(STUDY)
        (self.study / "records.py").write_text(RECORDS)
        (self.study / "consortium.toml").write_bytes((self.folders / PUBLIC / "consortium.toml").read_bytes())
        for name in [COORDINATOR, *HOSPITALS, *PARTIES]:
            deploy.put_study(self.folders / name, self.study)
        random = np.random.default_rng(0)
        for name in HOSPITALS:
            x = random.normal(size=(40, 5)).astype(np.float32)
            y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
            np.savez(self.folders / name / "data" / f"{name}.npz", x=x, y=y)

    def start(self, name: str, folder: Path | None = None) -> None:
        """Run a folder's ``start.sh``; what it says goes to its log."""
        self.spawn(name, str((folder or self.folders / name) / "start.sh"))

    def spawn(self, name: str, *command: str, cwd: Path | None = None) -> None:
        """Run a command under a name."""
        with (self.root / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=cwd, env=self.environment,
                start_new_session=True,
            )  # fmt: skip

    def register(self) -> subprocess.CompletedProcess[str]:
        """Run the coordinator's ``register.sh``."""
        script = str(self.folders / COORDINATOR / "register.sh")
        return subprocess.run([script], capture_output=True, text=True, env=self.environment, timeout=600)

    def flwr_run(self, **config: str | bool) -> dict[str, object]:
        """Start a run with Flower's own command, on the app that securefl installs; what it says."""
        app = subprocess.run(
            ["securefl", "deploy", "app"], capture_output=True, text=True, env=self.environment, check=True
        )
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        said = subprocess.run(
            ["flwr", "run", app.stdout.strip(), "consortium", "--run-config", words, "--format", "json"],
            capture_output=True, text=True, env=self.environment, timeout=300, check=True,
        )  # fmt: skip
        answer: dict[str, object] = json.loads(said.stdout[said.stdout.index("{") :])
        return answer

    def kill(self, name: str, *words: str) -> None:
        """kill -9 of a member's process whose command has these words, and of all that it started.

        ``start.sh`` stays, and starts it again.
        """
        below = psutil.Process(self._running[name].pid).children(recursive=True)
        (found,) = [process for process in below if _runs(process, words)]
        for process in [found, *found.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self, name: str) -> None:
        """Stop a script, as its terminal does."""
        process = self._running.pop(name)
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)

    def runs(self, name: str) -> bool:
        """Whether something was started under this name, and not stopped."""
        return name in self._running

    def ended(self, name: str, seconds: float) -> int:
        """The exit status of what ends by itself."""
        return self._running[name].wait(timeout=seconds)

    def log(self, name: str) -> str:
        """What was said under a name."""
        return (self.root / f"{name}.log").read_text(errors="replace")

    def well(self, name: str, ready: bool = False) -> bool:
        """What the health checks say of a folder."""
        try:
            deploy.check(self.folders / name, ready=ready)
        except SecureFLError:
            return False
        return True

    def run(self, *arguments: str) -> None:
        """``securefl run`` over Flower, as the guide has it."""
        self.spawn(
            "run", "securefl", "run", "study", "--out", "home/run", "--engine", "flower",
            "--connection", "consortium", *arguments, cwd=self.folders / COORDINATOR,
        )  # fmt: skip

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folders / COORDINATOR / "home" / "run"

    def state(self, number: str) -> str | None:
        """What the ServerApp of a run says of it."""
        file = self.out.with_name("run.flower.json")
        said = json.loads(file.read_text()) if file.exists() else {}
        return str(said["state"]) if said.get("run") == number else None

    def history(self) -> list[dict[str, object]]:
        """A line for each settled round."""
        file = self.out / "history.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for_rounds(self, count: int, seconds: float = 600.0) -> None:
        """Wait until so many rounds are settled."""

        def settled() -> bool:
            assert self._running["run"].poll() is None or len(self.history()) >= count, self.log("run")
            return len(self.history()) >= count

        wait_for(f"{count} rounds", settled, seconds, pause=0.1)

    def close(self) -> None:
        """Stop all."""
        for name in list(self._running):
            self.stop(name)


def wait_for(what: str, holds: Callable[[], bool], seconds: float = 300.0, pause: float = 0.5) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"Not in {seconds:.0f} seconds: {what}."
        time.sleep(pause)


def _runs(process: psutil.Process, words: tuple[str, ...]) -> bool:
    try:
        line = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    parts = [Path(part).name for part in line]
    return any(tuple(parts[i : i + len(words)]) == words for i in range(len(parts)))


def free_ports(count: int) -> list[int]:
    """Ports that are free now; the last has as many free ones behind it as there are members."""
    behind = len(HOSPITALS) + len(PARTIES)
    while True:
        sockets = [socket.socket() for _ in range(count)]
        try:
            for free in sockets:
                free.bind(("127.0.0.1", 0))
            ports = [free.getsockname()[1] for free in sockets]
        finally:
            for free in sockets:
                free.close()
        last = range(ports[-1], ports[-1] + behind)
        if last[-1] <= 60000 and not set(last) & set(ports[:-1]) and all(map(_free, last)):
            return ports


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def deployed(computer: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The SuperLink runs; the members' SuperNodes are registered."""
    made = Deployed(tmp_path_factory.mktemp("flower"))
    try:
        made.start(COORDINATOR)
        wait_for("the SuperLink answers", lambda: made.well(COORDINATOR))
        registered = made.register()
        assert registered.returncode == 0, registered.stderr
        assert registered.stdout.count("is registered.") == len(HOSPITALS) + len(PARTIES)
        yield made
    finally:
        made.close()
