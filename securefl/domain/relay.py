"""The folder that everybody shares: a network share, a synchronised folder, or a disk that is carried around.

Nothing in it is trusted. Each person writes under its own name only: ``EMAIL/card.cbor`` and
``EMAIL/to/RECIPIENT/NUMBER-DIGEST.frame``. Files appear whole where the file system can rename; readers bear it where
it cannot. No link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from securefl import durable
from securefl.domain.address import checked
from securefl.domain.cards import LONGEST_CARD
from securefl.domain.errors import FrameError, FrameTooLargeError, MalformedFrameError, RelayError
from securefl.errors import EngineError

CARD = "card.cbor"
MOST_FILES = 100_000
"""In one folder. What is more is not looked at."""


@dataclass(frozen=True)
class Entry:
    """A file in somebody's folder: ``key`` is its path or number, ``stamp`` changes when its content does."""

    name: str
    key: str
    size: int
    stamp: int
    plain: bool


class Carrier(Protocol):
    """What brings letters from one person to another; nothing that it says is trusted. Its errors are RelayErrors."""

    def check(self) -> None: ...
    def is_empty(self) -> bool: ...
    def put_card(self, email: str, data: bytes) -> None: ...
    def card(self, email: str) -> bytes | None: ...
    def put(self, sender: str, recipient: str, name: str, data: bytes) -> None: ...
    def frames(self, sender: str, recipient: str) -> list[Entry]: ...
    def head(self, entry: Entry, size: int) -> bytes | None: ...
    def read(self, entry: Entry, limit: int) -> bytes: ...


class Relay:
    """The shared folder as one person uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()

    def check(self) -> None:
        """Raise RelayError if there is no share."""
        if not self.folder.is_dir():
            raise RelayError(f"The shared folder {self.folder} is not there: connect it, then try again.")

    def is_empty(self) -> bool:
        """Whether nothing at all lies in the share, as where it is not mounted."""
        self.check()
        return not any(not name.startswith(".") for name in os.listdir(self.folder))

    def put_card(self, email: str, data: bytes) -> None:
        """Write a person's own card."""
        self._write(self._own(email), CARD, data)

    def card(self, email: str) -> bytes | None:
        """What lies there as a person's card (nothing at all where a link or a long file does), or None."""
        self.check()
        path = self.folder / checked(email) / CARD
        if path.parent.is_symlink():
            return b""
        try:
            return read_plain(path, LONGEST_CARD)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except FrameError:
            return b""
        except OSError as error:
            raise _explained(error, path) from error

    def put(self, sender: str, recipient: str, name: str, data: bytes) -> None:
        """Write a frame of ``sender``'s for ``recipient``.

        Raises:
            RelayError: the share is full, not writable, or not there.
        """
        self.check()
        if not (self.folder / checked(sender) / CARD).exists():
            raise RelayError(
                f"The card of {sender} is no longer in {self.folder}: is the share connected? If it is a new one, open "
                "the session again."
            )
        self._write(self._own(sender, "to", checked(recipient)), name, data)

    def frames(self, sender: str, recipient: str) -> list[Entry]:
        """The files that lie there for ``recipient`` from ``sender``, in the order of their names.

        None if a folder on the way is not there, or is a link or a file.

        Raises:
            RelayError: the share is not there, or cannot be read.
        """
        self.check()
        folder, found = self.folder, []
        try:
            for part in (checked(sender), "to", checked(recipient)):
                folder = folder / part
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    return []
            with os.scandir(folder) as files:
                for file in files:
                    if file.name.startswith("."):
                        continue  # our own, or a synchroniser's, while it is being written
                    status = file.stat(follow_symlinks=False)
                    plain = stat.S_ISREG(status.st_mode)
                    stamp = status.st_mtime_ns
                    found.append(Entry(file.name, file.path, status.st_size, stamp, plain))
                    if len(found) >= MOST_FILES:
                        break
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _explained(error, folder) from error
        return sorted(found, key=lambda entry: entry.name)

    def head(self, entry: Entry, size: int) -> bytes | None:
        """The first bytes of a file; OSError if it cannot be read. None where a carrier has files whole or not."""
        with open(entry.key, "rb", opener=_plainly) as file:
            return file.read(size)

    def read(self, entry: Entry, limit: int) -> bytes:
        """A file's bytes; as ``read_plain``."""
        return read_plain(Path(entry.key), limit)

    def _own(self, *parts: str) -> Path:
        """The folder of these names, made if it is not there; no link on the way."""
        self.check()
        folder = self.folder
        try:
            for part in parts:
                folder = folder / part
                folder.mkdir(mode=0o755, exist_ok=True)
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    raise RelayError(
                        f"{folder} is not a folder: somebody put a link or a file there, remove it."
                    )
        except OSError as error:
            raise _explained(error, folder) from error
        return folder

    def _write(self, folder: Path, name: str, data: bytes) -> None:
        try:
            durable.write(folder / name, data, mode=0o644)
        except EngineError as error:
            cause = error.__cause__
            raise _explained(
                cause if isinstance(cause, OSError) else OSError(0, ""), folder / name
            ) from error


def read_plain(path: Path, limit: int) -> bytes:
    """An ordinary file's bytes; OSError if it cannot be read.

    Raises:
        MalformedFrameError: it is a link, a pipe or a device.
        FrameTooLargeError: it is longer than ``limit``.
    """
    with open(path, "rb", opener=_plainly) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FrameTooLargeError(f"A file of more than {limit:,} bytes is too long.")
    return data


def _plainly(path: str, flags: int) -> int:
    """Open what is no link, without waiting at a pipe."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise MalformedFrameError("This is a link, not a file.") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MalformedFrameError("This is not an ordinary file.")
    return descriptor


def _explained(error: OSError, path: Path) -> RelayError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RelayError(f"The share is full, {path} cannot be written: free some space; nothing is lost.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RelayError(f"{path} cannot be written or read: ask who runs the share for its permissions.")
    reason = os.strerror(error.errno).lower() if error.errno else "unknown reason"
    return RelayError(f"The share failed at {path} ({reason}): connect it again; nothing is lost.")
