"""Figures nobody signed: what follows from the chain is checked, the rest is named as the coordinator's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from securefl.audit import verify
from securefl.run_folder import RunFolder


def fault(run: RunFolder) -> str:
    """The check that fails, as one line; empty if everything holds."""
    found = verify(run.path).fault
    return f"{found.name}: {found.says}" if found else ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Another"),
        ("averaged_rounds", 1),
        ("rounds", 3),
        ("parties", 2),
        ("hospitals", 5),
        ("width", 16),
        ("model", "ab" * 32),
        ("study", "ab" * 32),
        ("parameters", 1),
    ],
)
def test_a_summary_that_contradicts_the_chain_fails(finished: RunFolder, key: str, value: Any) -> None:
    summary = json.loads(finished.summary_file.read_text())
    assert summary[key] != value
    finished.summary_file.write_text(json.dumps({**summary, key: value}))
    assert fault(finished).startswith(f"summary.json: summary.json says {key} {value}, the chain ")
    del summary[key]
    finished.summary_file.write_text(json.dumps(summary))
    assert fault(finished).startswith("summary.json: ")


def change_line(run: RunFolder, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    lines = run.history()
    change(lines[number])
    run.write_history(lines)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.update(round=3),
        lambda line: line.update(attempt=2),
        lambda line: line.update(included=["b", "va"]),
        lambda line: line["absent"]["va"].update(reason="unreachable"),
        lambda line: line["absent"].update(b={"reason": "no-answer", "explanation": ""}),
        lambda line: line.update(absent=["va"]),
        lambda line: line.pop("absent"),
        lambda line: line.pop("included"),
    ],
    ids=["round", "attempt", "included", "reason", "absent", "list", "no absent", "no included"],
)
def test_a_history_that_contradicts_the_receipts_fails(
    finished: RunFolder, change: Callable[[dict[str, Any]], None]
) -> None:
    change_line(finished, 2, change)
    assert fault(finished).startswith("history.jsonl: history.jsonl tells something else of round 2")


@pytest.mark.parametrize("lines", [[0, 1, 2, 3], [0, 1, 2, 3, 4, 4], [1, 2, 3, 4], [0, 2, 1, 3, 4]])
def test_a_history_with_other_lines_fails(finished: RunFolder, lines: list[int]) -> None:
    history = finished.history()
    finished.write_history([history[i] for i in lines])
    assert fault(finished).startswith("history.jsonl: ")


def test_what_nobody_signed_may_say_anything(finished: RunFolder) -> None:
    summary = json.loads(finished.summary_file.read_text())
    finished.summary_file.write_text(json.dumps({**summary, "accuracy": 1.0, "seconds": 0.0}))
    change_line(finished, 2, lambda line: line.update(accuracy=1.0, seconds=0.0))
    change_line(finished, 2, lambda line: line["absent"]["va"].update(explanation="It slept."))
    # A line that a crash swallowed is made anew without the reasons.
    change_line(finished, 2, lambda line: line.update(absent={}))
    verdict = verify(finished.path)
    assert verdict.holds
    assert [name.split(" ")[0] for name in verdict.not_signed] == [
        "history.jsonl", "homes", "keys", "partition.json", "run.json", "summary.json",
    ]  # fmt: skip


def test_figures_of_a_run_without_an_end_fail(stopped: RunFolder, finished: RunFolder) -> None:
    assert fault(stopped) == ""
    stopped.summary_file.write_bytes(finished.summary_file.read_bytes())
    assert fault(stopped).startswith("closing: receipts/closing is missing, and summary.json says")
