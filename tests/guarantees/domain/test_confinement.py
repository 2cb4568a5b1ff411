"""(E) What a study's code finds around it: nothing of the owner's but what it was given, and nothing that it can break.

The control is ``test_a_job_reads_the_owners_environment_and_files_and_writes_them`` in ``test_stock_syft.py``; each
wall has one here, too: the same code, unconfined.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from securefl.domain import sandbox
from securefl.domain.sandbox import Cell, Limits

PROBE = """
import json, os, socket, sys
data, secret, port, outside = sys.argv[1:]
found = {"environment": os.environ.get("DATABASE_PASSWORD"), "data": open(data).read()}

def may(name, call):
    try:
        call()
        found[name] = True
    except OSError:
        found[name] = False

may("write data", lambda: open(data, "a").close())
may("read secret", lambda: open(secret).read())
may("see its folder", lambda: os.listdir(os.path.dirname(secret)))
may("see processes", lambda: os.kill(int(outside), 0))
may("network", lambda: socket.create_connection(("127.0.0.1", int(port)), 5).close())
# These look at who asks, not at what it may: whoever is root outside is refused by the mount alone.
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"):
    may(path, lambda: os.close(os.open(path, os.O_WRONLY)))
print(json.dumps(found))
"""


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    """Records, a secret file beside them, and a secret variable of the service's."""
    monkeypatch.setenv("DATABASE_PASSWORD", "of the hospital")
    for name in ("data", "keys", "work", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "records.csv").write_text("patient 1")
    (tmp_path / "keys" / "signing.key").write_text("secret")
    return tmp_path.resolve()


def probe(folder: Path, port: int) -> list[str]:
    files = folder / "data" / "records.csv", folder / "keys" / "signing.key"
    return [sys.executable, "-c", PROBE, *map(str, files), str(port), str(os.getpid())]


def listening():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server, server.getsockname()[1]


def test_a_confined_study_finds_nothing_but_its_records(hospital):
    server, port = listening()
    with server:
        free = json.loads(subprocess.run(probe(hospital, port), capture_output=True, check=True).stdout)
        confined = sandbox.start(
            Cell(
                probe(hospital, port),
                hospital / "work",
                {hospital / "data": False, hospital / "work": True},
                hospital / "root",
                hospital / "log",
                limits=Limits(seconds=60),
                unwalled=sandbox.hindrance(),
            )
        )
        confined.wait(60)
    found = json.loads((hospital / "log").read_text())

    assert free["environment"] == "of the hospital"
    assert free["write data"]
    assert free["read secret"]
    assert free["network"]
    assert free["see processes"]
    assert found["environment"] is None
    assert found["data"] == "patient 1"
    if not confined.confinement.complete:
        pytest.skip(f"this computer walls nothing off, and says so: {confined.confinement}")
    assert [name for name, value in found.items() if value is True] == []
