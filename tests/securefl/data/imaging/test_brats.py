"""The BraTS layout: its names over the years, its visits, and cases that are not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from securefl.data.imaging import ImagingSettings, load_imaging
from securefl.data.imaging.brats import patient_of, read_cases, with_mask
from securefl.data.imaging.table import read_table
from securefl.data.partition import by_class
from securefl.errors import DataError

from .conftest import body, write_nifti, write_table


def write_case(home: Path, case: str, image: str, mask: str, seed: int = 0, lesion: bool = True) -> None:
    write_nifti(home / case / f"{case}{image}", body(seed=seed))
    shape = np.zeros(body().shape, dtype=np.uint8)
    shape[3:8, 3:8, 5:] = 4 * lesion
    write_nifti(home / case / f"{case}{mask}", shape)


def test_the_names_of_every_year(tmp_path: Path) -> None:
    home = tmp_path / "cases"
    write_case(home, "BraTS2021_00000", "_t1.nii.gz", "_seg.nii.gz", 0)
    write_case(home, "BraTS-GLI-00005-000", "-t1n.nii.gz", "-seg.nii.gz", 1)
    write_case(home, "BraTS-GLI-00005-001", "-t1n.nii.gz", "-seg.nii.gz", 2)
    write_case(home, "Brats18_CBICA_AAB_1", "_t1.nii", "_seg.nii", 3)
    write_nifti(
        home / "BraTS2021_00000" / "BraTS2021_00000_t1ce.nii.gz", body()
    )  # other contrasts do not disturb
    write_nifti(home / "BraTS2021_00000" / "BraTS2021_00000_flair.nii.gz", body())
    entries = read_cases(tmp_path, "cases", "alpha")
    assert [e.patient for e in entries] == ["BraTS-GLI-00005"] * 2 + [
        "BraTS2021_00000",
        "Brats18_CBICA_AAB_1",
    ]
    assert [e.path.name for e in entries][2:] == ["BraTS2021_00000_t1.nii.gz", "Brats18_CBICA_AAB_1_t1.nii"]
    assert all(e.mask is not None and "seg" in e.mask.name and e.label is None for e in entries)
    assert entries[0].where == "Hospital alpha, cases/BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1n.nii.gz"


def test_only_visits_are_joined() -> None:
    assert patient_of("BraTS-MEN-RT-0012-1") == "BraTS-MEN-RT-0012-1"
    assert patient_of("BraTS-MET-00012-002") == "BraTS-MET-00012"
    assert patient_of("BraTS20_Training_001") == "BraTS20_Training_001"


def test_cases_that_are_not_whole(tmp_path: Path) -> None:
    home = tmp_path / "cases"

    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            read_cases(tmp_path, "cases", "alpha")
        assert "Hospital alpha" in str(caught.value)

    refused("one folder a patient")
    home.mkdir()
    refused("one folder a patient")
    write_case(home, "p1", "_t1.nii.gz", "_seg.nii.gz")
    assert len(read_cases(tmp_path, "cases", "alpha")) == 1
    (home / "p2").mkdir()
    refused(r"cases/p2 must hold exactly one file \*_t1.nii.gz .* holds 0")
    write_nifti(home / "p2" / "p2_t1.nii.gz", body())
    refused(r"cases/p2 must hold exactly one file \*_seg.nii.gz .* holds 0")
    write_nifti(home / "p2" / "p2_seg.nii.gz", body())
    assert len(read_cases(tmp_path, "cases", "alpha")) == 2
    write_nifti(home / "p2" / "p2-seg.nii", body())
    refused("holds 2")
    (home / "p2" / "p2-seg.nii").unlink()
    write_case(home, "P02", "_t1.nii.gz", "_seg.nii.gz")
    refused("differs only by case, spaces or leading zeros")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_case(tmp_path / "outside", "p1", "_t1.nii.gz", "_seg.nii.gz")
    (root / "cases").mkdir(parents=True)
    (root / "cases" / "p1").symlink_to(tmp_path / "outside" / "p1")
    with pytest.raises(DataError, match="leads out"):
        read_cases(root, "cases", "alpha")


def test_a_table_s_masks(tmp_path: Path) -> None:
    for k in range(2):
        write_case(tmp_path / "cases", f"p{k}", "_t1.nii.gz", "_seg.nii.gz", k)
    write_table(tmp_path, "anna,cases/p0/p0_t1.nii.gz,1", "bert,cases/p1/p1_t1.nii.gz,")
    entries = read_table(tmp_path, "records.csv", "alpha", labelled=False)
    assert (
        with_mask(entries[1], tmp_path, "cases", "alpha").mask == tmp_path / "cases" / "p1" / "p1_seg.nii.gz"
    )
    (tmp_path / "cases" / "p1" / "p1_seg.nii.gz").unlink()
    with pytest.raises(
        DataError, match=r"row 3 of records.csv .*: its case cases/p1 must hold exactly one file"
    ):
        with_mask(entries[1], tmp_path, "cases", "alpha")


def test_labels_come_from_the_masks(tmp_path: Path) -> None:
    settings = ImagingSettings("nifti", masks="cases", slices=4, image_size=16, test_fraction=0.5)
    for k in range(8):
        write_case(tmp_path / "cases", f"p{k}", "_t1.nii.gz", "_seg.nii.gz", k, lesion=k < 4)
    data = load_imaging(settings, tmp_path, "alpha", by_class, 0)
    assert data.classes == 2
    for part in (data.train, data.test):
        assert len(part) == 16
        # Each patient with a lesion has it in the upper half of the slices.
        labels = part.labels.reshape(4, 4)
        assert sorted(map(tuple, labels)) == [(0, 0, 0, 0)] * 2 + [(0, 0, 1, 1)] * 2
        assert part.patients is not None
        assert np.array_equal(part.patients.reshape(4, 4), np.repeat(part.patients[::4], 4).reshape(4, 4))


def test_a_label_that_contradicts_the_mask(tmp_path: Path) -> None:
    settings = ImagingSettings("nifti", masks="cases", image_size=16, test_fraction=0.5)
    for k in range(4):
        write_case(tmp_path / "cases", f"p{k}", "_t1.nii.gz", "_seg.nii.gz", k, lesion=k != 2)
    rows = [f"q{k},cases/p{k}/p{k}_t1.nii.gz,{int(k != 2)}" for k in range(4)]
    write_table(tmp_path, *rows)
    assert load_imaging(settings, tmp_path, "alpha", by_class, 0).classes == 2
    for k, says in (
        (1, "the label is 0, but its mask shows a lesion"),
        (2, "the label is 1, but its mask shows no lesion"),
    ):
        wrong = list(rows)
        wrong[k] = f"{rows[k][:-1]}{1 - int(rows[k][-1])}"
        write_table(tmp_path, *wrong)
        with pytest.raises(DataError, match=rf"row {k + 2} of records.csv .*{says}"):
            load_imaging(settings, tmp_path, "alpha", by_class, 0)
