"""The registry is true to the code: what enforces a claim imports, what shows it exists, its mutants are its own."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from securefl.audit import (
    claims_domain,
    claims_privacy,
    claims_runs,
    claims_secagg,
    claims_secrecy,
    claims_sums,
    mutants,
)
from securefl.audit.claims import CLAIMS
from securefl.audit.mutants import MUTANTS
from securefl.audit.registry import Claim, Finding, Mutant, try_mutant
from securefl.cli import main

ROOT = Path(__file__).resolve().parents[3]
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LISTED = (
    *claims_secrecy.SECRECY,
    *claims_sums.SUMS,
    *claims_runs.RUNS,
    *claims_privacy.PRIVACY,
    *claims_domain.DOMAIN,
    *claims_secagg.SECAGG,
)


def resolve(dotted):
    """What a dotted name stands for: a module, or something in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(dotted)


@cache
def functions_of(file):
    """The names of the test functions in a file, without those that never run."""
    tree = ast.parse((ROOT / file).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    skipped = [f for f in functions if any("mark.skip" in ast.unparse(d) for d in f.decorator_list)]
    return {f.name for f in functions if f.name.startswith("test_") and f not in skipped}


def exists(node_id):
    file, _, name = node_id.partition("::")
    return (ROOT / file).is_file() and name in functions_of(file)


@pytest.mark.parametrize("claim", LISTED, ids=lambda claim: claim.id)
def test_what_enforces_and_what_shows_a_claim_is_there(claim):
    for dotted in claim.where:
        assert dotted.split(".")[0] in ("protocols", "securefl")
        assert resolve(dotted) is not None
    missing = [shown for shown in claim.shown if not exists(shown)]
    assert not missing


def test_control_what_is_not_there_is_found_out():
    with pytest.raises(ModuleNotFoundError):
        resolve("nowhere.at_all")
    with pytest.raises(AttributeError):
        resolve("protocols.sharing.nothing")
    assert not exists("tests/securefl/audit/test_registry.py::test_that_nobody_wrote")
    assert not exists("tests/securefl/audit/test_nothing.py::test_that_nobody_wrote")
    assert exists("tests/securefl/audit/test_registry.py::test_control_what_is_not_there_is_found_out")


def test_claims_and_mutants_name_each_other():
    assert len(LISTED) == len(CLAIMS)
    assert {name: mutant.claim for name, mutant in MUTANTS.items()} == {
        name: claim.id for claim in LISTED for name in claim.mutants
    }
    assert sum(len(claim.mutants) for claim in LISTED) == len(MUTANTS)


def test_no_mutant_hides_another_of_its_name():
    modules = [module for module in vars(mutants).values() if hasattr(module, "MUTANTS")]
    names = [mutant.name for module in modules for mutant in module.MUTANTS]
    assert sorted(names) == sorted(MUTANTS)


@pytest.mark.parametrize("claim", LISTED, ids=lambda claim: claim.id)
def test_a_claim_is_one_sentence_and_has_limits(claim):
    assert SLUG.fullmatch(claim.id)
    assert claim.statement.endswith(".")
    assert ". " not in claim.statement
    assert claim.limits.endswith(".")
    assert len(claim.adversary) > 10


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_says_in_one_sentence_what_was_changed(mutant):
    assert SLUG.fullmatch(mutant.name)
    assert mutant.changed.endswith(".")
    assert ". " not in mutant.changed


def test_a_claim_that_lacks_something_is_none():
    claim = CLAIMS["exact-sum"]
    for wrong in (
        {"mutants": ()},
        {"where": ()},
        {"shown": ()},
        {"how": ()},
        {"error": "Once in a while."},
        {"how": ("statistical test",)},
        {"colluding": ("party",)},
        {"behaviour": "malicious"},
        {"colluding": ("nobody",), "behaviour": "malicious"},
    ):
        with pytest.raises(ValueError, match="exact-sum"):
            replace(claim, **wrong)
    assert replace(claim, how=("statistical test",), error="Once in 10^9.").error


@pytest.mark.parametrize("claim", LISTED, ids=lambda claim: claim.id)
def test_what_enforces_a_claim_is_a_function(claim):
    for dotted in claim.where:
        found = resolve(dotted)
        assert inspect.isroutine(found) or isinstance(found, property), dotted
    assert "attack" in claim.how


@pytest.mark.parametrize("claim", LISTED, ids=lambda claim: claim.id)
def test_an_error_level_is_a_number(claim):
    if claim.error:
        assert re.search(r"10\^\d+|2\^-\d+", claim.error)
        assert claim.error.endswith(".")


HELD, NOT_HELD = Finding(True, "So."), Finding(False, "Not so.")


def test_a_mutant_holds_if_the_naive_protocol_breaks_and_what_ships_does_not():
    mutant = Mutant("a", "b", "C.", lambda: HELD, lambda: HELD)
    assert try_mutant(mutant).holds
    assert not try_mutant(replace(mutant, breaks=lambda: NOT_HELD)).holds
    assert not try_mutant(replace(mutant, caught=lambda: NOT_HELD)).holds


def test_an_attack_that_does_not_run_shows_nothing():
    def fails():
        raise KeyError("key\nmore")

    mutant = Mutant("a", "b", "C.", lambda: HELD, lambda: HELD)
    for broken in (replace(mutant, breaks=fails), replace(mutant, caught=fails)):
        trial = try_mutant(broken)
        assert not trial.holds
        assert "KeyError" in trial.breaks.sentence + trial.caught.sentence


# -- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["securefl", "audit", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def two_mutants(monkeypatch):
    """A registry of two made-up mutants; gives the findings of the second, to be changed."""
    findings = {"breaks": HELD, "caught": HELD}
    one = Mutant("one", "exact-sum", "Nothing.", lambda: HELD, lambda: HELD)
    two = Mutant("two", "exact-sum", "Much.", lambda: findings["breaks"], lambda: findings["caught"])
    monkeypatch.setattr(mutants, "MUTANTS", {"one": one, "two": two})
    return findings


def test_all_claims_are_listed(call):
    code, out, err = call("claims")
    assert (code, err) == (0, "")
    assert all(claim in out for claim in CLAIMS)


def test_a_claim_in_full_has_everything(call):
    claim = CLAIMS["norms-are-bounded"]
    code, out, _ = call("claims", claim.id)
    assert code == 0
    for text in (claim.statement, claim.adversary, claim.limits, *claim.where, *claim.shown, *claim.mutants):
        assert text in out


def test_claims_as_json_are_the_registry(call):
    code, out, _ = call("claims", "--json")
    assert code == 0
    read = [
        Claim(**{k: tuple(v) if isinstance(v, list) else v for k, v in c.items()}) for c in json.loads(out)
    ]
    assert read == list(LISTED)


def test_mutants_are_run_and_told(call, two_mutants):
    code, out, _ = call("mutants")
    assert code == 0
    assert out.count("ok  ") == 2
    assert "2 of 2 mutants break the naive protocol and are caught." in out
    assert "one" not in call("mutants", "two")[1].split("2 of 2")[0].replace("1 of 1", "")


@pytest.mark.parametrize(("what", "said"), [("breaks", "DOES NOT BREAK"), ("caught", "NOT CAUGHT")])
def test_a_mutant_that_does_not_hold_ends_with_1(call, two_mutants, what, said):
    two_mutants[what] = NOT_HELD
    code, out, _ = call("mutants")
    assert code == 1
    assert f"{said}: Not so." in out
    assert "1 of 2 mutants" in out
    code, out, _ = call("mutants", "--json")
    assert code == 1
    assert [trial["holds"] for trial in json.loads(out)] == [True, False]
    assert call("mutants", "one")[0] == 0


@pytest.mark.parametrize("what", ["claims", "mutants"])
def test_an_unknown_name_is_refused_in_one_line(call, what):
    known = next(iter(CLAIMS if what == "claims" else MUTANTS))
    code, out, err = call(what, known + "x")
    assert (code, out) == (1, "")
    assert f"did you mean {known}?" in err
    assert err.count("\n") == 1
    assert "lists them" in call(what, "zzzzzz")[2]
