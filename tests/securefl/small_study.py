"""A study with records of its own, for tests that run no round of it."""

from pathlib import Path

import numpy as np

from securefl.study import Study

SMALL_STUDY = """\
name = "Small"
seed = 1
[simulation]
[consortium]
hospitals = 3
[data]
source = "npz"
root = "records/{hospital}.npz"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""
"""Three hospitals, each with twenty records of four numbers and two classes."""


def small_study_in(folder: Path) -> Study:
    """Write it, with its records beside it."""
    (folder / "records").mkdir(parents=True)
    (folder / "study.toml").write_text(SMALL_STUDY)
    draw = np.random.default_rng(0)
    for name in ("hospital-1", "hospital-2", "hospital-3"):
        records = folder / "records" / f"{name}.npz"
        np.savez(records, x=draw.normal(size=(20, 4)), y=np.arange(20) % 2, classes=2)
    return Study.load(folder)
