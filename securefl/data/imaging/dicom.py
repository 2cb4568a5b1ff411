"""A DICOM series as one volume: a folder with its files, or one multi-frame file.

The files' order is that of their positions along the normal, never that of their names or numbers. A message names the
declared folder and how many-th of its files, by name, is meant: the names of DICOM files often identify patients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from securefl.data.imaging.dicom_file import Frames, SeriesError, read_frames, silence
from securefl.data.imaging.nifti import oriented
from securefl.data.imaging.table import Entry
from securefl.data.imaging.volumes import MAXIMUM_VOXELS, Volume, Voxels
from securefl.errors import DataError

UNEVEN = 0.05
"""Largest relative difference of the gaps between slices."""


@dataclass(frozen=True, eq=False)
class Series:
    """A series as a volume, with digests of its UID and of its PatientID (None where its files name none)."""

    volume: Volume
    series: bytes = field(repr=False)
    patient: bytes | None = field(repr=False)


def read_series(path: Path, where: str) -> Series:
    """The series in a folder, or in one file.

    Raises:
        DataError: a file is no whole DICOM image, or the files are not one series of parallel, evenly spaced slices of
            one patient. The message quotes nothing of what the files hold.
    """
    # Not `raise ... from None`: that keeps the context, whose frames hold what must not get out.
    outcome = _attempt(path)
    if isinstance(outcome, str):
        raise DataError(f"{where}: {outcome}.")
    planes, normal, gap = _stacked(outcome)
    frames = outcome[0]
    affine = np.eye(4)
    affine[:3, 0] = frames.orientation[:3] * frames.spacing[1]
    affine[:3, 1] = frames.orientation[3:] * frames.spacing[0]
    affine[:3, 2] = normal * gap
    affine[:2] *= -1  # DICOM's axes run to the left and back, canonical ones to the right and front
    voxels = planes.transpose(2, 1, 0)
    volume = oriented(voxels, affine, float(voxels.min()), None, 1.0, where)
    return Series(volume, frames.series, frames.patient)


class PatientsOfSeries:
    """Compares what the table declares with what the files say, over the series of one hospital."""

    def __init__(self) -> None:
        self._declared: dict[str, tuple[bytes, Entry]] = {}
        self._named: dict[bytes, Entry] = {}
        self._series: dict[bytes, Entry] = {}

    def check(self, entry: Entry, series: Series) -> None:
        """Add one row's series.

        Raises:
            DataError: the series stands in another row, its PatientID is that of another declared patient, or another
                PatientID stands in a file of this declared patient.
        """
        other = self._series.setdefault(series.series, entry)
        if other is not entry:
            raise DataError(
                f"{entry.where}: these files belong to the same series as {other.where}; list each series once."
            )
        if series.patient is None:
            return
        known, first = self._declared.setdefault(entry.patient, (series.patient, entry))
        if known != series.patient:
            raise DataError(
                f"{entry.where} and {first.where} are declared as one patient's, but their files have different "
                "PatientIDs; correct the table."
            )
        owner = self._named.setdefault(series.patient, entry)
        if owner.patient != entry.patient:
            raise DataError(
                f"{entry.where} and {owner.where} are declared as two patients', but their files have one PatientID; "
                "correct the table, or empty the PatientID of files that share a placeholder."
            )


def _attempt(path: Path) -> list[Frames] | str:
    """The files' frames, in one consistent geometry, or a sentence that says what is wrong."""
    try:
        with silence():
            return _consistent(_all_frames(path))
    except SeriesError as fault:
        return str(fault)
    except OSError as error:
        return f"the files cannot be read ({type(error).__name__}); check their permissions"


def _all_frames(path: Path) -> list[Frames]:
    if path.is_file():
        return [_numbered(path, "the file")]
    inner = sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.name != "DICOMDIR")
    if not inner or any(not p.is_file() for p in inner):
        raise SeriesError(
            "the folder holds another folder; name the folder of the series itself"
            if inner
            else "the folder is empty; put the series' files into it"
        )
    if any(not p.resolve().is_relative_to(path) for p in inner):
        raise SeriesError("the folder holds a link that leads out of it; put the files themselves into it")
    result: list[Frames] = []
    for number, file in enumerate(inner, start=1):
        result.append(_numbered(file, f"file {number} of {len(inner)}, by name,"))
        if sum(frames.voxels.size for frames in result) > MAXIMUM_VOXELS:
            raise SeriesError(f"the series has more than {MAXIMUM_VOXELS} voxels; leave it out")
    return result


def _numbered(file: Path, which: str) -> Frames:
    try:
        return read_frames(file)
    except SeriesError as fault:
        raise SeriesError(f"{which} {fault}") from None


def _consistent(files: list[Frames]) -> list[Frames]:
    first = files[0]
    if any(f.series != first.series for f in files):
        raise SeriesError(
            "the files belong to different series; give each series a folder and a row of its own"
        )
    if len({f.patient for f in files if f.patient is not None}) > 1:
        raise SeriesError(
            "the files have different PatientIDs; give each patient's series a folder and a row of its own"
        )
    if any(f.voxels.shape[1:] != first.voxels.shape[1:] for f in files):
        raise SeriesError("the images differ in rows or columns; give each series a folder of its own")
    if any(f.inverted != first.inverted for f in files):
        raise SeriesError(
            "some images are MONOCHROME1 and some MONOCHROME2; give each series a folder of its own"
        )
    if any(np.abs(f.orientation - first.orientation).max() > 1e-3 for f in files):
        raise SeriesError("the images differ in orientation; give each series a folder of its own")
    if any(not np.allclose(f.spacing, first.spacing, rtol=1e-3, atol=0) for f in files):
        raise SeriesError("the images differ in pixel spacing; give each series a folder of its own")
    if any(f.frame != first.frame for f in files):
        raise SeriesError(
            "the images have different frames of reference; give each series a folder of its own"
        )
    row, column = first.orientation[:3], first.orientation[3:]
    if abs(row @ row - 1) > 1e-2 or abs(column @ column - 1) > 1e-2 or abs(row @ column) > 1e-2:
        raise SeriesError("ImageOrientationPatient holds no two perpendicular directions; repair the files")
    positions = np.concatenate([f.positions for f in files])
    depths, gaps = _depths(positions, np.cross(row, column))
    if len(positions) == 1:
        if first.thickness <= 0:
            raise SeriesError(
                "a single image has no SliceThickness, so its voxels have no size; give the whole series"
            )
        return files
    if gaps.min() < 1e-3:
        raise SeriesError(
            "two images lie at one position; give each series, echo or time a folder of its own"
        )
    if gaps.max() - gaps.min() > UNEVEN * np.median(gaps):
        raise SeriesError("the slices are not evenly spaced, one may be missing; give the whole series")
    drift = positions[np.argsort(depths)]
    drift = drift - drift[0] - np.outer(np.sort(depths) - depths.min(), np.cross(row, column))
    if np.abs(drift).max() > max(first.spacing) / 2:
        raise SeriesError("the slices do not lie straight above one another; resample the series first")
    return files


def _depths(
    positions: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    depths = positions @ normal
    return depths, np.diff(np.sort(depths))


def _stacked(files: list[Frames]) -> tuple[Voxels, npt.NDArray[np.float64], float]:
    """The frames in the order of their depth, float32 (n, rows, columns), the normal, and the gap in mm."""
    normal = np.cross(files[0].orientation[:3], files[0].orientation[3:])
    depths, gaps = _depths(np.concatenate([f.positions for f in files]), normal)
    planes = np.concatenate([f.voxels for f in files])[np.argsort(depths)]
    return planes, normal, float(np.median(gaps)) if len(gaps) else files[0].thickness
