"""The walkthrough of the domain as users run it: eight people, each a process, around one shared folder. Minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from securefl.domain.log import verify
from securefl.domain.peers import Peers

ROOT = Path(__file__).resolve().parents[2]
WALKTHROUGH = ROOT / "examples" / "hospital_consortium" / "walkthrough.py"
HOSPITALS = ["cleveland", "hungary", "switzerland", "va"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def told(computer, tmp_path_factory) -> tuple[Path, str]:
    """Where it stands, and the story."""
    out = tmp_path_factory.mktemp("walk") / "c"
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, str(WALKTHROUGH), "--out", str(out)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out, done.stdout


def test_the_story_is_told_to_its_end(told):
    _, story = told
    order = [
        "publishes heart-2026", "proposes heart-disease-", "denies it", "is refused by va", "approves it for 30 days",
        "launches it", "revokes its approval after round 3", "releases the model", "takes the model and its receipts",
        "What each of them holds",
    ]  # fmt: skip
    place = 0
    for words in order:
        assert words in story[place:], words
        place = story.index(words, place)


def test_the_receipts_say_who_was_absent_and_why(told):
    out, _ = told
    checked = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "securefl", "verify", str(out / "model"), "--json", "--consortium"),
            str(out / "members" / "public" / "consortium.toml"),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(checked.stdout)
    assert (checked.returncode, found["accepted"], found["closed"]) == (0, True, True)
    receipts = found["receipts"]
    assert len(receipts) == 6
    assert [len(receipt["included"]) for receipt in receipts[:4]] == [4, 4, 4, 4]
    assert receipts[-1]["absent"] == {"switzerland": "not-approved"}
    assert receipts[-1]["included"] == ["cleveland", "hungary", "va"]


def test_the_audit_of_the_released_run_and_of_the_coordinators_finds_nothing_broken(told, tmp_path):
    out, _ = told
    (run,) = (out / "folders" / "coordinator" / "home").glob("run-*/")
    for folder in (out / "model", run):
        found = tmp_path / "audit.json"
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "securefl", "audit", str(folder), "--json", str(found)),
                *("--consortium", str(out / "members" / "public" / "consortium.toml")),
            ],
            capture_output=True, text=True,
        )  # fmt: skip
        marks = {check["name"]: check["mark"] for check in json.loads(found.read_text())["checks"]}
        assert done.returncode == 0, done.stdout + done.stderr
        assert {
            name: marks[name] for name in ("receipts", "cohorts", "message sizes", "approvals", "secrets")
        } == {
            "receipts": "holds",
            "cohorts": "holds",
            "message sizes": "holds",
            "approvals": "holds",
            "secrets": "unchecked",  # no key lies there
        }
        # The control: the permit of a hospital that took part, under another's name.
        changed = shutil.copytree(folder, tmp_path / folder.name)
        shutil.copy(changed / "permits" / "va.cbor", changed / "permits" / "hungary.cbor")
        (changed / "permits" / "va.cbor").write_bytes(
            (changed / "permits" / "va.cbor").read_bytes()[:-1] + b"x"
        )
        command = [sys.executable, "-P", "-m", "securefl", "audit", str(changed)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, "BROKEN: approvals." in done.stdout) == (1, True)


def test_nobody_holds_a_row_of_another_hospital(told):
    _, story = told
    table = story[story.index("What each of them holds") :]
    for name in HOSPITALS:
        row = next(line for line in table.splitlines() if f"│ {name} " in line)
        counts = [cell.strip() for cell in row.strip("│ ").split("│")][-4:]
        mine = HOSPITALS.index(name)
        held, total = counts[mine].split(" of ")
        assert held == total  # the control: its own are found
        assert all(count.startswith("0 of ") for k, count in enumerate(counts) if k != mine)
    for who in ("the shared folder", "researcher", "coordinator", "registry", "university"):
        row = next(line for line in table.splitlines() if f"│ {who} " in line)
        assert row.count(" 0 of ") == 4


def test_every_log_is_whole_and_tells_the_decisions(told):
    out, _ = told
    actions = {}
    for name in HOSPITALS:
        home = out / "homes" / f"{name}@hospital.example"
        card = Peers(out / "homes" / "researcher@lab.example").get(f"{name}@hospital.example")
        actions[name] = [entry.action for entry in verify(home, card.signing).entries]
    assert {"denied", "approved", "node-started"} <= set(actions["va"])
    assert {"approved", "revoked", "node-stopped", "peer-removed"} <= set(actions["switzerland"])
    assert {"approved", "run-received", "released"} <= set(actions["cleveland"])
