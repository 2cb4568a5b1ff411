"""MedMNIST's archives (``.npz``), 2-D, with binary or several classes; their own splits are used as given.

The archive's arrays are ``train_images``, ``train_labels``, and the same for ``val`` and ``test``. Validation records
are checked and left out: nothing here chooses a model by them. MedMNIST publishes no patients; an archive may add
``train_patients``, ``val_patients`` and ``test_patients``, integers. Without them each image counts as a patient.

Source: Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), and the archives on Zenodo.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from securefl.data.imaging.settings import ImagingSettings
from securefl.data.imaging.volumes import square
from securefl.data.records import HospitalData, Records, checked_records
from securefl.errors import DataError

SPLITS = ("train", "val", "test")
MAXIMUM_BYTES = 2**33
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def read_medmnist(place: Path, settings: ImagingSettings, hospital: str) -> HospitalData:
    """The archive's training and test records. place: the file, or a folder with exactly one ``.npz`` file.

    Raises:
        DataError: the file is missing, no such archive, or cut; arrays are missing or malformed; or a patient is in two
            splits.
    """
    path = _archive(place, hospital)
    where = f"Hospital {hospital}, {path.name}"
    arrays = _arrays(path, where)
    parts = {split: _records(arrays, split, settings, where) for split in SPLITS}
    largest = max(int(part.labels.max()) for part in parts.values())
    classes = settings.classes or max(2, largest + 1)
    if largest >= classes:
        raise DataError(
            f"{where}: labels must be from 0 to {classes - 1}, but reach {largest}; correct classes."
        )
    patients = [part.patients for part in parts.values()]
    for k, one in enumerate(patients):
        for other in patients[k + 1 :]:
            if one is not None and other is not None and np.isin(one, other).any():
                raise DataError(
                    f"{where}: a patient has records in two of train, val and test; split by patient."
                )
    return HospitalData(parts["train"], parts["test"], classes)


def _archive(place: Path, hospital: str) -> Path:
    found = sorted(place.glob("*.npz")) if place.is_dir() else [place]
    if len(found) != 1 or not found[0].is_file():
        raise DataError(
            f"Hospital {hospital}: data.root must be a MedMNIST .npz file, or a folder with exactly one, but "
            f"{len(found) if place.is_dir() else 0} are there."
        )
    return found[0]


def _arrays(path: Path, where: str) -> dict[str, Any]:
    wanted = {f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels", "patients")}
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(
                info.file_size for info in archive.infolist() if info.filename.removesuffix(".npy") in wanted
            )
        if size > MAXIMUM_BYTES:
            raise DataError(f"{where} unpacks to more than {MAXIMUM_BYTES >> 30} GiB; leave it out.")
        loaded = np.load(path, allow_pickle=False)
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files if name in wanted}
    except DataError:
        raise
    except (
        Exception
    ) as error:  # zipfile and NumPy raise many kinds, zlib.error and NotImplementedError among them
        raise DataError(
            f"{where} is no whole .npz file of plain arrays, but cut, damaged or with Python objects "
            f"({type(error).__name__}); copy it again."
        ) from None
    missing = sorted(name for name in wanted - arrays.keys() if not name.endswith("_patients"))
    given = sum(name.endswith("_patients") for name in arrays)
    if missing or given not in (0, len(SPLITS)):
        raise DataError(
            f"{where} lacks {', '.join(missing) or 'the patients of a split'}; MedMNIST's archives have images and "
            "labels for train, val and test, and patients for all three or none."
        )
    return arrays


def _records(arrays: dict[str, Any], split: str, settings: ImagingSettings, where: str) -> Records:
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    where = f"{where}, {split}"
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise DataError(
            f"{where}: images must be bytes of shape (n, height, width) or (n, height, width, 3), but are "
            f"{images.dtype} of shape {images.shape}; volumes are not supported."
        )
    if 0 in images.shape:
        raise DataError(f"{where}: there are no images; give each split some.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{where}: labels must be one integer for each image, but have shape {labels.shape}; several labels an "
            "image are not supported."
        )
    grey = (image @ _GREY if image.ndim == 3 else image.astype(np.float32) for image in images)
    features = np.stack([square(image / np.float32(255), settings.image_size) for image in grey])[:, None]
    records = checked_records(features, labels, where, settings.classes)
    patients = arrays.get(f"{split}_patients")
    if patients is None:
        return records
    if patients.shape != labels.shape or patients.dtype.kind not in "iu":
        raise DataError(
            f"{where}: patients must be one integer for each image, but are {patients.dtype} of shape {patients.shape}."
        )
    return replace(records, patients=patients.astype(np.int64))
