"""How far a hospital's part has come, read from a folder in which the study's own code can write."""

from __future__ import annotations

import os

import numpy as np
import pytest

from securefl.domain import node
from securefl.domain.node import Progress, awaited_round
from securefl.roles.hospital import MEMORY
from securefl.roles.replica import Place, Replica
from securefl.training.server import ServerState

NAME = "north"


@pytest.fixture
def memory():
    place = Place(study=b"s" * 32, round=3, previous=b"p" * 32)
    return Replica(place, ServerState.initial(np.zeros(4)), np.ones(2)).to_bytes()


@pytest.fixture
def home(tmp_path, memory):
    folder = tmp_path / "run" / "home"
    (folder / NAME).mkdir(parents=True)
    (folder / NAME / MEMORY).write_bytes(memory)
    return folder


def test_the_round_is_read_again_when_the_memory_has_changed(home, memory):
    progress = Progress()
    assert progress.awaited(home, NAME) == awaited_round(home, NAME) == 3
    later = Replica.from_bytes(memory)
    place = later.place.model_copy(update={"round": 4})
    (home / NAME / "beside").write_bytes(Replica(place, later.state, later.statistics).to_bytes())
    (home / NAME / "beside").rename(home / NAME / MEMORY)
    assert progress.awaited(home, NAME) == 4


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "trick", ["pipe", "link", "folder", "linked folder", "linked home", "nothing", "nonsense", "long"]
)
def test_whatever_the_studys_code_puts_there_keeps_nobody_waiting(home, memory, trick, monkeypatch):
    file = home / NAME / MEMORY
    match trick:
        case "pipe":
            file.unlink()
            os.mkfifo(file)
        case "link":
            file.rename(home / "elsewhere")
            file.symlink_to(home / "elsewhere")
        case "folder":
            file.unlink()
            file.mkdir()
        case "linked folder":
            (home / NAME).rename(home / "elsewhere")
            (home / NAME).symlink_to(home / "elsewhere")
        case "linked home":
            home.rename(home.with_name("elsewhere"))
            home.symlink_to(home.with_name("elsewhere"))
        case "nothing":
            file.unlink()
        case "nonsense":
            file.write_bytes(b"x" * 100)
        case "long":
            monkeypatch.setattr(node, "MAX_MEMORY", len(memory) - 1)
    assert awaited_round(home, NAME) is None
    assert Progress().awaited(home, NAME) is None
