"""Privacy spent: against the accountant itself, for the attempts that receipts show."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.chain import Outcome, SignedOutcome, total_digest
from protocols.contribution import FrozenList, RoundContext
from securefl.privacy import spent
from securefl.report.evidence import gather
from securefl.report.evidence_limits import guaranteed, not_guaranteed
from securefl.report.evidence_page import write_evidence
from securefl.report.evidence_privacy import NONE, spent_by
from securefl.roles.records import receipt_name
from securefl.run_folder import RunFolder
from securefl.study import Study

SIZE = 22
STUDY = """
name = "Private"
seed = 1
[consortium]
hospitals = ["cleveland", "hungary", "switzerland", "va"]
parties = 3
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = 4
learning_rate = 0.1
[privacy]
unit = "patient"
noise_multiplier = 1.5
delta = 1e-5
clip = 0.5
sampling_rate = 0.2
patients = 490
[simulation]
"""


def prepared(folder: Path, text: str = STUDY) -> RunFolder:
    source = folder / "source"
    source.mkdir()
    (source / "study.toml").write_text(text)
    run = RunFolder(folder / "run")
    run.path.mkdir()
    run.prepare(Study.load(source), {"name": "Private", "securefl": "0.1.0", "started": "now"})
    return run


def settle(run: RunFolder, attempts: list[int]) -> None:
    """Receipts of rounds 0, 1, ..., each settled in this attempt; nobody signed them."""
    terms = gather(run).terms
    assert terms is not None
    hospitals = list(terms.hospitals)
    for round_, attempt in enumerate(attempts):
        context = RoundContext(
            study=terms.study, round=round_, attempt=attempt, previous=bytes(32), purpose=terms.purpose(round_),
            model=bytes(32), parties=list(terms.parties), width=32, size=SIZE if round_ else 1,
        )  # fmt: skip
        frozen = FrozenList(
            context=context.digest(),
            cohort=hospitals,
            contributions={h: bytes(32) for h in hospitals},
            absent={},
        )
        outcome = Outcome(context=context, frozen=frozen, excluded={}, total=total_digest(bytes(4 * SIZE)))
        signed = SignedOutcome(outcome=outcome, signatures=[bytes(64)] * len(terms.parties))
        run.store().put(receipt_name(round_), signed.to_bytes())


def test_epsilon_is_the_accountants_for_every_number_of_colluders_and_all_attempts(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    # Round 0 is no training, whatever its attempts; round 2 took three.
    settle(run, [2, 1, 3, 1])
    evidence = gather(run)
    found = spent_by(run, evidence)
    assert evidence.terms is not None
    assert evidence.terms.private is not None
    assert (found.attempts, found.paid, found.unit, found.delta) == (5, 4, "patient", 1e-5)
    mechanism = evidence.terms.private.mechanism(SIZE)
    assert [row.colluders for row in found.rows] == [0, 1, 2]
    for row in found.rows:
        expected = spent(mechanism, 5, 1e-5, row.colluders)
        assert (row.rdp, row.pld) == (expected.rdp, expected.pld)
    assert [row.target for row in found.rows] == [False, True, False]
    epsilons = [row.pld for row in found.rows]
    assert epsilons == sorted(epsilons)
    assert f"epsilon {epsilons[1]:.3g}" in found.sentence
    assert found.multiplier == pytest.approx(1.5, rel=1e-6)


def test_the_page_has_the_figures_the_assumptions_and_the_excess(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    settle(run, [1, 1, 3, 1])
    html = write_evidence(run)[0].read_text()
    found = spent_by(run, gather(run))
    assert all(f"{row.pld:.4g}" in html for row in found.rows)
    assert "more than the target pays for" in html
    # Nobody signed these receipts, and the page says what that means for the count.
    assert "The receipts do not verify, so the number of attempts may be wrong." in html
    assert found.assumptions
    assert "No differential privacy" not in html


def test_a_private_study_promises_epsilon_and_not_what_noise_takes_away(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    settle(run, [1, 1])
    evidence = gather(run)
    found = spent_by(run, evidence)
    promised = guaranteed(evidence, found)
    assert promised[0].says.startswith("Differential privacy for each patient: epsilon")
    claims = {statement.claim for statement in promised}
    assert not claims & {"exact-sum", "wrong-sums-are-noticed", "model-is-determined", "norms-are-bounded"}
    from securefl.audit import verify

    heads = " ".join(s.head for s in not_guaranteed(evidence, verify(run.path)))
    assert "Privacy beyond the stated epsilon" in heads
    assert "That every party added its noise" in heads
    assert "Privacy of the released model." not in heads


def test_before_the_first_round_nothing_is_spent(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    found = spent_by(run, gather(run))
    assert (found.private, found.attempts, list(found.rows)) == (True, 0, [])
    assert "No round of training is settled" in found.sentence


def test_without_privacy_the_page_says_so_as_prominently(begun: RunFolder) -> None:
    found = spent_by(begun, gather(begun))
    assert (found.private, found.sentence) == (False, NONE)
    html = write_evidence(begun)[0].read_text()
    assert html.count(NONE.replace("'", "&#39;")) == 2
    assert 'class="alarm" role="status">No differential privacy' in html
