"""Files that are either whole or not there: written beside, synced, renamed.

Every durable byte of a role goes through ``write``, what can be made again through ``replace``. A crash leaves the old
file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from securefl.errors import EngineError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def write(path: Path, data: bytes | memoryview, mode: int = PRIVATE_FILE) -> None:
    """Write ``data`` durably under ``path``, replacing what stood there.

    Raises:
        EngineError: the disk is full or the folder cannot be written; what stood there before is unchanged.
    """
    _replace(path, data, mode, os.fsync)
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path) from error


def replace(path: Path, data: bytes | memoryview, mode: int = PRIVATE_FILE) -> None:
    """Write ``data`` whole under ``path``, for what can be made again: it survives the process, not a power failure.

    Raises:
        EngineError: as ``write``.
    """
    _replace(path, data, mode, lambda descriptor: None)


def _replace(path: Path, data: bytes | memoryview, mode: int, settle: Callable[[int], None]) -> None:
    private_folder(path.parent)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            settle(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise _explained(error, path) from error


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file, durably; a crash may leave the beginning of ``data`` there.

    Raises:
        EngineError: as ``write``.
    """
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _explained(error, path) from error


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter, and those above it that are missing; what is there stays.

    Raises:
        EngineError: it cannot be made.
    """
    try:
        try:
            path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        except FileNotFoundError:
            # Python's own way of making parents leaves them open to all.
            private_folder(path.parent)
            path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    except OSError as error:
        raise _explained(error, path) from error
    return path


def _explained(error: OSError, path: Path) -> EngineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineError(
            f"The disk that holds {path.parent} is full: free some space and run again with --resume."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EngineError(f"{path} cannot be written: check the permissions of its folder.")
    return EngineError(f"{path} cannot be written: {os.strerror(error.errno or 0).lower()}.")
