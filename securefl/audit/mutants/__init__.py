"""Protocols that lack one protection each, with the attack that this invites. One module a theme."""

from __future__ import annotations

from securefl.audit.mutants import (
    answers,
    approvals,
    arithmetic,
    bindings,
    channels,
    consents,
    crashes,
    dealing,
    leaks,
    ledgers,
    letters,
    logs,
    masks,
    messages,
    nodes,
    norms,
    openings,
    operators,
    pairwise,
    patients,
    people,
    privacy,
    receipts,
    reuse,
    secagg,
    secagg_bounds,
    secagg_server,
    seizure,
    sums,
    superlinks,
    trust,
    unsigned,
    views,
    zero_shares,
)
from securefl.audit.registry import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for module in (
        masks, reuse, views, zero_shares, bindings, trust, seizure, openings, ledgers, dealing, norms, sums, answers,
        receipts, unsigned, arithmetic, channels, superlinks, messages, crashes, leaks, privacy, patients, approvals,
        consents, letters, people, operators, logs, nodes, pairwise, secagg, secagg_server, secagg_bounds,
    )
    for mutant in module.MUTANTS
}  # fmt: skip
"""By name, in the order of the claims."""

__all__ = ["MUTANTS"]
