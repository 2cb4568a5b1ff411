"""A link between two processes of one computer: messages over a Unix socket that only its owner can open.

The far end answers each message with any number of messages, and says how long it trained for them, for the run's
statistics. A frame is a count of segments, and each segment's length before its bytes: large messages are not copied
into an encoding of their own.
"""

from __future__ import annotations

import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import EncodingError
from securefl.errors import SecureFLError

_NUMBER, _SECONDS = struct.Struct(">Q"), struct.Struct(">d")
MAX_SEGMENTS = 64
MAX_SEGMENT = 1 << 33
MAX_SECONDS = 1e7
"""A study's longest deadline is a day."""


class LinkLostError(Exception):
    """The other process is gone, or silent beyond the deadline."""


class LinkFaultError(Exception):
    """The other process reports, in one sentence, an error that a retry would not mend."""


@dataclass(frozen=True)
class Reply:
    """Answers to one message.

    Attributes:
        messages: the answers.
        training_seconds: how long a hospital trained for them, as it says itself.
    """

    messages: list[bytes]
    training_seconds: float = 0.0


Handler = Callable[[str, bytes], Reply]


def checked_seconds(said: object) -> float:
    """How long a member says that it trained.

    Raises:
        EncodingError: it is no number from 0 to ``MAX_SECONDS``.
    """
    if type(said) is not float or not 0.0 <= said <= MAX_SECONDS:
        raise EncodingError("An answer does not say how many seconds it took to train for it.")
    return said


class LinkServer:
    """Serves one handler on a socket; messages are handled one at a time.

    Args:
        path: of the socket, at most 100 characters; its folder must be private to the owner.
        handler: takes the target's name and a message. A SecureFLError from it is reported as a fault.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        turn = threading.Lock()

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while (frame := _receive(self.request, None)) is not None:
                    with turn:
                        answer = _answered(handler, frame)
                    _send(self.request, answer)

        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = socketserver.ThreadingUnixStreamServer(str(path), Connection)
        finally:
            os.umask(before)
        self._server.daemon_threads = True

    def start(self) -> None:
        """Begin to serve, in the background."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


class Link:
    """The calling end. One exchange at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def exchange(self, message: bytes, seconds: float, target: str = "") -> Reply:
        """Send a message and wait for its answers.

        Raises:
            LinkLostError: no process answers there within ``seconds``.
            LinkFaultError: the process reports an error that ends the run.
        """
        end = time.monotonic() + seconds
        try:
            connected = self._connected(seconds)
            _send(connected, [target.encode(), message])
            frame = _receive(connected, end)
            if frame is None or len(frame) < 2:
                raise EncodingError("The other process has closed the link.")
            fault, said, *messages = frame
            reply = Reply(messages, checked_seconds(*_SECONDS.unpack(said)))
        except (OSError, EncodingError, struct.error) as error:
            self.close()
            raise LinkLostError("The other process is gone, or silent.") from error
        if fault:
            raise LinkFaultError(fault.decode())
        return reply

    def _connected(self, seconds: float) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(seconds)
            self._socket.connect(str(self._path))
        self._socket.settimeout(seconds)
        return self._socket

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _answered(handler: Handler, frame: list[bytes]) -> list[bytes]:
    target, message = frame
    try:
        reply = handler(target.decode(), message)
    except SecureFLError as error:
        return [str(error).encode(), _SECONDS.pack(0.0)]
    return [b"", _SECONDS.pack(reply.training_seconds), *reply.messages]


def _send(connected: socket.socket, frame: list[bytes]) -> None:
    connected.sendall(_NUMBER.pack(len(frame)))
    for segment in frame:
        connected.sendall(_NUMBER.pack(len(segment)))
        connected.sendall(segment)


def _receive(connected: socket.socket, end: float | None) -> list[bytes] | None:
    """One frame; None if the other end closed the link before it.

    Raises:
        EncodingError: the link was closed within the frame, or the frame is larger than any message.
    """
    head = _exactly(connected, _NUMBER.size, end)
    if not head:
        return None
    (count,) = _NUMBER.unpack(head)
    if count > MAX_SEGMENTS:
        raise EncodingError("A frame has more segments than any message.")
    return [_segment(connected, end) for _ in range(count)]


def _segment(connected: socket.socket, end: float | None) -> bytes:
    (length,) = _NUMBER.unpack(_exactly(connected, _NUMBER.size, end) or bytes(8))
    if length > MAX_SEGMENT:
        raise EncodingError("A segment is longer than any message.")
    segment = _exactly(connected, length, end)
    if len(segment) != length:
        raise EncodingError("The link was closed within a message.")
    return segment


def _exactly(connected: socket.socket, length: int, end: float | None) -> bytes:
    """That many bytes; none at all if the other end closed the link before the last of them."""
    buffer = bytearray(length)
    view, done = memoryview(buffer), 0
    while done < length:
        if end is not None:
            connected.settimeout(max(0.001, end - time.monotonic()))
        count = connected.recv_into(view[done:])
        if count == 0:
            return b""
        done += count
    return bytes(buffer)
