"""What each role stores: the rules cover what runs really leave, and say the truth about what is erased."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from securefl.engines.late_trainer import LAYOUT
from securefl.report.evidence_retention import RULES, Kept, retention
from securefl.roles.hospital import ANSWER
from securefl.roles.hospital import MEMORY as HOSPITAL_MEMORY
from securefl.roles.party_memory import MEMORY, SHARE, SPOOL
from securefl.roles.pledges import PLEDGE, REVEALED, TOTAL
from securefl.roles.records import receipt_name
from securefl.run_folder import RunFolder
from securefl.study import Study


def kept_in(run: RunFolder) -> tuple[list[Kept], list[str]]:
    return retention(run, run.consortium(Study.load(run.path / "study")))


def rule_for(run: RunFolder, place: str) -> Kept:
    """The rule that covers a file put in this place."""
    path = run.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    before, _ = kept_in(run)
    path.write_bytes(b"12345")
    after, others = kept_in(run)
    assert place not in others
    path.unlink()
    (changed,) = [new for old, new in zip(before, after, strict=True) if old != new]
    return changed


@pytest.mark.parametrize("name", ["finished", "begun", "just_prepared", "smaller"])
def test_every_file_that_a_run_leaves_is_covered(name: str, request: pytest.FixtureRequest) -> None:
    run: RunFolder = request.getfixturevalue(name)
    kept, others = kept_in(run)
    assert others == []
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert sum(row.files for row in kept) == len(files)
    assert sum(row.size for row in kept) == sum(path.stat().st_size for path in files)


def test_control_a_file_that_no_rule_knows_is_named(finished: RunFolder) -> None:
    for place in ("patients.csv", "homes/west/notes", "homes/stranger/memory", "keys/stranger/signing.key"):
        (finished.path / place).parent.mkdir(exist_ok=True)
        (finished.path / place).write_text("x")
    _, others = kept_in(finished)
    assert others == [
        "homes/stranger/memory", "homes/west/notes", "keys/stranger/signing.key", "patients.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "role", "word"),
    [
        (f"homes/party-1/{MEMORY}", "party", "waits for"),
        (f"homes/party-1/{SHARE}", "party", "share of one sum"),
        (f"homes/party-1/{SPOOL}west", "party", "sealed part"),
        (f"homes/party-1/{receipt_name(99)}", "party", "copy of each receipt"),
        ("homes/party-1.ledger/opened-update-00", "party", "over which hospitals"),
        (f"homes/west/{HOSPITAL_MEMORY}", "hospital", "model after the last outcome"),
        (f"homes/west/{LAYOUT}", "hospital", "coordinates are parameters"),
        (f"homes/west/{ANSWER}", "hospital", "sealed contribution"),
        (f"homes/west/{PLEDGE}7", "hospital", "own encoded update"),
        (f"homes/west/{TOTAL}7", "hospital", "the sum that it checks"),
        (f"homes/west/{REVEALED}", "hospital", "last two rounds"),
        ("privacy/west/ledger/charge-00", "hospital", "privacy ledger"),
        ("keys/dealer/tls.key", "every member", "private keys"),
        ("attacks/inversion.png", "simulation", "attacks"),
    ],
)
def test_what_the_roles_code_writes_falls_under_its_own_rule(
    just_prepared: RunFolder, place: str, role: str, word: str
) -> None:
    if place.startswith("keys/"):
        (just_prepared.path / place).unlink()
    found = rule_for(just_prepared, place)
    assert found.rule.role == role
    assert word in found.rule.what


def test_ledgers_are_said_to_be_kept() -> None:
    kept = [rule for rule in RULES if "MUST BE KEPT" in rule.delete]
    assert {rule.role for rule in kept} == {"party", "hospital"}
    assert all("ledger" in " ".join(rule.places) for rule in kept)


def test_a_hospital_keeps_its_update_only_where_a_last_check_did_not_finish(
    source: Path, play: Callable[..., RunFolder], tmp_path: Path
) -> None:
    """As the rule for pledges says; in the clear, and so worth a test of a whole run."""
    folder = tmp_path / "study"
    folder.mkdir()
    text = (source / "study.toml").read_text().replace("rounds = 12", "rounds = 3")
    (folder / "study.toml").write_text(text)
    run = play(folder, tmp_path / "run", secretive={3: {"south"}})
    pledges = {path.parent.name: path.name for path in run.homes.glob(f"*/{PLEDGE}*")}
    assert set(pledges.values()) == {f"{PLEDGE}3"}
    (row,) = [row for row in kept_in(run)[0] if "homes/{hospital}/pledge-*" in row.rule.places]
    assert row.files == len(pledges) > 0
    assert "The last rounds' stay" in row.rule.kept
    sound = play(folder, tmp_path / "sound")
    assert not list(sound.homes.glob(f"*/{PLEDGE}*"))
    assert json.loads((sound.path / "summary.json").read_text())["rounds"] == 3
