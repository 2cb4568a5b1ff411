"""A published dataset, as its hospital keeps it. The private files stay where they are: Syft never gets them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from securefl import durable
from securefl.domain.errors import DatasetError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
HOSPITAL_TAG = "hospital:"
"""How a Syft dataset's tags name the hospital in the consortium."""
PRIVATE_NOTE = "The private data stay in the hospital's own folder; Syft holds no copy.\n"


@dataclass(frozen=True)
class Dataset:
    """What a hospital has published.

    Attributes:
        name: for everybody.
        hospital: the member's name in the consortium.
        private: folder of the real records.
        description: for everybody.
    """

    name: str
    hospital: str
    private: str
    description: str

    def private_files(self) -> list[Path]:
        """The real files.

        Raises:
            DatasetError: the folder has gone.
        """
        folder = Path(self.private)
        if not folder.is_dir():
            raise DatasetError(f"The private folder of {self.name}, {folder}, is gone: put it back.")
        return sorted(path for path in folder.rglob("*") if path.is_file())


class Datasets:
    """What one hospital has published, on its own disk."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "datasets"

    def save(self, dataset: Dataset) -> None:
        """Write it down."""
        durable.write(self._folder / f"{dataset.name}.json", json.dumps(asdict(dataset)).encode())

    def get(self, name: str) -> Dataset:
        """One by name.

        Raises:
            DatasetError: it is not published here.
        """
        check_name(name)
        try:
            return Dataset(**json.loads((self._folder / f"{name}.json").read_text()))
        except FileNotFoundError as error:
            raise DatasetError(f"{name} is not published here: publish it first.") from error
        except (OSError, ValueError, TypeError) as error:
            raise DatasetError(f"What is written of {name} is damaged: publish it again.") from error

    def remove(self, name: str) -> None:
        """Forget it."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def all(self) -> list[Dataset]:
        """All, by name."""
        return [self.get(path.stem) for path in sorted(self._folder.glob("*.json"))]


def check_name(name: str) -> None:
    """Raise DatasetError unless this can be a dataset's name."""
    if not NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r} cannot be a dataset's name: use at most 64 lower case letters, digits, dots, hyphens."
        )


def check_folders(private: Path, mock: Path) -> None:
    """Raise DatasetError unless both folders hold something and neither contains the other."""
    for what, folder in (("private", private), ("mock", mock)):
        if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
            raise DatasetError(f"The {what} folder {folder} holds no files.")
    inner, outer = private.resolve(), mock.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise DatasetError(
            f"{private} and {mock} contain one another: keep private and mock data apart, mock data are handed out."
        )
    for path in mock.rglob("*"):
        if path.is_symlink():
            raise DatasetError(f"{path} is a link: mock data are handed out, so copy the file there.")
