"""Every record goes to exactly one hospital, the same one every time, and never too few to any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.data import partition
from securefl.errors import DataError
from securefl.study.data_settings import Partition

KINDS = ["site", "iid", "dirichlet", "classes-per-hospital", "quantity-skew"]


def split(
    settings: Partition, labels: np.ndarray, count: int, minimum: int = 1, seed: int = 0, classes: int = 10
) -> dict[str, np.ndarray]:
    names = [f"h{k}" for k in range(count)]
    sites = (np.arange(len(labels)) % count, count) if settings.kind == "site" else None
    return partition.split_pool(settings, labels, classes, names, minimum, seed, sites)


def is_exact(parts: Sequence[np.ndarray], records: int) -> bool:
    return sorted(np.concatenate(list(parts)).tolist()) == list(range(records))


@given(
    kind=st.sampled_from(KINDS),
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=200),
    count=st.integers(1, 12),
    minimum=st.integers(0, 20),
    alpha=st.floats(1e-3, 1000),
    each=st.integers(1, 12),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_record_goes_to_one_hospital_and_the_minimum_holds(
    kind: str, labels: list[int], count: int, minimum: int, alpha: float, each: int, seed: int
) -> None:
    settings = Partition(kind=kind, alpha=alpha, classes=each)  # type: ignore[arg-type]
    array = np.array(labels, dtype=np.int64)
    try:
        parts = split(settings, array, count, minimum, seed)
    except DataError:
        with pytest.raises(DataError):
            split(settings, array, count, minimum, seed)
        return
    assert is_exact(list(parts.values()), len(array))
    assert min(map(len, parts.values())) >= max(1, minimum)
    again = split(settings, array, count, minimum, seed)
    assert list(parts) == list(again)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


@given(count=st.integers(1, 20), each=st.integers(1, 10), seed=st.integers(0, 2**32))
def test_classes_are_dealt_out_fairly(count: int, each: int, seed: int) -> None:
    labels = np.repeat(np.arange(10), 40)
    random = partition.generator(seed, "test")
    if count * each < 10:
        with pytest.raises(DataError, match=f"to at least {-(-10 // count)}"):
            partition.classes_per_hospital(labels, count, each, 10, random)
        return
    parts = partition.classes_per_hospital(labels, count, each, 10, random)
    held = np.array([np.bincount(labels[part], minlength=10) for part in parts])
    assert ((held > 0).sum(axis=1) == each).all()
    holders = (held > 0).sum(axis=0)
    assert holders.min() >= 1
    assert holders.max() - holders.min() <= 1
    for column, holding in zip(held.T, holders, strict=True):
        shares = column[column > 0]
        assert shares.max() - shares.min() <= 1
        assert shares.min() >= 40 // holding


def test_ten_digits_at_five_hospitals_are_disjoint_pairs() -> None:
    labels = np.repeat(np.arange(10), 8)
    parts = split(Partition(kind="classes-per-hospital", classes=2), labels, 5)
    pairs = [frozenset(labels[part].tolist()) for part in parts.values()]
    assert [len(pair) for pair in pairs] == [2] * 5
    assert frozenset().union(*pairs) == frozenset(range(10))


def test_a_hospital_cannot_have_more_classes_than_there_are() -> None:
    with pytest.raises(DataError, match="cannot have 3 classes of only 2"):
        split(Partition(kind="classes-per-hospital", classes=3), np.array([0, 1] * 10), 5, classes=2)


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    labels = np.repeat(np.arange(10), 200)

    def spread(alpha: float) -> float:
        parts = split(Partition(kind="dirichlet", alpha=alpha), labels, 5, seed=3)
        shares = np.array([np.bincount(labels[part], minlength=10) / 200 for part in parts.values()])
        return float(np.abs(shares - 0.2).mean())

    assert spread(0.1) > 0.2
    assert spread(1000) < 0.02


def test_quantity_skew_skews_sizes_but_not_labels() -> None:
    labels = np.repeat(np.arange(2), 5000)
    parts = split(Partition(kind="quantity-skew", alpha=0.5), labels, 5, minimum=200, seed=1)
    sizes = [len(part) for part in parts.values()]
    assert max(sizes) > 3 * min(sizes)
    assert all(abs(labels[part].mean() - 0.5) < 0.12 for part in parts.values())


def test_purposes_and_seeds_have_streams_of_their_own() -> None:
    draws = {
        partition.generator(seed, kind).integers(2**62) for seed in range(3) for kind in ("a", "b", "ab")
    }
    assert len(draws) == 9


def test_the_short_hospital_is_named() -> None:
    labels = np.array([0] * 97 + [1] * 3)
    with pytest.raises(DataError, match=r"leaves hospital h\d with 3 training records of at least 10"):
        split(Partition(kind="classes-per-hospital", classes=1), labels, 2, minimum=10, classes=2)
    with pytest.raises(DataError, match="100 training records are too few for 11 hospitals"):
        split(Partition(kind="iid"), labels, 11, minimum=10)


def test_sites_must_be_there_and_as_many_as_hospitals() -> None:
    labels = np.zeros(8, dtype=np.int64)
    with pytest.raises(DataError, match="come from no named sites"):
        partition.split_pool(Partition(kind="site"), labels, 2, ["a", "b"], 1, 0)
    with pytest.raises(DataError, match="from 4 sites but the study has 2 hospitals"):
        partition.split_pool(Partition(kind="site"), labels, 2, ["a", "b"], 1, 0, (np.arange(8) % 4, 4))


@given(
    labels=st.lists(st.integers(0, 4), max_size=100),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32),
)
def test_the_held_out_part_is_stratified(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels, dtype=np.int64)
    train, test = partition.held_out(array, fraction, partition.generator(seed, "held-out"))
    assert is_exact([train, test], len(array))
    for label in set(labels):
        assert abs(int((array[test] == label).sum()) - fraction * labels.count(label)) <= 0.5


@given(
    names=st.lists(st.binary(max_size=8), unique=True, min_size=1, max_size=60),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_whom_it_holds_out_alone_depends_on_nobody_else(
    names: list[bytes], fraction: float, seed: int, data: st.DataObject
) -> None:
    def held(names: list[bytes]) -> set[bytes]:
        labels = np.zeros(len(names), dtype=np.int64)
        train, test = partition.each_alone("held-out", labels, lambda: names, fraction, seed)
        assert is_exact([train, test], len(names))
        return {names[k] for k in test}

    left_out = data.draw(st.sampled_from(names))
    others = [name for name in data.draw(st.permutations(names)) if name != left_out]
    assert held(others) == held(names) - {left_out}


def test_it_holds_out_the_share_that_was_asked_for_and_another_one_for_another_seed() -> None:
    names = [b"%d" % k for k in range(4000)]
    labels = np.zeros(len(names), dtype=np.int64)
    parts = [partition.each_alone("held-out", labels, lambda: names, 0.25, seed)[1] for seed in (1, 2)]
    # Within five standard deviations.
    assert all(abs(len(part) - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5 for part in parts)
    assert len(np.intersect1d(*parts)) < 400
