"""One member's place: a folder with its keys, its memory and ``member.toml``, which says where everything stands.

A SuperNode is started with the path of that file, and takes part in the one study that stands there. Nothing that comes
over the network can name another: a study reaches a member only through its own steward's hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from securefl import durable
from securefl.study.settings import MemberName
from securefl.toml_file import load_toml

MEMBER_FILE = "member.toml"


class Places(BaseModel):
    """Where a member finds and keeps things. Relative paths begin at the folder of ``member.toml``.

    Attributes:
        name, role: as pinned in the consortium.
        study: folder of the one study that it takes part in.
        consortium: the file with the pinned keys.
        keys: folder with a folder NAME of its private keys.
        home: folder for what must survive a restart; ``{study}`` in it stands for the study, so that the next study
            finds an empty one.
        privacy: a hospital's ledger and budget over all studies, in a folder NAME.
        socket: where a party's process takes messages; mode 0600.
        steward: the public key, hexadecimal, of a hospital's steward; the hospital then contributes only while a
            permit of the steward's allows it. "" asks for none.
        permit: folder of that permit, and of its revocation.
        insecure_unchecked: take part in a run in which nobody checks norms and sums.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: MemberName
    role: Literal["hospital", "party"]
    study: Path = Path("study")
    consortium: Path = Path("consortium.toml")
    keys: Path = Path("keys")
    home: Path = Path("home/{study}")
    privacy: Path = Path("privacy")
    socket: Path = Path("run/party.sock")
    steward: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    permit: Path = Path("permit")
    insecure_unchecked: bool = Field(default=False)

    @model_validator(mode="after")
    def _permitted(self) -> Places:
        # A permit that nobody checks must not look like one that is.
        if "permit" in self.model_fields_set and not self.steward:
            raise ValueError("a permit wants steward, the key that it is checked with")
        if self.steward and self.role != "hospital":
            raise ValueError("only a hospital has a steward")
        return self

    @classmethod
    def load(cls, file: Path) -> Places:
        """Read ``member.toml``; its paths become absolute.

        Raises:
            ConsortiumError: there is none, or it is malformed.
        """
        places = load_toml(cls, file, "make one with `securefl deploy init`.")
        folder = file.absolute().parent
        paths = {
            name: folder / value for name, value in places.model_dump().items() if isinstance(value, Path)
        }
        return places.model_copy(update=paths)

    def save(self, file: Path) -> None:
        """Write ``member.toml``; what has its default is left out."""
        without = set() if self.steward else {"permit"}
        values = self.model_dump(mode="json", exclude_defaults=True, exclude=without)
        durable.write(
            file, "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()).encode(), mode=0o644
        )
