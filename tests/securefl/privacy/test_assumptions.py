"""What a report says beside the figures follows the mechanism."""

from __future__ import annotations

from dataclasses import replace

from securefl.privacy import Mechanism, describe, epsilon_table

MECHANISM = Mechanism("patient", 0.25, 4096, 10**9, 3, 1, 5000)


def test_the_figures_and_the_sentences():
    rows, sentences = describe(MECHANISM, 20, 1e-5)
    assert rows == epsilon_table(MECHANISM, 20, 1e-5)
    assert [colluders for colluders, _ in rows] == [0, 1, 2]
    assert all(sentence.endswith(".") and "  " not in sentence for sentence in sentences)
    text = " ".join(sentences)
    for stated in ("0.25", "4096 units", "1000000000 units^2", "5000 coordinates", "1 of 3", "20 attempts"):
        assert stated in text


def test_they_say_what_is_different():
    hospital = describe(replace(MECHANISM, unit="hospital", sampling_rate=1.0), 20, 1e-5)[1]
    assert "nothing is gained from sampling" in " ".join(hospital)
    assert "patient" not in " ".join(hospital)
    assert not any("refused" in sentence for sentence in hospital)
    refusing = describe(MECHANISM, 20, 1e-5, extra_delta=2.0**-40)[1]
    assert any("9.1e-13" in sentence and "1.8e-11" in sentence for sentence in refusing)
