"""NIfTI volumes and masks: orientation, scaling of the header, and every way a file can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefl.data.imaging.nifti import read_nifti
from securefl.errors import DataError

from .conftest import body, write_nifti


def read(path: Path, mask: Path | None = None):
    return read_nifti(path, f"here ({path.name})", mask, f"mask ({mask.name if mask else ''})")[0]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_loads(tmp_path: Path, name: str) -> None:
    volume = read(write_nifti(tmp_path / name, body()))
    assert np.array_equal(volume.voxels, body())
    assert volume.voxels.dtype == np.float32
    assert volume.spacing == (1.0, 1.0, 2.0)


def test_every_orientation_gives_the_same_volume(tmp_path: Path) -> None:
    straight = nib.Nifti1Image(body(), np.diag([1.0, 1.5, 2.0, 1.0]))
    for axes in ("LPS", "RAS", "SAR", "PIR", "ASL"):
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        turned = straight.as_reoriented(turn)
        assert "".join(nib.aff2axcodes(turned.affine)) == axes
        path = tmp_path / f"{axes}.nii"
        nib.save(turned, path)
        volume = read(path)
        assert np.array_equal(volume.voxels, body())
        assert volume.spacing == pytest.approx((1.0, 1.5, 2.0))


def test_the_header_s_slope_and_nifti_2_and_a_fourth_axis_of_one(tmp_path: Path) -> None:
    image = nib.Nifti1Image(body(), np.eye(4))
    image.header.set_slope_inter(2.0, 5.0)
    # nibabel divides when it saves, so that what is read is what was given, up to the rounding.
    nib.save(nib.Nifti1Image(body().astype(np.float32) * 0.5, np.eye(4), image.header), tmp_path / "a.nii")
    assert np.abs(read(tmp_path / "a.nii").voxels - body() * 0.5).max() < 1.01
    nib.save(nib.Nifti2Image(body(), np.eye(4)), tmp_path / "b.nii.gz")
    assert np.array_equal(read(tmp_path / "b.nii.gz").voxels, body())
    assert np.array_equal(read(write_nifti(tmp_path / "c.nii", body()[..., None])).voxels, body())


def test_wrong_volumes(tmp_path: Path) -> None:
    def refused(path: Path, says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            read(path)
        assert path.name in str(caught.value)

    refused(write_nifti(tmp_path / "flat.nii", body()[:, :, 0]), r"three axes.*shape \(12, 14\)")
    refused(write_nifti(tmp_path / "four.nii", np.stack([body()] * 2, -1)), "three axes")
    refused(write_nifti(tmp_path / "complex.nii", body().astype(np.complex64)), "real numbers")
    for value in (np.nan, np.inf, -np.inf):
        voxels = body().astype(np.float32)
        voxels[3, 3, 3] = value
        refused(write_nifti(tmp_path / "a.nii.gz", voxels), "NaN, infinite")
    huge = body().astype(np.float64)
    huge[3, 3, 3] = 1e300
    refused(write_nifti(tmp_path / "huge.nii", huge), "too large")
    refused(write_nifti(tmp_path / "size.nii", body(), affine=np.diag([1, 1, 1e-9, 1])), "usable voxel size")
    skew = np.eye(4)
    skew[:3, 1] = skew[:3, 0]
    refused(write_nifti(tmp_path / "skew.nii", body(), affine=skew), "not independent")
    (tmp_path / "text.nii").write_text("no volume at all" * 100)
    refused(tmp_path / "text.nii", "cut or damaged")
    (tmp_path / "text.nii.gz").write_text("not compressed")
    refused(tmp_path / "text.nii.gz", "cut or damaged")
    (tmp_path / "empty.nii.gz").touch()
    refused(tmp_path / "empty.nii.gz", "cut or damaged")
    (tmp_path / "volume.img").touch()
    refused(tmp_path / "volume.img", r"ends in \.nii")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", r"a file that ends in \.nii")


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    content = bytearray(write_nifti(tmp_path / "a.nii", body()).read_bytes())
    content[40:56] = np.array([3, 32767, 32767, 32767, 1, 1, 1, 1], dtype="<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(DataError, match="at most"):
        read(tmp_path / "a.nii")


@given(st.data())
@settings(max_examples=80)
def test_a_cut_or_damaged_file_is_refused_or_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, data
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cut"
    name = data.draw(st.sampled_from(["a.nii", "a.nii.gz"]))
    path = write_nifti(folder / name, body())
    whole = path.read_bytes()
    end = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:end])
    said = ""
    try:
        volume = read(path)
    except DataError as error:
        said = str(error)
    else:
        assert np.array_equal(volume.voxels, body())
        assert volume.spacing == (1.0, 1.0, 2.0)
    assert not said or (end < len(whole) and path.name in said)


@given(st.data())
@settings(max_examples=100)
def test_a_flipped_byte_never_gives_another_exception(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    """In ``.nii.gz`` a flipped byte of the voxels is noticed, since the checksum is read."""
    folder = tmp_path_factory.getbasetemp() / "flip"
    name = data.draw(st.sampled_from(["a.nii", "a.nii.gz"]))
    path = write_nifti(folder / name, body())
    content = bytearray(path.read_bytes())
    name_in_header = len(content) > 3 and content[3] & 8 and name.endswith("gz")
    fixed = content.index(0, 10) if name_in_header else 10
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        volume = read(path)
    except DataError:
        return
    assert np.isfinite(volume.voxels).all()
    if name == "a.nii.gz":
        assert np.array_equal(volume.voxels, body())
        padding = len(content) - 9  # the last byte of the deflate stream may end in bits that mean nothing
        assert at < fixed or at == padding, "only gzip's own header (time, system, name) may change unnoticed"


def test_masks(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "p_t1.nii.gz", body())
    lesion = np.zeros(body().shape, dtype=np.uint8)
    lesion[4:7, 4:7, 5] = 4
    volume = read(image, write_nifti(tmp_path / "p_seg.nii.gz", lesion))
    assert volume.lesion is not None
    assert np.array_equal(volume.lesion, lesion > 0)

    def refused(mask: Path, says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            read(image, mask)
        assert mask.name in str(caught.value)

    refused(write_nifti(tmp_path / "shape.nii", lesion[:-1]), "does not lie on the grid")
    refused(write_nifti(tmp_path / "spacing.nii", lesion, spacing=(1, 1, 1)), "does not lie on the grid")
    moved = np.diag([1.0, 1.0, 2.0, 1.0])
    moved[0, 3] = 1
    refused(write_nifti(tmp_path / "moved.nii", lesion, affine=moved), "does not lie on the grid")
    refused(write_nifti(tmp_path / "soft.nii", lesion * np.float32(0.1)), "whole numbers")
    refused(write_nifti(tmp_path / "minus.nii", -lesion.astype(np.int16)), "whole numbers")
    whole = gzip.decompress((tmp_path / "p_seg.nii.gz").read_bytes())
    (tmp_path / "cut.nii").write_bytes(whole[:-10])
    refused(tmp_path / "cut.nii", "cut or damaged")
