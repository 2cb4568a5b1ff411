"""From a study's data settings to what each hospital holds.

Two kinds of source. A pool (``mnist-5k``, ``mnist``, ``fashion-mnist``, ``cifar10``, ``fed-heart``, ``npz`` in one
file) is read whole and split by the study's partition. With ``npz`` in a file a hospital, with ``imaging`` and with
``module`` each hospital reads only its own records, and ``mri-lesions`` draws each hospital's patients by itself; the
partition is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from securefl.data import fed_heart, images, npz
from securefl.data.partition import SPLITS, Split
from securefl.data.pool import Pool, split_over_hospitals
from securefl.data.records import HospitalData
from securefl.data.user_module import declared_task, module_hospital
from securefl.errors import DataError

if TYPE_CHECKING:
    from securefl.study.data_settings import DataSettings


def load_hospital(
    settings: DataSettings, folder: Path, hospital: str, hospitals: Sequence[str], seed: int
) -> HospitalData:
    """What one hospital holds. Deterministic: the same arguments and files give the same arrays.

    folder: the study folder, to which relative paths are relative; hospitals: all names, in the study's order; seed:
    the study's (``settings.split_seed``, if given, draws the held-out records instead).

    Raises:
        DataError: files or records are missing or malformed, or the hospital has too few or too many; the message
            names the hospital or the file.
    """
    if hospital not in hospitals:
        raise DataError(
            f"{hospital} is not a hospital of this study; its hospitals are {', '.join(hospitals)}."
        )
    if settings.source == "mri-lesions":
        return _counted(settings, hospital, _lesions(settings, hospitals, seed, hospital)[hospital])
    pool = _pool(settings, folder, seed)
    if pool is not None:
        parts = split_over_hospitals(pool, settings, hospitals, seed)
        return _counted(settings, hospital, parts[hospital])
    data, declared = _own_records(settings, folder, hospital, seed)
    data = _counted(settings, hospital, data)
    if not declared:
        data = replace(data, classes=_classes_of_all(settings, folder, hospitals, seed))
    return data


def load_all(
    settings: DataSettings, folder: Path, hospitals: Sequence[str], seed: int
) -> dict[str, HospitalData]:
    """What every hospital holds, in the order of ``hospitals``; for simulations only, where the records may meet.

    Raises:
        DataError: as ``load_hospital``, or hospitals whose records differ in shape or declared classes.
    """
    lesions = settings.source == "mri-lesions"
    pool = None if lesions else _pool(settings, folder, seed)
    if lesions or pool is not None:
        everyone = (
            split_over_hospitals(pool, settings, hospitals, seed)
            if pool is not None
            else _lesions(settings, hospitals, seed)
        )
        return {name: _counted(settings, name, data) for name, data in everyone.items()}
    everyone = {name: load_hospital(settings, folder, name, hospitals, seed) for name in hospitals}
    first = hospitals[0]
    for name, data in everyone.items():
        task, other = (data.train.shape, data.classes), (everyone[first].train.shape, everyone[first].classes)
        if task != other:
            raise DataError(
                f"Hospital {name} has records of shape {task[0]} in {task[1]} classes, but hospital {first} has shape "
                f"{other[0]} in {other[1]} classes; all must have the same."
            )
    return everyone


def _counted(settings: DataSettings, hospital: str, data: HospitalData) -> HospitalData:
    """The data, of a hospital that has as many training records as the study allows."""
    count = len(data.train)
    if count < settings.minimum_records:
        raise DataError(
            f"Hospital {hospital} has {count} training records of at least {settings.minimum_records}; give it more "
            "records, or lower data.minimum_records."
        )
    if count > settings.maximum_records:
        raise DataError(
            f"Hospital {hospital} has {count} training records of at most {settings.maximum_records}; give it fewer "
            "records, or raise data.maximum_records."
        )
    return data


def input_shape_and_classes(
    settings: DataSettings, folder: Path, hospitals: Sequence[str], seed: int
) -> tuple[tuple[int, ...], int]:
    """The shape of one record and the number of classes, from which the model is built.

    No record is read for ``mnist-5k``, ``mnist``, ``fashion-mnist``, ``cifar10`` and ``fed-heart``, nor for ``module``
    when its file declares ``SHAPE`` and ``CLASSES``. ``npz`` in one file is read. Otherwise the hospitals' own records
    are read, which works only where they all lie: in a simulation.

    Raises:
        DataError: as ``load_hospital``.
    """
    if settings.source == "mnist-5k":
        return images.DIGITS_SHAPE, images.CLASSES
    if settings.source in images.IMAGE_SOURCES:
        return images.IMAGE_SOURCES[settings.source].shape, images.CLASSES
    if settings.source == "fed-heart":
        return fed_heart.SHAPE, fed_heart.CLASSES
    if settings.source == "mri-lesions":
        from securefl.data import mri_lesions

        return mri_lesions.SHAPE, mri_lesions.CLASSES
    if settings.module is not None:
        shape, classes = declared_task(folder, settings.module)
        if shape is not None and classes is not None:
            return shape, classes
    pool = _pool(settings, folder, seed)
    if pool is not None:
        return pool.train.shape, pool.classes
    data = load_hospital(settings, folder, hospitals[0], hospitals, seed)
    return data.train.shape, data.classes


def _split(settings: DataSettings) -> Split:
    return SPLITS[settings.held_out or "by-class"]


def _pool(settings: DataSettings, folder: Path, seed: int) -> Pool | None:
    """The source's pool, or None where each hospital has records of its own."""
    split_seed = seed if settings.split_seed is None else settings.split_seed
    split = _split(settings)
    if settings.source == "mnist-5k":
        return images.bundled_digits(split, settings.test_fraction, split_seed)
    if settings.source in images.IMAGE_SOURCES:
        return images.torchvision_images(settings, folder)
    if settings.source == "fed-heart":
        return fed_heart.heart_pool(split, split_seed)
    if settings.source == "npz" and not npz.is_per_hospital(settings):
        data, _ = npz.read_npz(npz.npz_path(settings, folder), split, settings.test_fraction, split_seed)
        return Pool(data.train, data.test, _at_least_two(data.classes, "npz"))
    return None


def _own_records(settings: DataSettings, folder: Path, hospital: str, seed: int) -> tuple[HospitalData, bool]:
    """A hospital's own records, and whether their number of classes is declared and not read off the labels."""
    if settings.imaging is not None:
        return _images(settings, folder, hospital, seed), True
    if settings.module is None:
        split_seed = seed if settings.split_seed is None else settings.split_seed
        path, split = npz.npz_path(settings, folder, hospital), _split(settings)
        return npz.read_npz(path, split, settings.test_fraction, split_seed)
    data = module_hospital(folder, settings.module, hospital, seed)
    shape, classes = declared_task(folder, settings.module)
    if (shape is not None and shape != data.train.shape) or (classes is not None and classes < data.classes):
        raise DataError(
            f"Hospital {hospital} has records of shape {data.train.shape} with labels up to {data.classes - 1}, but "
            f"{settings.module} declares SHAPE {shape} and CLASSES {classes}; correct the one or the other."
        )
    return replace(data, classes=classes or data.classes), classes is not None


def _lesions(
    settings: DataSettings, hospitals: Sequence[str], seed: int, only: str | None = None
) -> dict[str, HospitalData]:
    # Late: scipy and nilearn take a second to import.
    from securefl.data.mri_lesions import lesion_hospital, lesion_hospitals

    s, split_seed = settings.lesions, seed if settings.split_seed is None else settings.split_seed
    how = (split_seed, s.patients, s.slices, settings.test_fraction)
    if only is not None:
        return {only: lesion_hospital(only, hospitals, *how)}
    return lesion_hospitals(hospitals, *how)


def _images(settings: DataSettings, folder: Path, hospital: str, seed: int) -> HospitalData:
    from securefl.data.imaging import ImagingSettings, load_imaging

    if settings.imaging is None or settings.root is None:
        raise DataError(
            "data.imaging and data.root are missing: say how the images are read, and where they lie."
        )
    split_seed = seed if settings.split_seed is None else settings.split_seed
    given = settings.imaging.model_dump()
    spacing = given.pop("spacing")
    how = ImagingSettings(
        **given, spacing=tuple(spacing) if spacing else None, test_fraction=settings.test_fraction
    )
    return load_imaging(how, folder / settings.root, hospital, _split(settings), split_seed)


def _classes_of_all(settings: DataSettings, folder: Path, hospitals: Sequence[str], seed: int) -> int:
    """The number of classes where nothing declares it: read off all hospitals' labels, if they are all here."""
    try:
        found = max(_own_records(settings, folder, name, seed)[0].classes for name in hospitals)
    except DataError as error:
        remedy = (
            "define CLASSES in the module" if settings.module else "add an integer array classes to each file"
        )
        raise DataError(
            f"The number of classes cannot be read off all hospitals' records ({error}) - {remedy}."
        ) from error
    return _at_least_two(found, settings.source)


def _at_least_two(classes: int, where: str) -> int:
    if classes < 2:
        raise DataError(
            f"{where}: all records have the same label, so there is nothing to learn; check the labels."
        )
    return classes
