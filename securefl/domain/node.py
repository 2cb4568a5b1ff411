"""A hospital's folder, as ``securefl deploy`` made it, and how far its part in a study has come."""

from __future__ import annotations

from pathlib import Path

from securefl.errors import ConsortiumError
from securefl.member import MEMBER_FILE, Places
from securefl.roles.hospital import MEMORY
from securefl.roles.host import Store
from securefl.roles.replica import Replica


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
    """The round that a hospital waits for; None before its first outcome.

    Args:
        home: the run's memory, which holds a folder for the hospital.
    """
    folder = home / hospital
    if not folder.is_dir():
        return None
    memory = Store(folder).get(MEMORY)
    replica = Replica.recovered(memory) if memory else None
    return None if replica is None else replica.place.round


class Progress:
    """The same, asked often: the memory, which holds the model, is read when it has changed."""

    def __init__(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._awaited: int | None = None

    def awaited(self, home: Path, hospital: str) -> int | None:
        """See ``awaited_round``."""
        try:
            found = (home / hospital / MEMORY).stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_ino, found.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp, self._awaited = stamp, awaited_round(home, hospital)
        return self._awaited
