"""From a hospital's folder to its records: the one entry point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from securefl.data.imaging.brats import read_cases, with_mask
from securefl.data.imaging.dicom import PatientsOfSeries, read_series
from securefl.data.imaging.folders import read_folders, read_image
from securefl.data.imaging.medmnist import read_medmnist
from securefl.data.imaging.nifti import read_nifti
from securefl.data.imaging.settings import ImagingSettings
from securefl.data.imaging.table import Entry, inside, read_table
from securefl.data.imaging.volumes import Spacing, Volume, same_spacing, slices_of
from securefl.data.partition import Split
from securefl.data.pool import split_off_test
from securefl.data.records import Features, HospitalData, Labels, checked_records
from securefl.errors import DataError

PLACEHOLDER = "{hospital}"


def load_imaging(
    settings: ImagingSettings, root: Path, hospital: str, split: Split, seed: int
) -> HospitalData:
    """What one hospital holds: features float32 (n, 1, size, size) from 0 to 1, labels, and patients.

    root: the folder of the files, or MedMNIST's archive; ``{hospital}`` in it stands for the hospital's name. split,
    seed: who is held out, patient by patient; MedMNIST's splits are used as given.

    Raises:
        DataError: a file is missing, malformed, cut, or contradicts another; the message names it relative to the
            folder, and quotes no DICOM attribute.
    """
    root = Path(str(root).replace(PLACEHOLDER, hospital))
    if settings.format == "medmnist":
        return read_medmnist(root, settings, hospital)
    if not root.is_dir():
        raise DataError(
            f"Hospital {hospital}: the folder of its images, {root}, does not exist; correct data.root."
        )
    entries, classes = _entries(settings, root, hospital)
    read = _images if settings.format == "image-folder" else _volumes
    parts = read(entries, settings)
    labels = np.concatenate([label for _, label in parts])
    largest, declared = int(labels.max()), settings.classes or classes
    if declared is not None and largest >= declared:
        raise DataError(
            f"Hospital {hospital}: labels must be from 0 to {declared - 1}, but reach {largest}; correct them."
        )
    numbers: dict[str, int] = {}
    patients = [numbers.setdefault(entry.patient, len(numbers)) for entry in entries]
    records = checked_records(
        np.concatenate([features for features, _ in parts]), labels, f"Hospital {hospital}", declared
    )
    records = replace(
        records, patients=np.repeat(np.array(patients, dtype=np.int64), [len(label) for _, label in parts])
    )
    return split_off_test(
        records, declared or max(2, largest + 1), split, settings.test_fraction, seed, f"Hospital {hospital}",
        names=lambda: [patient.encode() for patient in numbers],
    )  # fmt: skip


def _entries(settings: ImagingSettings, root: Path, hospital: str) -> tuple[list[Entry], int | None]:
    """The declared images, and the number of classes where the layout tells it."""
    tabled = inside(root, settings.table, f"Hospital {hospital}, {settings.table}").is_file()
    if settings.masks is not None:
        if not tabled:
            return read_cases(root, settings.masks, hospital), 2
        entries = read_table(root, settings.table, hospital, labelled=False)
        return [with_mask(entry, root, settings.masks, hospital) for entry in entries], 2
    if settings.format == "image-folder" and not tabled:
        return read_folders(root, hospital)
    return read_table(root, settings.table, hospital, labelled=True), None


def _images(entries: Sequence[Entry], settings: ImagingSettings) -> list[tuple[Features, Labels]]:
    seen: dict[bytes, Entry] = {}
    parts = []
    for entry in entries:
        image, digest = read_image(entry.path, settings.image_size, entry.where)
        _one_owner(seen, digest, entry)
        parts.append((image[None, None], np.array([entry.label], dtype=np.int64)))
    return parts


def _volumes(entries: Sequence[Entry], settings: ImagingSettings) -> list[tuple[Features, Labels]]:
    seen: dict[bytes, Entry] = {}
    series = PatientsOfSeries()
    target: tuple[Spacing, str] | None = None
    if settings.spacing is not None:
        target = settings.spacing, "the declared spacing"
    parts = []
    for entry in entries:
        if settings.format == "nifti":
            volume, digest = read_nifti(entry.path, entry.where, entry.mask, f"{entry.where}, its mask")
            _one_owner(seen, digest, entry)
        else:
            read = read_series(entry.path, entry.where)
            series.check(entry, read)
            volume = read.volume
        _check_label(entry, volume)
        target = target or (volume.spacing, entry.where)
        if settings.mixed_spacing == "refuse" and not same_spacing(volume.spacing, target[0]):
            raise DataError(
                f"{entry.where}: its voxels measure {_in_mm(volume.spacing)}, but those of {target[1]} "
                f'{_in_mm(target[0])}; resample the volumes, or set mixed_spacing = "resample".'
            )
        parts.append(slices_of(volume, entry.label, settings, target[0], entry.where))
    return parts


def _check_label(entry: Entry, volume: Volume) -> None:
    if volume.lesion is None or entry.label is None:
        return
    if entry.label != int(volume.lesion.any()):
        raise DataError(
            f"{entry.where}: the label is {entry.label}, but its mask shows {'a' if volume.lesion.any() else 'no'} "
            "lesion; correct the one or the other, or leave the label out."
        )


def _one_owner(seen: dict[bytes, Entry], digest: bytes, entry: Entry) -> None:
    other = seen.setdefault(digest, entry)
    if other.patient != entry.patient:
        raise DataError(
            f"{entry.where}: the file's content is that of {other.where}, for another patient; correct the one or the "
            "other."
        )


def _in_mm(spacing: Spacing) -> str:
    return " × ".join(f"{d:.3g}" for d in spacing) + " mm"
