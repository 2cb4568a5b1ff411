"""Runs, as far as they go without processes; whole runs are in ``tests/processes``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from securefl import running
from securefl.errors import EngineError
from securefl.run_folder import RunFolder

COMPARED = """\
name = "Stopped"
seed = 7
[simulation]
baselines = ["float"]
exhibits = false
[consortium]
hospitals = ["cleveland", "hungary", "switzerland", "va"]
parties = 2
[data]
source = "fed-heart"
standardise = "features"
[model]
kind = "logistic"
[training]
rounds = 2
learning_rate = 0.1
"""


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


@pytest.fixture
def compared(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(COMPARED)
    return tmp_path / "study"


@pytest.mark.slow
def test_a_stop_ends_the_comparisons_and_a_resumed_run_makes_them(tmp_path, compared, play, monkeypatch):
    children = []

    def without_end(folder, _study, _names):
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        folder.stop_file.write_text("stop")
        return children[-1]

    with monkeypatch.context() as patch:
        patch.setattr(running, "_start_baselines", without_end)
        folder = play(compared, tmp_path / "run")
    assert [child.poll() for child in children] == [-9]
    assert folder.closing() is not None
    assert not folder.summary_file.exists()
    assert not folder.stop_file.exists()
    assert not running.load_result(folder.path).finished
    play(compared, tmp_path / "run", resume=True)
    assert (folder.baselines / "float.json").exists()
    assert running.load_result(folder.path).finished


def test_a_comparison_that_fails_ends_the_run_while_others_go_on(tmp_path, small_study, monkeypatch):
    codes = iter(["import time; time.sleep(600)", "raise SystemExit(3)"])
    children = []

    def started(_folder, _study, _names):
        children.append(subprocess.Popen([sys.executable, "-c", next(codes)]))
        return children[-1]

    monkeypatch.setattr(running, "_start_baselines", started)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    settings = small_study.settings.model_copy(
        update={
            "simulation": small_study.settings.simulation.model_copy(update={"baselines": ["float", "local"]})
        }
    )
    with pytest.raises(EngineError, match="The baselines local failed"):
        running._compare(RunFolder(tmp_path / "run"), replace(small_study, settings=settings), progress=False)
    assert [child.poll() for child in children] == [-9, 3]


def test_a_stop_while_a_run_loads_is_not_forgotten(tmp_path, compared, play, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    write, train, asked = running._write_partition, running._train, []

    def stopped(run, world):
        asked.append(run.stop_file.exists())
        run.stop_file.write_text("stop")
        write(run, world)

    def training(run, *arguments):
        asked.append(run.stop_file.exists())
        return train(run, *arguments)

    folder.path.mkdir()
    folder.stop_file.write_text("stop")  # left by an earlier run, it means nothing
    monkeypatch.setattr(running, "_write_partition", stopped)
    monkeypatch.setattr(running, "_train", training)
    play(compared, folder.path)
    assert asked == [False, True]
