"""The comparison gives every arm the noise that it says, trains each once, and reports plain means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from securefl.comparison import arms
from securefl.comparison.chart import chart
from securefl.comparison.run import Line, compare, means, table
from securefl.errors import StudyError
from securefl.roles.private_terms import PrivateTerms
from securefl.study import Study

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "fed_heart_private"


@pytest.fixture(scope="module")
def study() -> Study:
    loaded = Study.load(EXAMPLE)
    training = loaded.settings.training.model_copy(update={"rounds": 3})
    privacy = loaded.settings.privacy.model_copy(update={"epsilon": None, "noise_multiplier": 1.0})
    return replace(
        loaded, settings=loaded.settings.model_copy(update={"training": training, "privacy": privacy})
    )


def test_each_arm_has_the_noise_that_it_says(study, monkeypatch):
    s = study.settings
    private = PrivateTerms.of(s.privacy, s.training, s.aggregation, 4, 3)
    seen: list[float] = []

    def trained(model, records, **how):
        seen.append(how["party_variance"] * how["parties"] / private.clip_units**2)
        return model

    monkeypatch.setattr(arms, "train_private", trained)
    from securefl.comparison.run import _records

    trainees, _ = _records(study, 0)
    for arm in arms.ARMS:
        arms.models(study, private, arm, trainees)
    # z = 1: two honest parties of three, one centre, four hospitals; then four hospitals by themselves.
    assert seen == pytest.approx([1.5, 1, 4, 1, 1, 1, 1], rel=1e-5)


def test_a_comparison_goes_on_where_it_stopped(study, tmp_path):
    told: list[Line] = []
    first = compare(study, tmp_path, [5.0, None], [0], ["ours", "centre"], told.append)
    # Without noise there is no difference between the arms.
    assert [(line.epsilon, line.arm) for line in told] == [(5.0, "ours"), (5.0, "centre"), (None, "ours")]
    again: list[Line] = []
    assert compare(study, tmp_path, [5.0, None], [0], ["ours", "centre"], again.append) == first
    assert again == []
    more = compare(study, tmp_path, [5.0, None], [0, 1], ["ours", "centre"], again.append)
    assert [line.split for line in again] == [1, 1, 1]
    assert [mean.splits for mean in more] == [2, 2, 2]
    assert chart(more, tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert table(more).row_count == 3


def test_means_and_their_errors():
    lines = [Line("ours", 1.0, split, a, None) for split, a in enumerate([0.5, 0.75, 1.0])]
    mean = means(lines)[0]
    assert mean.accuracy == 0.75
    assert mean.accuracy_error == pytest.approx(np.std([0.5, 0.75, 1.0], ddof=1) / np.sqrt(3))
    assert mean.auc is None
    assert means(lines[:1])[0].accuracy_error is None


def test_a_study_without_privacy_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"add \[privacy\]"):
        compare(Study.load(EXAMPLE.parent / "fed_heart"), tmp_path, [1.0], [0])
