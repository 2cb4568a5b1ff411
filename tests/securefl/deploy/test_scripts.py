"""``start.sh`` and ``register.sh``, run with stand-ins for the commands that they start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from securefl.deploy.plan import ENVIRONMENT
from tests.securefl.deploy.conftest import FOLDERS, HOSPITALS, PARTIES

SCRIPTS = [f"{name}/start.sh" for name in FOLDERS] + ["coordinator/register.sh"]


def syntax(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True)


def test_scripts_are_bash(pristine):
    for script in SCRIPTS:
        checked = syntax(pristine / script)
        assert (checked.returncode, checked.stderr) == (0, ""), script


def test_a_broken_script_is_refused(made):
    script = made / "oslo" / "start.sh"
    script.write_text(script.read_text().replace("done\n", "", 1))
    assert syntax(script).returncode != 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_please_shellcheck(pristine):
    command = ["shellcheck", "--exclude=SC2046", *(str(pristine / script) for script in SCRIPTS)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


class Stage:
    """A folder of stand-ins on the PATH. Each notes its arguments and environment, then does what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        folder.mkdir()
        self.log.touch()
        self._started: list[subprocess.Popen[bytes]] = []

    def command(self, name: str, then: str) -> None:
        file = self.folder / name
        notes = f'env >{self.folder}/environment\necho "$$ $PWD {name} $*" >>{self.log}'
        file.write_text(f"#!/bin/bash\n{notes}\n{then}\n")
        file.chmod(0o755)

    def start(self, script: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(script)], env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "SECUREFL_PAUSE": "0.1"},
            cwd="/", stderr=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process

    def lines(self, count: int) -> list[list[str]]:
        """The first lines of the log, when there are so many."""
        deadline = time.monotonic() + 20
        while len(found := self.log.read_text().splitlines()) < count:
            assert time.monotonic() < deadline, f"Only {found}."
            time.sleep(0.05)
        return [line.split() for line in found]

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "stage")
    yield stage
    stage.close()


def alive(pid: str) -> bool:
    """A process that ended and waits for its parent counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("name", ["coordinator", "oslo", "uni", "standards"])
def test_start_runs_all_processes_in_the_folder_and_ends_them(made, stage, name):
    for command in ("securefl", "flower-superlink"):
        stage.command(command, "exec sleep 300")
    count = 2 if name in PARTIES else 1
    process = stage.start(made / name / "start.sh")
    started = stage.lines(count)
    assert {line[1] for line in started} == {str(made / name)}
    commands = {" ".join(line[2:5]) for line in started}
    assert (
        commands
        == {
            "coordinator": {"flower-superlink --host 0.0.0.0"},
            "oslo": {"securefl supernode member.toml"},
            "uni": {"securefl party serve", "securefl supernode member.toml"},
            "standards": {"securefl dealer serve"},
        }[name]
    )
    environment = dict(
        line.split("=", 1) for line in (stage.folder / "environment").read_text().splitlines() if "=" in line
    )
    assert ENVIRONMENT.items() <= environment.items()
    assert environment["FLWR_HOME"] == f"{made}/{name}/home/flwr"
    assert all(alive(line[0]) for line in started)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert not any(alive(line[0]) for line in started)


def test_a_process_that_ends_is_started_again_alone(made, stage):
    stage.command("securefl", "if [[ $1 == supernode ]]; then exit 3; fi; exec sleep 300")
    process = stage.start(made / "uni" / "start.sh")
    started = stage.lines(4)
    assert [line[3] for line in started].count("party") == 1
    assert [line[3] for line in started].count("supernode") >= 3
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert process.stderr is not None
    assert b"uni: securefl supernode ended; it starts again in 0.1 seconds." in process.stderr.read()


def test_register_names_every_supernode_and_may_be_repeated(made, stage):
    stage.command("flwr", 'if [[ $* == *bergen* ]]; then echo "Public key already in use"; exit 1; fi')
    process = stage.start(made / "coordinator" / "register.sh")
    assert process.wait(timeout=20) == 0
    with_node = sorted([*HOSPITALS, *PARTIES])
    wanted = [
        ["flwr", "supernode", "register", f"supernodes/{n}.pub", "consortium", "--name", n] for n in with_node
    ]
    assert [line[2:] for line in stage.lines(len(with_node))] == wanted
    config = (made / "coordinator" / "home" / "flwr" / "config.toml").read_text()
    assert f'root-certificates = "{made}/coordinator/ca.pem"' in config
    assert 'address = "127.0.0.1:8000"' in config


def test_register_stops_at_another_error(made, stage):
    stage.command("flwr", 'if [[ $* == *bergen* ]]; then echo "no answer"; exit 1; fi')
    process = stage.start(made / "coordinator" / "register.sh")
    assert process.wait(timeout=20) == 1
    assert process.stderr is not None
    assert b"no answer" in process.stderr.read()
    assert len(stage.lines(2)) == 2  # aarhus, bergen, and no more
