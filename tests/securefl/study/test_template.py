"""New study folders load as they are, and explain every key."""

from __future__ import annotations

import tomllib
from typing import get_args

import pytest

from securefl.errors import StudyError
from securefl.study import Study, folder
from securefl.study.schema import StudySettings
from securefl.study.template import make_study

TEMPLATES = ["mnist", "fed-heart", "own-data"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_study_loads(tmp_path, template):
    make_study(tmp_path / "new", template)
    study = Study.load(tmp_path / "new")
    assert study.simulation
    assert study.settings.data.source == {"mnist": "mnist-5k", "own-data": "module"}.get(template, template)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_known_key_is_explained(tmp_path, template):
    make_study(tmp_path / "new", template)
    text = (tmp_path / "new" / "study.toml").read_text()
    reference = text[text.index("# Every key") :]
    for table in (
        [],
        ["data"],
        ["data", "partition"],
        ["training"],
        ["training", "schedule"],
        ["cohort"],
        ["committee"],
        ["aggregation"],
        ["model"],
    ):
        for key in folder.known_keys(table):
            assert f"#   {key}" in reference or f"# [{'.'.join([*table, key])}]" in reference, key
    assert "PydanticUndefined" not in text
    # What is left out by default is explained without a value.
    for key in ("minimum_parties", "norm_bound"):
        assert f"#   {key}  - " in reference


def test_the_explained_defaults_are_the_defaults(tmp_path):
    make_study(tmp_path / "new", "fed-heart")
    table, seen = StudySettings, 0
    for line in (tmp_path / "new" / "study.toml").read_text().splitlines():
        if line.startswith("# ["):
            table = StudySettings
            for part in line.strip("# []").split("."):
                inner = table.model_fields[part].annotation
                table = next(c for c in (inner, *get_args(inner)) if hasattr(c, "model_fields"))
        elif line.startswith("#   ") and " = " in line.split("  - ")[0]:
            key, value = line[4:].split("  - ")[0].split(" = ")
            default = table.model_fields[key].default
            assert tomllib.loads(f"x = {value}")["x"] == default, key
            seen += 1
    assert seen > 30


def test_own_data_is_a_dataset_of_ten_lines(tmp_path):
    make_study(tmp_path / "new", "own-data")
    assert (tmp_path / "new" / "data.py").read_text().count("\n") <= 12
    study = Study.load(tmp_path / "new")
    assert list(study.files) == ["data.py", "study.toml"]


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(StudyError, match="is not empty: choose another folder"):
            make_study(place, "mnist")
    with pytest.raises(StudyError, match="There is no template mnits: there are mnist, fed-heart, own-data"):
        make_study(tmp_path / "new", "mnits")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
