"""Image files: pixel types, names and folders, and files that are cut, too large or no images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from securefl.data.imaging import ImagingSettings, load_imaging
from securefl.data.imaging import folders as module
from securefl.data.imaging.folders import read_folders, read_image
from securefl.data.partition import by_class
from securefl.errors import DataError

from .conftest import write_table

SETTINGS = ImagingSettings("image-folder", image_size=8, test_fraction=0.5)


def noise(seed: int = 0, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def read(path: Path, size: int = 8) -> np.ndarray:
    return read_image(path, size, f"Hospital alpha, {path.name}")[0]


def test_pixel_types(tmp_path: Path) -> None:
    grey = noise()
    assert np.array_equal(read(write(tmp_path / "8.png", grey)), grey.astype(np.float32) / np.float32(255))
    deep = np.random.default_rng(0).integers(0, 65536, size=(8, 8), dtype=np.uint16)
    assert np.allclose(read(write(tmp_path / "16.png", deep)), deep / 65535, atol=1e-7)
    colour = noise(1, (8, 8, 3))
    expected = colour @ np.array([0.299, 0.587, 0.114]) / 255
    assert np.abs(read(write(tmp_path / "rgb.png", colour)) - expected).max() < 0.005
    smooth = np.repeat(np.arange(0, 256, 32, dtype=np.uint8)[None], 8, axis=0)
    assert np.abs(read(write(tmp_path / "grey.jpg", smooth, quality=100)) - smooth / 255).max() < 0.02
    wide = read(write(tmp_path / "wide.png", np.full((4, 8), 255, np.uint8)))
    assert wide[2:6].min() > 0.99
    assert wide.sum() == pytest.approx(32)


def test_other_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            read(path)
        assert path.name in str(caught.value)

    refused(write(tmp_path / "alpha.png", noise(0, (8, 8, 4))), "mode RGBA")
    Image.fromarray(noise()).convert("P").save(tmp_path / "palette.png")
    refused(tmp_path / "palette.png", "mode P")
    (tmp_path / "text.png").write_text("no image")
    refused(tmp_path / "text.png", "cut or damaged")
    write(tmp_path / "a.gif", noise()).rename(tmp_path / "gif.png")
    refused(tmp_path / "gif.png", "cut or damaged")
    refused(write(tmp_path / "a.tif", noise()), r"ends in \.png")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", r"a file that ends in")
    path = write(tmp_path / "large.png", noise(0, (20, 20)))
    assert read(path).shape == (8, 8)
    monkeypatch.setattr(module, "MAXIMUM_PIXELS", 399)
    refused(path, "more than 399 pixels")


def test_decompression_bombs_are_refused_before_they_unpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (9000, 9000)).save(path)
    assert path.stat().st_size < 200_000
    loads = []
    monkeypatch.setattr(Image.Image, "load", lambda self: loads.append(self))
    for limit in (
        Image.MAX_IMAGE_PIXELS,
        50_000_000,
        10_000_000,
        None,
    ):  # above, warned of, refused by Pillow; no limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"bomb\.png: the image has more than"):
            read(path)
    assert not loads


@given(st.data())
@settings(max_examples=80)
def test_a_cut_image_is_refused_or_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cut-image"
    name, pixels = data.draw(
        st.sampled_from([("a.png", noise()), ("c.png", noise(1, (8, 8, 3))), ("a.jpg", noise(2, (40, 40)))])
    )
    path = write(folder / name, pixels)
    good, whole = read(path), path.read_bytes()
    end = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:end])
    said = ""
    try:
        assert np.array_equal(read(path), good)
    except DataError as error:
        said = str(error)
    assert not said or (end < len(whole) and name in said)


@given(st.data())
@settings(max_examples=80)
def test_a_flipped_byte_never_gives_another_exception(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "flip-image" / "a.png", noise())
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        assert np.isfinite(read(path)).all()
    except DataError:
        return


def fill(root: Path, patients: int = 6) -> None:
    for k in range(patients):
        for shot in range(2):
            write(root / ("yes" if k % 2 else "no") / f"p{k}_{shot}.png", noise(10 * k + shot))


def test_a_folder_a_label(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "no" / ".DS_Store").touch()
    entries, classes = read_folders(tmp_path, "alpha")
    assert classes == 2
    assert [(e.patient, e.label) for e in entries][::2] == [
        ("p0", 0),
        ("p2", 0),
        ("p4", 0),
        ("p1", 1),
        ("p3", 1),
        ("p5", 1),
    ]
    data = load_imaging(SETTINGS, tmp_path, "alpha", by_class, 0)
    assert data.train.shape == (1, 8, 8)
    assert len(data.train) + len(data.test) == 12


def test_faulty_folders(tmp_path: Path) -> None:
    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            load_imaging(SETTINGS, tmp_path, "alpha", by_class, 0)
        assert "Hospital alpha" in str(caught.value)

    refused("at least two, but holds 0")
    (tmp_path / "no").mkdir()
    refused("holds 1")
    (tmp_path / "yes").mkdir()
    refused("the folder no holds no images")
    fill(tmp_path)
    assert load_imaging(SETTINGS, tmp_path, "alpha", by_class, 0).classes == 2
    for name, says in {
        "p9.png": r"no/p9\.png: name the image",
        "_x.png": r"no/_x\.png: name the image",
        "p9_a.bmp": r"no/p9_a\.bmp: an image is a file",
        "P00_a.png": "differs only by case",
    }.items():
        path = write(tmp_path / "no" / name, noise(99))
        refused(says)
        path.unlink()
    copy = tmp_path / "yes" / "p9_copy.png"
    copy.write_bytes((tmp_path / "no" / "p0_0.png").read_bytes())
    refused(
        r"yes/p9_copy\.png: the file's content is that of Hospital alpha, no/p0_0\.png, for another patient"
    )
    copy.rename(tmp_path / "no" / "p0_copy.png")  # the control: the same patient may have equal images
    assert load_imaging(SETTINGS, tmp_path, "alpha", by_class, 0).classes == 2


def test_a_table_of_image_files(tmp_path: Path) -> None:
    fill(tmp_path / "img")
    write_table(tmp_path, *(f"p{k},img/{'yes' if k % 2 else 'no'}/p{k}_0.png,{k % 3}" for k in range(6)))
    data = load_imaging(SETTINGS, tmp_path, "alpha", by_class, 0)
    assert data.classes == 3
    assert len(data.train) + len(data.test) == 6
    whole = io.BytesIO((tmp_path / "img" / "no" / "p2_0.png").read_bytes()).getvalue()
    (tmp_path / "img" / "no" / "p2_0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"row 4 of records.csv \(img/no/p2_0.png\) is no whole PNG"):
        load_imaging(SETTINGS, tmp_path, "alpha", by_class, 0)
