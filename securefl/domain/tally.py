"""What a process and all that it started use, as /proc tells it from outside."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """The living processes below one, children before grandchildren; without itself.

    A process whose parent has ended belongs to the system's first process, unless it is in a process namespace of its
    own: there it stays below.
    """
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)) and fields[0] != "Z":
            children[int(fields[1])].append(int(entry.name))
    found, ahead = [], [pid]
    while ahead:
        below = children.get(ahead.pop(0), [])
        found += below
        ahead += below
    return found


def _stat(process: Path) -> list[str]:
    """State, parent, and what follows in /proc/PID/stat; empty if the process has gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def memory_of(pids: Iterable[int]) -> int:
    """Bytes in memory, where what two processes share counts twice."""
    return sum(int(fields[21]) * _PAGE for pid in pids if (fields := _stat(Path(f"/proc/{pid}"))))


def size_of(paths: Iterable[Path]) -> int:
    """Bytes on disk of all files in these folders. What vanishes meanwhile counts as nothing."""
    total = 0
    for path in paths:
        for folder, _, names in os.walk(path):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
