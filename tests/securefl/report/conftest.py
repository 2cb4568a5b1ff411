"""Run folders as real runs leave them, with accuracies and comparisons that are made up, so that tests know them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from securefl.run_folder import RunFolder
from securefl.study import Study

ROUNDS = 12
HOSPITALS = ("east", "north", "south", "west")
STUDY = f"""
name = "Digits & <friends>"
description = "Four hospitals share the digits out."
seed = 7
averaged_rounds = 3

[consortium]
hospitals = {json.dumps(list(HOSPITALS))}
parties = 3

[data]
source = "mnist-5k"

[data.partition]
kind = "iid"

[model]
kind = "mlp"
hidden = [4]

[training]
rounds = {ROUNDS}
learning_rate = 0.1

[aggregation]
norm_bound = 1.0

[simulation]
baselines = []
"""
# 784 * 4 + 4 + 4 * 10 + 10 coordinates.
SIZE = 3190


def make_results(run: RunFolder) -> None:
    """Figures that a test can look for; what the chain knows too stays as it is."""
    rounds = np.arange(1, ROUNDS + 1)
    accuracy = (0.95 - 0.8 * np.exp(-rounds / 4)).round(4).tolist()
    timings = {"seconds": 1.2, "upload_bytes": 16600, "evaluation_seconds": 0.01}
    lines = run.history()
    for line, value in zip(lines, [None, *accuracy], strict=True):
        training = 1.15 if line["round"] else 0.0
        line.update(timings, accuracy=value, loss=None if value is None else 1 - value)
        line.update(training_seconds=training, aggregation_seconds=round(1.2 - training, 2))
    lines[5]["absent"]["west"]["explanation"] = "It has <script>alert(1)</script> in it."
    run.write_history(lines)
    local = {h: (0.1 + 0.05 * k + 0.001 * rounds).tolist() for k, h in enumerate(HOSPITALS)}
    summary = json.loads(run.summary_file.read_text())
    mean = np.mean(list(local.values()), axis=0).tolist()
    baselines: dict[str, Any] = {
        "plaintext": {"accuracy": accuracy, "model": summary["model"], "hospitals": None},
        "float": {"accuracy": [a - 0.001 for a in accuracy], "model": None, "hospitals": None},
        "pooled": {"accuracy": [0.9, 0.95, 0.97], "model": None, "hospitals": None},
        "local": {"accuracy": mean, "model": None, "hospitals": local},
    }
    run.baselines.mkdir()
    for name, baseline in baselines.items():
        (run.baselines / f"{name}.json").write_text(json.dumps(baseline))
    counts = {h: [120 + 7 * c if c // 2 == k else 0 for c in range(10)] for k, h in enumerate(HOSPITALS)}
    partition = {"classes": 10, "hospitals": counts, "test": [100] * 10}
    (run.path / "partition.json").write_text(json.dumps(partition))
    run.summary_file.write_text(json.dumps({**summary, **FIGURES}))


FIGURES = {
    "accuracy": 0.9123,
    "accuracy_plaintext": 0.9123,
    "accuracy_float": 0.9113,
    "accuracy_pooled": 0.9711,
    "accuracy_local_mean": 0.1871,
    "accuracy_last_round": 0.9101,
    "plaintext_identical": True,
    "upload_bytes_per_hospital_round": 16600,
    "upload_ratio": 1.3333,
    "aggregation_share": 0.042,
    "seconds": 14.4,
}
"""A plausible part of ``summary.json``."""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's folder."""
    folder = tmp_path_factory.mktemp("report") / "source"
    folder.mkdir()
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="session")
def finished_once(source: Path, play: Callable[..., RunFolder]) -> Path:
    """A finished run: west is silent in round 5, north too long in round 7, south secretive in round 9."""
    run = play(
        source, source.parent / "run", silent={5: {"west"}}, long={7: {"north"}}, secretive={9: {"south"}}
    )
    make_results(run)
    return run.path


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> RunFolder:
    """A finished run of a simulation, to be changed at will."""
    return RunFolder(Path(shutil.copytree(finished_once, tmp_path / "run")))


@pytest.fixture(scope="session")
def begun_once(source: Path, play: Callable[..., RunFolder]) -> Path:
    run = play(source, source.parent / "begun", stop_after=2)
    run.history_file.unlink()
    return run.path


@pytest.fixture
def begun(begun_once: Path, tmp_path: Path) -> RunFolder:
    """A run that has settled its statistics round and two rounds, without any result."""
    return RunFolder(Path(shutil.copytree(begun_once, tmp_path / "begun")))


@pytest.fixture
def just_prepared(source: Path, tmp_path: Path) -> RunFolder:
    """A run in which nothing has happened yet."""
    run = RunFolder(tmp_path / "prepared")
    run.path.mkdir()
    run.prepare(Study.load(source), {"name": "Digits & <friends>", "securefl": "0.1.0", "started": "now"})
    return run


@pytest.fixture
def smaller(finished_once: Path, play: Callable[..., RunFolder], tmp_path: Path) -> RunFolder:
    """A short run in which a party is gone from round 1 on, and the study allows that."""
    text = STUDY.replace(
        "[aggregation]\nnorm_bound = 1.0\n", "[committee]\ncollusion_bound = 1\nminimum_parties = 2\n"
    )
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(text.replace(f"rounds = {ROUNDS}", "rounds = 2"))
    return play(tmp_path / "study", tmp_path / "smaller", gone={1: "party-2"})
