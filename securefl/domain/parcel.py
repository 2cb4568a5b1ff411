"""A finished run on its way: many files, in letters of bounded size, put together at the other end or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES
from pathlib import Path

from securefl import durable
from securefl.domain.errors import ReleaseError
from securefl.domain.letters import Body

PIECE_BYTES = 16 * 2**20
MOST_BYTES = 16 * 2**30
"""A parcel that says it is larger is refused at its first piece."""
PARTS = ("run.json", "summary.json", "history.jsonl", "model.safetensors", "consortium.toml")
RECEIPT = re.compile(r"receipts/[a-z]{1,20}(-[0-9]{1,9})?")
PERMIT = re.compile(r"permits/[a-z][a-z0-9-]{0,31}\.cbor")
STUDY = re.compile(r"study/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}){0,4}")
"""Of a run's folder: what ``securefl verify`` and ``audit`` read, and nothing that a member keeps for itself."""
COMPILED = (*BYTECODE_SUFFIXES, *EXTENSION_SUFFIXES, ".pyo", ".so", ".pyd", ".dll", ".dylib")
"""How the names of files end that Python would run, and that are of no study."""
FOLDERS = ("study", "receipts", "permits")


class Piece(Body):
    """A part of one file.

    Attributes:
        proposal: digest of the proposal whose run this is.
        name: the file's, relative to the run's folder.
        offset: where ``data`` belongs in it; pieces of a file come in order.
        bytes_in_all: of the whole parcel.
        last: whether the parcel is complete with this piece.
    """

    kind = "run-piece"
    topic = "run"
    proposal: bytes
    name: str
    offset: int
    data: bytes
    bytes_in_all: int
    last: bool


def pieces(proposal: bytes, run: Path) -> Iterator[Piece]:
    """The pieces of a finished run, in order.

    Raises:
        ReleaseError: there is no finished run.
    """
    paths = [run / name for name in PARTS if (run / name).is_file()]
    for folder in FOLDERS:
        paths += [path for path in (run / folder).rglob("*") if path.is_file()]
    names = {path: path.relative_to(run).as_posix() for path in paths}
    paths = sorted((path for path in paths if is_run_file(names[path])), key=lambda path: _place(names[path]))
    cuts = [(path, offset) for path in paths for offset in range(0, max(path.stat().st_size, 1), PIECE_BYTES)]
    if not (run / "model.safetensors").is_file():
        raise ReleaseError(f"There is no finished run in {run}.")
    total = sum(path.stat().st_size for path in paths)
    for number, (path, offset) in enumerate(cuts, start=1):
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(PIECE_BYTES)
        yield Piece(
            proposal=proposal, name=path.relative_to(run).as_posix(), offset=offset, data=data, bytes_in_all=total,
            last=number == len(cuts),
        )  # fmt: skip


def take(piece: Piece, folder: Path) -> bool:
    """Put a piece where it belongs; whether the parcel is complete, and stands in ``folder``.

    A parcel that begins anew replaces one that was never completed. The piece that was taken last may come again, as
    after a crash; nothing is changed then.

    Raises:
        ReleaseError: a name is no file of a run, the pieces do not fit, or there are more bytes than were said.
    """
    coming = folder.with_name(f"{folder.name}.coming")
    if not is_run_file(piece.name):
        raise ReleaseError(f"A finished run has no file {piece.name[:200]!r}: it was not kept.")
    path = coming / piece.name
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise ReleaseError(f"{piece.name[:200]!r} is both a file and a folder: the run must be sent again.")
    if piece.last and not coming.exists() and _is_complete(folder, piece):
        return True
    if _was_begun(path, piece) and _is_newest(coming, piece.name):
        os.truncate(path, piece.offset)
    elif piece.offset == 0 and path.exists():
        shutil.rmtree(coming, ignore_errors=True)
    if piece.offset != (path.stat().st_size if path.exists() else 0):
        raise ReleaseError(f"A piece of {piece.name} is missing: the run must be sent again.")
    if not 0 <= piece.bytes_in_all <= MOST_BYTES or _bytes_in(coming) + len(piece.data) > piece.bytes_in_all:
        shutil.rmtree(coming, ignore_errors=True)
        raise ReleaseError("A run brings more bytes than it said: nothing of it was kept.")
    durable.private_folder(path.parent)
    if piece.offset == 0:
        durable.write(path, piece.data)
    else:
        durable.append(path, piece.data)
    if not piece.last:
        return False
    if _bytes_in(coming) != piece.bytes_in_all:
        raise ReleaseError("A run came without some of its files: it must be sent again.")
    shutil.rmtree(folder, ignore_errors=True)
    coming.rename(folder)
    durable.sync_folder(folder.parent)
    return True


def is_run_file(name: str) -> bool:
    """Whether this is the relative name of one of the files that a run hands over."""
    if STUDY.fullmatch(name):
        return "__pycache__" not in name.split("/") and not name.lower().endswith(COMPILED)
    return name in PARTS or any(form.fullmatch(name) for form in (RECEIPT, PERMIT))


def _place(name: str) -> tuple[int, str]:
    """Where a file stands in a parcel."""
    if name in PARTS:
        return PARTS.index(name), ""
    return len(PARTS) + FOLDERS.index(name.split("/")[0]), name


def _is_newest(coming: Path, name: str) -> bool:
    """Whether no file of the parcel that comes after this one has come yet."""
    there = (path.relative_to(coming).as_posix() for path in coming.rglob("*") if path.is_file())
    return all(_place(other) <= _place(name) for other in there if is_run_file(other))


def _was_begun(path: Path, piece: Piece) -> bool:
    """Whether a file ends with the beginning of a piece, or all of it, at the piece's place."""
    if not path.is_file() or not 0 <= piece.offset <= path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(piece.offset)
        return piece.data.startswith(file.read(len(piece.data) + 1))


def _is_complete(folder: Path, piece: Piece) -> bool:
    """Whether the parcel that ends with this piece stands there already."""
    path = folder / piece.name
    end = piece.offset + len(piece.data)
    return _was_begun(path, piece) and path.stat().st_size == end and _bytes_in(folder) == piece.bytes_in_all


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
