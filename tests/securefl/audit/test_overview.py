"""The whole audit in one screen: green only if every claim holds on what ships and every mutant is caught."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from securefl.audit import claims, mutants
from securefl.audit.claims import CLAIMS, THEMES
from securefl.audit.mutants import MUTANTS
from securefl.audit.overview import matrix, run_all, screen
from securefl.audit.registry import Finding, Mutant
from securefl.cli import main

ROOT = Path(__file__).resolve().parents[3]
HELD, NOT_HELD = Finding(True, "So."), Finding(False, "Not so. " + "x" * 200)


def made_up(breaks=(), caught=()):
    """The registry's mutants with attacks that end at once: as they must, but for the named ones."""
    return {
        name: Mutant(
            name,
            mutant.claim,
            mutant.changed,
            lambda name=name: NOT_HELD if name in breaks else HELD,
            lambda name=name: NOT_HELD if name in caught else HELD,
        )
        for name, mutant in MUTANTS.items()
    }


def overview(**bad):
    return run_all(THEMES, made_up(**bad), lambda _trial: None)


def test_all_mutants_of_all_claims_are_run_once():
    done = []
    found = run_all(THEMES, made_up(), done.append)
    assert sorted(trial.mutant.name for trial in done) == sorted(MUTANTS)
    assert [standing.claim.id for standing in found.standings] == list(CLAIMS)
    assert found.green
    assert {row[2:4] for row in matrix(found)} == {("breaks", "withstands")}


@pytest.mark.parametrize("what", ["breaks", "caught"])
def test_one_mutant_is_enough_not_to_be_green(what):
    found = overview(**{what: ["half-a-mask"]})
    assert not found.green
    (standing,) = [s for s in found.standings if not (s.holds and s.tested)]
    assert standing.claim.id == "view-is-simulated"
    assert standing.holds == (what == "breaks")
    said = screen(found, 100.0)
    assert ("NOT CAUGHT: half-a-mask" in said) == (what == "caught")
    assert ("DOES NOT BREAK: half-a-mask" in said) == (what == "breaks")
    assert "NOT GREEN" in said
    assert said.count("BAD ") == 1
    (row,) = [r for r in matrix(found) if r[2:4] != ("breaks", "withstands")]
    assert row[2:4] == (("STANDS", "withstands") if what == "breaks" else ("breaks", "BREAKS"))


def test_what_cannot_be_shown_here_is_not_green():
    name = "runner-as-the-owner"
    unseen = Finding(False, "There are no walls.", shown=False)
    found = run_all(
        THEMES, {**made_up(), name: replace(MUTANTS[name], breaks=lambda: HELD, caught=lambda: unseen)}, print
    )
    assert not found.green
    assert "NOT SHOWN HERE: runner-as-the-owner (node-is-confined)" in screen(found, 100.0)
    assert [row[1:4] for row in matrix(found) if row[3] != "withstands"] == [(name, "breaks", "not shown")]
    with pytest.raises(ValueError, match="not shown"):
        replace(unseen, holds=True)


@pytest.mark.parametrize("caught", [[], ["half-a-mask"], list(MUTANTS)])
def test_the_summary_fits_one_screen(caught):
    said = screen(overview(caught=caught), 123.0).splitlines()
    assert len(said) <= 22
    assert max(map(len, said)) <= 79
    if len(caught) > 1:
        assert "more: `securefl audit --mutants`" in "".join(said)


@pytest.fixture
def call(monkeypatch, capsys):
    def call(*arguments, **bad):
        monkeypatch.setattr(mutants, "MUTANTS", made_up(**bad))
        monkeypatch.setattr("sys.argv", ["securefl", "audit", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return call


def test_the_command_without_more_runs_everything(call):
    code, out, _ = call()
    assert code == 0
    assert f"{len(CLAIMS)} claims, {len(MUTANTS)} mutants" in out
    assert "Every claim holds on what ships, and every mutant is caught." in out
    code, out, _ = call(caught=["half-a-mask"])
    assert code == 1
    assert "NOT GREEN" in out


def test_the_matrix_has_every_mutant(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    code, out, _ = call("--mutants")
    assert code == 0
    assert all(name in out for name in MUTANTS)
    assert call("--mutants", "claims")[0] == 1


@pytest.mark.slow
def test_an_attack_that_members_refuse_says_nothing_but_what_came_of_it():
    command = [sys.executable, "-P", "-m", "securefl", "audit", "mutants", "model-from-the-coordinator"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "refuse" in done.stdout
    assert "refuses" not in done.stderr


# -- mutants are for the audit alone ----------------------------------------------------------------------------------

ALLOWED = {"securefl/cli/audit.py"}


def importers(name):
    """The files outside ``name``'s own folder that import it, at their head or in a function."""
    found = set()
    for path in sorted((ROOT / "securefl").rglob("*.py")) + sorted((ROOT / "protocols").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}", *(f"{node.module}.{a.name}" for a in node.names)]
            if any(n == name or n.startswith(f"{name}.") for n in names):
                found.add(file)
    return {file for file in found if not file.startswith(name.replace(".", "/") + "/")}


def test_nothing_but_the_audits_command_imports_a_mutant():
    assert importers("securefl.audit.mutants") == ALLOWED


@pytest.mark.parametrize("stage", ["stage", "hostile", "stage_cast", "stage_jobs"])
def test_nor_the_stage_on_which_they_play(stage):
    others = importers(f"securefl.audit.{stage}")
    assert all(file.startswith("securefl/audit/") for file in others)


def test_control_an_import_is_seen():
    assert "securefl/cli/audit.py" in importers("securefl.audit.claims")
    assert importers("securefl.roles.party") > {"securefl/audit/stage.py"}


def test_what_a_member_runs_has_no_mutant_loaded():
    code = (
        "import sys, securefl, securefl.running, securefl.engines.party_node, securefl.engines.hospital_node, "
        "securefl.audit, securefl.report, securefl.cli\n"
        "assert not [m for m in sys.modules if m.startswith('securefl.audit.mutants')]\n"
        "import securefl.audit.mutants; assert 'securefl.audit.mutants.masks' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_themes_are_all_claims():
    assert [claim.id for some in claims.THEMES.values() for claim in some] == list(CLAIMS)
