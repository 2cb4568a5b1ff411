"""A confined process: what it may see, reach and use up, and what of that this computer can enforce.

Adversary: the code that runs inside, a reviewed study's included, which may do anything that a program can.
Promise: where ``Confinement`` says so, and only there. Where the system makes no user namespaces the process still has
    its own environment, folder and limits, but sees the files of the user who started it and the network.
Not promised: that two confined processes cannot signal each other by what they use up, nor anything against a fault of
    the kernel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from securefl.errors import EngineError
from securefl.training.determinism import ENVIRONMENT

GIB = 1 << 30
START_SECONDS, END_SECONDS = 30.0, 20.0


@dataclass(frozen=True)
class Limits:
    """What a confined process and all that it starts may use. Beyond it they are killed, or a call fails.

    Attributes:
        seconds: from start to end; None for no limit.
        memory: bytes, in all; also the most that one process may ask for.
        processes: at one time.
        file: bytes of the largest file that is written.
        disk: bytes of all that is kept in the folders that may be written.
        log: bytes of its output that are kept; the rest is dropped.
    """

    seconds: float | None = None
    memory: int = 8 * GIB
    processes: int = 64
    file: int = 4 * GIB
    disk: int = 16 * GIB
    log: int = 16 << 20


@dataclass(frozen=True)
class Confinement:
    """What holds for a process.

    Attributes:
        environment: it has no environment variable but those of an allow-list.
        limits: time, memory, processes, files and output are limited.
        files: it sees no file but those it was given, and writes only where it may.
        network: it reaches one address and no other.
        processes: it sees no process but its own, and none of them outlives it.
        reason: why something does not hold.
    """

    environment: bool
    limits: bool
    files: bool
    network: bool
    processes: bool
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything holds."""
        return not self.lacking

    @property
    def lacking(self) -> list[str]:
        """What does not hold, in words."""
        said = {
            "environment": "a clean environment",
            "limits": "limits",
            "files": "no other files",
            "network": "no other network",
            "processes": "no other processes",
        }
        return [words for name, words in said.items() if not getattr(self, name)]

    def __str__(self) -> str:
        if self.complete:
            return "confined: own files, one network address, own processes, clean environment, limits"
        why = f" ({self.reason})" if self.reason else ""
        return f"NOT fully confined, it lacks {', '.join(self.lacking)}{why}"


@dataclass(frozen=True)
class Cell:
    """One process to confine.

    Attributes:
        command: its arguments, the first an absolute path.
        folder: where it works.
        files: absolute paths that it sees, True for those that it may write; see ``namespaces.shut``. The system's own
            programs and this Python are added.
        root: an empty folder, outside of ``files``, on which its root is put together.
        log: file for its output.
        environment: variables besides the standard ones.
        address: ``(port, host, port)``: what it finds on this port of 127.0.0.1 is that host's port. None: no network.
        limits: what it may use.
        unwalled: why it is not given namespaces; "" gives it them.
    """

    command: Sequence[str]
    folder: Path
    files: Mapping[Path, bool]
    root: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    address: tuple[int, str, int] | None = None
    limits: Limits = Limits()
    unwalled: str = ""

    def to_line(self) -> bytes:
        """As ``supervise`` reads it: one line of JSON. It holds no secret."""
        files = {**dict.fromkeys(system_files(), False), **self.files}
        values: dict[str, Any] = {
            **asdict(self),
            "files": {str(path): writable for path, writable in files.items()},
            "folder": str(self.folder),
            "root": str(self.root),
            "log": str(self.log),
            "environment": {**clean_environment(), **self.environment},
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Cell:
        """Read it back."""
        values = json.loads(line)
        values["limits"] = Limits(**values["limits"])
        values["files"] = {Path(path): writable for path, writable in values["files"].items()}
        for name in ("folder", "root", "log"):
            values[name] = Path(values[name])
        values["address"] = tuple(values["address"]) if values["address"] else None
        return cls(**values)


def clean_environment() -> dict[str, str]:
    """All environment variables that a confined process has, but for those of its cell."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **ENVIRONMENT}


def system_files() -> list[Path]:
    """What every Python program of this installation reads: the system's libraries, Python, and these packages."""
    import protocols
    import securefl

    packages = [Path(str(package.__file__)).parent for package in (protocols, securefl)]
    wanted = [
        *map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/sys/devices/system/cpu")),
        *(Path("/etc") / name for name in ("ld.so.cache", "localtime", "mime.types", "nsswitch.conf")),
        *(Path("/etc") / name for name in ("passwd", "group", "hosts")),
        Path(sys.base_prefix), Path(sys.prefix), *packages,
    ]  # fmt: skip
    both = [path for found in wanted for path in (found, found.resolve())]
    return [path for path in dict.fromkeys(both) if path.exists()]


class Confined:
    """A confined process that runs. It ends when this object's process ends, however that happens."""

    def __init__(self, process: subprocess.Popen[bytes], confinement: Confinement, log: Path) -> None:
        self._process, self.confinement, self.log = process, confinement, log
        self._said: dict[str, Any] = {}

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def ended(self) -> str | None:
        """How it ended, as one sentence; None while it runs."""
        if self.alive:
            return None
        if not self._said and self._process.stdout is not None and not self._process.stdout.closed:
            with self._process.stdout as stdout:
                self._said = _parsed(stdout.readline())
        return str(self._said.get("ended", "Its supervisor was killed."))

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal, as far as it is known."""
        return self._said.get("status") if self.ended is not None else None

    def wait(self, seconds: float | None = None) -> str:
        """Wait for its end, and say how it ended.

        Raises:
            EngineError: it still runs after so many seconds.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"The confined process still runs after {seconds:g} s.") from error
        return self.ended or ""

    def stop(self) -> None:
        """End it and all that it started; it is asked first, and has a few seconds."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@cache
def hindrance() -> str:
    """Why this computer cannot give a process namespaces, found by trying; "" if it can."""
    with tempfile.TemporaryDirectory(prefix="securefl-") as name:
        folder = Path(name).resolve()
        (folder / "root").mkdir()
        cell = Cell(["/bin/true"], Path("/tmp"), {}, folder / "root", folder / "log")
        try:
            start(cell).wait(START_SECONDS)
        except EngineError as error:
            return str(error)
    return ""


def start(cell: Cell) -> Confined:
    """Start a process, confined as its cell says.

    Raises:
        EngineError: it cannot be started, or not so.
    """
    cell.log.touch(mode=0o600)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "securefl.domain.supervise"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment(),
        start_new_session=True,
    )  # fmt: skip
    late = threading.Timer(START_SECONDS, process.kill)
    late.start()
    try:
        said = _exchange(process, cell.to_line())
    finally:
        late.cancel()
    if said.get("started"):
        walls = not cell.unwalled
        return Confined(process, Confinement(True, True, walls, walls, walls, cell.unwalled), cell.log)
    process.kill()
    process.communicate()
    raise EngineError(
        f"{cell.command[0]} cannot be started in confinement: {said.get('failed', 'it said nothing')}."
    )


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        return {}
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except OSError as error:
        return {"failed": (error.strerror or "").lower()}
    return _parsed(process.stdout.readline())


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
