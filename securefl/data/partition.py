"""How one pool of records is split over hospitals: pure functions of labels, a count and a seeded generator.

Each function returns one ascending array of positions a hospital. Together they hold every position exactly once.
Label skew by a Dirichlet distribution follows Hsu, Qi and Brown (arXiv:1909.06335, section 3); the pathological
split into few classes a hospital follows McMahan et al. (AISTATS 2017, section 3), by classes instead of shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from securefl.data.records import Indices, Labels
from securefl.errors import DataError

if TYPE_CHECKING:
    from securefl.study.data_settings import Partition

DRAWS = 100
"""How often a random split is drawn again before the minimum of records is given up."""


def generator(seed: int, kind: str) -> np.random.Generator:
    """The generator of one purpose: seeded from SHA-256 over (seed, kind), so that no two purposes share a stream."""
    digest = hashlib.sha256(f"securefl data {kind} {seed}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def held_out(labels: Labels, fraction: float, random: np.random.Generator) -> tuple[Indices, Indices]:
    """Positions to train on and positions held out, stratified: each class gives its rounded ``fraction`` (0 to 1)."""
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        positions = random.permutation(np.flatnonzero(labels == label))
        test[positions[: int(fraction * len(positions) + 0.5)]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


Names = Callable[[], Sequence[bytes]]
"""Gives a name for each of those that are split, which nobody else's presence changes."""

Split = Callable[[str, Labels, Names, float, int], tuple[Indices, Indices]]
"""(purpose, labels, names, fraction, seed): positions to train on, and positions held out."""


def by_class(kind: str, labels: Labels, _names: Names, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """``held_out``: every class keeps its share. Who is held out depends on all that are there."""
    return held_out(labels, fraction, generator(seed, kind))


def each_alone(
    kind: str, _labels: Labels, names: Names, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Each is held out, or not, by its name alone, with probability ``fraction`` over the seeds.

    With one more, or one fewer, all others stay where they are: what a promise to each patient needs.
    """
    limit, purpose = int(Fraction(fraction) * 2**256), f"securefl data {kind} {seed} ".encode()
    digests = (hashlib.sha256(purpose + name).digest() for name in names())
    test = np.array([int.from_bytes(digest, "big") < limit for digest in digests], dtype=bool)
    return np.flatnonzero(~test), np.flatnonzero(test)


SPLITS: dict[str, Split] = {"by-class": by_class, "each-alone": each_alone}
"""By the study's ``data.held_out``."""


def by_site(sites: Labels, hospitals: int) -> list[Indices]:
    """Records stay where they come from: site k's at hospital k. ``sites``: int64 (n,), from 0 to hospitals - 1."""
    return [np.flatnonzero(sites == k) for k in range(hospitals)]


def iid(records: int, hospitals: int, random: np.random.Generator) -> list[Indices]:
    """Equal parts of a random order; sizes differ by at most one."""
    return [np.sort(part) for part in np.array_split(random.permutation(records), hospitals)]


def dirichlet(labels: Labels, hospitals: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    """Each class is divided in proportions drawn from Dirichlet(alpha, ..., alpha); small alpha is skewed."""
    parts: list[list[Indices]] = [[] for _ in range(hospitals)]
    for label in np.unique(labels):
        positions = random.permutation(np.flatnonzero(labels == label))
        for part, piece in zip(parts, _divide(positions, hospitals, alpha, random), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) if part else np.empty(0, np.int64) for part in parts]


def quantity_skew(records: int, hospitals: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    """Labels are mixed, sizes are not: the hospitals' shares are drawn from Dirichlet(alpha, ..., alpha)."""
    return [np.sort(part) for part in _divide(random.permutation(records), hospitals, alpha, random)]


def classes_per_hospital(
    labels: Labels, hospitals: int, each: int, classes: int, random: np.random.Generator
) -> list[Indices]:
    """Every hospital holds ``each`` of the ``classes``; a class's records are shared equally by its holders.

    The classes are put in a random order and dealt out in turn, so every class has a holder, holders of two classes
    differ in number by at most one, and with hospitals * each = classes the sets are disjoint.

    Raises:
        DataError: a hospital would need more classes than there are, or a class would have no holder.
    """
    if each > classes:
        raise DataError(
            f"Each hospital cannot have {each} classes of only {classes}; lower data.partition.classes."
        )
    if hospitals * each < classes:
        raise DataError(
            f"{hospitals} hospitals with {each} classes each cannot hold {classes} classes; raise "
            f"data.partition.classes to at least {-(-classes // hospitals)}."
        )
    order = random.permutation(classes)
    holders: list[list[int]] = [[] for _ in range(classes)]
    for slot in range(hospitals * each):
        holders[order[slot % classes]].append(slot // each)
    parts: list[list[Indices]] = [[] for _ in range(hospitals)]
    for label in range(classes):
        positions = random.permutation(np.flatnonzero(labels == label))
        for hospital, piece in zip(
            holders[label], np.array_split(positions, len(holders[label])), strict=True
        ):
            parts[hospital].append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def split_pool(
    settings: Partition,
    labels: Labels,
    classes: int,
    hospitals: Sequence[str],
    minimum: int,
    seed: int,
    sites: tuple[Labels, int] | None = None,
) -> dict[str, Indices]:
    """The study's partition of a pool's training records.

    labels: int64 (n,), from 0 to classes - 1; hospitals: names, in the study's order; minimum: fewest records a
    hospital may get; seed: the study's; sites: (site of each record, number of sites), where records have one.
    Random sizes (dirichlet, quantity-skew) are drawn again, up to 100 times, until the minimum is kept.

    Raises:
        DataError: the records have no sites, the classes cannot be divided so, or a hospital falls short.
    """
    kind, count = settings.kind, len(hospitals)
    minimum = max(1, minimum)
    if kind == "site":
        if sites is None:
            raise DataError(
                'These records come from no named sites; choose a data.partition.kind other than "site", such as "iid".'
            )
        if sites[1] != count:
            raise DataError(
                f"The records come from {sites[1]} sites but the study has {count} hospitals; give the study "
                f'{sites[1]} hospitals, or choose a data.partition.kind other than "site".'
            )
    if len(labels) < count * minimum:
        raise DataError(
            f"{len(labels)} training records are too few for {count} hospitals with at least {minimum} each; use "
            "fewer hospitals or lower data.minimum_records."
        )
    random = generator(seed, f"partition {kind}")
    draws: dict[str, Callable[[], list[Indices]]] = {
        "site": lambda: by_site(sites[0] if sites else labels, count),
        "iid": lambda: iid(len(labels), count, random),
        "dirichlet": lambda: dirichlet(labels, count, settings.alpha, random),
        "classes-per-hospital": lambda: classes_per_hospital(
            labels, count, settings.classes, classes, random
        ),
        "quantity-skew": lambda: quantity_skew(len(labels), count, settings.alpha, random),
    }
    for _ in range(DRAWS if kind in ("dirichlet", "quantity-skew") else 1):
        parts = draws[kind]()
        if min(map(len, parts)) >= minimum:
            return dict(zip(hospitals, parts, strict=True))
    smallest = int(np.argmin([len(part) for part in parts]))
    raise DataError(
        f"The partition {kind} leaves hospital {hospitals[smallest]} with {len(parts[smallest])} training records of "
        f"at least {minimum}; choose a less skewed partition, fewer hospitals, or a lower data.minimum_records."
    )


def _divide(positions: Indices, hospitals: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    """Cut an order of positions at the cumulative sums of one Dirichlet draw."""
    shares = random.dirichlet(np.full(hospitals, alpha))
    cuts = np.floor(np.cumsum(shares)[:-1] * len(positions)).astype(np.int64)
    return np.split(positions, np.clip(cuts, 0, len(positions)))
