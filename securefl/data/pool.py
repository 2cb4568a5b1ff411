"""A pool: a data set in one piece, with its held-out records, that a partitioner splits over the hospitals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from securefl.data.partition import by_site, generator, held_out, iid, split_pool
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


def split_off_test(records: Records, classes: int, fraction: float, seed: int, where: str) -> HospitalData:
    """Hold out a stratified ``fraction`` (0 to 1) of the records, drawn from ``seed``.

    Raises:
        DataError: nothing would be left to train on, or nothing to test on.
    """
    train, test = held_out(records.labels, fraction, generator(seed, "held-out"))
    if not len(train) or not len(test):
        raise DataError(
            f"{where}: {len(records)} records cannot be split into training and held-out records with "
            f"data.test_fraction = {fraction}; give more records or another fraction."
        )
    return HospitalData(records.take(train), records.take(test), classes)


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
