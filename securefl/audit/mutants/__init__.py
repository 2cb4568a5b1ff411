"""Protocols that lack one protection each, with the attack that this invites. One module a theme."""

from __future__ import annotations

from securefl.audit.mutants import (
    arithmetic,
    bindings,
    channels,
    dealing,
    leaks,
    masks,
    messages,
    norms,
    openings,
    privacy,
    receipts,
    seizure,
    sums,
    trust,
    views,
    zero_shares,
)
from securefl.audit.registry import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for module in (
        masks, views, zero_shares, bindings, trust, seizure, openings, dealing, norms, sums, receipts, arithmetic,
        channels, messages, leaks, privacy,
    )
    for mutant in module.MUTANTS
}  # fmt: skip
"""By name, in the order of the claims."""

__all__ = ["MUTANTS"]
