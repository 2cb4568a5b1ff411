"""The charts: inline SVG that repeats exactly, and the pieces of an upload that add up to what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from securefl.report import charts
from securefl.report.evidence import Evidence, gather
from securefl.run_folder import RunFolder


@pytest.fixture(scope="module")
def evidence(finished_once: Path) -> Evidence:
    return gather(RunFolder(finished_once))


def test_charts_are_plain_svg_in_the_pages_ink(evidence: Evidence) -> None:
    drawn = [
        charts.accuracy_chart(evidence),
        charts.time_chart(evidence),
        charts.bytes_chart(evidence.summary),
    ]
    for chart in drawn:
        assert chart is not None
        root = ElementTree.fromstring(chart)
        assert (root.tag, root.get("class")) == ("svg", "chart")
        assert {e.tag for e in root.iter()} <= {
            "svg",
            "defs",
            "style",
            "g",
            "path",
            "use",
            "clipPath",
            "rect",
            "text",
        }
        assert "currentColor" in chart
        assert "#010203" not in chart


def test_the_same_figures_give_the_same_bytes(evidence: Evidence) -> None:
    assert charts.accuracy_chart(evidence) == charts.accuracy_chart(evidence)


@pytest.mark.parametrize("rounds", [1, 2, 7, 8, 12])
def test_any_number_of_rounds_is_drawn(evidence: Evidence, rounds: int) -> None:
    chart = charts.accuracy_chart(replace(evidence, history=evidence.history[: rounds + 1]))
    assert chart is not None
    assert ("enlarged" in chart) == (rounds >= 8)


def test_names_of_baselines_that_were_not_run_are_not_in_the_legend(evidence: Evidence) -> None:
    chart = charts.accuracy_chart(replace(evidence, baselines={}))
    assert chart is not None
    assert "federated, secure" in chart
    assert "ordinary averaging" not in chart


def test_there_is_no_chart_of_nothing(evidence: Evidence) -> None:
    empty = replace(evidence, history=evidence.history[:1])
    assert charts.accuracy_chart(empty) is None
    assert charts.time_chart(empty) is None
    assert charts.bytes_chart({}) is None


def test_the_pieces_of_an_upload_add_up(evidence: Evidence) -> None:
    pieces = charts.upload_pieces(evidence.summary)
    # 3,190 coordinates of 4 bytes; two seeds of 32; three times 1088 + 32 + 16; the rest of 16,600.
    assert list(pieces.values()) == [12760, 64, 3408, 368]
    less = charts.upload_pieces({**evidence.summary, "upload_bytes_per_hospital_round": 12760 + 64 + 3408})
    assert list(less.values()) == [12760, 64, 3408]
