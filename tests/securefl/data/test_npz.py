"""Records in .npz files: pooled, or one file a hospital; and everything that a file can have wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from securefl.data import input_shape_and_classes, load_all, load_hospital
from securefl.errors import DataError
from securefl.study.data_settings import DataSettings, Partition

NAMES = ["alpha", "beta"]
OWN = DataSettings(source="npz", root="data/{hospital}.npz")
POOLED = DataSettings(source="npz", root="pool.npz", partition=Partition(kind="iid"))


def some(count: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 4)), np.arange(count) % classes


def write_own(folder: Path, name: str, **arrays: object) -> None:
    (folder / "data").mkdir(exist_ok=True)
    np.savez(folder / "data" / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def test_one_file_a_hospital(tmp_path: Path) -> None:
    x, y = some(20)
    write_own(tmp_path, "alpha", x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    write_own(tmp_path, "beta", x=x, y=y)
    everyone = load_all(OWN, tmp_path, NAMES, seed=0)
    assert np.array_equal(everyone["alpha"].train.features, x.astype(np.float32))
    assert (len(everyone["alpha"].test), len(everyone["beta"].test)) == (5, 3)
    assert len(everyone["beta"].train) == 17
    assert {data.classes for data in everyone.values()} == {3}
    assert input_shape_and_classes(OWN, tmp_path, NAMES, 0) == ((4,), 3)


def test_a_hospital_reads_only_its_own_file_when_classes_are_declared(tmp_path: Path) -> None:
    x, y = some(20, classes=2)
    write_own(tmp_path, "alpha", x=x, y=y, classes=5)
    data = load_hospital(OWN, tmp_path, "alpha", NAMES, seed=0)
    assert data.classes == 5


def test_undeclared_classes_are_read_off_all_hospitals(tmp_path: Path) -> None:
    x, y = some(20, classes=2)
    write_own(tmp_path, "alpha", x=x, y=y)
    with pytest.raises(DataError, match=r"beta\.npz.*add an integer array classes"):
        load_hospital(OWN, tmp_path, "alpha", NAMES, seed=0)
    write_own(tmp_path, "beta", x=x, y=y + 2)
    assert load_hospital(OWN, tmp_path, "alpha", NAMES, seed=0).classes == 4


def test_hospitals_with_other_shapes_are_refused(tmp_path: Path) -> None:
    x, y = some(20)
    write_own(tmp_path, "alpha", x=x, y=y)
    write_own(tmp_path, "beta", x=x[:, :3], y=y)
    with pytest.raises(DataError, match=r"Hospital beta has records of shape \(3,\)"):
        load_all(OWN, tmp_path, NAMES, seed=0)


def test_a_pooled_file_is_split(tmp_path: Path) -> None:
    x, y = some(40)
    np.savez(tmp_path / "pool.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    everyone = load_all(POOLED, tmp_path, NAMES, seed=0)
    assert [len(data.train) for data in everyone.values()] == [20, 20]
    assert [len(data.test) for data in everyone.values()] == [5, 5]
    assert input_shape_and_classes(POOLED, tmp_path, NAMES, 0) == ((4,), 3)
    absolute = POOLED.model_copy(update={"root": str(tmp_path / "pool.npz")})
    again = load_hospital(absolute, Path("elsewhere"), "beta", NAMES, seed=0)
    assert np.array_equal(again.train.features, everyone["beta"].train.features)


def test_too_few_records_and_too_many_name_the_hospital(tmp_path: Path) -> None:
    x, y = some(20)
    for name in NAMES:
        write_own(tmp_path, name, x=x, y=y)
    with pytest.raises(DataError, match=r"Hospital beta has 17 training records of at least 18"):
        load_hospital(OWN.model_copy(update={"minimum_records": 18}), tmp_path, "beta", NAMES, seed=0)
    with pytest.raises(DataError, match=r"Hospital beta has 17 training records of at most 16"):
        load_hospital(OWN.model_copy(update={"maximum_records": 16}), tmp_path, "beta", NAMES, seed=0)
    exact = OWN.model_copy(update={"minimum_records": 17, "maximum_records": 17})
    assert len(load_hospital(exact, tmp_path, "beta", NAMES, seed=0).train) == 17
    empty = {"x_train": x[:0], "y_train": y[:0], "x_test": x, "y_test": y}
    write_own(tmp_path, "beta", **empty)
    with pytest.raises(DataError, match="Hospital beta has 0 training records"):
        load_hospital(OWN, tmp_path, "beta", NAMES, seed=0)


def test_a_stranger_is_no_hospital() -> None:
    with pytest.raises(DataError, match="gamma is not a hospital of this study"):
        load_hospital(OWN, Path("."), "gamma", NAMES, seed=0)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    np.savez(tmp_path / "pool.npz", x=np.array([Trap()], dtype=object), y=np.zeros(1, dtype=int))
    with pytest.raises(DataError, match=r"not an \.npz file of plain arrays"):
        load_all(POOLED, tmp_path, NAMES, seed=0)
    assert not (tmp_path / "ran").exists()
    # The control: reading the same file with pickle allowed does run it.
    with np.load(tmp_path / "pool.npz", allow_pickle=True) as archive:
        assert len(archive["x"]) == 1
    assert (tmp_path / "ran").exists()


def test_bad_files_are_refused(tmp_path: Path) -> None:
    x, y = some(20)
    path = tmp_path / "pool.npz"

    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            load_all(POOLED, tmp_path, NAMES, seed=0)
        assert "pool.npz" in str(caught.value) or "npz:" in str(caught.value)

    refused("does not exist")
    path.write_bytes(b"PK\x03\x04 but no archive")
    refused(r"not an \.npz file")
    with path.open("wb") as file:
        np.save(file, x)
    refused("holds a single array")
    np.savez(path, x=x, z=y)
    refused("but holds x, z")
    np.savez(path, x=np.where(x > 2, np.nan, x) if (x > 2).any() else x * np.nan, y=y)
    refused("NaN")
    np.savez(path, x=x, y=y, classes=2)
    refused("labels must be from 0 to 1")
    np.savez(path, x=x, y=y, classes=2.5)
    refused("classes must be one integer")
    np.savez(path, x=x, y=y * 0)
    refused("all records have the same label")
    np.savez(path, x_train=x, y_train=y, x_test=x[:, :2], y_test=y)
    refused("must have one shape")
    np.savez(path, x=x[:1], y=y[:1], classes=2)
    refused("1 records cannot be split")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    x, y = some(2000)
    path = tmp_path / "pool.npz"
    np.savez_compressed(path, x=x, y=y)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"not an \.npz file"):
        load_all(POOLED, tmp_path, NAMES, seed=0)
    path.write_bytes(bytes(whole[: len(whole) // 2]))
    with pytest.raises(DataError, match=r"not an \.npz file"):
        load_all(POOLED, tmp_path, NAMES, seed=0)


@pytest.mark.parametrize("held_out", ["by-class", "each-alone"])
def test_the_records_of_a_patient_stay_together(tmp_path: Path, held_out: str) -> None:
    x, y = some(60)
    patients = np.repeat(np.arange(20) * 7, 3)
    write_own(tmp_path, "alpha", x=x, y=y, classes=3, patients=patients)
    own = OWN.model_copy(update={"held_out": held_out})
    data = load_hospital(own, tmp_path, "alpha", NAMES, seed=0)
    assert data.train.patients is not None
    assert data.test.patients is not None
    assert set(data.train.patients) | set(data.test.patients) == set(patients)
    assert not set(data.train.patients) & set(data.test.patients)
    assert len(data.train) + len(data.test) == 60
    write_own(tmp_path, "alpha", classes=3, x_train=x, y_train=y, x_test=x, y_test=y, patients_train=patients)
    again = load_hospital(own, tmp_path, "alpha", NAMES, seed=0)
    assert again.train.patients is not None
    assert np.array_equal(again.train.patients, patients)
    assert again.test.patients is None


@pytest.mark.parametrize("wrong", [np.arange(19), np.arange(20.0), np.zeros((20, 1), np.int64)])
def test_patients_are_one_integer_for_each_record(tmp_path: Path, wrong: np.ndarray) -> None:
    x, y = some(20)
    write_own(tmp_path, "alpha", x=x, y=y, classes=3, patients=wrong)
    with pytest.raises(
        DataError, match=r"alpha\.npz: patients must be one integer for each of the 20 records"
    ):
        load_hospital(OWN, tmp_path, "alpha", NAMES, seed=0)
