"""DICOM series: geometry, pixels, every fault; and no identifier in any message, traceback, log or warning."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from securefl.data.imaging.dicom import PatientsOfSeries, Series, read_series
from securefl.data.imaging.dicom_file import read_frames, silence
from securefl.data.imaging.table import Entry
from securefl.errors import DataError

from .conftest import CANARIES, dicom_image, save, write_series

WHERE = "Hospital alpha, row 2 of records.csv (p1/ct)"
SECRETS = [part for text in CANARIES.values() for part in text.split("^")] + ["Kanarien", "777009"]


def read(folder: Path) -> Series:
    return read_series(folder, WHERE)


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret.casefold() in text.casefold()]


def refused(folder: Path, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """That the series is refused in words that hold no identifier, whichever way one looks at the error."""
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    pydicom.config.debug(True, default_handler=False)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            with pytest.raises(DataError, match=says) as caught:
                read(folder)
    finally:
        pydicom.config.debug(False)
    error = caught.value
    assert str(error).startswith(WHERE)
    assert error.__cause__ is None
    assert error.__context__ is None
    shown = "".join(
        traceback.TracebackException.from_exception(error, capture_locals=True).format()
    ) + "".join(traceback.format_exception(error))
    # The first frame is this test's own; pytest's folder carries no canary.
    assert not leaks(shown + repr(error) + str(error)), leaks(shown)
    assert not leaks(caplog.text + "".join(map(str, heard)))
    assert not [r for r in caplog.records if r.name.startswith("pydicom")]


def test_a_series_is_ordered_by_place_and_rescaled(tmp_path: Path) -> None:
    pixels = write_series(tmp_path / "ct")
    series = read(tmp_path / "ct")
    # DICOM's rows run to the left and its columns to the back; canonical axes run to the right and the front.
    expected = (pixels.astype(np.float32) * 2 - 1024)[:, ::-1, ::-1].transpose(2, 1, 0)
    assert np.array_equal(series.volume.voxels, expected)
    assert series.volume.spacing == pytest.approx((0.75, 1.5, 3.0))
    assert series.volume.background == expected.min()
    assert not leaks(repr(series))


def test_a_series_taken_from_the_side_is_turned(tmp_path: Path) -> None:
    """Sagittal: rows run to the back, columns to the feet, slices to the left."""

    def sagittal(k: int) -> dict[str, Any]:
        return {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [-3.0 * k, 0, 0]}

    pixels = write_series(tmp_path / "ct", change=sagittal)
    series = read(tmp_path / "ct")
    assert series.volume.spacing == pytest.approx((3.0, 0.75, 1.5))
    expected = (pixels.astype(np.float32) * 2 - 1024)[:, ::-1, ::-1].transpose(0, 2, 1)
    assert np.array_equal(series.volume.voxels, expected)


@pytest.mark.parametrize("signed", [True, False])
def test_monochrome1_is_inverted(tmp_path: Path, signed: bool) -> None:
    kind = np.int16 if signed else np.uint16
    pixels = np.random.default_rng(0).integers(0, 2000, size=(1, 8, 10)).astype(kind)
    for name, change in (("one", {"PhotometricInterpretation": "MONOCHROME1"}), ("two", {})):
        save(
            dicom_image(pixels, (0, 0, 0), RescaleSlope=None, RescaleIntercept=None, **change),
            tmp_path / name / "a",
        )
    one, two = (read(tmp_path / name).volume.voxels for name in ("one", "two"))
    assert np.array_equal(one + two, np.full(one.shape, -1 if signed else 65535))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_transfer_syntaxes_that_need_no_extra_decoder(tmp_path: Path, syntax: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 2000, size=(8, 10)).astype(np.int16)
    data = dicom_image(pixels, (0, 0, 0))
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    else:
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            data.PixelData = pixels.astype(">i2").tobytes()
    write = _save_big if syntax == ExplicitVRBigEndian else save
    write(data, tmp_path / "ct" / "a.dcm")
    voxels = read(tmp_path / "ct").volume.voxels
    assert np.array_equal(voxels[::-1, ::-1, 0].T, pixels.astype(np.float32) * 2 - 1024)


def _save_big(data: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=False, force_encoding=True)


def multi_frame(frames: int = 4, **changes: Any) -> tuple[Dataset, np.ndarray]:
    pixels = np.random.default_rng(3).integers(0, 2000, size=(frames, 8, 10)).astype(np.int16)
    geometry = {"PixelSpacing": None, "ImageOrientationPatient": None, "ImagePositionPatient": None}
    values = {**geometry, "SliceThickness": None, "RescaleSlope": None, "RescaleIntercept": None, **changes}
    data = dicom_image(pixels, (0, 0, 0), **{"NumberOfFrames": frames, **values})
    shared, measures, orientation, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 0.75], 3.0
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    rescale.RescaleSlope, rescale.RescaleIntercept = 3.0, -5.0
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelValueTransformationSequence = [rescale]
    data.SharedFunctionalGroupsSequence = [shared]
    places = []
    for k in reversed(range(frames)):  # stored from the head down
        place, item = Dataset(), Dataset()
        place.ImagePositionPatient = [0.0, 0.0, 3.0 * k]
        item.PlanePositionSequence = [place]
        places.append(item)
    data.PerFrameFunctionalGroupsSequence = places
    return data, pixels


def test_a_multi_frame_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, pixels = multi_frame()
    path = save(data, tmp_path / "one.dcm")
    volume = read(path).volume
    assert np.array_equal(
        volume.voxels, (pixels[::-1, ::-1, ::-1].transpose(2, 1, 0) * 3.0 - 5.0).astype(np.float32)
    )
    assert volume.spacing == pytest.approx((0.75, 1.5, 3.0))
    del data.PerFrameFunctionalGroupsSequence[1]
    refused(save(data, tmp_path / "one.dcm"), "another number of frames", caplog)
    del data.PerFrameFunctionalGroupsSequence
    refused(save(data, tmp_path / "one.dcm"), "no ImagePositionPatient", caplog)
    data, _ = multi_frame(NumberOfFrames=5)
    refused(save(data, tmp_path / "one.dcm"), "fewer or more pixels", caplog)


def at(number: int, **changes: Any) -> Callable[[int], dict[str, Any]]:
    return lambda k: dict(changes) if k == number else {}


OTHER_UID = "1.2.826.0.1.3680043.8.498.777009"
FAULTS: dict[str, tuple[Callable[[int], dict[str, Any]], str]] = {
    "series": (at(2, SeriesInstanceUID=OTHER_UID), "different series"),
    "patient": (at(2, PatientID="CANARYID4712"), "different PatientIDs"),
    "frame": (at(2, FrameOfReferenceUID=OTHER_UID), "different frames of reference"),
    "orientation": (at(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "differ in orientation"),
    "skewed": (lambda k: {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no two perpendicular"),
    "spacing": (at(2, PixelSpacing=[1.0, 1.0]), "differ in pixel spacing"),
    "zero spacing": (at(2, PixelSpacing=[0.0, 1.0]), "no usable PixelSpacing"),
    "photometric": (at(2, PhotometricInterpretation="MONOCHROME1"), "some images are MONOCHROME1"),
    "one position": (at(2, ImagePositionPatient=[0.0, 0.0, 3.0]), "two images lie at one position"),
    "gap": (at(5, ImagePositionPatient=[0.0, 0.0, 18.0]), "not evenly spaced"),
    "drift": (lambda k: {"ImagePositionPatient": [0.0, 2.0 * k, 3.0 * k]}, "straight above one another"),
    "no position": (at(2, ImagePositionPatient=None), "no ImagePositionPatient"),
    "short position": (at(2, ImagePositionPatient=[0.0, 1.0]), "no ImagePositionPatient"),
    "no orientation": (at(2, ImageOrientationPatient=None), "no ImageOrientationPatient"),
    "no pixels": (at(2, PixelData=None), "no whole image"),
    "too few pixels": (at(2, Rows=9), "fewer or more pixels"),
    "too many pixels": (at(2, Rows=7), "fewer or more pixels"),
    "no rows": (at(2, Rows=None), "cut or damaged"),
    "colour": (at(2, SamplesPerPixel=3, PhotometricInterpretation="RGB"), "not a grey image"),
    "palette": (at(2, PhotometricInterpretation="PALETTE COLOR"), "not a grey image"),
    "bits": (at(2, BitsAllocated=1), "not supported"),
    "slope": (at(2, RescaleSlope=0.0), "rescale slope"),
    "huge": (at(2, RescaleSlope=1e300), "too large after rescaling"),
    "video": (
        at(2, TransferSyntaxUID="1.2.840.10008.1.2.4.100", PixelData=encapsulate([b"\0" * 16])),
        "compressed as MPEG2.*install pylibjpeg",
    ),
    "private syntax": (at(2, TransferSyntaxUID=OTHER_UID), "compressed in a way that DICOM does not know"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_series(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    change, says = FAULTS[fault]
    write_series(tmp_path / "ct", change=change)
    refused(tmp_path / "ct", says, caplog)
    write_series(tmp_path / "control")
    assert len(read(tmp_path / "control").volume.voxels) == 10


def test_other_shapes_in_one_series(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_series(tmp_path / "ct", planes=3)
    save(dicom_image(np.zeros((9, 9), np.int16), (0, 0, 9)), tmp_path / "ct" / "z.dcm")
    refused(tmp_path / "ct", "differ in rows or columns", caplog)


def test_faulty_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    refused(folder, "folder is empty", caplog)
    write_series(folder)
    (folder / ".hidden").touch()
    (folder / "DICOMDIR").touch()
    assert read(folder).volume.voxels.shape == (10, 8, 6)
    (folder / "Kanarien.txt").write_text("CANARYID4711 " * 100)
    refused(folder, "file 1 of 7, by name, is no DICOM file", caplog)
    (folder / "Kanarien.txt").unlink()
    raw = io.BytesIO()
    dicom_image(np.zeros((8, 10), np.int16), (0, 0, 18)).save_as(raw, enforce_file_format=True)
    (folder / "Kanarien_bare").write_bytes(raw.getvalue()[132:])
    refused(folder, "no DICOM file with a preamble", caplog)  # pydicom would read it with force=True
    (folder / "Kanarien_bare").unlink()
    (folder / "Kanarien").mkdir()
    refused(folder, "holds another folder", caplog)
    (folder / "Kanarien").rmdir()
    save(dicom_image(np.zeros((8, 10), np.int16), (0, 0, 18)), tmp_path / "outside" / "a.dcm")
    (folder / "Kanarien_link").symlink_to(tmp_path / "outside" / "a.dcm")
    refused(folder, "link that leads out", caplog)
    (folder / "Kanarien_link").unlink()
    save(
        dicom_image(np.zeros((8, 10), np.int16), (0, 0, 0), SliceThickness=None),
        tmp_path / "single" / "a.dcm",
    )
    refused(tmp_path / "single", "no SliceThickness", caplog)


def test_malformed_identifiers_do_not_come_out_in_pydicom_s_own_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The control: what pydicom itself says of such a file does hold the identifiers."""
    path = save(dicom_image(np.ones((8, 10), np.int16), (0, 0, 0)), tmp_path / "ct" / "a.dcm")
    content = path.read_bytes()
    content = content.replace(CANARIES["SeriesInstanceUID"].encode(), b"Kanarien" + b"x" * 23 + b"\0")
    content = content.replace(b"1.5\\0.75", b"CANARYID")
    path.write_bytes(content)
    caplog.set_level(logging.DEBUG)
    said = ""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        data = pydicom.dcmread(path)
        try:
            said = str(data.SeriesInstanceUID) + str(data.PixelSpacing)
        except Exception as error:
            said = str(error)
    assert leaks(said + caplog.text + "".join(map(str, heard)))
    refused(tmp_path / "ct", "cut or damaged|PixelSpacing", caplog)
    assert not logging.getLogger("pydicom").disabled, "pydicom speaks again afterwards"


def test_silence_ends_with_an_exception() -> None:
    logger = logging.getLogger("pydicom")
    seen: list[bool] = []

    def fail() -> None:
        with silence():
            seen.append(logger.disabled)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [True]
    assert not logger.disabled


def test_what_is_kept_of_a_file_holds_no_identifier(tmp_path: Path) -> None:
    path = save(dicom_image(np.ones((8, 10), np.int16), (0, 0, 0)), tmp_path / "a.dcm")
    with silence():
        frames = read_frames(path)
    for value in vars(frames).values():
        assert not leaks(repr(value))
        assert not any(secret.encode() in value for secret in SECRETS if isinstance(value, bytes))


def entry(row: int, patient: str) -> Entry:
    return Entry(f"Hospital alpha, row {row} of records.csv (p/{row})", patient, Path(f"/{row}"), 0)


def test_patients_of_files_and_of_the_table(tmp_path: Path) -> None:
    def series(number: int, patient: str | None) -> Series:
        uid = f"{OTHER_UID}.{number}"
        write_series(tmp_path / uid, change=lambda _: {"SeriesInstanceUID": uid, "PatientID": patient})
        return read(tmp_path / uid)

    one, again, other, blank, blank2 = (
        series(k, p) for k, p in enumerate(["CANARYID4711", "canaryid4711 ", "CANARYID4712", None, ""])
    )
    good = PatientsOfSeries()
    for row, (patient, read_one) in enumerate(
        [("a", one), ("a", again), ("b", other), ("c", blank), ("d", blank2)]
    ):
        good.check(entry(row, patient), read_one)
    cases: list[tuple[str, list[tuple[str, Series]]]] = [
        ("different PatientIDs", [("a", one), ("a", other)]),
        ("declared as two patients'", [("a", one), ("b", again)]),
        ("same series", [("a", one), ("a", one)]),
        ("same series", [("a", blank), ("b", blank)]),
    ]
    for says, ((first, x), (second, y)) in cases:
        check = PatientsOfSeries()
        check.check(entry(2, first), x)
        with pytest.raises(DataError, match=says) as caught:
            check.check(entry(3, second), y)
        assert "row 3" in str(caught.value)
        assert "row 2" in str(caught.value)
        assert not leaks(
            "".join(
                traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
            ).replace(OTHER_UID, "")
        )


def outcome(folder: Path) -> tuple[str, np.ndarray | None]:
    """What is said of a series that is refused, or its voxels."""
    try:
        return "", read(folder).volume.voxels
    except DataError as error:
        return str(error), None


@given(st.data())
@settings(max_examples=60)
def test_a_cut_file_is_refused_or_gives_the_same(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "cut-dicom"
    pixels = np.random.default_rng(0).integers(0, 2000, size=(8, 10)).astype(np.int16)
    image = dicom_image(pixels, (0, 0, 0))
    if data.draw(st.booleans()):
        image.compress(RLELossless, generate_instance_uid=False)
    path = save(image, folder / "a.dcm")
    whole = path.read_bytes()
    end = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:end])
    said, voxels = outcome(folder)
    if voxels is None:
        assert end < len(whole)
        assert not leaks(said)
    else:
        assert np.array_equal(voxels[::-1, ::-1, 0].T, pixels.astype(np.float32) * 2 - 1024)


@given(st.data())
@settings(max_examples=60)
def test_a_flipped_byte_never_gives_another_exception_nor_a_leak(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flip-dicom"
    path = save(dicom_image(np.ones((4, 4), np.int16), (0, 0, 0)), folder / "a.dcm")
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said, voxels = outcome(folder)
    assert not leaks(said)
    assert voxels is None or np.isfinite(voxels).all()


def test_a_real_scanner_s_image_in_every_encoding(caplog: pytest.LogCaptureFixture) -> None:
    """pydicom ships one MR image in several transfer syntaxes, and files that are cut."""
    home = Path(pydicom.__file__).parent / "data" / "test_files"
    plain = read(home / "MR_small.dcm").volume
    assert np.array_equal(
        np.sort(plain.voxels.ravel()), np.sort(pydicom.dcmread(home / "MR_small.dcm").pixel_array.ravel())
    )
    for name in ("RLE", "bigendian", "expb", "implicit", "jp2klossless"):
        volume = read(home / f"MR_small_{name}.dcm").volume
        assert np.array_equal(volume.voxels, plain.voxels), name
        assert volume.spacing == plain.spacing
    refused(home / "MR_truncated.dcm", "fewer or more pixels", caplog)
    refused(home / "no_meta.dcm", "no DICOM file with a preamble", caplog)
