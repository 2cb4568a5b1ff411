"""The local engine with real processes: what a run leaves, and that no death of a process changes the model."""

from __future__ import annotations

import json
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import securefl
from protocols.chain import Signers, check_chain
from protocols.errors import ChainError
from securefl import consortium
from securefl.cli.app import status, stop
from securefl.errors import RunError
from securefl.run_folder import RunFolder

StartStudy = Callable[..., Any]

pytestmark = pytest.mark.timeout(600)


def model(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


def test_a_run_leaves_what_it_says(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["rounds"] == 14
    assert summary["hospitals"] == 4
    assert summary["parties"] == 3
    assert summary["plaintext_identical"] is True
    assert summary["accuracy"] == summary["accuracy_plaintext"]
    assert len((undisturbed / "history.jsonl").read_text().splitlines()) == 15
    assert (undisturbed / "study" / "study.toml").exists()
    assert "<html" in (undisturbed / "report.html").read_text()


def test_the_receipts_verify_with_the_pinned_keys_and_a_changed_byte_does_not(undisturbed: Path) -> None:
    folder = RunFolder(undisturbed)
    pinned = {name: m.signing_key for name, m in consortium.load(folder.consortium_file).parties.items()}
    keys = Signers(pinned, len(pinned))
    outcomes, closing = folder.outcomes(), folder.closing()
    assert closing is not None
    study = bytes.fromhex(folder.info()["study"])
    check_chain(outcomes, closing, study, keys)
    with pytest.raises(ChainError):
        check_chain(outcomes[:-1], closing, study, keys)
    changed = outcomes[3].outcome.model_copy(update={"total": bytes(32)})
    outcomes[3] = outcomes[3].model_copy(update={"outcome": changed})
    with pytest.raises(ChainError, match="round 3"):
        check_chain(outcomes, closing, study, keys)


def test_private_files_are_private_and_nothing_else_is_left(undisturbed: Path) -> None:
    for folder in ("keys", "homes", "receipts"):
        for path in (undisturbed / folder).rglob("*"):
            allowed = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == allowed, path
    names = {path.name for path in (undisturbed / "homes").rglob("*") if path.is_file()}
    kept = ("memory", "layout", "revealed", "receipt-", "opened-", "total-")
    # No spooled envelope, no share, no answer and no update outlives its round.
    assert all(name.startswith(kept) for name in names), names
    assert not (undisturbed / "stop").exists()


def test_no_private_key_and_no_seed_stands_anywhere_else(undisturbed: Path) -> None:
    secrets = [path.read_bytes() for path in (undisturbed / "keys").rglob("*.key")]
    assert len(secrets) == 4 * 2 + 3 * 3
    for path in undisturbed.rglob("*"):
        if path.is_file() and "keys" not in path.relative_to(undisturbed).parts:
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path


@pytest.mark.slow
def test_killed_stopped_and_resumed_a_study_ends_with_the_same_model(
    undisturbed: Path, start: StartStudy, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = start(out)
    first.wait_for_rounds(2)
    with pytest.raises(RunError, match="Another run is using"), RunFolder(out).locked():
        pass
    first.kill("party-2")
    first.wait_for_rounds(5)
    first.kill("hospitals-1")
    first.wait_for_rounds(7)
    status(out)
    stop(out)
    errors = first.finish()
    assert first.process.returncode == 0, errors
    assert 7 <= first.rounds() < 14
    assert not (out / "summary.json").exists()
    with pytest.raises(RunError, match="there is nothing to stop"):
        stop(out)

    second = start(out, "--resume")
    second.wait_for_rounds(first.rounds() + 3)
    children = [second.child(name) for name in ("party-1", "party-2", "party-3", "hospitals-1")]
    second.process.kill()
    second.finish()
    for child in children:
        ended_within(child, seconds=10)

    third = start(out, "--resume", "--workers", "1")
    errors = third.finish()
    assert third.process.returncode == 0, errors
    assert model(out) == model(undisturbed)
    assert json.loads((out / "summary.json").read_text())["plaintext_identical"] is True


def test_a_finished_run_is_not_run_over(undisturbed: Path, heart_study: Path) -> None:
    before = model(undisturbed)
    again = subprocess.run(
        [sys.executable, "-m", "securefl", "run", str(heart_study), "--out", str(undisturbed)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 1
    message = f"Error: {undisturbed} is not empty: choose another --out, or add --resume or --overwrite.\n"
    assert again.stderr == message
    assert model(undisturbed) == before


def test_a_result_is_read_back(undisturbed: Path) -> None:
    result = securefl.load_result(undisturbed)
    assert result.finished
    assert result.summary == json.loads((undisturbed / "summary.json").read_text())
    assert [line["round"] for line in result.history] == list(range(15))
    assert "federated, secure" in result._repr_html_()


def ended_within(process: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_at_any_moment(undisturbed: Path, start: StartStudy, tmp_path: Path) -> None:
    out = tmp_path / "run"
    chance = random.Random(11)
    names = ["party-1", "party-2", "party-3", "hospitals-1", "hospitals-2"]
    kills = 0
    for _ in range(10):
        run = start(out, *(["--resume"] if (out / "run.json").exists() else []))
        try:
            run.wait_for_rounds(run.rounds() + 1)
            time.sleep(chance.uniform(0, 0.3))
            run.kill(chance.choice(names))
            time.sleep(chance.uniform(0, 1.0))
        except AssertionError:
            break  # the study has ended
        run.process.kill()
        run.finish()
        kills += 1
    assert kills >= 3
    last = start(out, "--resume")
    errors = last.finish()
    assert last.process.returncode == 0, errors
    assert model(out) == model(undisturbed)
