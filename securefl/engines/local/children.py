"""Processes that live no longer than their parent: started, waited for, replaced."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from securefl.engines.link import Link
from securefl.errors import EngineError
from securefl.training.determinism import ENVIRONMENT

START_SECONDS = 120.0
_PORTS = range(20000, 32000)
"""Below the range from which the system takes ports for outgoing connections, so that a restart finds its port free."""


class Child:
    """A ``securefl`` command as a child process that serves a link.

    Args:
        name: in messages, and of its log.
        arguments: of the command.
        socket: where it will serve.
        log: file for its standard error.
    """

    def __init__(self, name: str, arguments: Sequence[str], socket: Path, log: Path) -> None:
        self.name, self.socket = name, socket
        self._arguments, self._log = list(arguments), log
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None

    @property
    def link(self) -> Link:
        """The link to the running process."""
        if self._link is None:
            raise EngineError(f"{self.name} is not running.")
        return self._link

    def start(self) -> None:
        """Start the process; ``wait`` for it before the first message."""
        self.socket.unlink(missing_ok=True)
        environment = {**os.environ, **ENVIRONMENT, "GRPC_VERBOSITY": "NONE"}
        with self._log.open("ab") as log:
            # Standard input is the leash: the child ends when it is closed, however the parent ended.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "securefl", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until the process serves.

        Raises:
            EngineError: it ended instead; the message is its own last word.
        """
        process, end = self._process, time.monotonic() + START_SECONDS
        while process is not None and not self.socket.exists():
            if process.poll() is not None:
                raise EngineError(self._last_word())
            if time.monotonic() > end:
                raise EngineError(f"{self.name} did not start within {START_SECONDS:.0f} s: see {self._log}.")
            time.sleep(0.02)
        self._link = Link(self.socket)

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def replace(self) -> None:
        """Kill what is left of the process and start another."""
        self.kill()
        self.start()
        self.wait()

    def kill(self) -> None:
        """End the process at once. What it must not lose is on its disk."""
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
        self._process, self._link = None, None

    def _last_word(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        word = lines[-1].removeprefix("Error: ") if lines else "it said nothing"
        return word if word.endswith(".") else f"{self.name} ended unexpectedly ({word}): see {self._log}."


def end_with_parent() -> None:
    """Called in a child: end this process as soon as its standard input is closed."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def free_ports(count: int, first: int | None = None) -> list[int]:
    """Ports of the loopback address that nobody listens on.

    Args:
        first: take this one and those after it.

    Raises:
        EngineError: one of the ports asked for is in use.
    """
    if first is not None:
        for port in range(first, first + count):
            if not _free(port):
                raise EngineError(f"Port {port} is in use: choose another --base-port, or leave it out.")
        return list(range(first, first + count))
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if _free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise EngineError("There is no free port on this computer.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
