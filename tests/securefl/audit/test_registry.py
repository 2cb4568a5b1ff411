"""The registry's types, and the commands that list it and run it. Its claims are in ``tests/guarantees``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from securefl.audit import mutants
from securefl.audit.claims import CLAIMS
from securefl.audit.mutants import MUTANTS
from securefl.audit.registry import Claim, Finding, Mutant, try_mutant
from securefl.cli import main


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
        {"tested": {"protocols.ring.signed": "test_the_committee_opens_the_integer_sum"}},
        {"tested": {"protocols.ring.Encoding.encode": "test_of_something_else"}},
    ):
        with pytest.raises(ValueError, match="exact-sum"):
            replace(claim, **wrong)
    assert replace(claim, how=("statistical test",), error="Once in 10^9.").error
    tested = {"protocols.ring.Encoding.encode": "test_the_committee_opens_the_integer_sum"}
    assert replace(claim, tested=tested).test_of("protocols.ring.Encoding.encode") in claim.shown
    assert replace(claim, tested=tested).test_of("protocols.ring.Encoding.for_bound") is None


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
    assert read == list(CLAIMS.values())


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
