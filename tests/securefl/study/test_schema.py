"""The settings: ranges, what goes together, and what every number means."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
from pydantic import BaseModel, ValidationError

from securefl.study.schema import ConsortiumSettings, StudySettings

GOOD = {
    "name": "Study",
    "seed": 1,
    "consortium": {"hospitals": 3},
    "data": {"source": "fed-heart"},
    "model": {"kind": "logistic"},
    "training": {"rounds": 2, "learning_rate": 0.1},
    "simulation": {},
}


MAY_BE_LEFT_OUT = {"committee__collusion_bound", "committee__minimum_parties", "aggregation__norm_bound"}


def settings(**changes):
    """The good study with changed keys; a name like ``data__source`` stands for ``data.source``."""
    values = deepcopy(GOOD)
    for path, value in changes.items():
        *tables, key = path.split("__")
        place = values
        for table in tables:
            place = place.setdefault(table, {})
        place[key] = value
    return StudySettings.model_validate(values)


def test_the_smallest_study_and_its_defaults():
    study = settings()
    assert (study.cohort.minimum_hospitals, study.cohort.colluding_hospitals) == (3, 1)
    assert (study.aggregation.width, study.aggregation.bound) == (32, 4.0)
    assert study.aggregation.norm_bound is None
    assert (study.committee.collusion_bound, study.committee.minimum_parties) == (None, None)
    assert study.server.optimizer == "fedavg"
    assert study.consortium.parties == 3


@pytest.mark.parametrize(
    ("path", "least", "most", "below", "above"),
    [
        ("seed", 0, 2**63 - 1, -1, 2**63),
        ("averaged_rounds", 1, 1000, 0, 1001),
        ("consortium__hospitals", 2, 1000, 1, 1001),
        ("consortium__parties", 2, 16, 1, 17),
        ("cohort__minimum_hospitals", 3, 1000, 1, 1001),
        ("cohort__deadline_seconds", 0.001, 86400.0, 0.0, 86401.0),
        ("committee__collusion_bound", 1, 15, 0, 16),
        ("committee__minimum_parties", 2, 16, 1, 17),
        ("committee__deadline_seconds", 0.001, 3600.0, 0.0, 3601.0),
        ("data__test_fraction", 0.001, 0.999, 0.0, 1.0),
        ("data__minimum_records", 1, 10**9, 0, 10**9 + 1),
        ("data__maximum_records", 1, 10**9, 0, 10**9 + 1),
        ("model__dropout", 0.0, 0.99, -0.1, 1.0),
        ("training__rounds", 1, 10**6, 0, 10**6 + 1),
        ("training__local_epochs", 1, 1000, 0, 1001),
        ("training__batch_size", 1, 65536, 0, 65537),
        ("training__learning_rate", 1e-9, 100.0, 0.0, 101.0),
        ("training__momentum", 0.0, 0.99, -0.1, 1.0),
        ("training__weight_decay", 0.0, 10.0, -0.1, 10.1),
        ("server__learning_rate", 1e-9, 100.0, 0.0, 101.0),
        ("server__momentum", 0.0, 0.99, -0.1, 1.0),
        ("aggregation__bound", 1e-9, 2.0**20, 0.0, 2.0**20 + 1),
        ("aggregation__norm_bound", 2.0**-40, 2.0**20, 0.0, 2.0**20 + 1),
    ],
)
def test_the_ends_of_each_range(path, least, most, below, above):
    for inside in (least, most):
        settings(**{path: inside})
    for outside in (below, above, "text", [] if path in MAY_BE_LEFT_OUT else None, math.nan, math.inf):
        with pytest.raises(ValidationError):
            settings(**{path: outside})


@pytest.mark.parametrize("width", [8, 31, 33, 128, "32", True])
def test_a_ring_has_16_32_or_64_bits(width):
    with pytest.raises(ValidationError):
        settings(aggregation__width=width)
    assert settings(aggregation__width=16).aggregation.width == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohort__minimum_hospitals": 2}, r"at least colluding_hospitals \+ 2"),
        ({"cohort__colluding_hospitals": 2}, r"at least colluding_hospitals \+ 2"),
        ({"consortium__file": "consortium.toml"}, "not both and not neither"),
        ({"consortium": {}}, "not both and not neither"),
        ({"consortium__hospitals": ["va", "va"]}, "different names"),
        ({"data__module": "data.py:build"}, "module goes with source"),
        ({"data__source": "module"}, "module goes with source"),
        ({"data__source": "npz"}, "needs root"),
        (
            {"data__minimum_records": 8, "data__maximum_records": 7},
            "maximum_records must be at least minimum",
        ),
        ({"data__source": "mnist"}, "needs root"),
        ({"model__module": "model.py:build"}, "module goes with kind"),
        ({"model__kind": "module"}, "module goes with kind"),
        ({"simulation": None}, r"add a \[simulation\] table"),
    ],
)
def test_what_must_go_together(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    "name", ["../x.py:f", "/x.py:f", "x.py", "x.py:", "x.txt:f", "a/../../x.py:f", "x.py:f g"]
)
def test_modules_are_functions_in_the_folder(name):
    with pytest.raises(ValidationError):
        settings(data__source="module", data__module=name)
    settings(data__source="module", data__module="sub/data.py:build")


def test_made_up_hospitals_have_names_in_their_order():
    names = ConsortiumSettings(hospitals=12).hospital_names()
    assert names[0] == "hospital-01"
    assert names == sorted(names)
    assert len(set(names)) == 12
    assert ConsortiumSettings(hospitals=["va", "b"]).hospital_names() == ["va", "b"]


def test_every_number_has_a_meaning_and_no_model_takes_unknown_keys():
    seen: list[type[BaseModel]] = []

    def walk(model):
        seen.append(model)
        assert model.model_config["extra"] == "forbid"
        for name, field in model.model_fields.items():
            inner = field.annotation
            candidates = [inner, *getattr(inner, "__args__", ())]
            nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
            if nested:
                walk(nested[0])
            elif any(c in (int, float) for c in candidates):
                assert field.description, f"{model.__name__}.{name}"

    walk(StudySettings)
    assert len(seen) == 15


@pytest.mark.parametrize("value", [2.5, "3", True, -math.inf])
def test_a_number_of_parties_is_a_whole_number(value):
    with pytest.raises(ValidationError):
        settings(committee__minimum_parties=value)


@pytest.mark.parametrize("value", [True, "1.0", -1.0, [1.0]])
def test_a_norm_bound_is_one_positive_number(value):
    with pytest.raises(ValidationError):
        settings(aggregation__norm_bound=value)
    assert settings(aggregation__norm_bound=3).aggregation.norm_bound == 3.0


def test_what_may_be_left_out_may_be_left_out():
    for path in MAY_BE_LEFT_OUT:
        table, key = path.split("__")
        assert getattr(getattr(settings(**{path: None}), table), key) is None


def test_settings_cannot_be_changed():
    study = settings()
    with pytest.raises(ValidationError):
        study.seed = 2
