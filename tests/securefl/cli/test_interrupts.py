"""Ctrl-C in a real process: one line that says what it has left, and the shell's exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.securefl.small_study import SMALL_STUDY

STUDY = SMALL_STUDY.replace(
    'source = "npz"\nroot = "records/{hospital}.npz"', 'source = "module"\nmodule = "data.py:build"'
)
DATA = """\
import time
from pathlib import Path

def build(hospital, split):
    (Path(__file__).parents[1] / "begun").touch()
    time.sleep(600)
"""
RESUME = "; what was settled is on disk, go on with --resume"


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["run", "--out", "out"], RESUME),
        pytest.param(["study", "check"], "", marks=pytest.mark.slow),
        pytest.param(["study", "plan"], "", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_says_what_it_has_left(tmp_path: Path, command: list[str], left: str) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text(STUDY)
    (tmp_path / "study" / "data.py").write_text(DATA)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "securefl", *command, str(tmp_path / "study")],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Where the tests run in the background, children inherit that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    try:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"Error: interrupted{left}."
    assert "Traceback" not in err
