"""``domain.toml``: what one person's home is for, so that commands need only the home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from securefl import durable
from securefl.domain.errors import DomainError
from securefl.domain.session import Session
from securefl.study.settings import Settings
from securefl.toml_file import parse_toml

FILE = "domain.toml"
Part = Literal["owner", "researcher", "operator"]


class HomeSettings(Settings):
    """Whose home it is, and its part in the domain. Relative paths begin at the home.

    Attributes:
        folder: an owner's hospital folder, or an operator's member folder, of ``securefl deploy``.
    """

    email: str
    part: Part
    relay: str
    folder: str | None = None

    @classmethod
    def load(cls, home: Path) -> HomeSettings:
        """Read it.

        Raises:
            DomainError: there is none, or it is malformed.
        """
        try:
            return cls.model_validate(parse_toml((home / FILE).read_bytes()))
        except FileNotFoundError as error:
            raise DomainError(f"{home} is no home: make one with `securefl domain init`.") from error
        except (OSError, ValueError, ValidationError) as error:
            raise DomainError(
                f"{home / FILE} is malformed: mend it, or run `securefl domain init` again."
            ) from error

    def save(self, home: Path) -> None:
        """Write it."""
        values = self.model_dump(exclude_none=True)
        durable.write(home / FILE, "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()).encode())

    def open(self, home: Path) -> Session:
        """The session of this home."""
        relay = home / self.relay
        folder = None if self.folder is None else home / self.folder
        if self.part == "owner":
            from securefl.domain.owner_session import Owner

            return Owner(self.email, home, relay, folder)
        if self.part == "researcher":
            from securefl.domain.researcher_session import Researcher

            return Researcher(self.email, home, relay)
        from securefl.domain.operator_session import Operator

        if folder is None:
            raise DomainError(
                f"{home / FILE} names no folder: an operator needs its member's, give --folder."
            )
        return Operator(self.email, home, relay, folder)
