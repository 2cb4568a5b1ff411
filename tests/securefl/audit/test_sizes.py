"""How much hospitals sent, by the coordinator's word: to the byte, hospital by hospital."""

from __future__ import annotations

import json
from typing import Any

import pytest

from securefl.audit.deployment import examine
from securefl.run_folder import RunFolder
from tests.securefl.audit.conftest import failing, lines


def test_messages_that_are_longer_or_shorter_than_the_model(finished: RunFolder) -> None:
    told = [json.loads(line) for line in finished.history_file.read_text().splitlines()]

    def write(sizes: Any) -> None:
        changed = [{**line, "contribution_bytes": sizes} if line["round"] == 2 else line for line in told]
        finished.history_file.write_text("".join(json.dumps(line) + "\n" for line in changed))

    honest = told[2]["contribution_bytes"]
    assert sorted(honest) == ["b", "charite", "st-anna"]  # va was silent
    for size in (honest["b"] + 1, honest["b"] - 1, str(honest["b"]), None, [1]):
        write(honest | {"b": size})
        assert failing(finished.path).startswith(
            f"message sizes: history.jsonl says that b sent {size} bytes"
        )
    write(17)
    assert failing(finished.path).startswith("message sizes: ")
    write(None)
    mark, says = lines(examine(finished.path))["message sizes"]
    assert (mark, says.endswith("; of round 2 it says nothing.")) == ("unchecked", True)
    write(honest)
    assert lines(examine(finished.path))["message sizes"][0] == "holds"


@pytest.mark.parametrize(
    "line", ['{"round": [1]}', "[" * 100_000, "7", '{"x": 1}'], ids=["list", "deep", "7", "x"]
)
def test_a_history_with_a_line_of_another_form(finished: RunFolder, line: str) -> None:
    finished.history_file.write_text(line + "\n")
    found = lines(examine(finished.path))
    assert found["message sizes"] == ("fails", "history.jsonl cannot be read.")
    assert found["receipts"][0] == "fails"
    assert found["cohorts"][0] == "holds"
