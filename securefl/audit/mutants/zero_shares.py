"""A mutant whose opening masks two parties know: CrypTen's ring of seeds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from protocols.canonical import encode
from protocols.committee import Committee
from protocols.mesh import InProcessMesh, in_process_meshes
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


def _committee() -> list[Committee]:
    """A committee of so many parties, formed as in any round."""
    with ExitStack() as stack, ThreadPoolExecutor(RING_PARTIES) as pool:
        meshes = in_process_meshes(RING_PARTIES, 30.0)
        for mesh in meshes:
            stack.callback(mesh.close)

        def join(mesh: InProcessMesh) -> Committee:
            mesh.connect()
            return Committee.join(mesh)

        return list(pool.map(join, meshes))


def _ring_caught() -> Finding:
    """A party of a committee prepares its opening share; others take off whatever masks they have keys for."""
    committee = _committee()
    try:
        own = an_update(1)
        opening = committee[BETWEEN].prepare(own, CONTEXT)
        found = {}
        for colluders in (0, 2, RING_PARTIES - 1):
            # Nobody's keys with this party, the neighbours', then everybody's.
            known = [(BETWEEN + step) % RING_PARTIES for step in (-1, 1, 2, 3)][:colluders]
            rest = opening.copy()
            for peer in known:
                pair = PairwiseKeys(0, {1: committee[peer]._keys._keys[BETWEEN]}, bytes(32))
                mask = zero_share(pair, encode(["opening", CONTEXT]), SIZE)
                rest = rest - mask if peer > BETWEEN else rest + mask
            found[colluders] = same(rest >> np.uint64(64 - WIDTH), own)
    finally:
        for member in committee:
            member.leave()
    said = (
        f"An opening share shows {found[0]} of {SIZE} numbers, two of {RING_PARTIES} parties read {found[2]}, and only "
        f"all {RING_PARTIES - 1} others together {found[RING_PARTIES - 1]}, as the sum itself would tell them."
    )
    holds = found[0] <= 1 and found[2] <= 1 and found[RING_PARTIES - 1] == SIZE
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
