"""The table ``data`` of ``study.toml``: where the records come from, and how they are split over the hospitals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from securefl.study.settings import FileName, ModuleReference, Settings

ROOTED = ("mnist", "fashion-mnist", "cifar10", "npz", "imaging")
"""Sources that read files in ``root``."""
SPLIT_HERE = ("mnist-5k", "fed-heart", "npz", "imaging")
"""Sources of real records in which nobody has said which are held out."""


class Partition(Settings):
    """How a data set in one piece is split over the hospitals. Deterministic by the study's seed."""

    kind: Literal["site", "iid", "dirichlet", "classes-per-hospital", "quantity-skew"] = Field(
        "site", description="site: the hospitals the records really come from; the others split one pool"
    )
    alpha: float = Field(
        0.5,
        gt=0,
        le=1000,
        description="dirichlet and quantity-skew: concentration (0 to 1000; small is skewed)",
    )
    classes: int = Field(2, ge=1, le=1000, description="classes-per-hospital: classes that each hospital has")


class LesionSettings(Settings):
    """Source ``mri-lesions``: slices of a real brain template with synthetic lesions."""

    patients: int = Field(
        600, ge=20, le=100_000, description="patients of all hospitals together (20 to 100000)"
    )
    slices: int = Field(4, ge=1, le=32, description="slices of each patient (1 to 32)")


class ImagingSettings(Settings):
    """Source ``imaging``: a hospital's own images."""

    format: Literal["nifti", "dicom", "image-folder", "medmnist"]
    table: FileName = Field("records.csv", description="CSV in root with the columns patient, file, label")
    masks: FileName | None = Field(
        None, description="nifti: folder of lesion masks in BraTS layout, from which slices are labelled"
    )
    image_size: int = Field(64, ge=8, le=512, description="pixels of a side (8 to 512)")
    slices: int = Field(4, ge=1, le=512, description="slices taken from each volume (1 to 512)")
    mixed_spacing: Literal["refuse", "resample"] = Field(
        "refuse", description="what to do with volumes whose voxels differ in size"
    )
    spacing: list[Annotated[float, Field(gt=0, le=100)]] | None = Field(
        None,
        min_length=3,
        max_length=3,
        description="voxel size that all are resampled to, in mm (default: the first's)",
    )
    lesion_pixels: int = Field(
        10, ge=1, le=10**6, description="masks: fewest pixels that make a slice positive"
    )
    classes: int = Field(
        2, ge=2, le=1000, description="classes of the task, whichever a hospital has (2 to 1000)"
    )


class DataSettings(Settings):
    """Where the records come from."""

    source: Literal[
        "mnist-5k",
        "mnist",
        "fashion-mnist",
        "cifar10",
        "fed-heart",
        "mri-lesions",
        "imaging",
        "npz",
        "module",
    ]
    root: str | None = Field(
        None,
        description="folder of the files: absolute, or relative to the study folder; "
        "npz and imaging: may contain {hospital}, one file or folder a hospital",
    )
    module: ModuleReference | None = Field(None, description='source "module": file.py:function')
    download: bool = Field(
        False, description="mnist, fashion-mnist, cifar10: may torchvision fetch missing files"
    )
    partition: Partition = Partition()
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the records held out, where the source has no split"
    )
    held_out: Literal["by-class", "each-alone"] | None = Field(
        None,
        description="who is held out, where the source has no split: a share of each class (by-class, the default), or "
        "each patient by itself, whoever else is there (each-alone, the only one with privacy of patients)",
    )
    split_seed: int | None = Field(
        None, ge=0, lt=2**63, description="seed of the held-out split (default: the study's)"
    )
    minimum_records: int = Field(1, ge=1, le=10**9, description="fewest training records a hospital may have")
    maximum_records: int = Field(
        10**9,
        ge=1,
        le=10**9,
        description="most training records a hospital may have; a total beyond what all may have ends the study",
    )
    standardise: Literal["none", "features", "channels", "public"] = Field(
        "none",
        description="scale inputs by means and variances that are themselves securely aggregated; "
        "public: by public_mean and public_std",
    )
    public_mean: list[float] | None = Field(
        None,
        description='standardise "public": a number for each feature or channel, known without the records',
    )
    public_std: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description='standardise "public": likewise, positive'
    )
    imaging: ImagingSettings | None = Field(None, description='source "imaging": how its files are read')
    lesions: LesionSettings = Field(
        default_factory=lambda: LesionSettings(),
        description='source "mri-lesions": how many patients there are',
    )

    @model_validator(mode="after")
    def _complete(self) -> DataSettings:
        if (self.source == "module") != (self.module is not None):
            raise ValueError('module goes with source = "module", and only with it')
        if (self.source == "imaging") != (self.imaging is not None):
            raise ValueError('the table data.imaging goes with source = "imaging", and only with it')
        if self.held_out == "each-alone" and self.source not in SPLIT_HERE:
            raise ValueError(f'source = "{self.source}" has a split of its own: leave held_out out')
        if self.root is not None and self.source not in ROOTED:
            raise ValueError(f'source = "{self.source}" reads no folder: leave root out')
        given = self.public_mean is not None and self.public_std is not None
        if given != (self.standardise == "public") or len(self.public_mean or []) != len(
            self.public_std or []
        ):
            raise ValueError('standardise = "public" needs public_mean and public_std, of the same length')
        if self.maximum_records < self.minimum_records:
            raise ValueError("maximum_records must be at least minimum_records")
        if self.source in ROOTED and self.root is None:
            raise ValueError(f'source = "{self.source}" needs root, the folder of its files')
        return self
