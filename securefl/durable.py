"""Files that are either whole or not there: written beside, synced, renamed.

Every durable byte of a role goes through ``write``. A crash leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from securefl.errors import EngineError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def write(path: Path, data: bytes | memoryview, mode: int = PRIVATE_FILE) -> None:
    """Write ``data`` durably under ``path``, replacing what stood there.

    Raises:
        EngineError: the disk is full or the folder cannot be written; what stood there before is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _explained(error, path) from error


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    return path


def _explained(error: OSError, path: Path) -> EngineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineError(f"The disk that holds {path.parent} is full: free some space and run again with --resume.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EngineError(f"{path} cannot be written: check the permissions of its folder.")
    return EngineError(f"{path} cannot be written: {os.strerror(error.errno or 0).lower()}.")
