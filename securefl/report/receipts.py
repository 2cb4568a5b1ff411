"""What the page says of the receipts, beyond the audit's own sentences: who was left out of which sum, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securefl.audit import Verdict


@dataclass(frozen=True)
class Absence:
    """A hospital that is not in a round's sum.

    Attributes:
        reason: the fixed word in the receipt.
        explanation: the coordinator's sentence; empty if it is not known.
        excluded: whether the committee had its contribution and refused it.
    """

    round: int
    hospital: str
    reason: str
    explanation: str
    excluded: bool


def absences(verdict: Verdict, history: Sequence[Mapping[str, Any]]) -> list[Absence]:
    """Who was left out of a sum, by the receipts; the explanations stand in the history alone."""
    told = {line["round"]: line["absent"] for line in history}
    return [
        Absence(
            receipt.round,
            hospital,
            reason,
            told.get(receipt.round, {}).get(hospital, {}).get("explanation", ""),
            hospital in receipt.excluded,
        )
        for receipt in verdict.receipts
        for hospital, reason in receipt.absent.items()
    ]


def mark(verdict: Verdict) -> tuple[str, str]:
    """The sign before the verdict's sentence, and its class: good, bad, or soft for what says little."""
    if verdict.fault:
        return "✗", "bad"
    if verdict.unchecked or not verdict.receipts:
        return "–", "soft"
    return "✓", "good"
