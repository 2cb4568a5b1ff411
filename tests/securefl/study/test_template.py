"""New study folders load as they are, and explain every key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from securefl.errors import StudyError
from securefl.study import Study, folder
from securefl.study.data_settings import DataSettings, Partition
from securefl.study.schema import StudySettings
from securefl.study.template import make_study
from securefl.study.training_settings import ModelSettings

TEMPLATES = ["mnist", "fed-heart", "own-data"]


def tables(table=()):
    """The path of every table of a study."""
    yield table
    for key in folder.known_keys(table):
        if folder.known_keys((*table, key)) != folder.known_keys(table):
            yield from tables((*table, key))


def words_of(settings, key):
    return get_args(settings.model_fields[key].annotation)


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
    for table in tables():
        for key in folder.known_keys(table):
            assert f"#   {key}" in reference or f"# [{'.'.join([*table, key])}]" in reference, key
    assert "PydanticUndefined" not in text
    # What is left out by default is explained without a value.
    for key in ("minimum_parties", "norm_bound"):
        assert f"#   {key}  - " in reference


def test_every_word_that_a_key_may_have_is_named(tmp_path):
    make_study(tmp_path / "new", "mnist")
    text = (tmp_path / "new" / "study.toml").read_text()
    for line in (
        '#   standardise = "none"  - "none" or "features" or "channels" or "public": scale inputs',
        '#   kind = "site"  - "site" or "iid" or "dirichlet" or "classes-per-hospital" or "quantity-skew": site:',
        '#   mixed_spacing = "refuse"  - "refuse" or "resample": what to do',
        '#   baselines  - "plaintext" or "float" or "pooled" or "local": comparisons',
    ):
        assert line in text


def test_the_guide_names_every_source_split_scaling_and_model():
    guide = (Path(__file__).parents[3] / "docs" / "studies.md").read_text()
    words = [
        *words_of(DataSettings, "source"),
        *words_of(Partition, "kind"),
        *words_of(DataSettings, "standardise"),
        *words_of(ModelSettings, "kind"),
    ]
    assert len(words) > 20
    assert [word for word in words if f"`{word}`" not in guide and f'"{word}"`' not in guide] == []


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
