"""What ``securefl run --engine flower`` refuses before a run begins: one sentence, and nothing on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from securefl import consortium as members
from securefl.errors import EngineError, StudyError
from securefl.flower import submit
from securefl.flower.submit import distributed, run_over_flower, superlink_named
from securefl.run_folder import RunFolder

STUDY = """\
name = "Four hospitals"
seed = 7
[consortium]
file = "consortium.toml"
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = 2
learning_rate = 0.05
"""
MEMBERS = 'hospitals = ["north", "south", "east", "west"]\nparties = 2'
CONNECTIONS = """\
[superlink]
default = "consortium"
[superlink.consortium]
address = "127.0.0.1:{port}"
insecure = true
[superlink.local]
address = ":local:"
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(STUDY)
    members.create(folder, ["north", "south", "east", "west"], ["party-1", "party-2"], None)
    return folder


def configure(tmp_path: Path, text: str) -> Path:
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(text)
    return home


def refused(study: Path, home: Path, *arguments: str) -> str:
    """The sentence of a run that must not begin; where it leaves nothing."""
    out = study.parent / "out"
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "securefl", "run", str(study), "--out", str(out), "--engine", "flower",
         *arguments],
        capture_output=True, text=True, env={**os.environ, "FLWR_HOME": str(home)}, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("Error: ")
    assert "Traceback" not in ended.stderr
    assert not list(study.parent.glob("out*"))
    return ended.stderr


def test_a_simulation_is_for_one_computer(study: Path, tmp_path: Path) -> None:
    (study / "study.toml").write_text(STUDY.replace('file = "consortium.toml"', MEMBERS) + "[simulation]\n")
    with pytest.raises(StudyError, match="is a simulation: run it with --engine local or --engine ray"):
        run_over_flower(study, tmp_path / "out", None, {}, quiet=True)
    assert not list(tmp_path.glob("out*"))


def test_records_that_only_hospitals_hold_do_not_say_what_the_model_is(study: Path, tmp_path: Path) -> None:
    distributed(study)  # the control: the shape of this source is known
    text = STUDY.replace('source = "fed-heart"', 'source = "npz"\nroot = "../data/{hospital}.npz"')
    (study / "study.toml").write_text(text)
    with pytest.raises(StudyError, match="defines SHAPE and CLASSES"):
        run_over_flower(study, tmp_path / "out", None, {}, quiet=True)
    assert not list(tmp_path.glob("out*"))


def test_without_a_configuration_flower_starts_no_superlink_of_its_own(study: Path, tmp_path: Path) -> None:
    home = tmp_path / "flwr"
    assert "register.sh writes one" in refused(study, home)
    assert not home.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("elsewhere", "no SuperLink elsewhere that members reach: choose --connection of consortium"),
        ("local", "no SuperLink local that members reach"),
    ],
)
def test_a_wrong_connection_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(configure(tmp_path, CONNECTIONS.format(port=1))))
    assert superlink_named(None) == superlink_named("consortium") == "consortium"
    with pytest.raises(EngineError, match=sentence):
        superlink_named(name)


def test_a_damaged_configuration_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(configure(tmp_path, "[superlink")))
    with pytest.raises(EngineError, match="cannot be read"):
        superlink_named(None)


def test_a_superlink_that_does_not_answer(study: Path, tmp_path: Path) -> None:
    """Port 1 is nobody's."""
    home = configure(tmp_path, CONNECTIONS.format(port=1))
    assert "Connection to the SuperLink is unavailable" in refused(study, home)


def test_the_second_ctrl_c_ends_the_following_and_the_first_asks_the_run_to_stop(
    tmp_path, monkeypatch, capsys
):
    pressed = []

    def press(_seconds):
        pressed.append(RunFolder(tmp_path).stop_file.exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(submit.time, "sleep", press)
    with pytest.raises(KeyboardInterrupt):
        submit.follow("7", tmp_path, None, lambda _line: None)
    assert pressed == [False, True]
    assert capsys.readouterr().err.count("a second Ctrl-C only stops following it") == 1
