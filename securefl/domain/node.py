"""A hospital's folder, as ``securefl deploy`` made it, and how far its part in a study has come."""

from __future__ import annotations

from pathlib import Path

from securefl.domain.errors import FrameError
from securefl.domain.relay import read_plain
from securefl.errors import ConsortiumError
from securefl.member import MEMBER_FILE, Places
from securefl.roles.hospital import MEMORY
from securefl.roles.replica import Replica

MAX_MEMORY = 1 << 30
"""Bytes, of a model with 60 million coordinates. What a run writes is not believed to be a memory: its study's code
could make anything of the file, and a service that reads it must not run out of memory."""


def hospital_name(folder: Path) -> str:
    """The member's name in the consortium.

    Raises:
        ConsortiumError: this is not a hospital's folder.
    """
    places = Places.load(folder / MEMBER_FILE)
    if places.role != "hospital":
        raise ConsortiumError(f"{folder} is the folder of a {places.role}: a steward needs a hospital's.")
    return places.name


def awaited_round(home: Path, hospital: str) -> int | None:
    """The round that a hospital waits for; None before its first outcome, and where no memory can be read.

    Args:
        home: the run's memory, which holds a folder for the hospital. The study's own code can write there: what is no
            ordinary file, in a folder that is none of the run's, or longer than any memory, is not read.
    """
    folder = home / hospital
    if home.is_symlink() or folder.is_symlink():
        return None
    try:
        replica = Replica.recovered(read_plain(folder / MEMORY, MAX_MEMORY))
    except (OSError, FrameError):
        return None
    return None if replica is None else replica.place.round


class Progress:
    """The same, asked often: the memory, which holds the model, is read when it has changed."""

    def __init__(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._awaited: int | None = None

    def awaited(self, home: Path, hospital: str) -> int | None:
        """See ``awaited_round``."""
        try:
            found = (home / hospital / MEMORY).lstat()
        except OSError:
            return None
        stamp = (found.st_ino, found.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._awaited = stamp, awaited_round(home, hospital)
        return self._awaited
