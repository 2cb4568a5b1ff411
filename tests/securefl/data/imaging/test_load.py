"""The entry point: real files to records, the split by patient, spacings, and DICOM from a table."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.data.imaging import ImagingSettings, load_imaging
from securefl.data.partition import SPLITS, Split, by_class, each_alone
from securefl.data.pool import split_off_test
from securefl.data.records import Records
from securefl.errors import DataError

from .conftest import CANARIES, body, write_nifti, write_series, write_table

NIFTI = ImagingSettings("nifti", image_size=16, slices=3, test_fraction=0.25)


def cohort(root: Path, patients: int = 8, spacing: tuple[float, float, float] = (1, 1, 2)) -> None:
    """Two volumes a patient; every second patient has label 1 in the second."""
    rows = []
    for k in range(patients):
        for visit in range(2):
            write_nifti(root / f"scans/{k}-{visit}.nii.gz", body(seed=2 * k + visit), spacing)
            rows.append(f"p{k},scans/{k}-{visit}.nii.gz,{int(bool(k % 2 and visit))}")
    write_table(root, *rows)


def test_volumes_become_records(tmp_path: Path) -> None:
    cohort(tmp_path / "alpha")
    data = load_imaging(NIFTI, tmp_path / "{hospital}", "alpha", by_class, 0)
    assert (data.train.shape, data.classes, len(data.train), len(data.test)) == ((1, 16, 16), 2, 36, 12)
    assert data.train.features.dtype == np.float32
    assert 0 <= data.train.features.min() < data.train.features.max() <= 1
    assert data.train.patients is not None
    assert data.test.patients is not None
    assert not set(data.train.patients) & set(data.test.patients)
    assert sorted({*data.train.patients, *data.test.patients}) == list(range(8))
    assert [len(group) for group in data.train.patient_groups()] == [6] * 6
    # Stratified: a quarter of the patients with and of those without a lesion is held out.
    assert int(data.test.labels.sum()) == 3
    again = load_imaging(NIFTI, tmp_path / "alpha", "alpha", by_class, 0)
    assert np.array_equal(again.train.features, data.train.features)
    other = load_imaging(NIFTI, tmp_path / "alpha", "alpha", by_class, 1)
    assert not np.array_equal(other.train.patients, data.train.patients)
    assert load_imaging(replace(NIFTI, classes=4), tmp_path / "alpha", "alpha", by_class, 0).classes == 4


def test_one_patient_s_images_do_not_depend_on_the_others(tmp_path: Path) -> None:
    cohort(tmp_path)
    before = load_imaging(NIFTI, tmp_path, "alpha", by_class, 0).train
    write_nifti(tmp_path / "scans/0-0.nii.gz", 5 * body(seed=77))
    after = load_imaging(NIFTI, tmp_path, "alpha", by_class, 0).train
    assert before.patients is not None
    changed = np.abs(before.features - after.features).max(axis=(1, 2, 3)) > 0
    assert not changed[before.patients != 0].any()


def test_mixed_spacings(tmp_path: Path) -> None:
    cohort(tmp_path)
    assert len(load_imaging(NIFTI, tmp_path, "alpha", by_class, 0).train) == 36
    write_nifti(tmp_path / "scans/3-1.nii.gz", body(seed=7), (1, 1, 3))
    with pytest.raises(
        DataError, match=r"row 9 of records.csv \(scans/3-1.nii.gz\): .*1 × 1 × 3 mm.*row 2 .*1 × 1 × 2 mm"
    ):
        load_imaging(NIFTI, tmp_path, "alpha", by_class, 0)
    resampled = replace(NIFTI, mixed_spacing="resample")
    assert len(load_imaging(resampled, tmp_path, "alpha", by_class, 0).train) == 36
    declared = replace(NIFTI, spacing=(1, 1, 2.5))
    with pytest.raises(
        DataError, match=r"row 2 of records.csv .*those of the declared spacing 1 × 1 × 2.5 mm"
    ):
        load_imaging(declared, tmp_path, "alpha", by_class, 0)
    assert (
        len(load_imaging(replace(declared, mixed_spacing="resample"), tmp_path, "alpha", by_class, 0).train)
        == 36
    )


def test_faults_name_the_row_and_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder of its images, .*absent, does not exist"):
        load_imaging(NIFTI, tmp_path / "absent", "alpha", by_class, 0)
    with pytest.raises(DataError, match=r"table records.csv is missing"):
        load_imaging(NIFTI, tmp_path, "alpha", by_class, 0)
    cohort(tmp_path)
    path = tmp_path / "scans/1-0.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"row 4 of records.csv \(scans/1-0.nii.gz\) is no whole NIfTI file"):
        load_imaging(NIFTI, tmp_path, "alpha", by_class, 0)
    path.write_bytes((tmp_path / "scans/0-0.nii.gz").read_bytes())
    with pytest.raises(DataError, match=r"row 4 .*content is that of .*row 2 .*for another patient"):
        load_imaging(NIFTI, tmp_path, "alpha", by_class, 0)
    path.write_bytes(whole)
    assert len(load_imaging(NIFTI, tmp_path, "alpha", by_class, 0).train) == 36
    with pytest.raises(DataError, match="asked for; lower slices"):
        load_imaging(replace(NIFTI, slices=11), tmp_path, "alpha", by_class, 0)
    with pytest.raises(DataError, match="leads out"):
        load_imaging(replace(NIFTI, table="../records.csv"), tmp_path, "alpha", by_class, 0)
    with pytest.raises(DataError, match="leads out"):
        load_imaging(replace(NIFTI, masks="../masks", table="none.csv"), tmp_path, "alpha", by_class, 0)
    text = (tmp_path / "records.csv").read_text()
    (tmp_path / "records.csv").write_text(text.replace("0.nii.gz,0", "0.nii.gz,2"))
    with pytest.raises(DataError, match="labels must be from 0 to 1, but reach 2"):
        load_imaging(replace(NIFTI, classes=2), tmp_path, "alpha", by_class, 0)
    cohort(tmp_path, patients=1)
    with pytest.raises(DataError, match="1 patients cannot be split"):
        load_imaging(NIFTI, tmp_path, "alpha", by_class, 0)


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=8, max_size=60), st.integers(0, 2**62)
)
def test_the_split_is_by_patient(split: Split, pairs: list[tuple[int, int]], seed: int) -> None:
    patients, labels = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    rows = np.arange(len(pairs), dtype=np.float32)[:, None]
    try:
        data = split_off_test(Records(rows, labels, patients), 3, split, 0.3, seed, "x")
    except DataError:
        assert len(set(patients)) < 7 or split is each_alone
        return
    assert data.train.patients is not None
    assert data.test.patients is not None
    assert not set(data.train.patients) & set(data.test.patients)
    both = np.concatenate([data.train.features, data.test.features])[:, 0]
    assert sorted(both) == list(range(len(pairs)))
    for part in (data.train, data.test):
        assert np.array_equal(part.labels, labels[part.features[:, 0].astype(int)])
        assert np.array_equal(part.patients, patients[part.features[:, 0].astype(int)])


def test_dicom_from_a_table(tmp_path: Path) -> None:
    settings = ImagingSettings("dicom", image_size=8, slices=2, test_fraction=0.5)
    uid = CANARIES["SeriesInstanceUID"]
    for k in range(4):
        write_series(
            tmp_path / f"p{k}/t1",
            seed=k,
            change=lambda _, k=k: {"SeriesInstanceUID": f"{uid}.{k}", "PatientID": f"CANARY{k}"},
        )
    rows = [f"q{k},p{k}/t1,{k % 2}" for k in range(4)]
    write_table(tmp_path, *rows)
    data = load_imaging(settings, tmp_path, "alpha", by_class, 0)
    assert (len(data.train), len(data.test), data.train.shape) == (4, 4, (1, 8, 8))

    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            load_imaging(settings, tmp_path, "alpha", by_class, 0)
        shown = "".join(
            traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
        )
        assert "CANARY" not in shown.replace("CANARIES", "")
        assert "Kanarien" not in shown

    write_table(tmp_path, *rows[:3], "q2,p3/t1,1")
    refused(r"row 5 of records.csv \(p3/t1\) and .*row 4 .*different PatientIDs")
    write_series(
        tmp_path / "p3/t1", seed=3, change=lambda _: {"SeriesInstanceUID": f"{uid}.3", "PatientID": "CANARY1"}
    )
    write_table(tmp_path, *rows)
    refused(r"row 5 of records.csv \(p3/t1\) and .*row 3 .*one PatientID")
    write_table(tmp_path, *rows[:3], "q3,p9/t1,1")
    refused(r"row 5 of records.csv \(p9/t1\): the file does not exist")
    write_table(tmp_path, *rows[:3])
    file = sorted((tmp_path / "p2/t1").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-7])
    refused(r"row 4 of records.csv \(p2/t1\): file 2 of 6, by name, holds fewer or more pixels")
