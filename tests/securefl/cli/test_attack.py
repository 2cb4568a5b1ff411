"""``securefl attack``, ``compare`` and ``report --evidence`` write what they say, and refuse with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from securefl.cli.app import app
from securefl.errors import RunError, StudyError
from securefl.run_folder import RunFolder

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory, play) -> RunFolder:
    folder = tmp_path_factory.mktemp("attacked")
    study = (EXAMPLES / "fed_heart_private" / "study.toml").read_text()
    (folder / "study").mkdir()
    quick = study.replace("rounds = 60", "rounds = 2").replace("epsilon = 3.0", "noise_multiplier = 2.0")
    (folder / "study" / "study.toml").write_text(quick)
    return play(folder / "study", folder / "run")


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_attacks_leave_their_results_for_the_evidence(run):
    ran = invoke("attack", str(run.path), "--only", "membership", "--shadows", "0")
    assert ran.exit_code == 0, ran.output
    found = json.loads((run.attacks / "membership.json").read_text())
    assert set(found["attacks"]) == {"loss"}
    assert (run.attacks / "membership.png").read_bytes().startswith(b"\x89PNG")
    assert "membership: loss: AUC" in ran.output
    ran = invoke("report", str(run.path), "--evidence")
    assert ran.exit_code == 0, ran.output
    page = (run.path / "evidence.html").read_text()
    assert "data:image/png;base64," in page
    assert json.loads((run.path / "evidence.json").read_text())


def test_inversion_needs_images(run):
    ran = invoke("attack", str(run.path), "--only", "inversion")
    assert isinstance(ran.exception, RunError)
    assert not (run.attacks / "inversion.json").exists()


def test_unknown_names_are_refused(run, tmp_path):
    assert isinstance(invoke("attack", str(run.path), "--only", "guessing").exception, StudyError)
    study = str(EXAMPLES / "fed_heart_private")
    for arguments in (["--arm", "theirs"], ["--epsilon", "much"], ["--epsilon", "0"]):
        ran = invoke("compare", study, "--out", str(tmp_path / "out"), *arguments)
        assert isinstance(ran.exception, StudyError)
        assert not (tmp_path / "out").exists()
