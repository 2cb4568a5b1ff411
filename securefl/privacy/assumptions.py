"""For reports: epsilon for each number of colluding parties, and in plain sentences what the figures rest on."""

from __future__ import annotations

from securefl.privacy.accounting import Epsilon, Step, epsilon_table
from securefl.privacy.mechanism import Mechanism


def describe(
    mechanism: Mechanism, attempts: int, delta: float, extra_delta: float = 0.0
) -> tuple[list[tuple[int, Epsilon]], list[str]]:
    """For reports: ``epsilon_table``, and in plain sentences what the figures rest on."""
    unit, q, parties = mechanism.unit, mechanism.sampling_rate, mechanism.parties
    drawn = (
        f"Each hospital draws each {unit} with probability {q:g} in each attempt, independently, and tells nobody."
        if q < 1
        else f"Every {unit} takes part in every attempt; nothing is gained from sampling."
    )
    sentences = [
        f"One {unit}, with all of its records, is added to or removed from the data of one hospital.",
        drawn,
        f"A {unit}'s contribution has an integer norm of at most {mechanism.clip_units} units; each hospital keeps to "
        "this for its own.",
        f"Each of the {parties} parties adds discrete Gaussian noise of variance {mechanism.party_variance} units^2 to "
        f"each of {mechanism.size} coordinates, drawn from its operating system's source.",
        f"Parties that collude subtract their own noise; the target holds for {mechanism.colluding} of {parties}, and "
        "with all of them nothing is left.",
        f"All {attempts} attempts count, whether or not their sum was opened.",
        "What is computed from the opened sums, the model among it, tells no more than they do.",
        "Studies on the same records add up; each hospital's ledger composes those that it took part in.",
        f"A {unit} whose records lie at several hospitals is protected at each of them, not over all of them.",
        "RDP is the bound on paper, PLD the tighter figure which the target was chosen by; both are upper bounds.",
        "A sum of discrete Gaussians stands for one, and that for the continuous Gaussian, up to "
        f"{_gap_text(mechanism, attempts)} in epsilon at the collusion bound, which is included.",
    ]
    if extra_delta:
        sentences.append(
            f"In each attempt an honest hospital is refused with probability at most {extra_delta:.2g}; "
            f"{attempts * extra_delta:.2g} is taken off delta for it."
        )
    return epsilon_table(mechanism, attempts, delta, extra_delta), sentences


def _gap_text(mechanism: Mechanism, attempts: int) -> str:
    step = Step.of(mechanism, mechanism.colluding)
    return f"{2 * attempts * (step.tau + step.xi):.1g}"
