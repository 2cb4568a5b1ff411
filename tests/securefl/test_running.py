"""Runs, as far as they go without processes; whole runs are in ``tests/processes``."""

from __future__ import annotations

from securefl import running
from securefl.run_folder import RunFolder


def test_a_run_reads_back_with_the_records_beside_its_study(tmp_path, small_study):
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        running._enter(
            folder, small_study, resume=False, overwrite=False, engine="local", workers=1, unchecked=False
        )
    result = running.load_result(tmp_path / "run")
    assert (result.finished, result.history, result.summary) == (False, [], {})
    assert sum(p.numel() for p in result.model.parameters()) == 10


def test_what_will_run_is_looked_at_without_writing(tmp_path, small_study):
    world = running._new_world(small_study, base_port=None, unchecked=False, local=True)
    assert {name: len(data.train) for name, data in world.data.items()} == dict.fromkeys(
        world.terms.hospitals, 16
    )
    assert [p.name for p in tmp_path.iterdir()] == ["study"]


def test_a_hospitals_words_are_shown_on_their_rounds_line():
    line = {
        "round": 3, "accuracy": 0.5, "included": ["hospital-1"], "seconds": 2.0, "aggregation_seconds": 1.0,
        "absent": {"hospital-2": {"reason": "no-answer", "explanation": "\x1b[2J\x1b[1;1Hround\n3/3\u202e"}},
    }  # fmt: skip
    shown = running._shown(line, 3)
    assert shown.isprintable()
    assert shown.startswith("round 3/3: accuracy 0.5000, 1 hospitals")
    assert "without hospital-2: \ufffd[2J" in shown
