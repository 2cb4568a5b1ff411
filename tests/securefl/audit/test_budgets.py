"""Ledgers that lie in a run's folder: whole ones, damaged ones, missing ones, and those of nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

from securefl.audit.deployment import examine
from securefl.privacy.charge import ANY
from securefl.run_folder import RunFolder
from tests.securefl.audit.conftest import failing, lines


def test_a_private_run_keeps_its_budgets(private: RunFolder) -> None:
    found = lines(examine(private.path))
    mark, says = found["budgets"]
    assert mark == "holds"
    assert says.startswith("4 ledgers are whole and charge every round")
    assert found["message sizes"][0] == "holds"


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
