"""How many runs of a permit have begun: counted before each, whatever ends them."""

from __future__ import annotations

import pytest

from securefl.domain.errors import NotApprovedError
from securefl.domain.runs import FILE, Runs


def test_runs_are_used_up_and_an_interrupted_one_goes_on(tmp_path):
    assert Runs(tmp_path).begin(2) == 1
    assert Runs(tmp_path).begin(2) == 1  # the service was killed, and goes on
    assert Runs(tmp_path).end() == 1
    assert Runs(tmp_path).begin(2) == 2
    Runs(tmp_path).end()
    with pytest.raises(NotApprovedError, match="All 2 runs"):
        Runs(tmp_path).begin(2)
    assert Runs(tmp_path).begun == 2


@pytest.mark.parametrize("content", [b"", b"{}", b'{"begun": "x", "over": true}', b"\xff"])
def test_a_damaged_count_is_not_a_new_beginning(tmp_path, content):
    Runs(tmp_path).begin(1)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(NotApprovedError, match="is damaged"):
        Runs(tmp_path).begin(1)
