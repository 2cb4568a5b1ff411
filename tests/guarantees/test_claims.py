"""Each claim is true to the code: what enforces it is there, what shows it exists, and mutants stand against it.

The mutants themselves are run in ``tests/securefl/audit/test_mutants.py``, each once.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache, cached_property
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
from securefl.domain.errors import SyftMessageError
from tests.guarantees.reached import ELSEWHERE, left_to, reaching, resolve

ROOT = Path(__file__).resolve().parents[2]
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LISTED = (
    *claims_secrecy.SECRECY,
    *claims_sums.SUMS,
    *claims_runs.RUNS,
    *claims_privacy.PRIVACY,
    *claims_domain.DOMAIN,
    *claims_secagg.SECAGG,
)
of_each_claim = pytest.mark.parametrize("claim", LISTED, ids=lambda claim: claim.id)


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


@of_each_claim
def test_what_enforces_a_claim_is_a_function_of_what_ships(claim):
    assert claim.where
    for dotted in claim.where:
        assert dotted.split(".")[0] in ("protocols", "securefl")
        found = resolve(dotted)
        assert inspect.isroutine(found) or isinstance(found, property | cached_property), dotted


@of_each_claim
def test_every_test_that_shows_a_claim_is_there_and_runs(claim):
    assert claim.shown
    assert [shown for shown in claim.shown if not exists(shown)] == []
    assert len(set(claim.shown)) == len(claim.shown)


@of_each_claim
def test_a_function_that_is_seen_in_no_attack_is_left_to_a_test_that_shows_the_claim(claim):
    for function in claim.where:
        test = claim.test_of(function)
        assert (test is not None) == (function in claim.tested)
        assert test is None or function in left_to(test) | ELSEWHERE


def test_control_a_test_that_does_not_call_what_is_left_to_it_fails():
    claim = CLAIMS["bad-letters-stop-nobody"]
    (function,) = claim.tested
    with (
        pytest.raises(AssertionError, match=f"says that this calls {function}"),
        reaching(claim.test_of(function)),
    ):
        pass
    with reaching(f"{claim.test_of(function)}[a case]"), pytest.raises(SyftMessageError):
        resolve(function)(b"", "a@x.example", "b@x.example", "1")
    with reaching("tests/guarantees/test_claims.py::test_of_something_else"):
        pass


@of_each_claim
def test_mutants_stand_against_a_claim(claim):
    assert claim.mutants
    assert "attack" in claim.how
    assert [name for name in claim.mutants if MUTANTS[name].claim != claim.id] == []


def test_control_what_is_not_there_is_found_out():
    with pytest.raises(ModuleNotFoundError):
        resolve("nowhere.at_all")
    with pytest.raises(AttributeError):
        resolve("protocols.sharing.nothing")
    assert not exists("tests/guarantees/test_claims.py::test_that_nobody_wrote")
    assert not exists("tests/guarantees/test_nothing.py::test_that_nobody_wrote")
    assert not exists("tests/guarantees/test_claims.py")
    assert not exists("tests/guarantees/test_claims.py::resolve")
    assert exists("tests/guarantees/test_claims.py::test_control_what_is_not_there_is_found_out")


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


@of_each_claim
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


@of_each_claim
def test_an_error_level_is_a_number(claim):
    if claim.error:
        assert re.search(r"10\^\d+|2\^-\d+", claim.error)
        assert claim.error.endswith(".")
