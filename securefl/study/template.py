"""A new study folder: a short ``study.toml`` that runs, followed by every other key with its meaning and default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from securefl import durable
from securefl.errors import StudyError
from securefl.study.folder import TOML
from securefl.study.schema import StudySettings

_COMMON = """\
name = "{name}"
seed = 1

[simulation]                 # all on this computer: data may be pooled, updates may be shown; remove for a real study

[consortium]
hospitals = {hospitals}
parties = 3
"""

_BEGINNINGS = {
    "mnist": _COMMON.format(name="Digits over five hospitals", hospitals=5)
    + """
[data]
source = "mnist-5k"
partition = {{ kind = "classes-per-hospital", classes = 3 }}

[model]
kind = "cnn"

[training]
rounds = 20
learning_rate = 0.05
""".replace("{{", "{").replace("}}", "}"),
    "fed-heart": _COMMON.format(name="Heart disease, four hospitals", hospitals=4)
    + """
[data]
source = "fed-heart"
standardise = "features"

[model]
kind = "logistic"

[training]
rounds = 30
learning_rate = 0.05
""",
    "own-data": _COMMON.format(name="Our own data", hospitals=3)
    + """
[data]
source = "module"
module = "data.py:build"

[model]
kind = "mlp"

[training]
rounds = 10
learning_rate = 0.05
""",
}

OWN_DATA = '''\
"""The hospital's own records: any torch Dataset of (features, label); its ``patients`` may say whose each is."""

import torch
from torch.utils.data import TensorDataset


def build(hospital: str, split: str) -> TensorDataset:
    generator = torch.Generator().manual_seed(sum(map(ord, hospital + split)))
    x = torch.randn(200, 8, generator=generator)
    return TensorDataset(x, (x.sum(1) > 0).long())
'''


def make_study(folder: Path, template: str) -> None:
    """Write a study folder.

    Raises:
        StudyError: there is no such template, or the folder is not empty.
    """
    if template not in _BEGINNINGS:
        raise StudyError(f"There is no template {template}: there are {', '.join(_BEGINNINGS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} is not empty: choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise StudyError(f"{folder} cannot be made: {(error.strerror or 'unknown').lower()}.") from error
    if template == "own-data":
        durable.write(folder / "data.py", OWN_DATA.encode(), mode=0o644)
    text = (
        _BEGINNINGS[template]
        + "\n# Every key, with its meaning and its default.\n#\n"
        + "\n".join(_reference())
        + "\n"
    )
    durable.write(folder / TOML, text.encode(), mode=0o644)


def _reference() -> Iterator[str]:
    yield from _keys(StudySettings, "")


def _keys(model: type[BaseModel], table: str) -> Iterator[str]:
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is not None:
            nested.append((f"{table}.{name}".lstrip("."), inner))
            continue
        choices = " or ".join(_choices(field.annotation))
        meaning = f"{choices}: {field.description}" if choices and field.description else ""
        meaning = meaning or field.description or choices
        yield f"#   {name}{_default(field.is_required(), field.default)}{'  - ' + meaning if meaning else ''}"
    for path, inner in nested:
        yield f"# [{path}]"
        yield from _keys(inner, path)


def _default(required: bool, default: Any) -> str:
    if required:
        return " (needed)"
    return "" if default is None else f" = {json.dumps(default)}"


def _choices(annotation: Any) -> list[str]:
    """The words that a key may have, in a list or alone."""
    inside = get_args(annotation)
    words = [json.dumps(choice) for choice in inside if isinstance(choice, str)]
    return words + [word for kind in inside for word in _choices(kind)]
