"""Functions in the study's own Python files, and the records of a user's ``torch`` Dataset.

A file is loaded by its path inside the study folder, always from its source, and so are those beside it that it
imports: bytecode and compiled libraries, which the study's digest does not cover, are neither read nor written.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from securefl.data.records import HospitalData, Records, checked_records, with_patients
from securefl.errors import DataError, SecureFLError


class _FromSource(SourceFileLoader):
    """Compiles the file's present bytes, whatever bytecode lies beside it."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


_NAME = "securefl_study_"
_folders: set[Path] = set()
"""Of all studies whose code this process has loaded."""


def _source_only(path: str) -> FileFinder:
    """A path hook: in a study's folder Python finds source files and nothing else."""
    if not _in_study(path):
        raise ImportError(path)
    return FileFinder(path, (_FromSource, SOURCE_SUFFIXES))


def _in_study(path: str) -> bool:
    """Hidden folders are no part of a study: a virtual environment may lie in one."""
    place = Path(path).resolve()
    return any(
        place.is_relative_to(folder)
        and not any(part.startswith(".") for part in place.relative_to(folder).parts)
        for folder in _folders
    )


def _watch(folder: Path) -> None:
    _folders.add(folder)
    if _source_only not in sys.path_hooks:
        sys.path_hooks.insert(0, _source_only)
    for path in [path for path in sys.path_importer_cache if _in_study(path)]:
        del sys.path_importer_cache[path]


@contextmanager
def alone() -> Iterator[None]:
    """Let no file that one study's code imported from beside it be taken for another's of the same name.

    What was imported before is back at the end, and what is imported in the meantime is gone.
    """
    before, paths = _taken_away(), list(sys.path)
    sys.path[:] = [path for path in paths if not _in_study(path)]
    try:
        yield
    finally:
        _taken_away()
        sys.modules.update(before)
        sys.path[:] = paths


def _taken_away() -> dict[str, ModuleType]:
    """The modules that lie beside a study's own; they are imported no longer."""
    beside = [
        name
        for name, module in sys.modules.items()
        if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _FromSource)
        and not name.startswith(_NAME)
    ]
    return {name: sys.modules.pop(name) for name in beside}


def load_function(folder: Path, reference: str, error: type[SecureFLError]) -> Callable[..., Any]:
    """The function that ``file.py:function`` names in the study folder.

    Raises:
        error: the file lies outside the folder, is missing, fails when it is run, or has no such function.
    """
    file, _, name = reference.partition(":")
    function = getattr(_load_module(folder, file, error), name, None)
    if not callable(function):
        raise error(f"{file} has no function {name}; define it or correct the study.")
    return function


def module_hospital(folder: Path, reference: str, hospital: str, seed: int) -> HospitalData:
    """One hospital's records from ``build(hospital, split) -> Dataset``, split "train" and then "test".

    The dataset has a length and gives (features, label) pairs, tensors, arrays or numbers; it is read in order, once,
    under a torch generator seeded from the study. It may have ``patients``, an integer for each record, the same for
    records of one patient. ``classes`` is one more than the largest label.

    Raises:
        DataError: the function or the dataset fails, or its records do not pass.
    """
    import torch

    build = load_function(folder, reference, DataError)
    digest = hashlib.sha256(f"securefl data module {hospital} {seed}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        train = _materialise(build, reference, hospital, "train")
        test = _materialise(build, reference, hospital, "test")
    if train.shape != test.shape:
        raise DataError(
            f"{reference}: hospital {hospital}'s training and test records must have one shape, but have "
            f"{train.shape} and {test.shape}."
        )
    classes = max(int(part.labels.max(initial=-1)) for part in (train, test)) + 1
    return HospitalData(train, test, classes)


def declared_task(folder: Path, reference: str) -> tuple[tuple[int, ...] | None, int | None]:
    """``SHAPE`` and ``CLASSES`` as the module's file declares them, None where it does not.

    Raises:
        DataError: they are not a tuple of positive integers and an integer of at least 2.
    """
    module = _load_module(folder, reference.partition(":")[0], DataError)
    shape, classes = getattr(module, "SHAPE", None), getattr(module, "CLASSES", None)
    if shape is not None and not (
        isinstance(shape, tuple) and shape and all(isinstance(n, int) and n > 0 for n in shape)
    ):
        raise DataError(f"{reference}: SHAPE must be a tuple of positive integers, the shape of one record.")
    if classes is not None and not (isinstance(classes, int) and classes >= 2):
        raise DataError(
            f"{reference}: CLASSES must be an integer of at least 2, the number of classes of the task."
        )
    return shape, classes


def _load_module(folder: Path, file: str, error: type[SecureFLError]) -> ModuleType:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise error(f"{file} lies outside the study folder; put the file into it.")
    if not path.is_file():
        raise error(f"The study names {file}, but {path} does not exist; put the file there.")
    _watch(folder.resolve())
    # Registered, since dataclasses look their module up; under a name of the content, so that two studies never meet.
    name = f"{_NAME}{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    if spec is None or spec.loader is None:
        raise error(f"{file} is not a Python file; name one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as fault:
        sys.modules.pop(name, None)
        raise error(f"{file} fails when it is loaded: {type(fault).__name__}: {fault}.") from fault
    return module


def _materialise(build: Callable[..., Any], reference: str, hospital: str, split: str) -> Records:
    where = f"{reference}, hospital {hospital}, {split} records"
    try:
        dataset = build(hospital, split)
        pairs = [dataset[index] for index in range(len(dataset))]
        features = [np.asarray(features) for features, _ in pairs]
        labels = [np.asarray(label) for _, label in pairs]
        patients = getattr(dataset, "patients", None)
    except Exception as fault:
        raise DataError(f"{where}: the dataset fails: {type(fault).__name__}: {fault}.") from fault
    if not pairs:
        raise DataError(
            f"{where}: the dataset is empty; give the hospital records or leave it out of the study."
        )
    shapes = {array.shape for array in features}
    if len(shapes) > 1 or any(label.shape != () for label in labels):
        raise DataError(f"{where}: all features must have one shape, and each label must be one integer.")
    return with_patients(checked_records(np.stack(features), np.stack(labels), where), patients, where)
