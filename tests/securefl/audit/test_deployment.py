"""What a finished run's folder shows: all promises on a whole one, and each damage found and named."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocols.envelope import SealingKey
from protocols.signing import SigningKey
from securefl import consortium as members
from securefl.audit.deployment import Examined, examine
from securefl.cli import main
from securefl.domain.cards import Card, sign_card
from securefl.errors import RunError
from securefl.permit import EndorsedPermit, Permit, Revocation, SignedPermit, SignedRevocation
from securefl.privacy.charge import ANY
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from tests.securefl.audit.conftest import Runs

DAY = 24 * 3600
PUBLIC = """\
standardise = "public"
public_mean = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
public_std = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]"""
PRIVACY = """\
learning_rate = 0.1
[privacy]
epsilon = 20.0
delta = 1e-5
clip = 0.5
sampling_rate = 0.25
patients = 490
largest_hospital = 250"""
PRIVATE = (
    ('standardise = "features"', PUBLIC),
    ("minimum_parties = 2\n", ""),
    ("learning_rate = 0.1", PRIVACY),
)


def lines(examined: Examined) -> dict[str, tuple[str, str]]:
    return {check.name: (check.mark, check.says) for check in examined.checks}


def failing(folder: Path, **arguments: Any) -> str:
    """The one promise that is broken, with what is said of it."""
    examined = examine(folder, **arguments)
    broken = [check for check in examined.checks if check.mark == "fails"]
    assert len(broken) == 1, broken
    assert examined.broken == broken[0]
    return f"{broken[0].name}: {broken[0].says}"


@pytest.fixture(scope="session")
def private_once(runs: Runs) -> Path:
    return runs.make("private", *PRIVATE)


@pytest.fixture
def private(private_once: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(private_once, tmp_path / "private")))


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


def test_a_run_in_which_nobody_checked_does_not_pass(runs: Runs) -> None:
    insecure = runs.make("insecure", ("rounds = 4", "rounds = 1"), insecure=True)
    assert failing(insecure).startswith("norms and sums: An INSECURE run")


def test_what_was_checked_is_told(finished: RunFolder, runs: Runs) -> None:
    assert lines(examine(finished.path))["norms and sums"][1].startswith("The study bounds no norm")
    checked = lines(examine(runs.make("all-checked", ("rounds = 4", "rounds = 1"))))["norms and sums"]
    assert (checked[0], checked[1].endswith("; the hospitals checked every sum.")) == ("holds", True)


def test_a_private_run_keeps_its_budgets(private: RunFolder) -> None:
    found = lines(examine(private.path))
    mark, says = found["budgets"]
    assert mark == "holds"
    assert says.startswith("4 ledgers are whole and charge every round")
    assert found["message sizes"][0] == "holds"


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


def test_messages_that_are_longer_or_shorter_than_the_model(finished: RunFolder) -> None:
    told = [json.loads(line) for line in finished.history_file.read_text().splitlines()]

    def write(sizes: Any) -> None:
        changed = [{**line, "contribution_bytes": sizes} if line["round"] == 2 else line for line in told]
        finished.history_file.write_text("".join(json.dumps(line) + "\n" for line in changed))

    honest = told[2]["contribution_bytes"]
    assert sorted(honest) == ["b", "charite", "st-anna"]  # va was silent
    for size in (honest["b"] + 1, honest["b"] - 1, str(honest["b"]), None, [1]):
        write(honest | {"b": size})
        assert failing(finished.path).startswith(
            f"message sizes: history.jsonl says that b sent {size} bytes"
        )
    write(17)
    assert failing(finished.path).startswith("message sizes: ")
    write(None)
    mark, says = lines(examine(finished.path))["message sizes"]
    assert (mark, says.endswith("; of round 2 it says nothing.")) == ("unchecked", True)
    write(honest)
    assert lines(examine(finished.path))["message sizes"][0] == "holds"


def ledger_of(private: RunFolder, hospital: str) -> Path:
    return private.privacy / hospital / "ledger"


def test_a_ledger_of_no_hospital_is_not_looked_at(private: RunFolder) -> None:
    ledger_of(private, "va").parent.rename(private.privacy / "somebody")
    mark, says = lines(examine(private.path))["budgets"]
    assert mark == "unchecked"
    assert says.startswith("3 ledgers are whole and charge every round; the most spent is epsilon")
    assert "; none lies here for va; not looked at, since no hospital of this study has that name: " in says
    assert says.endswith("somebody/ledger.")


def test_some_ledgers_do_not_stand_for_all(private: RunFolder) -> None:
    shutil.rmtree(ledger_of(private, "va"))
    shutil.rmtree(ledger_of(private, "charite"))
    mark, says = lines(examine(private.path))["budgets"]
    assert (mark, says.endswith("; none lies here for charite, va.")) == ("unchecked", True)


def test_two_ledgers_of_one_hospital_are_both_looked_at(private: RunFolder) -> None:
    for folder in ("a-copy", "zz-copy"):
        copy = private.path / folder / "va" / "ledger"
        shutil.copytree(ledger_of(private, "va"), copy)
        assert examine(private.path).broken is None
        sorted(copy.glob(f"{ANY}*"))[0].write_bytes(b"nothing")
        assert failing(private.path).startswith("budgets: ")
        shutil.rmtree(private.path / folder)


@pytest.mark.parametrize(
    "line", ['{"round": [1]}', "[" * 100_000, "7", '{"x": 1}'], ids=["list", "deep", "7", "x"]
)
def test_a_history_with_a_line_of_another_form(finished: RunFolder, line: str) -> None:
    finished.history_file.write_text(line + "\n")
    found = lines(examine(finished.path))
    assert found["message sizes"] == ("fails", "history.jsonl cannot be read.")
    assert found["receipts"][0] == "fails"
    assert found["cohorts"][0] == "holds"


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


def test_an_erased_and_a_damaged_and_a_strange_charge(private: RunFolder) -> None:
    ledger = private.privacy / "charite" / "ledger"
    entries = sorted(ledger.glob(f"{ANY}*"))
    content = entries[0].read_bytes()
    entries[0].unlink()
    assert "charite" in failing(private.path) or "ledger" in failing(private.path)
    entries[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert failing(private.path).startswith("budgets: ")
    entries[0].write_bytes(b"nothing")
    assert "is damaged" in failing(private.path)
    entries[0].write_bytes(content)
    assert examine(private.path).broken is None


def test_a_hospital_in_a_sum_for_which_it_was_charged_nothing(private: RunFolder) -> None:
    ledger = private.privacy / "charite" / "ledger"
    for path in sorted(ledger.glob(f"{ANY}*"), key=lambda p: p.stat().st_mtime_ns)[-1:]:
        path.unlink()
    assert "charite is in the sum of round" in failing(private.path)


def test_a_budget_that_is_exceeded(private: RunFolder) -> None:
    (private.privacy / "va" / "budget.toml").write_text(
        '[datasets."fed-heart"]\nepsilon = 0.5\ndelta = 1e-5\n'
    )
    said = failing(private.path)
    assert said.startswith("budgets: va has spent epsilon")
    assert said.endswith("its budget is 0.5.")


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


# -- permits ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def permitted(finished: RunFolder) -> Callable[..., SigningKey]:
    """Puts a permit for a hospital into the folder; gives the steward's key."""
    terms = Terms.of(study := Study.load(finished.path / "study"), finished.consortium(study))

    def permitted(hospital: str, study: bytes = terms.study, revoked: bytes | None = None) -> SigningKey:
        key, now = SigningKey.generate(), int(time.time())
        permit = Permit(
            number=bytes(16), study=study, proposal=bytes(32), hospital=hospital, dataset="records", purpose="",
            runs=1, epsilon="", delta="", unit="", not_before=now - DAY, expires=now + DAY, steward="s", researcher="r",
            reason="",
        )  # fmt: skip
        folder = finished.path / "permits" / hospital
        SignedPermit.of(permit, key).save(folder)
        if revoked is not None:
            SignedRevocation.of(Revocation(permit=revoked, time=now + 60, reason=""), key).save(folder)
        return key

    return permitted


def test_permits_of_all_hospitals(finished: RunFolder, permitted: Any) -> None:
    stewards = {h: permitted(h).public for h in ("b", "charite", "st-anna")}
    mark, says = lines(examine(finished.path, stewards=stewards))["approvals"]
    assert mark == "unchecked"
    assert re.fullmatch(
        r"3 permits are for this study; they hold from \S+ \S+ UTC to \S+ \S+ UTC; none lies here for va\.",
        says,
    )
    stewards["va"] = permitted("va").public
    assert lines(examine(finished.path, stewards=stewards))["approvals"][0] == "holds"
    assert lines(examine(finished.path))["approvals"][0] == "unchecked"
    stewards["va"] = permitted("va", revoked=bytes(16)).public
    assert "; revoked: va (20" in lines(examine(finished.path, stewards=stewards))["approvals"][1]


def test_permits_that_are_not_for_this(finished: RunFolder, permitted: Any) -> None:
    key = permitted("va", study=bytes(32))
    assert "is a permit for another study" in failing(finished.path)
    permitted("nowhere")
    shutil.rmtree(finished.path / "permits" / "va")
    assert "is no hospital of this study" in failing(finished.path)
    shutil.rmtree(finished.path / "permits" / "nowhere")
    permitted("va")
    assert "is not signed by the steward of va" in failing(finished.path, stewards={"va": key.public})
    permitted("va", revoked=b"x" * 16)
    assert "revokes another permit" in failing(finished.path)
    (finished.path / "permits" / "va" / "permit.cbor").write_bytes(b"x")
    assert "is damaged" in failing(finished.path)


@pytest.fixture
def endorsed(finished: RunFolder, permitted: Any) -> Callable[..., Path]:
    """Puts an endorsed permit where a run through a domain has it: by the hospital's key, or by another's."""
    consortium = finished.consortium(Study.load(finished.path / "study"))

    def endorsed(hospital: str, by: str | None = None, **changes: Any) -> Path:
        permitted(hospital)
        raw = finished.permits / hospital
        permit = SignedPermit.from_bytes((raw / "permit.cbor").read_bytes()).permit
        shutil.rmtree(raw)
        key = members.load_keys(finished.keys / (by or hospital), consortium.member(by or hospital)).signing
        signed = SignedPermit.of(permit.model_copy(update=changes), SigningKey.generate())
        path = finished.permits / f"{hospital}.cbor"
        path.write_bytes(EndorsedPermit.of(signed, key).to_bytes())
        return path

    return endorsed


def test_permits_that_do_not_hold_when_the_run_began(finished: RunFolder, endorsed: Any) -> None:
    for hospital in ("b", "charite", "st-anna", "va"):
        endorsed(hospital)
    assert lines(examine(finished.path))["approvals"][0] == "holds"
    now = int(time.time())
    for window in ({"not_before": 0, "expires": now - DAY}, {"not_before": now + 60}):
        endorsed("va", **window)
        mark, says = lines(examine(finished.path))["approvals"]
        assert mark == "unchecked"
        assert says.endswith(", when none held for va.")
    endorsed("va", expires=now - DAY + 60)
    endorsed("b", not_before=now - DAY + 60)
    assert "at no time do all hold" in lines(examine(finished.path))["approvals"][1]
    # Without a time in run.json the window is told, and no more.
    path = finished.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "long ago"}))
    endorsed("b")
    endorsed("va", expires=now - DAY + 60)
    mark, says = lines(examine(finished.path))["approvals"]
    assert (mark, "they hold from" in says) == ("holds", True)


def test_a_permit_that_was_revoked_before_the_run_began(finished: RunFolder, permitted: Any) -> None:
    stewards = {h: permitted(h).public for h in ("b", "charite", "st-anna", "va")}
    folder, key = finished.permits / "va", permitted("va")
    revocation = Revocation(permit=bytes(16), time=int(time.time()) - DAY, reason="")
    SignedRevocation.of(revocation, key).save(folder)
    mark, says = lines(examine(finished.path, stewards=stewards | {"va": key.public}))["approvals"]
    assert (mark, "when none held for va" in says) == ("unchecked", True)


def test_more_than_a_permit_allows(private: RunFolder) -> None:
    consortium = private.consortium(study := Study.load(private.path / "study"))
    terms = Terms.of(study, consortium)
    now = int(time.time())

    def allow(epsilon: str) -> None:
        permit = Permit(
            number=bytes(16), study=terms.study, proposal=bytes(32), hospital="va", dataset="records", purpose="",
            runs=1, epsilon=epsilon, delta="0.00001", unit="patient", not_before=now - DAY, expires=now + DAY,
            steward="s", researcher="r", reason="",
        )  # fmt: skip
        key = members.load_keys(private.keys / "va", consortium.member("va")).signing
        signed = SignedPermit.of(permit, SigningKey.generate())
        private.permits.mkdir(exist_ok=True)
        (private.permits / "va.cbor").write_bytes(EndorsedPermit.of(signed, key).to_bytes())

    allow("50")
    assert examine(private.path).broken is None
    allow("0.01")
    said = failing(private.path)
    assert said.startswith("approvals: va has spent epsilon ")
    assert said.endswith(" for a patient in this study; permits/va.cbor allows 0.01.")
    # Without the ledger nobody can tell.
    shutil.rmtree(private.privacy / "va")
    assert examine(private.path).broken is None


def test_permits_that_the_hospitals_pinned_keys_endorse_need_no_steward(
    finished: RunFolder, endorsed: Any
) -> None:
    for hospital in ("b", "charite", "st-anna", "va"):
        endorsed(hospital)
    mark, says = lines(examine(finished.path))["approvals"]
    assert (mark, says.split(";")[0]) == ("holds", "4 permits are for this study")
    endorsed("va", study=bytes(32))
    assert "permits/va.cbor is a permit for another study" in failing(finished.path)
    endorsed("va", epsilon="1", delta="1e-5", unit="patient")
    assert "the study has no differential privacy" in failing(finished.path)
    endorsed("va", by="b")
    assert "permits/va.cbor is not endorsed by the pinned key of va" in failing(finished.path)
    endorsed("va").write_bytes(b"x")
    assert "permits/va.cbor is damaged" in failing(finished.path)
    endorsed("va").unlink()
    assert lines(examine(finished.path))["approvals"][0] == "unchecked"


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("COLUMNS", "150")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["securefl", "audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


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


def test_a_steward_is_known_by_its_card(
    finished: RunFolder, permitted: Any, call: Any, tmp_path: Path
) -> None:
    card = tmp_path / "card.cbor"
    for hospital in ("b", "charite", "st-anna", "va"):
        permitted(hospital)
    key = permitted("va")
    for signing, code in ((key, 0), (SigningKey.generate(), 1)):
        sealing = SealingKey.generate().public
        signed = sign_card(Card(email="va@h.example", signing=signing.public, sealing=sealing), signing)
        card.write_bytes(signed)
        ended, out, _ = call(finished.path, "--steward", f"va={card}")
        assert ended == code
        assert ("is not signed by the steward of va" in " ".join(out.split())) == (code == 1)
    card.write_bytes(b"no card")
    assert "is not a card" in call(finished.path, "--steward", f"va={card}")[2]
    assert "cannot be read" in call(finished.path, "--steward", f"va={tmp_path / 'none.cbor'}")[2]


def test_what_is_neither_folder_nor_command(call: Any, tmp_path: Path) -> None:
    code, _, err = call("mutant")
    assert code == 1
    assert "did you mean the command mutants?" in err
    assert "There is no folder" in call(tmp_path / "x")[2]
    assert "8 characters" in call(tmp_path, "--canary", "short")[2]
