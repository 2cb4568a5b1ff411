"""What a finished run's folder shows: all promises on a whole one, and each damage found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securefl import consortium as members
from securefl.audit.deployment import examine
from securefl.errors import RunError
from securefl.run_folder import RunFolder
from tests.securefl.audit.conftest import Runs, failing, lines


def test_a_whole_run_keeps_every_promise_that_is_seen(finished: RunFolder) -> None:
    examined = examine(finished.path)
    assert examined.broken is None
    assert {name: mark for name, (mark, _) in lines(examined).items()} == {
        "receipts": "unverified",  # round 3, on purpose
        "members": "unchecked",
        "norms and sums": "unverified",
        "cohorts": "holds",
        "message sizes": "holds",
        "budgets": "unchecked",
        "approvals": "unchecked",
        "key files": "holds",
        "secrets": "holds",
    }
    assert lines(examined)["cohorts"][1].startswith("Every sum is over 3 hospitals or more (3 are the least)")


def test_the_members_are_only_known_by_the_readers_own_copy(finished: RunFolder, tmp_path: Path) -> None:
    mine = members.load(finished.consortium_file)
    mark, says = lines(examine(finished.path))["members"]
    assert mark == "unchecked"
    assert mine.digest().hex() in says
    assert "give --consortium" in says
    mark, says = lines(examine(finished.path, mine))["members"]
    assert (mark, "as pinned by you" in says) == ("holds", True)
    others = members.create(tmp_path / "others", ["b", "charite", "st-anna", "va"], list(mine.parties))
    assert failing(finished.path, pinned=others).startswith("members: consortium.toml has other members")
    # Also where an earlier check ends the reading of the receipts.
    path = finished.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "study": "ab" * 32}))
    marks = {name: mark for name, (mark, _) in lines(examine(finished.path, others)).items()}
    assert (marks["receipts"], marks["members"]) == ("fails", "fails")


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_the_digest_to_compare_is_shown_whole(
    finished: RunFolder,
    call: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    width: str,
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    _, out, _ = call(finished.path)
    cells = [line.split("│")[-2].strip() for line in out.splitlines() if line.count("│") == 4]
    assert members.load(finished.consortium_file).digest().hex() in "".join(cells)
    assert "…" not in out


def test_a_run_in_which_nobody_checked_does_not_pass(runs: Runs) -> None:
    insecure = runs.make("insecure", ("rounds = 4", "rounds = 1"), insecure=True)
    assert failing(insecure).startswith("norms and sums: An INSECURE run")


def test_what_was_checked_is_told(finished: RunFolder, runs: Runs) -> None:
    assert lines(examine(finished.path))["norms and sums"][1].startswith("The study bounds no norm")
    checked = lines(examine(runs.make("all-checked", ("rounds = 4", "rounds = 1"))))["norms and sums"]
    assert (checked[0], checked[1].endswith("; the hospitals checked every sum.")) == ("holds", True)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        examine(tmp_path)


# -- damages ----------------------------------------------------------------------------------------------------------


def test_a_changed_receipt(finished: RunFolder) -> None:
    path = finished.receipts / "receipt-000002"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert failing(finished.path).startswith("receipts: round 2")


def test_a_run_without_its_end(finished: RunFolder) -> None:
    (finished.receipts / "closing").unlink()
    finished.summary_file.unlink()
    assert failing(finished.path).startswith("receipts: ")


def test_a_study_that_cannot_be_read_leaves_the_rest_unchecked(finished: RunFolder) -> None:
    (finished.path / "study" / "study.toml").write_text("no toml")
    examined = examine(finished.path)
    assert examined.broken is not None
    assert examined.broken.name == "receipts"
    assert lines(examined)["cohorts"][0] == "unchecked"
    assert lines(examined)["secrets"][0] == "holds"


def test_a_sum_over_too_few_that_all_parties_signed(finished: RunFolder, forge: Any) -> None:
    forger = forge(finished)
    outcome = finished.settled(4).signed.outcome
    alone = dict(list(outcome.frozen.contributions.items())[:1])
    rest = dict.fromkeys([h for h in outcome.frozen.cohort if h not in alone], "no-answer")
    forger.outcome(4, frozen={"contributions": alone, "absent": rest})
    examined = examine(finished.path)
    assert lines(examined)["cohorts"] == (
        "fails",
        "The sum of round 4 is over 1 hospitals, and 3 are the least.",
    )


def test_receipts_that_are_no_files(finished: RunFolder, call: Any, tmp_path: Path) -> None:
    path = finished.receipts / "receipt-000000"
    path.unlink()
    path.mkdir()
    assert failing(finished.path).startswith("receipts: round 0: receipts/receipt-000000 cannot be read")
    shutil.rmtree(finished.receipts)
    finished.receipts.write_text("no folder")
    code, out, _ = call(finished.path, "--json", tmp_path / "out.json")
    assert code == 1
    assert "BROKEN: receipts." in out
    assert json.loads((tmp_path / "out.json").read_text())["broken"] == ["receipts"]


def test_a_search_for_nothing_is_told_as_such(auditors: RunFolder) -> None:
    mark, says = lines(examine(auditors.path))["secrets"]
    assert (mark, says.startswith("No key lies here and no canary was given")) == ("unchecked", True)
    canary = {"patient": b"Mrs Canary of Hamburg"}
    assert lines(examine(auditors.path, canaries=canary))["secrets"][0] == "holds"
    (auditors.path / "x.log").write_text("-----BEGIN PRIVATE KEY-----")
    assert failing(auditors.path).startswith("secrets: A private key stands in x.log")


def test_a_key_file_that_others_read(finished: RunFolder) -> None:
    path = next((finished.keys / "va").glob("*.key"))
    path.chmod(0o640)
    assert failing(finished.path) == f"key files: keys/va/{path.name} can be read by others (mode 0640)."


@pytest.mark.parametrize("file", ["logs/va.log", "report.html", "homes/va/memory.txt"])
def test_a_key_that_stands_elsewhere(finished: RunFolder, file: str) -> None:
    key = (finished.keys / "va" / "signing.key").read_bytes()
    path = finished.path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"error in " + key + b" at 1")
    assert failing(finished.path).startswith(f"secrets: The key of keys/va/signing.key stands in {file}")


def test_a_canary_that_sang(finished: RunFolder) -> None:
    canary = {"patient": b"Mrs Canary of Hamburg"}
    assert examine(finished.path, canaries=canary).broken is None
    (finished.path / "logs").mkdir(exist_ok=True)
    (finished.path / "logs" / "b.log").write_text(canary["patient"].hex())
    assert failing(finished.path, canaries=canary).startswith("secrets: Patient stands in logs/b.log")


# -- the command line --------------------------------------------------------------------------------------------------


def test_the_command_tells_and_writes_json(finished: RunFolder, call: Any, tmp_path: Path) -> None:
    code, out, _ = call(finished.path, "--json", tmp_path / "out.json", "--canary", "Mrs Canary of Hamburg")
    assert code == 0
    assert "No promise is broken" in out
    told = json.loads((tmp_path / "out.json").read_text())
    assert (told["holds"], told["broken"]) == (True, [])
    assert [check["name"] for check in told["checks"]][:2] == ["receipts", "members"]
    assert told["claims"] == examine(finished.path).verdict.claims
    assert "Rounds 0-3: committee of 3 (party-1, party-2, party-3): private unless" in out
    assert "shows, by keys that it brings itself: give --consortium." in out
    assert "shows." in call(finished.path, "--consortium", finished.consortium_file)[1]
    assert "1 canaries" in out


def test_the_command_ends_with_1_and_names_what_is_broken(
    finished: RunFolder, call: Any, tmp_path: Path
) -> None:
    (finished.path / "note.txt").write_text("Mrs Canary of Hamburg")
    (tmp_path / "canaries").write_text("Mrs Canary of Hamburg\n")
    code, out, _ = call(
        finished.path, "--canary-file", tmp_path / "canaries", "--json", tmp_path / "out.json"
    )
    assert code == 1
    assert "BROKEN: secrets." in out
    assert json.loads((tmp_path / "out.json").read_text())["broken"] == ["secrets"]


def test_what_is_neither_folder_nor_command(call: Any, tmp_path: Path) -> None:
    code, _, err = call("mutant")
    assert code == 1
    assert "did you mean the command mutants?" in err
    assert "There is no folder" in call(tmp_path / "x")[2]
    assert "8 characters" in call(tmp_path, "--canary", "short")[2]
