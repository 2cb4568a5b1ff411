"""A file in TOML that a member or an operator wrote, as a checked record; what is wrong with it, as one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from securefl.errors import ConsortiumError

M = TypeVar("M", bound=BaseModel)


def parse_toml(data: bytes) -> dict[str, Any]:
    """A document's content, whoever wrote it.

    Raises:
        ValueError: it is no TOML, or Python does not take it; why, for a sentence.
    """
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        raise ValueError("a number in it is too long") from error


def load_toml(kind: type[M], path: Path, missing: str) -> M:
    """Read a file.

    Args:
        missing: what to do where there is none, for the sentence.

    Raises:
        ConsortiumError: there is none, or it is malformed.
    """
    try:
        return kind.model_validate(parse_toml(path.read_bytes()))
    except FileNotFoundError as error:
        raise ConsortiumError(f"There is no {path}: {missing}") from error
    except OSError as error:
        raise ConsortiumError(f"{path} cannot be read: {(error.strerror or 'unknown').lower()}.") from error
    except ValidationError as error:
        at = " at " if error.errors()[0]["loc"] else ": "
        raise ConsortiumError(f"{path} is malformed{at}{first_complaint(error)}.") from error
    except ValueError as error:
        raise ConsortiumError(f"{path} is not valid TOML: {error}.") from error


def first_complaint(error: ValidationError) -> str:
    """What is wrong with the first bad value, for a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}" if where else message
