"""MedMNIST archives: splits as given, optional patients, and everything that an archive can have wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefl.data.imaging import ImagingSettings, load_imaging
from securefl.data.imaging import medmnist as module
from securefl.data.partition import by_class
from securefl.errors import DataError

SETTINGS = ImagingSettings("medmnist", image_size=28)
SIZES = {"train": 12, "val": 4, "test": 6}


def arrays(colour: bool = False, **changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    result: dict[str, Any] = {}
    for split, n in SIZES.items():
        shape = (n, 28, 28, 3) if colour else (n, 28, 28)
        result[f"{split}_images"] = random.integers(0, 256, size=shape, dtype=np.uint8)
        result[f"{split}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    result.update(changes)
    return {name: value for name, value in result.items() if value is not None}


def load(root: Path, settings: ImagingSettings = SETTINGS):
    return load_imaging(settings, root, "alpha", by_class, 0)


def test_the_splits_are_used_as_given(tmp_path: Path) -> None:
    given = arrays()
    np.savez_compressed(tmp_path / "pneumoniamnist.npz", **given)
    for root in (tmp_path, tmp_path / "pneumoniamnist.npz"):
        data = load(root)
        for part, split in ((data.train, "train"), (data.test, "test")):
            assert np.allclose(part.features[:, 0], given[f"{split}_images"] / 255, atol=1e-7)
            assert np.array_equal(part.labels, given[f"{split}_labels"][:, 0])
            assert part.patients is None
        assert data.classes == 2
    (tmp_path / "alpha").mkdir()
    np.savez(tmp_path / "alpha" / "own.npz", **arrays(val_labels=np.array([4, 0, 1, 2])))
    assert load(tmp_path / "{hospital}").classes == 5


def test_colour_and_other_sizes(tmp_path: Path) -> None:
    given = arrays(colour=True)
    np.savez(tmp_path / "a.npz", **given)
    expected = given["train_images"] @ np.array([0.299, 0.587, 0.114]) / 255
    assert np.allclose(load(tmp_path).train.features[:, 0], expected, atol=1e-6)
    assert load(tmp_path, ImagingSettings("medmnist", image_size=16)).train.shape == (1, 16, 16)


def test_patients(tmp_path: Path) -> None:
    ids = {
        "train_patients": np.arange(12) // 3,
        "val_patients": np.full(4, 90),
        "test_patients": np.arange(6) + 50,
    }
    np.savez(tmp_path / "a.npz", **arrays(**ids))
    data = load(tmp_path)
    assert data.train.patients is not None
    assert [len(group) for group in data.train.patient_groups()] == [3, 3, 3, 3]
    for split in ("val", "test"):
        np.savez(tmp_path / "a.npz", **arrays(**{**ids, f"{split}_patients": np.zeros(SIZES[split], int)}))
        with pytest.raises(DataError, match="a patient has records in two of train, val and test"):
            load(tmp_path)
    for wrong, says in (
        (None, "lacks the patients of a split"),
        (np.arange(5), "one integer"),
        (np.ones(6), "one integer"),
    ):
        np.savez(tmp_path / "a.npz", **arrays(**{**ids, "test_patients": wrong}))
        with pytest.raises(DataError, match=says):
            load(tmp_path)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"test_labels": None}, "lacks test_labels"),
    "no images": ({"val_images": None}, "lacks val_images"),
    "volumes": ({"train_images": np.zeros((12, 28, 28, 28), np.uint8)}, "volumes are not supported"),
    "floats": ({"train_images": np.zeros((12, 28, 28))}, "must be bytes"),
    "empty": ({"test_images": np.zeros((0, 28, 28), np.uint8)}, "test: there are no images"),
    "several labels": ({"train_labels": np.zeros((12, 14), np.uint8)}, "several labels"),
    "too few labels": ({"train_labels": np.zeros((11, 1), np.uint8)}, "one integer for each"),
    "real labels": ({"train_labels": np.zeros((12, 1))}, "one integer for each"),
    "negative labels": ({"train_labels": -np.ones((12, 1), int)}, "labels must be"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_archives(tmp_path: Path, fault: str) -> None:
    changes, says = FAULTS[fault]
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(DataError, match=rf"Hospital alpha, a\.npz.*{says}"):
        load(tmp_path)


def test_missing_files_and_declared_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in (tmp_path, tmp_path / "absent.npz"):
        with pytest.raises(DataError, match=r"exactly one, but 0 are there"):
            load(root)
    np.savez(tmp_path / "a.npz", **arrays(val_labels=np.array([0, 1, 2, 3])))
    with pytest.raises(DataError, match="labels must be from 0 to 1"):
        load(tmp_path, ImagingSettings("medmnist", classes=2))
    assert load(tmp_path, ImagingSettings("medmnist", classes=7)).classes == 7
    monkeypatch.setattr(module, "MAXIMUM_BYTES", 1000)
    with pytest.raises(DataError, match="unpacks to more than"):
        load(tmp_path)
    np.savez(tmp_path / "b.npz", **arrays())
    with pytest.raises(DataError, match="but 2 are there"):
        load(tmp_path)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    np.savez(tmp_path / "a.npz", **arrays(train_labels=np.array([Trap()], dtype=object)))
    with pytest.raises(DataError, match=r"a\.npz is no whole \.npz file"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as archive:  # the control
        assert len(archive["train_labels"]) == 1
    assert (tmp_path / "ran").exists()


@given(st.data())
@settings(max_examples=60)
def test_a_cut_archive_is_refused_or_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    end = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:end])
    if end == len(whole):
        assert np.array_equal(load(path).train.labels, arrays()["train_labels"][:, 0])
    else:
        with pytest.raises(DataError, match=r"cut\.npz"):
            load(path)
