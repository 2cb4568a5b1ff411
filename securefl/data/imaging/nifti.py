"""NIfTI volumes and lesion masks (``.nii``, ``.nii.gz``), read whole, so that a gzip checksum is checked too."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from securefl.data.imaging.volumes import MAXIMUM_VOXELS, Spacing, Volume
from securefl.errors import DataError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

MAXIMUM_BYTES = 2**32
_TO_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(
    path: Path, where: str, mask: Path | None = None, mask_where: str = ""
) -> tuple[Volume, bytes]:
    """A volume, with the lesion mask if there is one, and a digest of the file's uncompressed bytes.

    Raises:
        DataError: a file is no NIfTI file, cut or damaged; the volume is not 3-D, real and finite; or the mask holds no
            whole numbers from 0, or lies on another grid.
    """
    image, digest = _image(path, where)
    voxels = _voxels(image, where)
    lesion = None
    if mask is not None:
        other, _ = _image(mask, mask_where)
        lesion = _lesion(_voxels(other, mask_where), mask_where)
        if lesion.shape != voxels.shape or not np.allclose(other.affine, image.affine, rtol=0, atol=1e-2):
            raise DataError(
                f"{mask_where}: the mask does not lie on the grid of its image (shape {lesion.shape} and "
                f"{voxels.shape}, or another position); draw it on this image."
            )
    return oriented(voxels, np.asarray(image.affine), 0.0, lesion, _unit(image), where), digest


def oriented(voxels: Any, affine: Any, background: float, lesion: Any, unit: float, where: str) -> Volume:
    """The volume with its axes turned to the patient's right, front and head, without interpolation.

    voxels: float32 (X, Y, Z); affine: float64 (4, 4), from voxels to the right, front and head; lesion: bool or None;
    unit: millimetres in the affine's unit.

    Raises:
        DataError: the affine gives no direction or no voxel size.
    """
    import nibabel as nib

    directions = affine[:3, :3]
    with np.errstate(all="ignore"):
        spacing = np.sqrt((directions**2).sum(axis=0)) * unit
    if not np.isfinite(affine).all() or not (spacing > 1e-4).all() or not (spacing < 1e3).all():
        raise DataError(f"{where}: the header gives no usable voxel size; repair the header.")
    if abs(np.linalg.det(directions * unit / spacing)) < 1e-3:
        raise DataError(f"{where}: the header's axes are not independent; repair the header.")
    turn = nib.orientations.io_orientation(affine)
    order = np.argsort(turn[:, 0])
    sizes: Spacing = (float(spacing[order[0]]), float(spacing[order[1]]), float(spacing[order[2]]))
    turned = np.ascontiguousarray(nib.orientations.apply_orientation(voxels, turn))
    if lesion is not None:
        lesion = np.ascontiguousarray(nib.orientations.apply_orientation(lesion, turn))
    return Volume(turned, sizes, background, lesion)


def _image(path: Path, where: str) -> tuple[Nifti1Image, bytes]:
    import nibabel as nib

    content = _content(path, where)
    try:
        kind = nib.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Image
        image = kind.from_bytes(content)
    except Exception as error:  # nibabel raises many kinds, OverflowError and struct.error among them
        raise _damaged(where, error) from None
    return image, hashlib.blake2b(content, digest_size=32).digest()


def _content(path: Path, where: str) -> bytes:
    if not path.is_file() or not path.name.endswith((".nii", ".nii.gz")):
        raise DataError(f"{where}: a NIfTI volume is a file that ends in .nii or .nii.gz; correct the path.")
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(where, error) from None
    if len(content) > MAXIMUM_BYTES:
        raise DataError(f"{where}: the volume is larger than {MAXIMUM_BYTES >> 30} GiB; leave it out.")
    return content


def _voxels(image: Nifti1Image, where: str) -> Any:
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or not all(shape) or np.prod(np.array(shape, dtype=np.float64)) > MAXIMUM_VOXELS:
        raise DataError(
            f"{where}: a volume must have three axes and at most {MAXIMUM_VOXELS} voxels, but has shape {shape}; give "
            "one volume a file."
        )
    if image.get_data_dtype().kind not in "biuf":
        raise DataError(f"{where}: the voxels must be real numbers; convert the volume.")
    try:
        with np.errstate(all="ignore"):
            voxels = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged")).reshape(shape)
    except Exception as error:  # as above
        raise _damaged(where, error) from None
    if not np.isfinite(voxels).all():
        raise DataError(f"{where}: the volume has voxels that are NaN, infinite or too large; repair it.")
    return voxels


def _lesion(values: Any, where: str) -> Any:
    if (values < 0).any() or (values != np.round(values)).any():
        raise DataError(
            f"{where}: a mask holds whole numbers from 0, which is no lesion; this file holds others."
        )
    return values > 0


def _unit(image: Nifti1Image) -> float:
    try:
        return _TO_MM.get(str(image.header.get_xyzt_units()[0]), 1.0)
    except KeyError:  # a code that the standard does not have
        return 1.0


def _damaged(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where} is no whole NIfTI file, but cut or damaged ({type(error).__name__}); copy it again."
    )
