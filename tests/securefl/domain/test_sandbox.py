"""Confined processes, for real: what they cannot see, reach or use up, and that the same program unconfined can."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from securefl.domain import sandbox
from securefl.domain.sandbox import Cell, Confinement, Limits
from securefl.errors import EngineError

needs_namespaces = pytest.mark.skipif(
    bool(sandbox.hindrance()), reason=f"no user namespaces here: {sandbox.hindrance()}"
)

TRIES = """
import json, os, socket, subprocess, sys

wanted, said = json.loads(sys.argv[1]), {}

def attempt(name, action):
    try:
        said[name] = action()
    except Exception as error:
        said[name] = type(error).__name__

def connect(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as there:
        return there.recv(5).decode()

attempt("environment", lambda: os.environ["A_SECRET"])
attempt("read elsewhere", lambda: open(wanted["elsewhere"]).read())
attempt("read data", lambda: open(wanted["data"] + "/records").read())
attempt("write data", lambda: open(wanted["data"] + "/records", "a").close())
attempt("remove data", lambda: os.rename(wanted["data"] + "/spare", wanted["data"] + "/gone"))
attempt("the engine", lambda: connect(wanted["engine"]))
attempt("another port", lambda: connect(wanted["other"]))
attempt("signal outside", lambda: os.kill(wanted["outside"], 0))
attempt("environment outside", lambda: open(f"/proc/{wanted['outside']}/environ").read() and "read")
attempt("write home", lambda: open("mine", "w").write("x"))
attempt("another namespace", lambda: subprocess.run(["unshare", "-Ur", "true"], check=True, stderr=-3) and None)
attempt("privileges", lambda: int(next(l for l in open("/proc/self/status") if l.startswith("CapBnd")).split()[1], 16))
attempt("system settings", lambda: os.access("/proc/sys/kernel/core_pattern", os.W_OK))
print(json.dumps(said))
"""


class Listener:
    """Says one word to whoever connects."""

    def __init__(self, word: str) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._word = word.encode()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                there, _ = self._socket.accept()
                there.sendall(self._word)
                there.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def engine() -> Iterator[Listener]:
    found = Listener("hello")
    yield found
    found.close()


@pytest.fixture
def other() -> Iterator[Listener]:
    found = Listener("other")
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("root", "home", "data", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "records").write_text("records")
    (tmp_path / "data" / "spare").write_text("spare")
    (tmp_path / "elsewhere" / "signing.key").write_text("secret")
    return tmp_path


def cell(place: Path, *command: str, **fields: object) -> Cell:
    """The program may write ``home`` and read ``data``."""
    return Cell(
        command=command, folder=place / "home", files={place / "home": True, place / "data": False},
        root=place / "root", log=place / "log", **fields,
    )  # type: ignore[arg-type]  # fmt: skip


def finished(confined: sandbox.Confined, seconds: float = 60) -> str:
    try:
        return confined.wait(seconds)
    finally:
        confined.stop()


def tries(place: Path, engine: Listener, other: Listener) -> list[str]:
    wanted = {
        "elsewhere": str(place / "elsewhere" / "signing.key"), "data": str(place / "data"), "engine": engine.port,
        "other": other.port, "outside": os.getpid(),
    }  # fmt: skip
    return [sys.executable, "-c", TRIES, json.dumps(wanted)]


@needs_namespaces
def test_it_sees_and_reaches_what_it_was_given_and_nothing_else(place, engine, other, monkeypatch):
    monkeypatch.setenv("A_SECRET", "token")
    command = tries(place, engine, other)
    confined = sandbox.start(cell(place, *command, address=(engine.port, "127.0.0.1", engine.port)))
    assert confined.confinement == Confinement(True, True, True, True, True)
    assert "status 0" in finished(confined), (place / "log").read_text()
    inside = json.loads((place / "log").read_text())
    assert inside == {
        "environment": "KeyError",
        "read elsewhere": "FileNotFoundError",
        "read data": "records",
        "write data": "OSError",
        "remove data": "OSError",
        "the engine": "hello",
        "another port": "ConnectionRefusedError",
        "signal outside": "ProcessLookupError",
        "environment outside": "FileNotFoundError",
        "write home": 1,
        "another namespace": "CalledProcessError",
        "privileges": 0,
        "system settings": False,
    }
    assert (place / "home" / "mine").read_text() == "x"
    assert (place / "log").stat().st_mode & 0o777 == 0o600

    # The control: the same program, not confined, can do all of it.
    outside = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=place / "home").stdout)
    assert outside["environment"] == "token"
    assert outside["read elsewhere"] == "secret"
    assert (outside["write data"], outside["remove data"]) == (None, None)
    assert (outside["another port"], outside["signal outside"]) == ("other", None)
    assert outside["environment outside"] == "read"
    assert outside["another namespace"] is None


def test_without_namespaces_it_says_what_does_not_hold(place, engine, other, monkeypatch):
    monkeypatch.setenv("A_SECRET", "token")
    command = tries(place, engine, other)
    confined = sandbox.start(cell(place, *command, unwalled="the kernel refuses"))
    said = str(confined.confinement)
    assert not confined.confinement.complete
    assert said == (
        "NOT fully confined, it lacks no other files, no other network, no other processes (the kernel refuses)"
    )
    finished(confined)
    inside = json.loads((place / "log").read_text())
    assert inside["environment"] == "KeyError"  # this holds everywhere
    assert (inside["read elsewhere"], inside["another port"]) == (
        "secret",
        "other",
    )  # and this is what was said


MIB = 1 << 20
HOG = "x = bytearray(300 * 2**20); print('had it')"
HOGS = "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(2**25); x[::4096] = b'x' * 8192; time.sleep(2)"
MANY = "import subprocess\nm = [subprocess.Popen(['sleep', '1']) for _ in range(8)]\nfor p in m: p.wait()"
LARGE = "f = open('large', 'wb')\nfor _ in range(8): f.write(bytes(2**20)); f.flush()"
SLOW = "import time; time.sleep(1.5)"


@pytest.mark.parametrize(
    "unwalled",
    [pytest.param("", marks=needs_namespaces), pytest.param("for the test", marks=pytest.mark.slow)],
    ids=["walled", "unwalled"],
)
@pytest.mark.parametrize(
    ("program", "limits", "end"),
    [
        (HOG, Limits(memory=200 * MIB), "status 1."),  # a MemoryError of its own
        (HOGS, Limits(memory=150 * MIB), "used up its memory"),
        (MANY, Limits(processes=6), "used up its processes"),
        (LARGE, Limits(file=3 * MIB), "status 1."),
        (SLOW, Limits(seconds=0.5), "used up its time"),
    ],
    ids=["memory", "memory-of-all", "processes", "file", "time"],
)
def test_limits_hold(place, unwalled, program, limits, end):
    confined = sandbox.start(cell(place, sys.executable, "-c", program, limits=limits, unwalled=unwalled))
    assert end in finished(confined), (place / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [HOG, HOGS, MANY, LARGE, SLOW], ids=["hog", "hogs", "many", "large", "slow"]
)
def test_without_the_limit_the_same_programs_end_well(place, program):
    confined = sandbox.start(cell(place, sys.executable, "-c", program, unwalled=sandbox.hindrance()))
    assert "status 0." in finished(confined), (place / "log").read_text()


def test_its_output_is_kept_up_to_a_limit(place):
    program = "print('a' * 5000); print('b' * 50000)"
    confined = sandbox.start(
        cell(place, sys.executable, "-c", program, limits=Limits(log=6000), unwalled=sandbox.hindrance())
    )
    assert "status 0." in finished(confined)
    kept = (place / "log").read_text()
    assert kept.startswith("a" * 5000 + "\n" + "b" * 900)
    assert kept.endswith("beyond this is not kept.\n")
    assert len(kept) < 6100


@pytest.mark.slow
def test_what_it_keeps_on_disk_is_limited(place):
    program = "import time\nfor i in range(5): open(str(i), 'wb').write(bytes(2**20))\ntime.sleep(60)"
    confined = sandbox.start(
        cell(place, sys.executable, "-c", program, limits=Limits(disk=4 * MIB), unwalled=sandbox.hindrance())
    )
    assert "used up its disk" in finished(confined)


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", sys.argv[1]])
    os._exit(0)
os.wait()
print("away", flush=True)
time.sleep(float(sys.argv[2]))
"""


def running(mark: str) -> list[int]:
    """Processes of which the command ends with this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().endswith(
                f"sleep\0{mark}\0".encode()
            ):
                found.append(int(entry.name))
    return found


def until(holds: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@needs_namespaces
def test_nothing_outlives_it_not_even_a_daemon(place):
    mark = f"600.{os.getpid()}1"
    confined = sandbox.start(cell(place, sys.executable, "-c", DAEMON, mark, "600"))
    assert until(lambda: running(mark))
    confined.stop()
    assert confined.ended == "It was stopped."
    assert not running(mark)

    # The control: a process group does not reach a daemon.
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON, mark, "600"], start_new_session=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"away\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert until(lambda: running(mark))
    for pid in running(mark):
        os.kill(pid, signal.SIGKILL)
    process.stdout.close()


def test_a_daemon_that_escapes_keeps_nobody_waiting(place):
    mark = f"600.{os.getpid()}3"
    confined = sandbox.start(cell(place, sys.executable, "-c", DAEMON, mark, "0.2", unwalled="for the test"))
    assert not confined.confinement.processes
    assert "status 0." in finished(confined, 30)  # though the daemon holds its output open
    left = running(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left  # what the confinement did not promise


STARTER = """
import sys, time
from pathlib import Path
from securefl.domain import sandbox
from securefl.domain.sandbox import Cell
place = Path(sys.argv[1])
confined = sandbox.start(Cell(
    ["/bin/sleep", sys.argv[2]], place / "home", {place / "home": True}, place / "root", place / "log",
    unwalled=sandbox.hindrance(),
))
print("started", flush=True)
time.sleep(600)
"""


def test_it_ends_when_whoever_started_it_is_killed(place):
    mark = f"600.{os.getpid()}2"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(place), mark], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"started\n"
    assert until(lambda: running(mark))
    starter.kill()
    starter.communicate()
    assert until(lambda: not running(mark))


def test_it_is_asked_before_it_is_ended(place):
    program = (
        "import signal, time\n"
        "def bye(*_): open('bye', 'w').close(); raise SystemExit(0)\n"
        "signal.signal(signal.SIGTERM, bye); open('ready', 'w').close(); time.sleep(600)"
    )
    confined = sandbox.start(cell(place, sys.executable, "-c", program, unwalled=sandbox.hindrance()))
    assert until(lambda: (place / "home" / "ready").exists())
    assert confined.alive
    assert confined.ended is None
    confined.stop()
    assert (place / "home" / "bye").exists()
    assert confined.status == 0


def test_what_cannot_be_started_is_an_error(place):
    with pytest.raises(EngineError, match="no such file"):
        sandbox.start(cell(place, "/nowhere/program", unwalled=sandbox.hindrance()))
