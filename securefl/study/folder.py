"""A study is a folder: ``study.toml`` and the files that it names. Its digest covers every byte that will run."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from protocols.canonical import digest
from securefl import durable
from securefl.errors import StudyError
from securefl.study.schema import StudySettings
from securefl.toml_file import parse_toml

TOML, RUN = "study.toml", "run.json"
"""The second makes a folder that of a run, in which the study's files stand in ``study``."""

_LONGEST_VALUE = 200
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True)
class Study:
    """A study as it was read: settings, and the bytes of every file that counts.

    Attributes:
        folder: where it was read from; relative data roots start here.
        settings: the typed content of ``study.toml``.
        files: content by relative name: ``study.toml``, the files it names, and every Python file in the folder
            (a named one may import them) that is not of an earlier run.
    """

    folder: Path
    settings: StudySettings
    files: Mapping[str, bytes]

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read and check a study folder.

        Raises:
            StudyError: it is missing or malformed; the message names the key or file.
        """
        folder = Path(path)
        if folder.name == TOML:
            folder = folder.parent
        try:
            raw = (folder / TOML).read_bytes()
        except FileNotFoundError as error:
            raise StudyError(
                f"There is no {folder / TOML}: make a study with `securefl study new {folder}`."
            ) from error
        except OSError as error:
            raise StudyError(
                f"{folder / TOML} cannot be read: {(error.strerror or 'unknown').lower()}."
            ) from error
        settings = parse(raw, str(folder / TOML))
        names = {TOML, *_named(settings), *(p.relative_to(folder).as_posix() for p in _python_files(folder))}
        return cls(folder.resolve(), settings, {name: _read(folder, name) for name in sorted(names)})

    @property
    def simulation(self) -> bool:
        """Whether data may be pooled for baselines and real updates shown in the report."""
        return self.settings.simulation is not None

    def digest(self, consortium: bytes) -> bytes:
        """32 bytes that name this study with these members, under this version of securefl.

        Args:
            consortium: digest of the consortium.
        """
        files = {name: hashlib.sha256(content).digest() for name, content in self.files.items()}
        return digest("study", {"files": files, "consortium": consortium, "securefl": version("securefl")})

    def copy_to(self, folder: Path) -> Study:
        """Write the study's files into ``folder``; what runs is read from there."""
        for name, content in self.files.items():
            durable.write(folder / name, content, mode=0o644)
        return Study(folder.resolve(), self.settings, self.files)


def parse(raw: bytes, name: str) -> StudySettings:
    """Read the bytes of a ``study.toml``; ``name`` stands in messages.

    Raises:
        StudyError: not TOML, an unknown key (the nearest known one is named), or a value out of its range.
    """
    try:
        values = parse_toml(raw)
    except ValueError as error:
        raise StudyError(f"{name} is not valid TOML: {error}.") from error
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        unknown = [e for e in errors if e["type"] == "extra_forbidden"]
        raise StudyError(f"{name}: {_explain((unknown or errors)[0])}") from error


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = known_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known there are {', '.join(known)}."
        return f"{where} is not a known key; {hint}"
    if error["type"] == "missing":
        return f"{where} is missing: add it."
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(error["input"], dict) else f", not {_shown(error['input'])}"
    return f"{where}: {message[0].lower()}{message[1:]}{shown}." if where else f"{message}."


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "what is too long to show"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def known_keys(table: Iterable[int | str]) -> list[str]:
    """The keys of a table of ``study.toml``, by its path."""
    model: type[BaseModel] = StudySettings
    for part in table:
        if isinstance(part, int) or part not in model.model_fields:
            break
        kinds = (model.model_fields[part].annotation, *get_args(model.model_fields[part].annotation))
        model = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model
        )
    return list(model.model_fields)


def _named(settings: StudySettings) -> list[str]:
    references = [settings.data.module, settings.model.module]
    named = [reference.split(":")[0] for reference in references if reference]
    return named + ([settings.consortium.file] if settings.consortium.file else [])


def _python_files(folder: Path) -> list[Path]:
    """All of the folder, but for hidden files, and the copies of the study that earlier runs left in it."""
    hidden = (".", "__pycache__")
    runs = [path.parent for path in folder.rglob(RUN) if (path.parent / "study" / TOML).exists()]
    return [
        p
        for p in folder.rglob("*.py")
        if not any(q.startswith(hidden) for q in p.relative_to(folder).parts)
        and not any(p.is_relative_to(run) for run in runs if run != folder)
    ]


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StudyError(f"{name} lies outside the study folder: copy it into {folder}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise StudyError(
            f"The study names {name}, which cannot be read in {folder}: add the file."
        ) from error
