"""A record made of what people typed: what it does not take is said in one sentence."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from protocols.canonical import Record
from securefl.errors import SecureFLError
from securefl.toml_file import first_complaint

R = TypeVar("R", bound=Record)
_FIELDS = {"title": "the study's name", "files": "a file's name"}


def made(kind: type[R], error: type[SecureFLError], **fields: Any) -> R:
    """A record of these fields; ``error``, with its first complaint, if they are none."""
    try:
        return kind(**fields)
    except ValidationError as wrong:
        raise error(_sentence(kind, wrong)) from wrong


def _sentence(kind: type[Record], wrong: ValidationError) -> str:
    first = wrong.errors()[0]
    field = str(first["loc"][0])
    if first["type"] == "string_pattern_mismatch":
        return (
            f"This cannot be {_FIELDS.get(field, field)} in a {kind.kind}: {str(first['input'])[:200]!a}; use letters, "
            "digits, dots, hyphens and underscores."
        )
    what = first_complaint(wrong).removeprefix(f"{field}: ")
    named = _FIELDS.get(field, field)
    return f"{named[0].upper()}{named[1:]} does not fit into a {kind.kind}: {what}."
