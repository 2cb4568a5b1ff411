"""What a file held when it was last read, as long as it is the same file: for looks that are repeated every second.

Our files are replaced, never changed in place, so that a new content has a new inode, time or size. Other processes
write them too; the disk is asked every time, and read only if the answer is another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """What tells this content of a file from another; None if there is no file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


class Remembered(Generic[T]):
    """What ``read`` made of each file.

    Args:
        read: from a path; FileNotFoundError if nothing is there. Its result is not to be changed.
    """

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._known: dict[Path, tuple[Stamp, T]] = {}

    def get(self, path: Path) -> T:
        """The file's content; whatever ``read`` raises, if it has to be read."""
        stamp, known = stamp_of(path), self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        self._known.pop(path, None)
        value = self._read(path)
        if stamp is not None and stamp_of(path) == stamp:  # else it was replaced meanwhile
            self._known[path] = stamp, value
        return value
