"""How many runs of a permit have begun. Counted on disk before each start: what may have begun was used."""

from __future__ import annotations

import json
from pathlib import Path

from securefl import durable
from securefl.domain.errors import NotApprovedError

FILE = "runs.json"


class Runs:
    """The count of one permit.

    Args:
        folder: where the permit lies.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    @property
    def begun(self) -> int:
        """Runs that have begun."""
        return self._read()[0]

    def begin(self, allowed: int) -> int:
        """Begin the next run, or go on with the one that is not over; its number, from 1.

        Raises:
            NotApprovedError: all are used.
        """
        begun, over = self._read()
        if begun and not over:
            return begun
        if begun >= allowed:
            raise NotApprovedError(
                f"All {allowed} runs that were approved are used: a new approval is needed."
            )
        self._write(begun + 1, over=False)
        return begun + 1

    def end(self) -> int:
        """The run that was begun last is over; its number."""
        begun, _ = self._read()
        self._write(begun, over=True)
        return begun

    def _read(self) -> tuple[int, bool]:
        try:
            said = json.loads(self._file.read_text())
            return int(said["begun"]), bool(said["over"])
        except FileNotFoundError:
            return 0, True
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotApprovedError(
                f"{self._file} is damaged: restore it, or ask for a new approval."
            ) from error

    def _write(self, begun: int, over: bool) -> None:
        durable.write(self._file, json.dumps({"begun": begun, "over": over}).encode())
