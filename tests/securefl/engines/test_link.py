"""The socket between two processes of one computer: its owner's, whatever the umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from securefl.engines.link import Link, LinkServer, Reply


@pytest.fixture
def path():
    # Not pytest's folder, whose name may be too long for a socket.
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "socket"


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_no_other_user_can_open_the_socket(path, umask):
    before = os.umask(umask)
    try:
        server = LinkServer(path, lambda target, message: Reply([target.encode() + message]))
        mask = os.umask(umask)
    finally:
        os.umask(before)
    server.start()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert Link(path).exchange(b"!", 10, "north").messages == [b"north!"]
    finally:
        server.close()
    assert mask == umask  # as it was


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_turned_away(path):
    path.parent.chmod(0o755)
    server = LinkServer(path, lambda _target, _message: Reply([]))
    server.start()
    try:
        assert connects_as(65534, path) is False
        path.chmod(0o666)
        assert connects_as(65534, path) is True  # the control
    finally:
        server.close()


def connects_as(user, path):
    """Whether a process of that user can connect."""
    program = f"""
import os, socket, sys
client = socket.socket(socket.AF_UNIX)
os.setgroups([]), os.setgid({user}), os.setuid({user})
try:
    client.connect({str(path)!r})
except PermissionError:
    sys.exit(7)
"""
    code = subprocess.run([sys.executable, "-c", program]).returncode
    assert code in (0, 7)
    return code == 0
