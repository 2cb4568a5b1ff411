"""The process beside a confined one: it starts it, carries its one connection, measures it, and ends it.

Run as ``python -m securefl.domain.supervise``. Standard input brings one line, the cell, and is then the leash: when it
is closed, the confined process is asked to end and soon made to. Standard output says how it began and how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import IO, Any, NoReturn

from securefl.domain import namespaces
from securefl.domain.sandbox import Cell
from securefl.domain.tally import descendants, memory_of, size_of

EVERY, DISK_EVERY = 0.25, 5.0
GRACE_SECONDS, PATIENCE_SECONDS = 8.0, 60.0
CONNECTIONS = 64
CHUNK = 1 << 16


def main() -> None:
    """Look after one cell until it ends."""
    cell = Cell.from_line(sys.stdin.buffer.readline())
    reports, report = os.pipe()
    outputs, output = os.pipe()
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _child(cell, report, output, there)
    os.close(report)
    os.close(output)
    there.close()
    with os.fdopen(reports, "rb") as pipe:
        failure = pipe.read()
    if failure:
        os.waitpid(pid, 0)
        _say(json.loads(failure))
        return
    listening = None
    if not cell.unwalled and cell.address is not None:
        _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
        listening = socket.socket(fileno=descriptors[0])
    here.close()
    _say({"started": True})
    _say(asyncio.run(Supervisor(cell, pid, outputs, listening).run()))


def _say(values: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # whoever started this has gone
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()


# -- inside ------------------------------------------------------------------------------------------------------


def _child(cell: Cell, report: int, output: int, pair: socket.socket) -> NoReturn:
    """Everything between fork and exec. What fails is reported; the report's end is the exec."""
    try:
        os.setsid()
        if not cell.unwalled:
            namespaces.enter()
            namespaces.die_with_parent()
            if cell.address is not None:
                _hand_over(cell.address[0], pair)
            _fork_and_wait([report, output, pair.fileno()])
            namespaces.die_with_parent()
            namespaces.shut(cell.root, cell.files)
            namespaces.drop_privileges()
            _fork_and_wait([report, output, pair.fileno()])
        namespaces.die_with_parent()
        _redirect(output)
        os.chdir(cell.folder)
        _limit(cell)
        namespaces.no_new_privileges()
        os.execve(cell.command[0], list(cell.command), dict(cell.environment))
    except BaseException as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        with contextlib.suppress(OSError):
            os.write(report, json.dumps({"failed": reason.lower()}).encode())
    os._exit(70)


def _hand_over(port: int, pair: socket.socket) -> None:
    """Listen inside, and give the listening socket to the supervisor, which stays outside."""
    with socket.socket() as inside:
        inside.bind(("127.0.0.1", port))
        inside.listen(CONNECTIONS)
        socket.send_fds(pair, [b"l"], [inside.fileno()])


def _fork_and_wait(closed: list[int]) -> None:
    """Go on in a new process; the old one passes the wish to end on, reaps, and ends as the new one does."""
    pid = os.fork()
    if pid == 0:
        return
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    for descriptor in [*closed, 0, 1, 2]:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    while True:
        found, status = os.wait()
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _redirect(output: int) -> None:
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _limit(cell: Cell) -> None:
    limits = cell.limits
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_NOFILE, 4096),
    ]
    if not cell.unwalled:
        # Threads count, of this user in this namespace; outside it, all others of the user would count too.
        wanted.append((resource.RLIMIT_NPROC, 64 * limits.processes))
    for kind, most in wanted:
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


# -- outside -----------------------------------------------------------------------------------------------------


class Supervisor:
    """Looks after one confined process, from outside.

    Args:
        cell: what it is.
        pid: of the outermost of its processes.
        output: where what it says is read.
        listening: the socket inside, behind which its one address is found.
    """

    def __init__(self, cell: Cell, pid: int, output: int, listening: socket.socket | None) -> None:
        self._cell, self._pid, self._output, self._listening = cell, pid, output, listening
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._reason = ""
        self._last_words: asyncio.Task[None] | None = None

    async def run(self) -> dict[str, Any]:
        """Until it ends; says how."""
        if self._listening is not None:
            await asyncio.start_server(self._carry, sock=self._listening)
        log = asyncio.create_task(self._keep_log())
        watching = [asyncio.create_task(task) for task in (self._leash(), self._measure())]
        _, status = await asyncio.to_thread(os.waitpid, self._pid, 0)
        for task in watching:
            task.cancel()
        self._kill()  # what it left behind
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(log, 2.0)
        code = os.waitstatus_to_exitcode(status)
        return {"ended": self._reason or f"It ended by itself, with status {code}.", "status": code}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from inside to the one address outside."""
        _, host, port = self._cell.address or (0, "", 0)
        async with self._connections:
            try:
                outside, out = await _reached(host, port)
            except OSError:
                writer.close()
                return
            try:
                await asyncio.gather(_copy(reader, out), _copy(outside, writer))
            finally:
                out.close()
                writer.close()

    async def _keep_log(self) -> None:
        left = self._cell.limits.log
        output = await _reader(os.fdopen(self._output, "rb", 0))
        with self._cell.log.open("ab") as log:
            while data := await output.read(CHUNK):
                log.write(data[:left])
                if left and len(data) >= left:
                    log.write(b"\nWhat it said beyond this is not kept.\n")
                left = max(0, left - len(data))
                log.flush()

    async def _leash(self) -> None:
        """Wait for the end of standard input, and then end the process."""
        stdin = await _reader(sys.stdin)
        while await stdin.read(CHUNK):
            pass
        self._reason = "It was stopped."
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        await asyncio.sleep(GRACE_SECONDS)
        self._kill()

    async def _measure(self) -> None:
        limits, loop = self._cell.limits, asyncio.get_running_loop()
        start, looked = loop.time(), loop.time()
        writable = [path for path, may in self._cell.files.items() if may]
        while True:
            pids = descendants(self._pid)
            now = loop.time()
            checks: list[tuple[str, Callable[[], bool]]] = [
                ("time", lambda now=now: limits.seconds is not None and now - start > limits.seconds),  # type: ignore[misc]
                ("processes", lambda pids=pids: len(pids) > limits.processes),  # type: ignore[misc]
                ("memory", lambda pids=pids: memory_of(pids) > limits.memory),  # type: ignore[misc]
            ]
            if now - looked > DISK_EVERY:
                looked = now
                checks.append(("disk", lambda: size_of(writable) > limits.disk))
            for what, exceeded in checks:
                if exceeded():
                    self._reason = f"It was ended: it used up its {what}."
                    self._kill()
                    return
            await asyncio.sleep(EVERY)

    def _kill(self) -> None:
        """End all of it at once. In a process namespace the kernel ends the rest when the first has gone."""
        pids = [*descendants(self._pid), self._pid]
        for kill, pid in [(os.killpg, self._pid), *((os.kill, pid) for pid in pids)]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)


async def _reader(pipe: IO[Any]) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _reached(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; OSError if nobody answers for ``PATIENCE_SECONDS``.

    Inside, every connection is taken. A SuperNode waits for a SuperLink that does not answer yet, and gives up on one
    that hangs up.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await asyncio.open_connection(host, port)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(EVERY)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


if __name__ == "__main__":
    main()
