"""The four hospitals' heart disease records, against a second reading of the table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import securefl.data
from securefl.data import fed_heart, load_all, load_hospital
from securefl.errors import DataError
from securefl.study.data_settings import DataSettings, LesionSettings, Partition

SITES = ["cleveland", "hungary", "switzerland", "va"]
HEART = DataSettings(source="fed-heart")
DROPPED = ("slope", "ca", "thal")


def test_the_sites_have_the_published_sizes() -> None:
    records, sites = fed_heart.read_heart()
    assert records.features.shape == (740, *fed_heart.SHAPE)
    assert np.bincount(sites).tolist() == [303, 261, 46, 130]
    sick = [round(float(records.labels[sites == k].mean()), 3) for k in range(4)]
    assert sick == [0.459, 0.375, 0.978, 0.777]


def test_values_are_those_of_the_table() -> None:
    path = Path(securefl.data.__file__).parent / "files" / "heart_disease_uci.csv"
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    header, first = rows[0], rows[1]
    wanted = [first[header.index(name)] for name in ("age", "trestbps", "chol", "thalch", "oldpeak")]
    records, sites = fed_heart.read_heart()
    assert records.features[0, :5].tolist() == pytest.approx([float(value) for value in wanted])
    # Male, typical angina, fasting sugar above 120, left ventricular hypertrophy, no angina on exercise; healthy.
    assert records.features[0, 5:].tolist() == [1, 0, 1, 2, 0]
    assert records.labels[0] == 0
    complete = [
        row for row in rows[1:] if all(row[header.index(name)] for name in header if name not in DROPPED)
    ]
    moved = next(k for k, row in enumerate(complete) if row[0] == "304")
    assert complete[moved][header.index("dataset")] == "Cleveland"
    assert fed_heart.SITES[sites[moved]] == "Hungary"
    assert [int(int(row[header.index("num")]) > 0) for row in complete] == records.labels.tolist()


def test_the_split_is_two_thirds_stratified_at_every_site() -> None:
    everyone = load_all(HEART, Path("."), SITES, seed=4)
    assert [len(data.train) + len(data.test) for data in everyone.values()] == [303, 261, 46, 130]
    for data in everyone.values():
        for label in (0, 1):
            held, kept = (int((part.labels == label).sum()) for part in (data.test, data.train))
            assert abs(held - 0.34 * (held + kept)) <= 0.5
        assert data.classes == 2


def test_the_split_seed_draws_the_split_and_not_the_study_seed() -> None:
    fixed = DataSettings(source="fed-heart", split_seed=7)
    a, b = (load_hospital(fixed, Path("."), "va", SITES, seed) for seed in (1, 2))
    assert np.array_equal(a.test.features, b.test.features)
    c, d = (load_hospital(HEART, Path("."), "va", SITES, seed) for seed in (7, 2))
    assert np.array_equal(a.test.features, c.test.features)
    assert not np.array_equal(a.test.features, d.test.features)


def test_it_can_be_pooled_and_split_otherwise() -> None:
    pooled = DataSettings(source="fed-heart", partition=Partition(kind="iid"))
    everyone = load_all(pooled, Path("."), SITES, seed=0)
    natural = load_all(HEART, Path("."), SITES, seed=0)
    assert {len(data.train) for data in everyone.values()} <= {122, 123}
    for part in ("train", "test"):
        rows = [
            np.sort(np.concatenate([getattr(data, part).features for data in split.values()]), axis=0)
            for split in (everyone, natural)
        ]
        assert np.array_equal(*rows)


def test_three_hospitals_cannot_stand_for_four_sites() -> None:
    with pytest.raises(DataError, match="4 sites but the study has 3 hospitals"):
        load_hospital(HEART, Path("."), "va", SITES[1:], seed=0)


@pytest.mark.parametrize("source", ["fed-heart", "mri-lesions"])
@pytest.mark.parametrize(
    ("limits", "said"),
    [({"minimum_records": 10**6}, "at least|too few"), ({"maximum_records": 9}, "at most 9")],
)
def test_each_hospital_has_as_many_records_as_the_study_allows(
    source: str, limits: dict[str, int], said: str
) -> None:
    settings = DataSettings(source=source, lesions=LesionSettings(patients=60, slices=2), **limits)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        load_all(settings, Path(), SITES, 0)
    with pytest.raises(DataError, match=said):
        load_hospital(settings, Path(), SITES[0], SITES, 0)


def test_the_attribution_is_shipped_beside_the_table() -> None:
    text = (Path(securefl.data.__file__).parent / "files" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in text
    assert "Janosi" in text
