"""The tables of provisions and of limits: every link resolves, for every kind of study, and no line says too much."""

from __future__ import annotations

import ast
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from securefl.audit import verify
from securefl.audit.claims import CLAIMS
from securefl.report.evidence import Evidence, gather
from securefl.report.evidence_law import provisions
from securefl.report.evidence_limits import (
    ALWAYS,
    WITH_NORMS,
    WITH_PRIVACY,
    WITH_SUMS,
    WITHOUT_NOISE,
    guaranteed,
    not_guaranteed,
)
from securefl.report.evidence_privacy import NONE, Spent
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "securefl" / "report" / "templates" / "evidence.html.j2"
PRIVATE = """
[privacy]
noise_multiplier = 1.5
delta = 1e-5
clip = 0.5
patients = 490
"""
NOT_PRIVATE = Spent(False, NONE)


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and name in functions_of(file)


def evidence_of(finished: RunFolder, change: str) -> Evidence:
    """The run's evidence, if its study had other settings."""
    study = finished.path / "study" / "study.toml"
    text = study.read_text()
    if change == "private":
        text = text.replace("[aggregation]\nnorm_bound = 1.0\n", PRIVATE)
    elif change == "no norms":
        text = text.replace("[aggregation]\nnorm_bound = 1.0\n", "")
    elif change == "unreadable":
        text = "nonsense"
    study.write_text(text)
    return gather(finished)


@pytest.mark.parametrize("change", ["as it is", "no norms", "private", "unreadable"])
def test_every_link_of_every_line_resolves(finished: RunFolder, change: str) -> None:
    anchors = set(re.findall(r'id="([a-z-]+)"', TEMPLATE.read_text()))
    terms = evidence_of(finished, change).terms
    assert (terms is None) == (change == "unreadable")
    for provision in provisions(terms):
        kinds = {link.kind for link in provision.links}
        assert kinds, provision.where
        for link in provision.links:
            if link.kind == "claim":
                assert link.to in CLAIMS
            elif link.kind == "test":
                assert exists(link.to), link.to
            else:
                assert link.to in anchors, link.to


def test_control_a_test_that_nobody_wrote_is_found_out() -> None:
    assert not exists("tests/securefl/report/test_evidence_law.py::test_that_nobody_wrote")
    assert not exists("tests/nowhere.py::test_that_nobody_wrote")


def test_the_provisions_that_were_asked_for_are_there() -> None:
    listed = [(provision.law, provision.where) for provision in provisions(None)]
    assert len(set(listed)) == len(listed)
    gdpr = {where for law, where in listed if law == "GDPR"}
    hipaa = {where for law, where in listed if law.startswith("HIPAA")}
    assert {"Art. 5(1)(c)", "Art. 5(1)(f)", "Art. 25(1)", "Art. 25(2)"} <= gdpr
    assert {f"Art. 32(1)({letter})" for letter in "abcd"} <= gdpr
    assert {f"Art. 35(7)({letter})" for letter in "abcd"} <= gdpr
    assert {f"164.312({letter})" for letter in "abcde"} <= hipaa
    assert {"164.514(a)", "164.514(b)"} <= hipaa


@pytest.mark.parametrize("change", ["as it is", "private"])
def test_no_line_says_that_a_provision_is_met_and_each_leaves_something_open(
    finished: RunFolder, change: str
) -> None:
    boast = re.compile(r"\b(complian|complies|fulfil|satisf|certified|anonymous|anonymis)", re.I)
    for provision in provisions(evidence_of(finished, change).terms):
        assert provision.open, provision.where
        assert not boast.search(provision.does), provision.where


def test_what_is_said_of_the_model_and_the_sums_follows_the_study(finished: RunFolder) -> None:
    copy = RunFolder(Path(shutil.copytree(finished.path, finished.path.parent / "copy")))
    public = " ".join(p.does for p in provisions(evidence_of(copy, "as it is").terms))
    private = " ".join(p.does for p in provisions(evidence_of(finished, "private").terms))
    assert "The released model is NOT protected" in public
    assert "The hospitals check each sum" in public
    assert "is bounded by epsilon and delta" in private
    assert "did NOT check the sums" in private


def test_every_claim_of_the_registry_is_considered() -> None:
    considered = [*ALWAYS, *WITH_NORMS, *WITH_SUMS, *WITHOUT_NOISE, *WITH_PRIVACY]
    assert len(set(considered)) == len(considered)
    assert set(considered) <= set(CLAIMS)


def test_promises_follow_the_settings(finished: RunFolder) -> None:
    evidence = gather(finished)
    with_norms = {s.claim for s in guaranteed(evidence, NOT_PRIVATE)}
    assert {*ALWAYS, *WITH_NORMS, *WITH_SUMS, *WITHOUT_NOISE} == with_norms
    without = {s.claim for s in guaranteed(evidence_of(finished, "no norms"), NOT_PRIVATE)}
    assert with_norms - without == set(WITH_NORMS)
    insecure = Terms.of(Study.load(finished.path / "study"), evidence.consortium, unchecked=True)
    unchecked = {s.claim for s in guaranteed(_with(evidence, insecure), NOT_PRIVATE)}
    assert not unchecked & {*WITH_NORMS, *WITH_SUMS}


def test_limits_follow_the_settings(finished: RunFolder) -> None:
    evidence, verdict = gather(finished), verify(finished.path)
    heads = [s.head for s in not_guaranteed(evidence, verdict)]
    assert heads[0].startswith("Anything on this computer")
    assert "Privacy of the released model." in heads
    assert "Secrecy against a dealer that works with a party." in heads
    assert "A defence against poisoned updates within the norm bound." in heads
    assert any("1 of 13 sums were not checked" in s.says for s in not_guaranteed(evidence, verdict))
    bare = [s.head for s in not_guaranteed(evidence_of(finished, "no norms"), verdict)]
    assert "A defence against poisoned updates." in bare
    assert "Secrecy against a dealer that works with a party." not in bare
    insecure = Terms.of(Study.load(finished.path / "study"), evidence.consortium, unchecked=True)
    assert "Checks: the run was an insecure one." in [
        s.head for s in not_guaranteed(_with(evidence, insecure), verdict)
    ]


@pytest.mark.parametrize(
    ("change", "everyone", "expected"),
    [
        ("as it is", False, (True, True)),
        ("as it is", True, (False, True)),
        ("private", False, (False, False)),
    ],
)
def test_what_changing_hospitals_and_false_statistics_do_is_said_where_it_holds(
    finished: RunFolder, change: str, everyone: bool, expected: tuple[bool, bool]
) -> None:
    evidence = evidence_of(finished, change)
    assert evidence.terms is not None
    assert evidence.terms.minimum < len(evidence.terms.hospitals)
    if everyone:
        evidence = _with(evidence, replace(evidence.terms, minimum=len(evidence.terms.hospitals)))
    text = " ".join(s.says for s in not_guaranteed(evidence, verify(finished.path)))
    assert ("the difference of the two sums is nearly" in text, "in round 0 is believed" in text) == expected


def _with(evidence: Evidence, terms: Terms) -> Evidence:
    return replace(evidence, terms=terms)
