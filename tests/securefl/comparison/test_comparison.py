"""The comparison gives every arm the noise that it says, trains each once, and reports plain means."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from securefl.comparison import arms
from securefl.comparison import run as comparison
from securefl.comparison.chart import chart
from securefl.comparison.run import LINES, Line, compare, means, study_name, table
from securefl.errors import RunError, StudyError
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


def changed(study: Study, table: str | None = None, **values: object) -> Study:
    settings = study.settings
    part = values if table is None else {table: getattr(settings, table).model_copy(update=values)}
    return replace(study, settings=settings.model_copy(update=part))


def trained(study: Study, out: Path) -> int:
    """How many models a comparison of one arm, target and split trains."""
    told: list[Line] = []
    compare(study, out, [5.0], [0], ["ours"], told.append)
    return len(told)


def test_a_changed_study_is_trained_and_an_unchanged_one_is_not(study, tmp_path):
    faster = changed(study, "training", learning_rate=0.6)
    assert trained(study, tmp_path) == 1
    before = (tmp_path / LINES).read_bytes()
    assert trained(study, tmp_path) == 0
    assert trained(faster, tmp_path) == 1
    # The lines of the first study stay, and count again when it is back.
    assert (tmp_path / LINES).read_bytes().startswith(before)
    lines = [json.loads(line) for line in (tmp_path / LINES).read_text().splitlines()]
    assert [line["study"] for line in lines] == [study_name(study), study_name(faster)]
    assert trained(study, tmp_path) == trained(faster, tmp_path) == 0
    first, second = (compare(s, tmp_path, [5.0], [0], ["ours"])[0] for s in (study, faster))
    assert (first.accuracy, first.auc) == (lines[0]["accuracy"], lines[0]["auc"])
    assert (second.accuracy, second.auc) == (lines[1]["accuracy"], lines[1]["auc"])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda s: changed(s, "privacy", epsilon=2.0, noise_multiplier=None), True),
        (lambda s: changed(s, "data", split_seed=7), True),
        (lambda s: changed(s, name="Another title", description="of the same thing"), True),
        (lambda s: changed(s, "privacy", delta=1e-6), False),
        (lambda s: changed(s, "privacy", clip=0.25), False),
        (lambda s: changed(s, "training", rounds=4), False),
        (lambda s: changed(s, "data", test_fraction=0.3), False),
        (lambda s: changed(s, seed=1), False),
        (lambda s: replace(s, files={**s.files, "model.py": b"WIDTH = 1"}), False),
    ],
)
def test_a_studys_name_covers_all_but_what_the_comparison_replaces(
    study: Study, change: Callable[[Study], Study], same: bool
) -> None:
    assert (study_name(change(study)) == study_name(study)) == same


def test_another_byte_of_a_file_and_another_version_are_another_study(study, monkeypatch):
    one, other = (replace(study, files={**study.files, "model.py": text}) for text in (b"A = 1", b"A = 2"))
    assert study_name(one) != study_name(other)
    here = study_name(study)
    monkeypatch.setattr(comparison, "version", lambda name: "0.0.0")
    assert study_name(study) != here


def test_a_line_from_before_there_was_a_name_is_not_reused(study, tmp_path):
    assert trained(study, tmp_path) == 1
    file = tmp_path / LINES
    line = json.loads(file.read_text())
    del line["study"]
    file.write_text(json.dumps(line) + "\n")
    assert trained(study, tmp_path) == 1
    assert len(file.read_text().splitlines()) == 2
    assert trained(study, tmp_path) == 0


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_last_line_that_was_cut_is_trained_again_and_spoils_no_other(study, tmp_path, left):
    compare(study, tmp_path, [5.0], [0, 1], ["ours"])
    file = tmp_path / LINES
    first, last, _ = file.read_bytes().split(b"\n")
    file.write_bytes(first + b"\n" + last[:left])
    told: list[Line] = []
    compare(study, tmp_path, [5.0], [0, 1, 2], ["ours"], told.append)
    assert [line.split for line in told] == [1, 2]
    lines = file.read_bytes().split(b"\n")
    assert lines[0] == first
    assert [Line(**json.loads(text)) for text in lines[1:-1]] == told
    assert lines[-1] == b""
    again: list[Line] = []
    compare(study, tmp_path, [5.0], [0, 1, 2], ["ours"], again.append)
    assert again == []


def test_a_file_with_nothing_but_a_cut_line_is_begun_again(study, tmp_path):
    (tmp_path / LINES).write_bytes(b'{"arm": "ou')
    assert trained(study, tmp_path) == 1
    assert trained(study, tmp_path) == 0


GOOD = b'{"arm": "ours", "epsilon": 1.0, "split": 0, "accuracy": 0.5, "auc": null, "study": "00"}'


@pytest.mark.parametrize(
    "line",
    [
        GOOD[:30],
        GOOD[:30] + GOOD,
        b"",
        b"[]",
        b"\xff",
        GOOD.replace(b"0.5", b'"half"'),
        GOOD.replace(b'"split": 0, ', b""),
        GOOD.replace(b"split", b"spilt"),
        GOOD.replace(b'"00"', b"null"),
    ],
)
def test_a_malformed_whole_line_is_named_and_nothing_is_trained(study, tmp_path, line):
    file = tmp_path / LINES
    content = b"\n".join([GOOD, line, GOOD, b""])
    file.write_bytes(content)
    told: list[Line] = []
    with pytest.raises(RunError, match=rf"{LINES}, line 2, is not a line"):
        compare(study, tmp_path, [None], [0], ["ours"], told.append)
    assert told == []
    assert file.read_bytes() == content
    # The control: without it the file is read.
    file.write_bytes(b"\n".join([GOOD, GOOD, b""]))
    assert trained(study, tmp_path) == 1


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
