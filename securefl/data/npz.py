"""Records in NumPy's ``.npz`` files: one pooled file, or one file a hospital when ``root`` contains ``{hospital}``.

A file has arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``x`` and ``y``, of which a part is then held
out. It may have ``classes``, one integer, the number of classes of the task, and ``patients`` (``patients_train``,
``patients_test``), an integer for each record, the same for records of one patient. Files with Python objects are
refused: reading them would run code.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from securefl.data.partition import Split
from securefl.data.pool import split_off_test
from securefl.data.records import HospitalData, Records, checked_records, with_patients
from securefl.errors import DataError

if TYPE_CHECKING:
    from securefl.study.data_settings import DataSettings

PLACEHOLDER = "{hospital}"


def is_per_hospital(settings: DataSettings) -> bool:
    """Whether every hospital has a file of its own."""
    return PLACEHOLDER in (settings.root or "")


def npz_path(settings: DataSettings, folder: Path, hospital: str = "") -> Path:
    """The file of the pool, or of one hospital; relative paths are relative to the study folder."""
    return folder / (settings.root or "").replace(PLACEHOLDER, hospital)


def read_npz(path: Path, split: Split, test_fraction: float, split_seed: int) -> tuple[HospitalData, bool]:
    """One file's records, and whether the file itself says how many classes there are.

    Where it does not, ``classes`` is one more than the file's largest label.

    Raises:
        DataError: the file is missing or no such archive, an array is missing, or its contents do not pass.
    """
    arrays = _arrays(path)
    classes = _declared_classes(arrays, path)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train = _records(arrays, "_train", f"{path}, training records", classes)
        test = _records(arrays, "_test", f"{path}, test records", classes)
        if train.shape != test.shape:
            raise DataError(
                f"{path}: x_train and x_test must have one shape, but have {train.shape} and {test.shape}."
            )
        largest = max(int(part.labels.max(initial=-1)) for part in (train, test))
        return HospitalData(train, test, classes or largest + 1), classes is not None
    if {"x", "y"} <= arrays.keys():
        records = _records(arrays, "", str(path), classes)
        found = classes or int(records.labels.max(initial=-1)) + 1
        data = split_off_test(records, found, split, test_fraction, split_seed, str(path))
        return data, classes is not None
    names = ", ".join(sorted(arrays)) or "none"
    raise DataError(
        f"{path} must hold arrays x_train, y_train, x_test, y_test, or x and y, but holds {names}."
    )


def _records(arrays: dict[str, Any], which: str, where: str, classes: int | None) -> Records:
    records = checked_records(arrays[f"x{which}"], arrays[f"y{which}"], where, classes)
    return with_patients(records, arrays.get(f"patients{which}"), where)


def _arrays(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"The records' file {path} does not exist; put it there or correct data.root.")
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds a single array; save the records with numpy.savez.")
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is not an .npz file of plain arrays ({error}); save it with numpy.savez."
        ) from error


def _declared_classes(arrays: dict[str, Any], path: Path) -> int | None:
    if "classes" not in arrays:
        return None
    value = arrays["classes"]
    if value.shape != () or value.dtype.kind not in "iu" or value < 2:
        raise DataError(
            f"{path}: classes must be one integer of at least 2, the number of classes of the task."
        )
    return int(value)
