"""Which steps were answered, on disk: each once, also by processes that run at the same time.

A client whose state lies in Flower's context alone could be asked twice at once, or after its SuperNode was set back:
two signatures over two sums, two shares of one client. A step is claimed here before its answer leaves.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from protocols.canonical import decode, encode
from protocols.errors import EncodingError
from protocols.pairwise import StepError
from securefl.secagg.plan import SecAggError


def claim(path: Path, exchange: int, step: int) -> None:
    """Note that a step of an exchange is answered; steps and exchanges only go up.

    Raises:
        StepError: it was answered already, or something later was.
        SecAggError: the file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SecAggError(
            "The folder of the signing key cannot be written: it notes what was answered."
        ) from error
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if [exchange, step] <= _read(file.read()):
            raise StepError("This step was answered already.")
        file.seek(0)
        file.write(encode([exchange, step]))
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _read(data: bytes) -> list[int]:
    if not data:
        return [0, 0]
    try:
        last = decode(data)
    except EncodingError:
        last = None
    if not (isinstance(last, list) and len(last) == 2 and all(type(x) is int for x in last)):
        raise SecAggError("The note of what was answered is damaged: start a new run.")
    return last
