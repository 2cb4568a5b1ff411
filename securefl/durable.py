"""Files that are either whole or not there: written beside, synced, renamed.

Every durable byte of a role goes through ``write`` or ``create``, what can be made again through ``replace``. A crash
leaves the old file or the new one, never half of one. Beside it an unfinished file may be left, until ``sweep``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from securefl.errors import EngineError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700

_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{8}")


def write(path: Path, data: bytes | memoryview, mode: int = PRIVATE_FILE) -> None:
    """Write ``data`` durably under ``path``, replacing what stood there.

    Raises:
        EngineError: the disk is full or the folder cannot be written; what stood there before is unchanged.
    """
    _replace(path, data, mode, os.fsync)
    _sync_entry(path)


def create(path: Path, data: bytes) -> None:
    """Write ``data`` durably under ``path``, where nothing stands yet, or these bytes.

    Of several processes that do so at once, with other bytes each, one succeeds.

    Raises:
        EngineError: as ``write``, or other bytes stand there; they are unchanged.
    """
    with _unfinished(path, data, PRIVATE_FILE, os.fsync) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            if path.read_bytes() != data:
                raise EngineError(
                    f"{path} was written by another process, with something else in it: run again with --resume."
                ) from None
    # Also what another process put there may not be durable yet.
    _sync_entry(path)


def replace(path: Path, data: bytes | memoryview, mode: int = PRIVATE_FILE) -> None:
    """Write ``data`` whole under ``path``, for what can be made again: it survives the process, not a power failure.

    Raises:
        EngineError: as ``write``.
    """
    _replace(path, data, mode, lambda descriptor: None)


def _replace(path: Path, data: bytes | memoryview, mode: int, settle: Callable[[int], None]) -> None:
    with _unfinished(path, data, mode, settle) as beside:
        os.replace(beside, path)


@contextlib.contextmanager
def _unfinished(
    path: Path, data: bytes | memoryview, mode: int, settle: Callable[[int], None]
) -> Iterator[Path]:
    """A file with ``data`` in it, to be given the name ``path``; under its own, beside it, it is gone at the end."""
    private_folder(path.parent)
    try:
        beside, descriptor = _new_file(path, mode)
        try:
            rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            settle(descriptor)
            yield beside
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
            os.close(descriptor)
    except OSError as error:
        raise _explained(error, path) from error


def _new_file(path: Path, mode: int) -> tuple[Path, int]:
    """A new file beside ``path``, locked as long as its descriptor is open; where there are no locks, it has none."""
    while True:
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return beside, descriptor
        os.close(descriptor)  # swept before it was locked


def meant_for(path: Path) -> str:
    """The name that an unfinished file was to be given; of any other, its own."""
    unfinished = _UNFINISHED.fullmatch(path.name)
    return unfinished[1] if unfinished else path.name


def sweep(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed, and with them what they hold.

    A living writer, in whatever process, has its file locked. What cannot be locked or removed stays.
    """
    for path in folder.iterdir():
        if not _UNFINISHED.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _sync_entry(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError as error:
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

    What is made is durable.

    Raises:
        EngineError: it cannot be made.
    """
    try:
        _make_folder(path)
    except OSError as error:
        raise _explained(error, path) from error
    return path


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=PRIVATE_FOLDER)
    except FileNotFoundError:
        # Python's own way of making parents leaves them open to all.
        private_folder(path.parent)
        path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    except OSError:
        if path.is_dir():
            return
        raise
    sync_folder(path.parent)


def _explained(error: OSError, path: Path) -> EngineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineError(
            f"The disk that holds {path.parent} is full: free some space and run again with --resume."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EngineError(f"{path} cannot be written: check the permissions of its folder.")
    return EngineError(f"{path} cannot be written: {os.strerror(error.errno or 0).lower()}.")
