"""A pool: a data set in one piece, with its held-out records, that a partitioner splits over the hospitals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from securefl.data.partition import Names, Split, by_site, generator, iid, split_pool
from securefl.data.records import HospitalData, Labels, Records
from securefl.errors import DataError

if TYPE_CHECKING:
    from securefl.study.data_settings import DataSettings


@dataclass(frozen=True, eq=False)
class Pool:
    """All records of a source. ``train_sites``, ``test_sites``: int64 (n,), each record's site, where it has one."""

    train: Records
    test: Records
    classes: int
    train_sites: Labels | None = None
    test_sites: Labels | None = None
    sites: int = 0


def split_off_test(
    records: Records,
    classes: int,
    split: Split,
    fraction: float,
    seed: int,
    where: str,
    names: Names | None = None,
) -> HospitalData:
    """Hold out a ``fraction`` (0 to 1) of the patients with all their records; a patient's class is its largest label.

    names: of the patients, in the order of their first records; None: as ``Records.names``.

    Raises:
        DataError: nothing would be left to train on, or nothing to test on.
    """
    groups = records.patient_groups()
    largest = np.array([int(records.labels[group].max()) for group in groups], dtype=np.int64)
    train, test = split("held-out", largest, names or records.names, fraction, seed)
    if not len(train) or not len(test):
        whose = "records" if records.patients is None else "patients"
        raise DataError(
            f"{where}: {len(groups)} {whose} cannot be split into training and held-out {whose} with "
            f"data.test_fraction = {fraction}; give more {whose} or another fraction."
        )
    positions = [np.sort(np.concatenate([groups[k] for k in part])) for part in (train, test)]
    return HospitalData(records.take(positions[0]), records.take(positions[1]), classes)


def split_over_hospitals(
    pool: Pool, settings: DataSettings, hospitals: Sequence[str], seed: int
) -> dict[str, HospitalData]:
    """Each hospital's part of a pool, in the order of ``hospitals``.

    Training records go by the study's partition. Held-out records stay at their site under the partition "site";
    under every other they are split evenly and at random, whatever the skew of the training records, so that each
    hospital's held-out records are a sample of the whole task. Their union is always the whole held-out set; with
    fewer held-out records than hospitals some hospitals have none.
    """
    sites = None if pool.train_sites is None else (pool.train_sites, pool.sites)
    train = split_pool(
        settings.partition, pool.train.labels, pool.classes, hospitals, settings.minimum_records, seed, sites
    )
    if settings.partition.kind == "site" and pool.test_sites is not None:
        test = by_site(pool.test_sites, pool.sites)
    else:
        test = iid(len(pool.test), len(hospitals), generator(seed, "partition of held-out records"))
    return {
        name: HospitalData(pool.train.take(train[name]), pool.test.take(held), pool.classes)
        for name, held in zip(hospitals, test, strict=True)
    }
