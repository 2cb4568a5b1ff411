"""What all settings are made of: a strict, frozen base, and the texts that name members, files and functions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

MemberName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
"""A member's name: lower case letters, digits and hyphens, at most 32 characters, a letter first."""

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]
"""A file inside the study folder, relative, without ``..``."""

ModuleReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_/-]*\.py:[A-Za-z_]\w*$")]
"""A function in a Python file of the study folder: ``file.py:function``."""


class Settings(BaseModel):
    """Base of all settings: frozen, and without room for a key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
