"""Heart disease at four real hospitals: Cleveland, Hungary, Switzerland and the V.A. in Long Beach.

The table (UCI Heart Disease, CC BY 4.0, see ``files/ATTRIBUTION.md``) is shipped with the package. The task is that
of FLamby's Fed-Heart-Disease (du Terrail et al., NeurIPS 2022): does the patient have any heart disease (column
``num`` above 0)? ``slope``, ``ca`` and ``thal``, which most sites did not record, are dropped, then every row with a
gap: 303, 261, 46 and 130 patients remain. Row 304 is labelled Cleveland but belongs to Hungary, whose first row it
is in the original files. 34 of 100 records a site are held out, stratified by label unless the study says
otherwise.

Answers in words get the numbers of the original files, one column each, and not a column of zeros and ones an answer:
with little data the fewer columns held out better (regularised logistic regression, pooled, 40 splits: 0.801 against
0.798 with a column an answer).
"""

from __future__ import annotations

import csv
from importlib import resources

import numpy as np

from securefl.data.partition import Split
from securefl.data.pool import Pool
from securefl.data.records import Records, checked_records
from securefl.errors import DataError

SITES = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
"""The sites as the table names them, in the order in which a study's hospitals stand for them."""

NUMBERS = ("age", "trestbps", "chol", "thalch", "oldpeak")
CODES = {
    "sex": ("Female", "Male"),
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "fbs": ("FALSE", "TRUE"),
    "restecg": ("normal", "st-t abnormality", "lv hypertrophy"),
    "exang": ("FALSE", "TRUE"),
}
"""Answers in words: an answer's number is its place here (the original files count ``cp`` from 1)."""

SHAPE = (len(NUMBERS) + len(CODES),)
CLASSES = 2
TEST_FRACTION = 0.34
"""The published split; ``data.test_fraction`` is for sources without one."""


def read_heart() -> tuple[Records, np.ndarray]:
    """The 740 complete records, float32 (740, 10), and the site of each, int64 (740,), from 0 to 3.

    Raises:
        DataError: the installed table is missing or damaged.
    """
    table = resources.files("securefl.data") / "files" / "heart_disease_uci.csv"
    features, labels, sites = [], [], []
    try:
        with table.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                needed = [row[name] for name in (*NUMBERS, *CODES, "num")]
                if "" in needed:
                    continue
                values = [float(row[name]) for name in NUMBERS]
                values += [float(answers.index(row[name])) for name, answers in CODES.items()]
                features.append(values)
                labels.append(int(row["num"]) > 0)
                sites.append(SITES.index("Hungary" if row["id"] == "304" else row["dataset"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The heart disease table in the package is damaged ({error}); install securefl again."
        ) from error
    return checked_records(
        np.array(features), np.array(labels, dtype=np.int64), "fed-heart", CLASSES
    ), np.array(sites)


def heart_pool(split: Split, split_seed: int) -> Pool:
    """All sites' records, split 66/34 site by site, by ``split`` from ``split_seed``."""
    records, sites = read_heart()
    train, test = [], []
    for site, name in enumerate(SITES):
        positions = np.flatnonzero(sites == site)
        own = records.take(positions)
        kept, held = split(f"held-out {name}", own.labels, own.names, TEST_FRACTION, split_seed)
        train.append(positions[kept])
        test.append(positions[held])
    kept, held = np.concatenate(train), np.concatenate(test)
    return Pool(records.take(kept), records.take(held), CLASSES, sites[kept], sites[held], len(SITES))
