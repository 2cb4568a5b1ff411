"""What the model and the sums tell about one patient: epsilon for each number of colluding parties, or no bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from securefl.errors import SecureFLError
from securefl.report.evidence import Evidence
from securefl.report.evidence_traffic import outcomes
from securefl.roles.private_terms import PrivateTerms
from securefl.run_folder import RunFolder

NONE = (
    "No differential privacy: no noise was added. The released model, and each round's sum, may reveal that a "
    "patient's record was used, or parts of it. No bound on that can be stated."
)


@dataclass(frozen=True)
class SpentRow:
    """Epsilon against so many colluding parties.

    Attributes:
        rdp, pld: upper bounds; None where the bound gives nothing.
        target: whether the study's target is meant for this number.
    """

    colluders: int
    rdp: float | None
    pld: float | None
    target: bool


@dataclass(frozen=True)
class Spent:
    """What a run has spent.

    Attributes:
        private: whether the study has differential privacy at all.
        sentence: all of it in words, for the head of the page.
        unit: "patient" or "hospital"; empty without privacy.
        delta: the probability that epsilon does not cover.
        target: epsilon that the study names for all attempts that it pays for; None if it names a multiplier.
        multiplier: standard deviation of the noise that is left at the collusion bound, over one unit's largest norm.
        attempts: attempts of training that the receipts show: each charged, whether or not its sum was opened.
        paid: attempts that the target pays for.
        rows: for each number of colluding parties, 0 to P - 1.
        assumptions: what the figures rest on.
    """

    private: bool
    sentence: str
    unit: str = ""
    delta: float = 0.0
    target: float | None = None
    multiplier: float = 0.0
    attempts: int = 0
    paid: int = 0
    rows: Sequence[SpentRow] = ()
    assumptions: Sequence[str] = ()


def spent_by(run: RunFolder, evidence: Evidence) -> Spent:
    """Account for the attempts that the receipts show."""
    if evidence.terms is None:
        return Spent(False, "The study cannot be read: whether it had differential privacy is not known.")
    private = evidence.terms.private
    if private is None:
        return Spent(False, NONE)
    signed = [s.outcome.context for s in outcomes(run) if s.outcome.round > 0]
    attempts = sum(context.attempt for context in signed)
    size = signed[0].size if signed else _parameters(evidence)
    if size is None:
        return Spent(
            True, "No round of training is settled: nothing that was computed from records was opened yet.",
            unit=private.settings.unit, delta=private.settings.delta, target=private.settings.epsilon,
            paid=private.attempts,
        )  # fmt: skip
    try:
        return _accounted(private, size, attempts)
    except SecureFLError as error:
        return Spent(True, f"The privacy spent cannot be computed: {error}", attempts=attempts)


def _accounted(private: PrivateTerms, size: int, attempts: int) -> Spent:
    # Late: accountants take seconds to import.
    from securefl.privacy import describe

    settings, mechanism = private.settings, private.mechanism(size)
    table, sentences = describe(mechanism, attempts, settings.delta, private.refusal_delta)
    rows = [
        SpentRow(colluders, _finite(e.rdp), _finite(e.pld), colluders == mechanism.colluding)
        for colluders, e in table
    ]
    at = rows[mechanism.colluding]
    stated = (
        "no finite epsilon"
        if at.pld is None
        else f"epsilon {at.pld:.3g} (PLD; bound by RDP: {_text(at.rdp)})"
    )
    unit = settings.unit
    sentence = (
        f"Differential privacy for each {unit}: {stated} at delta {settings.delta:g}, "
        f"if {_parties(mechanism.colluding, mechanism.parties)}. {attempts} attempts were made."
    )
    extra = [
        "Attempts are counted from the receipts: the number of the attempt that was settled, over all rounds. What was "
        "begun after the last receipt is not in them; each hospital's own privacy ledger has it.",
        f"The noise rests on the parties: at least {mechanism.parties - mechanism.colluding} of them add it as they "
        "should. Nobody can see from the sums whether they did.",
        "Held-out records, and every figure that was computed on them, are outside of it. So is what was learnt of the "
        "records before the study, to choose its settings.",
    ]
    return Spent(
        private=True,
        sentence=sentence,
        unit=unit,
        delta=settings.delta,
        target=settings.epsilon,
        multiplier=mechanism.multiplier(mechanism.colluding),
        attempts=attempts,
        paid=private.attempts,
        rows=rows,
        assumptions=[*sentences, *extra],
    )


def _parameters(evidence: Evidence) -> int | None:
    found = evidence.summary.get("parameters")
    return found if isinstance(found, int) else None


def _finite(value: float) -> float | None:
    # JSON has no infinity.
    return value if math.isfinite(value) else None


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _parties(count: int, parties: int) -> str:
    if count == 0:
        return f"none of the {parties} parties subtracts its noise"
    if count == 1:
        return f"one of the {parties} parties subtracts its noise"
    return f"{count} of the {parties} parties subtract their noise"
