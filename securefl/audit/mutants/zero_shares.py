"""A mutant whose opening masks two parties know: CrypTen's ring of seeds."""

from __future__ import annotations

import numpy as np

from protocols.prg import RingVector, Stream, new_seed
from protocols.zero_sharing import PairwiseKeys, zero_share
from securefl.audit.hostile import same
from securefl.audit.mutants.masks import SIZE, WIDTH, an_update
from securefl.audit.registry import Finding, Mutant

CONTEXT = b"round 1"
RING_PARTIES, BETWEEN = 5, 2


def _ring_breaks() -> Finding:
    """CrypTen's zero sharing: party i shares a seed with the next one, so that its neighbours know its masks."""
    seeds = [new_seed() for _ in range(RING_PARTIES)]
    own = an_update(1)
    opening = own + _zero(seeds[BETWEEN - 1]) - _zero(seeds[BETWEEN])
    found = same(opening - _zero(seeds[BETWEEN - 1]) + _zero(seeds[BETWEEN]), own)
    said = f"Two of {RING_PARTIES} parties unmasked {found} of {SIZE} numbers of the share of the party between them."
    return Finding(found == SIZE, said, {"recovered": found, "colluders": 2})


def _ring_caught() -> Finding:
    table = {frozenset((i, j)): new_seed() for i in range(RING_PARTIES) for j in range(i)}

    def keys_of(party: int) -> PairwiseKeys:
        others = [j for j in range(RING_PARTIES) if j != party]
        return PairwiseKeys(party, {j: table[frozenset((party, j))] for j in others}, bytes(32))

    own = an_update(1).astype(np.uint64) << np.uint64(32)
    opening = own + zero_share(keys_of(BETWEEN), CONTEXT, SIZE)
    found = {}
    for colluders in (2, RING_PARTIES - 1):
        # The neighbours' keys with this party, then everybody's.
        known = [(BETWEEN + step) % RING_PARTIES for step in (-1, 1, 2, 3)][:colluders]
        rest = opening.copy()
        for peer in known:
            pair = PairwiseKeys(0, {1: table[frozenset((peer, BETWEEN))]}, bytes(32))
            mask = zero_share(pair, CONTEXT, SIZE)
            rest = rest - mask if peer > BETWEEN else rest + mask
        found[colluders] = same(rest, own)
    said = (
        f"Two of {RING_PARTIES} parties unmasked {found[2]} of {SIZE} numbers, and only all {RING_PARTIES - 1} others "
        f"together all {found[RING_PARTIES - 1]}, as the sum itself would tell them."
    )
    holds = found[2] <= 1 and found[RING_PARTIES - 1] == SIZE
    return Finding(holds, said, {"by_two": found[2], "by_all_others": found[RING_PARTIES - 1]})


def _zero(seed: bytes) -> RingVector:
    return Stream(seed, "ring", CONTEXT).ring_vector(SIZE, WIDTH)


MUTANTS = (
    Mutant(
        "ring-of-seeds",
        "openings-are-masked",
        "A party's opening mask comes from seeds that it shares with its two neighbours alone.",
        _ring_breaks,
        _ring_caught,
    ),
)
