"""The norm check's benchmark runs the real job in real processes, and its bytes are those of the formula."""

from __future__ import annotations

import pytest

from protocols.norm_bounds import NormCheck
from protocols.norm_program import sent_bytes
from securefl.bench.norm import measure_norm


@pytest.mark.slow
def test_what_is_measured_is_what_the_program_sends() -> None:
    figures = measure_norm(5000, hospitals=3, parties=2, width=16, repeats=1)
    # The formula knows nothing of the model's size.
    assert figures["party_sent_bytes"] == sent_bytes(NormCheck.for_bound(5000, 16, 600), 3, 2)
    assert 0 < figures["party_cpu_seconds"] < 60
    assert figures["rows"] == 160
