"""The channel's benchmark sums for real, in real processes, and says what it must."""

from __future__ import annotations

import pytest

from securefl.bench.channel import measure_channel
from securefl.bench.process import BenchProcess
from securefl.errors import EngineError


@pytest.mark.slow
def test_both_channels_are_measured() -> None:
    parties, elements = 2, 400_000
    figures = measure_channel(elements=elements, parties=parties, repeats=2)
    assert (figures["elements"], figures["parties"]) == (elements, parties)
    for name in ("ours_seconds", "gloo_seconds", "ours_cpu_seconds", "gloo_cpu_seconds"):
        assert 0 < figures[name] < 60
    assert figures["ratio"] == pytest.approx(figures["ours_seconds"] / figures["gloo_seconds"], rel=0.2)
    assert figures["ratio_least"] <= figures["ratio_most"]
    assert figures["floor_sent_bytes"] == 8 * elements * 2 * (parties - 1) // parties
    assert figures["ours_sent_bytes"] == pytest.approx(figures["floor_sent_bytes"], abs=16)


def test_a_process_that_ends_is_an_error_in_its_own_words() -> None:
    with BenchProcess("Process 0 of ours", "securefl.bench.channel", ["ours"]) as process:
        process.say({"rank": 0, "elements": 1, "certificates": [], "key": ""})
        with pytest.raises(EngineError, match=r"Process 0 of ours ended unexpectedly: .*two parties"):
            process.hear()
