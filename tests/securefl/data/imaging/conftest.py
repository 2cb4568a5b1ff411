"""Writers of real files: NIfTI volumes, DICOM series, tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

CANARIES = {
    "PatientName": "Kanarien^Vogel",
    "PatientID": "CANARYID4711",
    "PatientBirthDate": "19010203",
    "AccessionNumber": "ACC990077",
    "InstitutionName": "Klinikum Kanarienhausen",
    "ReferringPhysicianName": "Doktor^Zeisig",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.777001",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.777002",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.777003",
    "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.777004",
}


def body(shape: tuple[int, int, int] = (12, 14, 10), seed: int = 0) -> np.ndarray:
    """An ellipsoid of random tissue in a background of zeros, int16."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(a**2 for a in axes) < 1.6
    return (inside * random.integers(100, 1000, size=shape)).astype(np.int16)


def write_nifti(path: Path, voxels: Any, spacing: Any = (1.0, 1.0, 2.0), affine: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if affine is None:
        affine = np.diag([*spacing, 1.0])
    nib.save(nib.Nifti1Image(np.asarray(voxels), affine), path)
    return path


def write_table(
    root: Path, *rows: str, heading: str = "patient,file,label", name: str = "records.csv"
) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([heading, *rows]) + "\n")


def dicom_image(pixels: np.ndarray, position: Any, **changes: Any) -> Dataset:
    """One image of a CT series with every canary. A change to None leaves the attribute out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = changes.pop("TransferSyntaxUID", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = CANARIES["SOPInstanceUID"]
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        **CANARIES,
        "Modality": "CT",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1 if pixels.dtype.kind == "i" else 0,
        "PixelSpacing": [1.5, 0.75],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": None if position is None else [float(x) for x in position],
        "SliceThickness": 3.0,
        "RescaleSlope": 2.0,
        "RescaleIntercept": -1024.0,
        "PixelData": pixels.tobytes(),
        **changes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(data, keyword, value)
    return data


def save(data: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, planes: int = 6, seed: int = 0, change: Callable[[int], dict[str, Any]] | None = None
) -> np.ndarray:
    """A series of ``planes`` images, (n, r, c), under names whose order is not that of their places."""
    pixels = np.random.default_rng(seed).integers(0, 2000, size=(planes, 8, 10)).astype(np.int16)
    order = np.random.default_rng(seed + 1).permutation(planes)
    for k in range(planes):
        changes = change(k) if change else {}
        where = changes.pop("ImagePositionPatient", [0.0, 0.0, 3.0 * k])
        save(
            dicom_image(pixels[k], where, InstanceNumber=int(planes - k), **changes),
            folder / f"Kanarien_{order[k]:03d}.dcm",
        )
    return pixels


@pytest.fixture(autouse=True)
def _one_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative paths in a test must not depend on where pytest was started."""
    monkeypatch.chdir(tmp_path)
