"""One DICOM file: its frames, where they lie, and digests of whose they are.

Adversary: nobody here; what must not happen is that an identifier (name, PatientID, accession number, UID, birth date,
    institution, a file's name) gets into a log, a message, an exception or a ``repr``, and from there out of the house.
Promise: only the tags in ``TAGS`` are read. The three that identify are turned into digests under a key that lives as
    long as the process. pydicom's warnings and logs are silenced while it works, and a fault is a fixed sentence:
    ``SeriesError`` never carries what pydicom said. Whoever raises an error to a user does so outside the ``except``
    clause, so that no traceback leads back to a frame that holds a data set.
Source: DICOM PS3.3, C.7.6.2 (image plane), C.7.6.3 (pixels), C.7.6.16 (functional groups), C.11.1 (rescale).
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from securefl.data.imaging.table import patient_key
from securefl.data.imaging.volumes import MAXIMUM_VOXELS, Voxels

MAXIMUM_BYTES = 2**31
TAGS = [
    "SpecificCharacterSet",
    "PatientID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PlanarConfiguration",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]
_NOT_COMPRESSED = {
    "1.2.840.10008.1.2",  # implicit, little endian
    "1.2.840.10008.1.2.1",  # explicit, little endian
    "1.2.840.10008.1.2.1.99",  # the same, deflated
    "1.2.840.10008.1.2.2",  # explicit, big endian
}
_KEY = os.urandom(32)


class SeriesError(Exception):
    """What is wrong with a file, in words that quote nothing of its content."""


@dataclass(frozen=True, eq=False)
class Frames:
    """A file's frames.

    voxels: float32 (n, rows, columns), rescaled, bright as displayed. positions: float64 (n, 3), centres of the first
    voxels, in mm to the left, back and head. orientation: float64 (6,), directions of a row and of a column. spacing:
    mm between rows and between columns. thickness: mm, 0 where unknown. series, frame, patient: digests; ``patient`` is
    None where the file names none. inverted: whether it was MONOCHROME1.
    """

    voxels: Voxels
    positions: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float
    series: bytes
    frame: bytes
    patient: bytes | None
    inverted: bool


@contextmanager
def silence() -> Iterator[None]:
    """No warning and no log record of pydicom's, or of the decoders' it calls, while this lasts."""
    import pydicom.pixels  # noqa: F401  (its loggers must exist to be silenced)

    names = [n for n in list(logging.root.manager.loggerDict) if n.partition(".")[0] in ("pydicom", "PIL")]
    loggers = [logger for logger in map(logging.getLogger, names) if not logger.disabled]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.disabled = False


def read_frames(path: Path) -> Frames:
    """A file's frames. Call it inside ``silence``.

    Raises:
        SeriesError: the file is no DICOM file, is cut, is not a grey image with a place in space, or cannot be decoded.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise SeriesError(f"is larger than {MAXIMUM_BYTES >> 30} GiB")
        data = pydicom.dcmread(io.BytesIO(path.read_bytes()), specific_tags=list(TAGS))
        _check_image(data)
        return _frames(data)
    except SeriesError:
        raise
    except InvalidDicomError:
        raise SeriesError(
            "is no DICOM file with a preamble; convert it, or take it out of the folder"
        ) from None
    except Exception as error:  # pydicom and the decoders raise many kinds
        raise SeriesError(
            f"cannot be read, it is cut or damaged ({type(error).__name__}); copy it again"
        ) from None


def _check_image(data: Any) -> None:
    """That the pixels are there, whole, grey, and of a kind that can be decoded here."""
    if "PixelData" not in data:
        other = "FloatPixelData" in data or "DoubleFloatPixelData" in data
        raise SeriesError(
            "holds pixels as floating point numbers, which are not supported; convert it to integers"
            if other
            else "holds no whole image, it may be cut; copy it again or take it out of the folder"
        )
    if data.get("SamplesPerPixel") != 1 or data.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise SeriesError("is not a grey image (MONOCHROME1 or MONOCHROME2); leave it out")
    if data.get("BitsAllocated") not in (8, 16, 32) or "ModalityLUTSequence" in data:
        raise SeriesError(
            "holds pixels of a kind that is not supported (1 or 64 bits, or a lookup table); convert it"
        )
    rows, columns, frames = int(data.Rows), int(data.Columns), int(data.get("NumberOfFrames") or 1)
    if rows < 1 or columns < 1 or frames < 1 or rows * columns * frames > MAXIMUM_VOXELS:
        raise SeriesError(f"declares no pixels, or more than {MAXIMUM_VOXELS}; leave it out")
    syntax = data.file_meta.TransferSyntaxUID
    if str(syntax) not in _NOT_COMPRESSED:
        _check_decoder(syntax)
    elif not 0 <= len(data.PixelData) - rows * columns * frames * data.BitsAllocated // 8 <= 1:
        raise SeriesError("holds fewer or more pixels than it declares, it may be cut; copy it again")


def _check_decoder(syntax: Any) -> None:
    """That the compressed pixels can be decoded. Only names that the standard has are repeated."""
    from pydicom.pixels.decoders.base import get_decoder

    # An unknown UID is its own name.
    name = f"as {syntax.name}" if syntax.name != str(syntax) else "in a way that DICOM does not know"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise SeriesError(
            f"is compressed {name}, for which no decoder is installed; install pylibjpeg with its plugins, or "
            "decompress the file"
        )


def _frames(data: Any) -> Frames:
    from pydicom.pixels.utils import pixel_array

    count = int(data.get("NumberOfFrames") or 1)
    voxels = np.asarray(pixel_array(data, raw=True)).reshape(count, int(data.Rows), int(data.Columns))
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    values = voxels.astype(np.float64)
    inverted = data.PhotometricInterpretation == "MONOCHROME1"
    if inverted:  # the largest stored number is shown black
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        values = (low + high) - values
    groups = [_Groups(data, k, count) for k in range(count)]
    slopes = np.array([g.number("PixelValueTransformationSequence", "RescaleSlope", 1.0) for g in groups])
    offsets = np.array(
        [g.number("PixelValueTransformationSequence", "RescaleIntercept", 0.0) for g in groups]
    )
    if (slopes <= 0).any():
        raise SeriesError("declares a rescale slope that is not positive; repair the file")
    with np.errstate(over="ignore"):
        values = (values * slopes[:, None, None] + offsets[:, None, None]).astype(np.float32)
    if not np.isfinite(values).all():
        raise SeriesError("has pixels that are too large after rescaling; repair the file")
    orientations = np.stack(
        [g.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6) for g in groups]
    )
    spacings = np.stack([g.numbers("PixelMeasuresSequence", "PixelSpacing", 2) for g in groups])
    if np.abs(orientations - orientations[0]).max() > 1e-3 or np.abs(spacings - spacings[0]).max() > 1e-3:
        raise SeriesError("holds frames of different orientations or spacings; split it into series")
    return Frames(
        values,
        np.stack([g.numbers("PlanePositionSequence", "ImagePositionPatient", 3) for g in groups]),
        orientations[0],
        (float(spacings[0, 0]), float(spacings[0, 1])),
        groups[0].number("PixelMeasuresSequence", "SliceThickness", 0.0),
        _digest(data, "SeriesInstanceUID", b"series"),
        _digest(data, "FrameOfReferenceUID", b"frame"),
        _digest(data, "PatientID", b"patient") if str(data.get("PatientID") or "").strip() else None,
        inverted,
    )


class _Groups:
    """One frame's attributes: its own functional groups, then the shared ones, then the file's."""

    def __init__(self, data: Any, frame: int, count: int) -> None:
        own = data.get("PerFrameFunctionalGroupsSequence") or []
        if own and len(own) != count:
            raise SeriesError("describes another number of frames than it holds; repair the file")
        shared = data.get("SharedFunctionalGroupsSequence") or []
        self.places = [*([own[frame]] if own else []), *shared[:1]]
        # Positions of the file itself belong to its one frame.
        self.single = data if count == 1 else {}

    def numbers(self, sequence: str, keyword: str, size: int) -> npt.NDArray[np.float64]:
        value = self._find(sequence, keyword)
        if value is None or np.size(value) != size:
            raise SeriesError(
                f"has no {keyword}, so its place in the body is unknown; give series with geometry"
            )
        numbers = np.array([float(x) for x in value], dtype=np.float64)
        if not np.isfinite(numbers).all() or (keyword == "PixelSpacing" and (numbers <= 0).any()):
            raise SeriesError(f"has no usable {keyword}; repair the file")
        return numbers

    def number(self, sequence: str, keyword: str, default: float) -> float:
        value = self._find(sequence, keyword)
        number = default if value is None else float(value)
        if not np.isfinite(number):
            raise SeriesError(f"has no usable {keyword}; repair the file")
        return number

    def _find(self, sequence: str, keyword: str) -> Any:
        for place in self.places:
            items = place.get(sequence)
            if items and items[0].get(keyword) is not None:
                return items[0].get(keyword)
        return self.single.get(keyword)


def _digest(data: Any, keyword: str, purpose: bytes) -> bytes:
    text = str(data.get(keyword) or "").strip()
    if purpose == b"patient":
        text = patient_key(text)
    return hashlib.blake2b(text.encode(), digest_size=32, key=_KEY, person=purpose).digest()
