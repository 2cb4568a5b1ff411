"""Mutants of the drop-in secure aggregation whose server chooses bounds, to read single numbers from what they do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from securefl.audit.mutants.secagg import a_place_in_flower
from securefl.audit.mutants.secagg_server import BOUNDS, NODES, SIZE, Examples, Nodes, nothing, work
from securefl.audit.quiet import quiet
from securefl.audit.registry import Finding, Mutant

UNIT = 128
UNEVEN = dict(zip(NODES, (180, 820, 500, 500), strict=True))
"""Examples of each client; in the other world all have 500. The sums are the same."""
EVEN = dict.fromkeys(NODES, 500)


def _asked(make: Callable[..., Any], examples: Examples, changes: Mapping[str, Any]) -> tuple[float, str]:
    """An exchange whose terms have other bounds: the sum of the weights as the server gets it, or the refusals."""
    from flwr.app import Message
    from flwr.serverapp.strategy import FedAvg

    from protocols.pairwise import Server
    from securefl.secagg import Plan, SecureAggregation
    from securefl.secagg.exchange import Exchange

    with a_place_in_flower(), quiet(), tempfile.TemporaryDirectory() as folder:
        grid: Any = Nodes(make, Path(folder), nothing, lambda node: 1, examples)
        messages = [Message(work(np.zeros(SIZE), 1.0), node, "train") for node in NODES]
        settings = SecureAggregation(FedAvg(), pinned=grid.pinned, **BOUNDS).settings
        exchange = Exchange(grid, messages, settings, 1, None)
        terms = exchange._server.terms
        plan = Plan.from_bytes(terms.details).model_copy(update=dict(changes))
        exchange._encoding = plan.encoding(terms.width)
        exchange._server = Server(terms.model_copy(update={"details": plan.to_bytes()}), grid.pinned)
        reply: Any = exchange.run()
    if reply.has_error():
        return 0.0, reply.error.reason
    return float(reply.content["metrics"]["num-examples"]), ""


def _told_apart(make: Callable[..., Any]) -> Mapping[str, int]:
    """Whether the server tells two worlds apart that have the same sum: by rounding, and by who can take part."""
    largest = int(BOUNDS["bound"] * BOUNDS["max_weight"]) // UNIT + 1
    found = {}
    for name, changes in (
        ("by_rounding", {"cohort": (2**63 - 1) // largest}),
        ("by_refusals", {"max_weight": 600.0}),
    ):
        worlds = [_asked(make, world.__getitem__, changes) for world in (UNEVEN, EVEN)]
        found[name] = int(worlds[0] != worlds[1])
    return found


def _as_agreed(make: Callable[..., Any]) -> bool:
    """Whether an exchange under the clients' own bounds has its sum, the same in both worlds."""
    return all(_asked(make, world.__getitem__, {}) == (2000.0, "") for world in (UNEVEN, EVEN))


def _breaks() -> Finding:
    from securefl.secagg import SecureMod

    class Obliging(SecureMod):
        """Takes every terms that can be kept."""

        def _checked(self, terms: Any, context: Any, purpose: str) -> Any:
            return terms

    found = _told_apart(Obliging)
    said = f"With its own bounds a server told equal sums of other weights apart in {sum(found.values())} of 2 ways."
    return Finding(all(found.values()) and _as_agreed(Obliging), said, found)


def _caught() -> Finding:
    from securefl.secagg import SecureMod

    found, honest = _told_apart(SecureMod), _as_agreed(SecureMod)
    said = (
        f"It told them apart in {sum(found.values())} of 2 ways, and under the clients' bounds there is "
        f"{'a sum' if honest else 'no sum'}."
    )
    return Finding(not any(found.values()) and honest, said, found)


MUTANTS = (
    Mutant(
        "secagg-bounds-of-the-server",
        "secagg-own-bounds",
        "A client with pinned keys takes the weight, bounds and number of clients that the server names.",
        _breaks,
        _caught,
    ),
)
