"""A mutant whose masks are used twice: in two rounds, at two hospitals, for two parties, or for two openings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from unittest import mock

from protocols import contribution, sharing
from protocols.errors import CommitteeError
from protocols.prg import new_seed
from protocols.sharing import add_share
from protocols.zero_sharing import PairwiseKeys, zero_share
from securefl.audit.hostile import same
from securefl.audit.mutants.bindings import CONTEXT, HOSPITAL
from securefl.audit.mutants.masks import SIZE, Sharing, an_update, rest_of, shipped, with_seeds
from securefl.audit.registry import Finding, Mutant


def agreed_once(seeds: Sequence[bytes]) -> Sharing:
    """The naive sharing: seeds agreed at the beginning, which are expanded in the same way in every round."""
    return lambda x, _context: with_seeds(x, seeds, b"")


def _twice(split: Sharing, contexts: Sequence[bytes]) -> int:
    updates = [an_update(1), an_update(2)]
    rests = [rest_of(split(x, c), c) for x, c in zip(updates, contexts, strict=True)]
    return same(rests[1] - rests[0], updates[1] - updates[0])


def _twice_breaks() -> Finding:
    found = _twice(agreed_once([new_seed(), new_seed()]), (b"", b""))
    said = (
        f"Two rounds' shares subtract: {found} of {SIZE} coordinates of the change of the hospital's update."
    )
    return Finding(found == SIZE, said, {"recovered": found})


def _own_for_anothers(context: bytes) -> int:
    """Another party's mask taken off by the attacker's own."""
    x = an_update(1)
    shares = shipped(x, context)
    rest = rest_of(shares, context)
    add_share(rest, shares[1], 1, context)
    return same(rest, x)


@contextmanager
def _drawing(*seeds: bytes) -> Iterator[None]:
    """For the block, the shipped sharing draws these seeds, again and again."""
    with mock.patch.object(sharing, "new_seed", side_effect=cycle(seeds)):
        yield


def _contexts() -> tuple[tuple[bytes, bytes], ...]:
    """What two vectors' masks are bound to: of one hospital in one round, in two rounds, and of two hospitals."""
    later = CONTEXT.model_copy(update={"round": CONTEXT.round + 1})
    first, again, other = (
        contribution.share_context(of, hospital)
        for of, hospital in ((CONTEXT, HOSPITAL), (later, HOSPITAL), (CONTEXT, "va"))
    )
    return (first, first), (first, again), (first, other)


def _twice_caught() -> Finding:
    once, rounds, hospitals = _contexts()
    found = {"with new seeds": _twice(shipped, once)}
    with _drawing(new_seed(), new_seed()):
        found["with old seeds in another round"] = _twice(shipped, rounds)
        found["with old seeds at another hospital"] = _twice(shipped, hospitals)
    with _drawing(new_seed()):
        found["with one seed for two parties"] = _own_for_anothers(once[0])
    keys = PairwiseKeys(0, {1: new_seed(), 2: new_seed()}, bytes(32))
    zero_share(keys, once[0], SIZE)
    try:
        zero_share(keys, once[0], SIZE)
        refused = False
    except CommitteeError:
        refused = True
    came = ", ".join(f"{how} {right}" for how, right in found.items())
    said = f"Of {SIZE} coordinates came out right: {came}. An opening mask is {'not ' if refused else ''}given twice."
    return Finding(max(found.values()) <= 1 and refused, said, {"recovered": max(found.values())})


MUTANTS = (
    Mutant(
        "mask-used-twice",
        "masks-are-used-once",
        "Hospital and party agree on a seed once, and expand it in the same way in every round.",
        _twice_breaks,
        _twice_caught,
    ),
)
