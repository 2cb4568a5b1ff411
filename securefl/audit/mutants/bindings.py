"""Mutants whose messages are good elsewhere than where they were meant, or tell by their length what is in them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from protocols.contribution import RoundContext, contribute, open_share
from protocols.envelope import Binding, SealingKey, seal
from protocols.errors import SealError
from protocols.prg import RingVector, new_seed
from protocols.ring import Encoding
from protocols.sharing import SEED
from securefl.audit.registry import Finding, Mutant

SIZE, WIDTH, HOSPITAL, PARTIES = 500, 32, "hungary", ("party-1", "party-2", "party-3")
CONTEXT = RoundContext(
    study=bytes(32),
    round=2,
    attempt=1,
    previous=bytes(32),
    purpose="update",
    model=bytes(32),
    parties=list(PARTIES),
    width=WIDTH,
    size=SIZE,
)
_NOWHERE = Binding(
    study=b"", round=0, attempt=0, previous=b"", sender="", recipient="", content="", width=0, size=0
)

# -- replay ----------------------------------------------------------------------------------------------------------

ELSEWHERE: dict[str, dict[str, Any]] = {
    "another study": {"study": b"\1" * 32},
    "a later round": {"round": 3},
    "another attempt": {"attempt": 2},
    "another history": {"previous": b"\1" * 32},
    "another purpose": {"purpose": "statistics"},
    "another width": {"width": 64},
    "another size": {"size": SIZE + 1},
}
Opens = Callable[[bytes, SealingKey, RoundContext, str, str], bytes]


def _replayed(envelope: bytes, key: SealingKey, opens: Opens, party: str) -> list[str]:
    """Where an envelope of round 2 from hungary to a party opens although it was not meant for there."""
    tries = {name: (CONTEXT.model_copy(update=change), HOSPITAL, party) for name, change in ELSEWHERE.items()}
    tries["another hospital's name"] = (CONTEXT, "cleveland", party)
    tries["another party's name"] = (CONTEXT, HOSPITAL, "party-9")
    good = []
    for name, place in tries.items():
        try:
            opens(envelope, key, *place)
        except SealError:
            continue
        good.append(name)
    return good


def _replay_breaks() -> Finding:
    key = SealingKey.generate()
    naive = seal(key.public, new_seed() + SEED, _NOWHERE)
    good = _replayed(naive, key, lambda envelope, key, *_: key.open(envelope, _NOWHERE), PARTIES[0])
    said = f"An envelope opens in {len(good)} places for which it was not made: {', '.join(good)}."
    return Finding(len(good) == len(ELSEWHERE) + 2, said, {"places": len(good)})


def _replay_caught() -> Finding:
    keys = {party: SealingKey.generate() for party in PARTIES}
    x = np.zeros(SIZE, dtype=np.uint32)
    _, envelopes = contribute(x, CONTEXT, HOSPITAL, {p: k.public for p, k in keys.items()}, bytes(32))
    good: list[str] = []
    at_home = 0
    for (party, key), envelope in zip(keys.items(), envelopes, strict=True):
        good += _replayed(envelope, key, open_share, party)
        at_home += bool(open_share(envelope, key, CONTEXT, HOSPITAL, party))
    said = (
        f"{len(envelopes)} envelopes open in {len(good)} of {len(envelopes) * (len(ELSEWHERE) + 2)} other places, and "
        f"{at_home} at home."
    )
    return Finding(not good and at_home == len(envelopes), said, {"places": len(good), "at_home": at_home})


# -- length ----------------------------------------------------------------------------------------------------------

Sizes = Callable[[RingVector], Sequence[int]]


def compressed(x: RingVector) -> list[int]:
    """The naive contribution's sizes: what is sent is packed first, as traffic commonly is."""
    key = SealingKey.generate()
    return [len(seal(key.public, zlib.compress(x.tobytes()), _NOWHERE))]


def as_shipped(x: RingVector) -> list[int]:
    """The sizes of a contribution and of its envelopes."""
    keys = {party: SealingKey.generate().public for party in PARTIES}
    contribution, envelopes = contribute(x, CONTEXT, HOSPITAL, keys, bytes(32))
    return [len(contribution.to_bytes()), *map(len, envelopes)]


def _lengths(sizes: Sizes) -> set[tuple[int, ...]]:
    """The sizes for updates of all kinds: nothing learnt, few coordinates, all of them, the largest."""
    encoding, draw = Encoding.for_bound(WIDTH, 4.0, 5), np.random.default_rng(1)
    few = np.zeros(SIZE)
    few[:10] = 0.5
    vectors = [
        np.zeros(SIZE),
        few,
        draw.normal(0.0, 0.01, SIZE),
        draw.uniform(-4, 4, SIZE),
        np.full(SIZE, 4.0),
    ]
    return {tuple(sizes(encoding.encode(vector))) for vector in vectors}


def _length_breaks() -> Finding:
    found = sorted(size for (size,) in _lengths(compressed))
    said = f"Updates of one model have {len(found)} lengths, from {found[0]} to {found[-1]} bytes, by what is in them."
    return Finding(len(found) >= 4, said, {"lengths": len(found)})


def _length_caught() -> Finding:
    found = _lengths(as_shipped)
    sizes = " or ".join(str(list(one)) for one in sorted(found))
    said = f"Very different updates have the same sizes, contribution and envelopes: {sizes} bytes."
    return Finding(len(found) == 1, said, {"lengths": len(found)})


MUTANTS = (
    Mutant(
        "envelope-without-context",
        "contexts-are-bound",
        "An envelope is sealed to its recipient's key and bound to nothing else.",
        _replay_breaks,
        _replay_caught,
    ),
    Mutant(
        "compressed-updates",
        "sizes-tell-nothing",
        "Updates are compressed before they are sealed, to save bytes.",
        _length_breaks,
        _length_caught,
    ),
)
