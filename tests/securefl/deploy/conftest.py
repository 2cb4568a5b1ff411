"""One consortium, made once: three hospitals, two parties, a dealer; and studies for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from securefl import deploy
from securefl.deploy.settings import PUBLIC

HOSPITALS, PARTIES, DEALER = ["oslo", "bergen", "aarhus"], ["uni", "registry"], "standards"
SUPERLINK = "hub.example:8000"
MESH = {"uni": "uni.example:7000", "registry": "192.0.2.7:7001", "standards": "standards.example:7002"}
FOLDERS = ["coordinator", *HOSPITALS, *PARTIES, DEALER]
STUDY = """\
name = "Deployed"
seed = 1
[consortium]
file = "consortium.toml"
[data]
source = "npz"
root = "../data/records.npz"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""


@pytest.fixture(scope="session")
def pristine(tmp_path_factory) -> Path:
    """The folders as ``init`` makes them. Only to be read."""
    out = tmp_path_factory.mktemp("deploy") / "consortium"
    deploy.init(out, HOSPITALS, PARTIES, SUPERLINK, MESH, DEALER)
    return out


@pytest.fixture
def made(pristine, tmp_path) -> Path:
    """A copy to change."""
    return shutil.copytree(pristine, tmp_path / "made")


@pytest.fixture
def study(pristine, tmp_path) -> Path:
    """A study for these members that checks no norms, with a Python file in a folder of its own."""
    folder = tmp_path / "study"
    (folder / "parts").mkdir(parents=True)
    (folder / "study.toml").write_text(STUDY)
    (folder / "parts" / "layers.py").write_text("WIDTH = 3\n")
    shutil.copy(pristine / PUBLIC / "consortium.toml", folder)
    return folder
