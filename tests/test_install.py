"""scripts/install.sh on a small checkout: real environments, a real pip, wheels of a few bytes, no index."""

from __future__ import annotations

import ensurepip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = getattr(sys, "_base_executable", sys.executable)
TOOLS = ["bash", "cat", "comm", "cut", "dirname", "flock", "mkdir", "mv", "rm", "sed", "sha256sum", "sleep"]
TOOLS += ["sort", "tr", "uname"]

# The small checkout's build backend. While the file `hold` exists it keeps pip waiting, in mid-installation.
BACKEND = """
import pathlib, shutil, time

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    pathlib.Path("reached").touch()
    while pathlib.Path("hold").exists():
        time.sleep(0.02)
    return shutil.copy("wheels/securefl-0.1.0-py3-none-any.whl", wheel_directory).rpartition("/")[2]

build_wheel = build_editable
"""


def write_wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel with one module and return the line that locks it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class Checkout:
    """A small checkout with the real scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / f"requirements/lock-{PYTHON}.txt"
        self.stamp = folder / ".venv/installed"
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        for name in ("requirements", "wheels", "bin"):
            (folder / name).mkdir()
        (bundled,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
        shutil.copy(bundled, folder / "wheels")
        digest = hashlib.sha256(bundled.read_bytes()).hexdigest()
        build = f"pip=={bundled.name.split('-')[1]} --hash=sha256:{digest}\n"
        (folder / "requirements/build.txt").write_text(build)
        self.lock.write_text(write_wheel(folder / "wheels", "first", "1.0"))
        write_wheel(folder / "wheels", "securefl", "0.1.0")
        (folder / "backend.py").write_text(BACKEND)
        (folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "securefl"\nversion = "0.1.0"\n'
        )
        for tool in TOOLS:
            (folder / "bin" / tool).symlink_to(shutil.which(tool) or tool)

    def command(self, name: str, text: str) -> None:
        """Put a command on the path, before the real one of that name."""
        path = self.folder / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def start(self, **settings: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": str(self.folder / "bin"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.folder / "wheels"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_TARGET": str(self.folder / "astray"),
        }
        return subprocess.Popen(
            [str(self.folder / "scripts/install.sh")],
            env=environment | settings,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def install(self, **settings: str) -> tuple[int, str]:
        process = self.start(**settings)
        output = process.communicate(timeout=120)[0]
        return process.returncode, output

    def version_of(self, module: str) -> str:
        python = str(self.folder / ".venv/bin/python")
        code = f"import {module}; print({module}.version)"
        return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    made.command(f"python{PYTHON}", f'exec "{BASE}" "$@"')
    return made


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.slow
def test_installs_once_and_follows_the_lock(checkout: Checkout) -> None:
    code, output = checkout.install()
    assert code == 0, output
    assert checkout.version_of("first") == "1.0"
    assert not (checkout.folder / "astray").exists()
    code, output = checkout.install()
    assert (code, "Installing" in output) == (0, False)
    # Another lock: brought up to date in place, and what it no longer has is gone.
    kept = checkout.folder / ".venv/kept"
    kept.touch()
    checkout.lock.write_text(write_wheel(checkout.folder / "wheels", "second", "2.0"))
    code, output = checkout.install()
    assert code == 0, output
    assert (checkout.version_of("first"), checkout.version_of("second")) == ("", "2.0")
    assert kept.exists()
    # A wheel that is not the locked one is refused, and the environment counts as unfinished.
    checkout.lock.write_text("first==1.0 --hash=sha256:" + "0" * 64 + "\n")
    code, output = checkout.install()
    assert code != 0
    assert "did not finish" in output
    assert not checkout.stamp.exists()


@pytest.mark.slow
def test_a_killed_installation_is_made_again_and_a_second_one_waits(checkout: Checkout) -> None:
    hold, reached, leftover = (checkout.folder / name for name in ("hold", "reached", ".venv/leftover"))
    hold.touch()
    killed = checkout.start()
    wait_for(reached)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert checkout.version_of("first") == "1.0"
    assert not checkout.stamp.exists()
    leftover.touch()
    reached.unlink()
    # The next starts from nothing. Of it only the script dies: its pip goes on, and must keep others away.
    orphaning = checkout.start()
    wait_for(reached)
    assert not leftover.exists()
    second = checkout.start()
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    os.kill(orphaning.pid, signal.SIGKILL)
    orphaning.wait()
    time.sleep(0.2)
    assert second.poll() is None
    third = checkout.start()
    hold.unlink()
    outputs = [process.communicate(timeout=240)[0] for process in (second, third)]
    assert (second.returncode, third.returncode) == (0, 0), outputs
    assert sorted("Removing .venv" in output for output in outputs) == [False, True]
    assert checkout.stamp.exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("uname", "echo Darwin", "Linux only"),
        ("uname", '[ "$1" = -s ] && echo Linux || echo aarch64', "x86_64 only"),
        (
            "python3.11",
            "echo 'pyenv: python3.11: command not found' >&2; exit 127",
            "python3.11 does not run",
        ),
        ("python3", f'shift; exec "{BASE}" -c "import sys; sys.version_info = (3, 9, 1)\n$@"', "CPython 3.9"),
        ("python3", f'shift; exec "{BASE}" -c "import sys; sys.modules[\'venv\'] = None\n$@"', "-venv"),
        (
            "python3",
            f'shift; exec "{BASE}" -c "import os; os.confstr = lambda name: \'glibc 2.17\'\n$@"',
            "2.28",
        ),
    ],
    ids=["other system", "other processor", "failing shim", "old Python", "no venv", "old glibc"],
)
def test_an_unfit_machine_gets_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    checkout = Checkout(tmp_path)
    checkout.command(name, text)
    code, output = checkout.install()
    assert code == 1
    assert output.count("\n") == 1
    assert output.startswith("error: ")
    assert message in output
    assert not (checkout.folder / ".venv").exists()


def first_line(checkout: Checkout, **settings: str) -> str:
    """The first line that an installation says; the rest of it is not waited for."""
    process = checkout.start(**settings)
    assert process.stdout is not None
    line = process.stdout.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return line


def test_the_python_that_is_asked_for_is_used_or_refused(checkout: Checkout) -> None:
    line = first_line(checkout, PYTHON="/nowhere/python")
    assert line == "error: PYTHON=/nowhere/python is not a program on this machine.\n"
    checkout.command("mine", f'exec "{BASE}" "$@"')
    checkout.command(f"python{PYTHON}", "exit 1")
    assert first_line(checkout, PYTHON="mine").startswith(
        f"Installing into .venv with Python {PYTHON} ({BASE})"
    )
    assert "python" + PYTHON + " does not run" in first_line(checkout, PYTHON=f"python{PYTHON}")


def test_a_broken_interpreter_is_passed_over_for_the_next(checkout: Checkout) -> None:
    checkout.command("python3", f'exec "{BASE}" "$@"')
    checkout.command(f"python{PYTHON}", "exit 1")
    assert first_line(checkout).startswith(f"Installing into .venv with Python {PYTHON} ({BASE})")
