"""How a hospital's images are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from securefl.errors import StudyError


@dataclass(frozen=True)
class ImagingSettings:
    """How the files of one folder become records.

    table: CSV in the folder with the columns patient, file and label. masks: folder, inside the hospital's, with lesion
    masks in BraTS layout (nifti only); labels then come from the masks, and without a table the cases do too.
    image_size: pixels of a side (8 to 1024). slices: taken from each volume (1 to 1024). mixed_spacing: what to do with
    volumes whose voxels differ in size. spacing: what size they must have or get, in mm to the right, to the front and
    up; None: the first volume's. lesion_pixels: a slice shows a lesion from so many voxels of mask on. classes: of the
    task; None: one more than the largest label, and at least 2.

    Raises:
        StudyError: a value is out of range, or masks are given for another format.
    """

    format: Literal["nifti", "dicom", "image-folder", "medmnist"]
    table: str = "records.csv"
    masks: str | None = None
    image_size: int = 64
    slices: int = 4
    mixed_spacing: Literal["refuse", "resample"] = "refuse"
    test_fraction: float = 0.2
    spacing: tuple[float, float, float] | None = None
    lesion_pixels: int = 10
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.format not in ("nifti", "dicom", "image-folder", "medmnist"):
            raise StudyError(
                f"Images come as nifti, dicom, image-folder or medmnist, not as {self.format}; choose one."
            )
        if self.mixed_spacing not in ("refuse", "resample"):
            raise StudyError(f"mixed_spacing must be refuse or resample, not {self.mixed_spacing}.")
        if self.masks is not None and self.format != "nifti":
            raise StudyError(f'Masks go with format = "nifti", not with "{self.format}"; leave them out.')
        if self.classes is not None and not (self.classes == 2 or (self.classes > 2 and self.masks is None)):
            raise StudyError("classes must be at least 2, and with masks exactly 2: with and without lesion.")
        if not (8 <= self.image_size <= 1024 and 1 <= self.slices <= 1024 and self.lesion_pixels >= 1):
            raise StudyError(
                "image_size must be from 8 to 1024, slices from 1 to 1024, and lesion_pixels at least 1."
            )
        if not 0 < self.test_fraction < 1:
            raise StudyError("test_fraction must lie between 0 and 1.")
        if self.spacing is not None and not all(0 < d < math.inf for d in self.spacing):
            raise StudyError("spacing must be three positive numbers, in millimetres.")
