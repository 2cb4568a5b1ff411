"""What ran and among whom: versions, members, and that no code of a study runs before it is known to be signed for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from securefl import consortium as members
from securefl.audit import verify
from securefl.run_folder import RunFolder


def fault(run: RunFolder, **options: Any) -> str:
    """The check that fails, as one line."""
    found = verify(run.path, **options).fault
    assert found is not None
    return f"{found.name}: {found.says}"


@pytest.fixture
def other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another securefl is installed than the one that ran."""
    monkeypatch.setattr("securefl.study.folder.version", lambda _name: "9.9.9")
    monkeypatch.setattr("securefl.audit.founding.version", lambda _name: "9.9.9")


@pytest.mark.usefixtures("other_version")
def test_another_version_is_said_plainly(auditors: RunFolder) -> None:
    ran = json.loads((auditors.path / "run.json").read_text())["securefl"]
    assert fault(auditors) == (
        f"study: This run was made by securefl {ran} and this is securefl 9.9.9: the study's digest covers the "
        f"version, so that only securefl {ran} can verify it."
    )


@pytest.mark.usefixtures("other_version")
def test_a_version_that_is_written_over_the_other_does_not_help(auditors: RunFolder) -> None:
    path = auditors.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "securefl": "9.9.9"}))
    assert "are not the study that the receipts are of" in fault(auditors)


@pytest.mark.parametrize(
    ("key", "value"),
    [("study", "ab" * 32), ("securefl", "9.9.9"), ("insecure_unchecked", True), ("study", ["x"])],
)
def test_what_run_json_says_of_the_study_is_checked(auditors: RunFolder, key: str, value: Any) -> None:
    path = auditors.path / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "started": "another time"}))
    assert verify(auditors.path).holds  # that is the coordinator's word
    path.write_text(json.dumps({**info, key: value}))
    assert fault(auditors).startswith("run.json: ")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"[" * 100_000], ids=["empty", "list", "binary", "deep"]
)
def test_a_run_json_that_is_no_table_fails(auditors: RunFolder, content: bytes) -> None:
    (auditors.path / "run.json").write_bytes(content)
    assert fault(auditors).startswith("run.json: ")


def test_a_file_that_is_added_to_the_study_counts_if_it_could_run(auditors: RunFolder) -> None:
    (auditors.path / "study" / "notes.txt").write_text("harmless")
    assert verify(auditors.path).holds
    assert "study/notes.txt" in verify(auditors.path).not_signed
    (auditors.path / "study" / "extra.py").write_text("print()")
    assert fault(auditors).startswith("study: ")


def test_the_callers_own_members_are_compared(auditors: RunFolder, tmp_path: Path) -> None:
    mine = members.load(auditors.consortium_file)
    verdict = verify(auditors.path, pinned=mine)
    assert verdict.holds
    assert "as pinned by you" in next(check.says for check in verdict.checks if check.name == "members")
    others = members.create(tmp_path / "others", ["b", "charite", "st-anna", "va"], list(mine.parties))
    assert fault(auditors, pinned=others) == (
        "members: consortium.toml has other members or keys than the ones that you have pinned."
    )
    assert "taken from this folder" in next(
        c.says for c in verify(auditors.path).checks if c.name == "members"
    )


# -- a study with code -----------------------------------------------------------------------------------------------

MODEL = """
from pathlib import Path
from torch import nn

def build(shape, classes):
    Path({marker!r}).touch()
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))
"""


@pytest.fixture(scope="module")
def coded_once(tmp_path_factory: pytest.TempPathFactory, runs: Any) -> tuple[Path, Path]:
    """A run of a study with a model in Python, and the file that this model leaves when it is built."""
    folder = tmp_path_factory.mktemp("coded")
    source = folder / "source"
    source.mkdir()
    text = (runs.make("stopped", stop_after=2).parent / "source" / "study.toml").read_text()
    (source / "study.toml").write_text(
        text.replace('kind = "logistic"', 'kind = "module"\nmodule = "net.py:build"').replace(
            "rounds = 4", "rounds = 1"
        )
    )
    (source / "net.py").write_text(MODEL.format(marker=str(source / "was-run")))
    runs.play(source, folder / "run")
    return folder / "run", source / "was-run"


@pytest.fixture
def coded(coded_once: tuple[Path, Path], tmp_path: Path) -> tuple[RunFolder, Path]:
    run, marker = coded_once
    marker.unlink(missing_ok=True)
    return RunFolder(Path(shutil.copytree(run, tmp_path / "run"))), marker


def test_a_model_of_the_studys_own_code_is_computed(coded: tuple[RunFolder, Path]) -> None:
    run, marker = coded
    assert verify(run.path).holds
    assert marker.exists()


def test_code_that_was_changed_is_not_run(coded: tuple[RunFolder, Path]) -> None:
    run, marker = coded
    path = run.path / "study" / "net.py"
    path.write_text(path.read_text() + "\n")
    assert "study/net.py" in fault(run)
    assert not marker.exists()


def test_code_that_the_pinned_parties_did_not_sign_for_is_not_run(
    coded: tuple[RunFolder, Path], tmp_path: Path
) -> None:
    run, marker = coded
    others = members.create(tmp_path / "others", ["b", "va"], ["party-1", "party-2"])
    assert fault(run, pinned=others).startswith("members: ")
    receipt = run.outcomes()[0]
    forged = receipt.model_copy(update={"signatures": receipt.signatures[::-1]})
    run.store().put("receipt-000000", forged.to_bytes())
    assert fault(run).startswith("round 0: ")
    assert not marker.exists()


# -- models whose shape only the records tell ------------------------------------------------------------------------


def test_a_model_that_only_the_records_can_shape_is_not_called_checked(runs: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "records").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in ("b", "charite", "st-anna", "va"):
        x = draw.normal(size=(20, 4))
        np.savez(source / "records" / f"{name}.npz", x=x, y=np.arange(20) % 2, classes=2)
    text = (runs.make("stopped", stop_after=2).parent / "source" / "study.toml").read_text()
    npz = text.replace('source = "fed-heart"', 'source = "npz"\nroot = "records/{hospital}.npz"')
    (source / "study.toml").write_text(npz.replace("rounds = 4", "rounds = 1"))
    run = runs.play(source, tmp_path / "run")
    assert verify(run.path).holds
    (source / "records").rename(tmp_path / "gone")
    verdict = verify(run.path)
    assert verdict.fault is None
    assert verdict.closed
    assert not verdict.holds
    assert [check.name for check in verdict.checks if check.mark == "unchecked"] == ["initial model"]
    assert verdict.sentence.startswith(
        "Everything holds that can be checked here (not: initial model): 2 outcomes"
    )
    # The rest is checked all the same.
    sums = run.receipts / "sum-000001"
    sums.write_bytes(sums.read_bytes()[::-1])
    assert fault(run).startswith("round 1: receipts/sum-000001 is not the sum")
