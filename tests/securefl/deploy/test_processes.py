"""The folders with Flower's real programs: TLS, registration, authentication, renewal. About two minutes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securefl import deploy
from securefl.deploy import authority
from securefl.errors import EngineError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROGRAMS = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what: str, holds: Callable[[], bool], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"Not in {seconds} seconds: {what}."
        time.sleep(0.5)


def well(folder: Path, ready: bool = False) -> bool:
    try:
        deploy.check(folder, ready=ready)
    except EngineError:
        return False
    return True


class Start:
    """Runs scripts of a folder; ends what it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        programs = folder / "programs"
        programs.mkdir()
        # Flower's own SuperNode: what `securefl supernode member.toml` passes its arguments to.
        (programs / "securefl").write_text('#!/bin/bash\nexec flower-supernode "${@:3}"\n')
        (programs / "securefl").chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{programs}:{PROGRAMS}:{os.environ['PATH']}", "SECUREFL_PAUSE": "2",
        }  # fmt: skip
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [str(self._folder / "all" / name / "start.sh")],
                env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def start(tmp_path) -> Iterator[Start]:
    mesh = {"uni": f"127.0.0.1:{free_port()}", "registry": f"127.0.0.1:{free_port()}"}
    superlink = f"127.0.0.1:{free_port()}"
    deploy.init(tmp_path / "all", ["oslo", "bergen"], ["uni", "registry"], superlink, mesh)
    start = Start(tmp_path)
    yield start
    for name in list(start.running):
        start.stop(name)


def test_registered_supernodes_connect_and_survive_a_renewal(start, tmp_path):
    made = tmp_path / "all"
    # A stranger with a key of its own; it trusts the same authority.
    shutil.copytree(made / "bergen", made / "stranger")
    (made / "stranger" / "keys" / "supernode.key").write_bytes(authority.make_supernode_key()[0])
    start.start("coordinator")
    wait_for("the SuperLink answers", lambda: well(made / "coordinator"))

    registered = subprocess.run(
        [str(made / "coordinator" / "register.sh")], env=start.environment, capture_output=True, text=True
    )
    assert registered.returncode == 0, registered.stderr
    assert registered.stdout.count("is registered.") == 4
    again = subprocess.run(
        [str(made / "coordinator" / "register.sh")], env=start.environment, capture_output=True, text=True
    )
    assert (again.returncode, again.stdout.count("was registered before.")) == (0, 4)

    start.start("oslo")
    wait_for("oslo is let in", lambda: "SuperNode ID" in start.log("oslo"))
    wait_for("oslo is ready", lambda: well(made / "oslo", ready=True))
    start.start("stranger")
    wait_for("the stranger is turned away", lambda: "Failed to activate SuperNode" in start.log("stranger"))
    assert "SuperNode ID" not in start.log("stranger")
    start.stop("stranger")

    # Between renewals, oslo's ca.pem stays as it is.
    start.stop("coordinator")
    assert not well(made / "coordinator")
    deploy.renew(made / "authority", made / "coordinator")
    start.start("coordinator")
    wait_for("oslo is ready again", lambda: well(made / "oslo", ready=True))
