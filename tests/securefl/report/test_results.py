"""The final figures in words, and the table that a run ends with."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from securefl.report import summary_table
from securefl.report.results import accuracy_rows, aggregate_rows, sampling_error
from securefl.run_folder import RunFolder


@pytest.fixture
def summary(finished: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(finished.summary_file.read_text())
    return found


def printed(summary: dict[str, Any], width: int = 80) -> str:
    file = io.StringIO()
    Console(width=width, file=file, color_system=None).print(summary_table(summary))
    return file.getvalue()


def test_the_table_has_every_figure_on_one_line_of_eighty_columns(summary: dict[str, Any]) -> None:
    lines = printed(summary).splitlines()
    assert all(len(line) <= 80 for line in lines)
    rows = {row.name: row for row in [*accuracy_rows(summary), *aggregate_rows(summary)]}
    for name, row in rows.items():
        found = [line for line in lines if line.strip().startswith(name) and row.value in line]
        assert found, name
        assert row.meaning in found[-1]


def test_figures_are_written_as_people_read_them(summary: dict[str, Any]) -> None:
    rows = {row.key: row for row in [*accuracy_rows(summary), *aggregate_rows(summary)]}
    assert rows["accuracy"].value == "0.9123"
    assert rows["accuracy"].difference == ""
    assert rows["accuracy_plaintext"].difference == "0.00"
    assert rows["accuracy_float"].difference == "−0.10"
    assert rows["accuracy_pooled"].difference == "+5.88"
    assert rows["upload_bytes_per_hospital_round"].value == "16,600 bytes"
    assert rows["aggregation_share"].value == "4.2%"


def test_what_was_not_run_says_so(summary: dict[str, Any]) -> None:
    bare = {**dict.fromkeys(summary), "name": "x"}
    assert {row.value for row in accuracy_rows(bare)} == {"not run"}
    assert {row.value for row in aggregate_rows(bare)} == {"not known"}
    assert "not run" in printed(bare)
    assert "not run" in printed({})


def test_another_model_in_the_clear_stands_out(summary: dict[str, Any]) -> None:
    assert "The same model, bit for bit." in printed(summary)
    assert "NOT the same model" in printed({**summary, "plaintext_identical": False})


@pytest.mark.parametrize("name", ["[red]alarm[/red]", "[/red]", "\\[/red]", "a [b", "[link=x]y", "\x1b[2J"])
def test_a_name_is_never_markup(summary: dict[str, Any], name: str) -> None:
    assert name.replace("\x1b", "\ufffd") in printed({**summary, "name": name}, 120)


def test_a_figures_words_are_never_markup(summary: dict[str, Any]) -> None:
    figures = {"auc": 0.9, "auc_error": None, "sensitivity": 0.8, "specificity": 0.9}
    assert "AUC at [/x]" in printed({**summary, "diagnosis": {"[/x]": figures}})


def test_sampling_error_of_an_accuracy() -> None:
    assert sampling_error(0.9, 1000) == pytest.approx(0.009487, abs=1e-6)
    assert sampling_error(1.0, 10) == 0
    assert sampling_error(None, 10) is None
    assert sampling_error(0.5, 0) is None
