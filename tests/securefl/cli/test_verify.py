"""``securefl verify``: what it prints, and which exit code it ends with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from securefl import consortium as members
from securefl.cli import main
from securefl.run_folder import RunFolder

STUDY = """\
name = "Verified"
seed = 3
[simulation]
baselines = []
exhibits = false
[consortium]
hospitals = ["b", "charite", "st-anna", "va"]
parties = 3
[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
[committee]
collusion_bound = 1
minimum_parties = 2
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = 2
learning_rate = 0.1
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, play: Callable[..., RunFolder]) -> dict[str, Path]:
    """Runs by name: all verified, with an unchecked sum, with a party gone, stopped, insecure."""
    root = tmp_path_factory.mktemp("verified")
    (root / "study").mkdir()
    (root / "study" / "study.toml").write_text(STUDY)
    scripts = {
        "whole": {},
        "unchecked": {"secretive": {1: {"va"}}},
        "smaller": {"gone": {2: "party-1"}},
        "stopped": {"stop_after": 1},
        "insecure": {"insecure": True},
    }
    return {name: play(root / "study", root / name, **script).path for name, script in scripts.items()}


@pytest.fixture
def copy(made: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of these runs, to be changed."""
    return lambda name: Path(shutil.copytree(made[name], tmp_path / name))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``securefl verify`` in this process: exit code, standard output in one line a line, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["securefl", "verify", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return call


def flip(path: Path, position: int = 40) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_whole_run(call: Call, made: dict[str, Path]) -> None:
    code, out, err = call(made["whole"])
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert [line.split("  ")[0].strip() for line in lines[:11]] == [
        "✓ study", "✓ run.json", "✓ members", "✓ round 0", "✓ round 1", "✓ round 2", "✓ copies", "✓ closing",
        "✓ model.safetensors It is the model after round 2, computed here, bit for bit.", "✓ summary.json",
        "✓ history.jsonl",
    ]  # fmt: skip
    assert (
        "Rounds 0-2: committee of 3 (party-1, party-2, party-3): private unless 3 of them collude." in lines
    )
    assert any(line.startswith("Nobody signed: ") for line in lines)
    assert (
        lines[-1] == "Everything holds: 3 outcomes and the closing record; the hospitals checked every sum."
    )
    assert call(made["whole"], "--strict")[0] == 0


def test_an_unchecked_sum_is_a_warning_unless_strict(call: Call, made: dict[str, Path]) -> None:
    code, out, _ = call(made["unchecked"])
    assert code == 0
    assert "! round 1" in out
    assert "the hospitals did not check the sum of round 1, which is the committee's word alone." in out
    assert call(made["unchecked"], "--strict") == (1, out, "")


def test_an_insecure_run_is_a_loud_warning_unless_strict(call: Call, made: dict[str, Path]) -> None:
    code, out, _ = call(made["insecure"])
    assert code == 0
    assert "An INSECURE run: neither norms nor sums were checked by anyone." in out
    assert call(made["insecure"], "--strict")[0] == 1


def test_a_smaller_committee_is_a_smaller_claim(call: Call, made: dict[str, Path]) -> None:
    code, out, _ = call(made["smaller"])
    assert code == 0
    assert "Rounds 0-1: committee of 3 (party-1, party-2, party-3): private unless 3 of them collude." in out
    assert "Round 2: committee of 2 (party-2, party-3): private unless 2 of them collude." in out


def test_an_open_run_passes_only_as_one(call: Call, made: dict[str, Path]) -> None:
    code, out, _ = call(made["stopped"])
    assert code == 1
    assert "Everything holds so far: 2 outcomes, and the study is not closed" in out
    assert call(made["stopped"], "--unfinished")[0] == 0


def test_a_changed_file_is_named_and_nothing_helps(call: Call, copy: Callable[[str], Path]) -> None:
    run = copy("whole")
    flip(run / "receipts" / "sum-000001")
    code, out, err = call(run)
    assert (code, err) == (1, "")
    fault = "receipts/sum-000001 is not the sum that the parties signed."
    assert any(line.startswith("✗ round 1") and fault in line for line in out.splitlines())
    assert "round 2 " not in out
    assert out.splitlines()[-1] == f"Not verified, round 1: {fault}"
    assert call(run, "--unfinished", "--json")[0] == 1


def test_text_from_the_files_is_neither_markup_nor_control(call: Call, copy: Callable[[str], Path]) -> None:
    run = copy("whole")
    (run / "receipts" / "[bold]x\x1b[2J").write_bytes(b"x")
    assert "receipts/[bold]x?[2J belongs to no receipt" in call(run)[1]


def test_json(call: Call, made: dict[str, Path], copy: Callable[[str], Path]) -> None:
    code, out, _ = call(made["unchecked"], "--json")
    found = json.loads(out)
    assert code == 0
    assert found["accepted"] is True
    assert found["closed"] is True
    assert found["unverified"] == [1]
    assert [check["mark"] for check in found["checks"] if check["name"].startswith("round")] == [
        "holds", "unverified", "holds",
    ]  # fmt: skip
    assert found["receipts"][1]["sum_check"] == "unverified"
    assert found["receipts"][1]["committee"] == ["party-1", "party-2", "party-3"]
    run = copy("whole")
    flip(run / "receipts" / "closing")
    code, out, _ = call(run, "--json")
    assert code == 1
    assert json.loads(out)["accepted"] is False
    assert json.loads(out)["checks"][-1]["name"] == "closing"


def test_my_own_copy_of_the_members(call: Call, made: dict[str, Path], tmp_path: Path) -> None:
    code, out, _ = call(made["whole"], "--consortium", made["whole"] / "consortium.toml")
    assert code == 0
    assert "their keys as pinned by you" in out
    members.create(tmp_path / "others", ["b", "st-anna", "va"], ["party-1", "party-2", "party-3"])
    code, out, _ = call(made["whole"], "--consortium", tmp_path / "others" / "consortium.toml")
    assert code == 1
    assert "other members or keys than the ones that you have pinned" in out


@pytest.mark.parametrize("options", [[], ["--json"], ["--consortium", "/nowhere/consortium.toml"]])
def test_what_cannot_be_read_is_one_line(call: Call, tmp_path: Path, options: list[str]) -> None:
    code, out, err = call(tmp_path, *options)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


def test_a_run_in_which_nothing_happened_does_not_pass(call: Call, copy: Callable[[str], Path]) -> None:
    run = copy("stopped")
    for path in [*(run / "receipts").iterdir(), *(run / "homes").glob("*/receipt-*")]:
        path.unlink()
    for name in ("history.jsonl", "model.safetensors"):
        (run / name).unlink()
    code, out, _ = call(run, "--unfinished")
    assert (code, out.splitlines()[-1].strip()) == (1, "There is no receipt yet.")
