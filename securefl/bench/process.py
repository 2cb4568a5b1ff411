"""Child processes of a benchmark, which answer one line of JSON with another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from securefl.errors import EngineError
from securefl.training.determinism import ENVIRONMENT

Line = dict[str, Any]
Hear = Callable[[], Line]
Say = Callable[[Line], None]


class BenchProcess:
    """A child, on one thread as the engine sets it. It ends when its input is closed. Use as a context.

    Args:
        name: in messages.
        module: run with ``python -m``; it calls :func:`converse`.
        arguments: of its command line.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **ENVIRONMENT, "GRPC_VERBOSITY": "NONE"},
            start_new_session=True,
        )

    def say(self, line: Line) -> None:
        """Send a line; if the child has ended, what it said last comes with :meth:`hear`."""
        stdin = self._process.stdin
        if stdin is not None:
            try:
                stdin.write(json.dumps(line).encode() + b"\n")
                stdin.flush()
            except BrokenPipeError:
                pass

    def hear(self) -> Line:
        """The child's next line.

        Raises:
            EngineError: it ended; the message is its own last word.
        """
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise EngineError(f"{self.name} ended unexpectedly: {said[-1]}")
        answer: Line = json.loads(line)
        return answer

    def __enter__(self) -> BenchProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def converse(work: Callable[[Hear, Say], None]) -> None:
    """Called in the child: run ``work`` with both ends of the conversation; it ends when the parent hangs up."""

    def hear() -> Line:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        heard: Line = json.loads(line)
        return heard

    def say(line: Line) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    work(hear, say)


def show(title: str, figures: Line, as_json: bool) -> None:
    """Print figures, as one JSON object or as a table."""
    if as_json:
        print(json.dumps(figures))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=title)
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
