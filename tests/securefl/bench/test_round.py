"""The benchmark runs the real round, and says what it must."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.contribution import Contribution, contribute
from securefl.bench import round as bench
from securefl.bench.round import measure_round
from securefl.errors import EngineError

SAID = {"client_cpu_ms", "party_cpu_ms", "plaintext_cpu_ms", "upload_bytes", "upload_ratio", "party_peak_mib"}


@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_round_is_measured(width: int) -> None:
    figures = measure_round(parameters=20_000, hospitals=4, parties=3, width=width, repeats=1)
    assert set(figures) >= SAID
    assert figures["upload_bytes"] >= 20_000 * width // 8
    assert figures["upload_ratio"] == pytest.approx(figures["upload_bytes"] / 80_000, abs=1e-4)
    assert figures["client_cpu_ms"] > 0
    assert figures["party_cpu_ms"] > 0


@pytest.mark.slow
def test_a_partys_memory_does_not_grow_with_the_hospitals() -> None:
    one_update = 4 * 300_000 / 2**20
    for hospitals in (3, 24):  # holding all would take as many updates as there are hospitals
        figures = measure_round(parameters=300_000, hospitals=hospitals, parties=2, width=32, repeats=1)
        assert figures["party_peak_mib"] < 8 * one_update


def small() -> None:
    measure_round(parameters=500, hospitals=3, parties=2, width=32, repeats=1)


def test_control_a_round_that_opens_another_sum_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    monkeypatch.setattr(bench, "contribute", lambda x, *rest: contribute(x + x.dtype.type(1), *rest))
    with pytest.raises(EngineError, match="The opened sum is not the sum of the encoded integers"):
        small()


def test_control_a_round_in_which_a_party_fails_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(*arguments: Any) -> tuple[Contribution, list[bytes]]:
        contribution, envelopes = contribute(*arguments)
        return contribution, [envelopes[0], envelopes[1][:-1]]

    monkeypatch.setattr(bench, "contribute", torn)
    with pytest.raises(
        EngineError, match=r"^A party failed: The envelope from hospital-0000 to party-1 does not open\.$"
    ):
        small()
