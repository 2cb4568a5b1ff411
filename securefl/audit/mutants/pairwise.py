"""Mutants of the pairwise masks whose vectors a server reads that follows the protocol, together with t - 1 clients."""

from __future__ import annotations

import numpy as np

from protocols.pairwise import (
    Client,
    Memory,
    Policy,
    Revealed,
)
from protocols.pairwise import keys as shipped_keys
from protocols.pairwise import masking as shipped_masking
from protocols.prg import RingVector, Stream, ring_dtype
from protocols.ring import from_signed, signed
from securefl.audit.hostile import same
from securefl.audit.mutants.pairwise_view import (
    HONEST,
    SIZE,
    VICTIM,
    WIDTH,
    Masks,
    View,
    vectors,
    view,
)
from securefl.audit.registry import Finding, Mutant

BITS = 12
"""Bits of the short keys that are tried, for the 32 that are common."""


class Both(Client):
    """A client that reveals all its shares, so that a dropout costs the server no further question."""

    def unmask(self, survivors, agreements):  # type: ignore[no-untyped-def]
        """Shares of both secrets of everybody."""
        pair = dict(self.memory.pair_shares)
        revealed = super().unmask(survivors, agreements)
        return Revealed(roster=revealed.roster, own=revealed.own, pair=pair)


def _said(found: int, how: str, numbers: str = "recovered") -> tuple[str, dict[str, int]]:
    return f"{how}: {found} of {SIZE} coordinates of {VICTIM}'s vector.", {
        numbers: found,
        "coordinates": SIZE,
    }


def _broken(found: int, how: str) -> Finding:
    return Finding(found == SIZE, *_said(found, how))


def _whole(found: int, how: str, complete: bool = True) -> Finding:
    # By chance a coordinate of 32 bits is right once in 2^32.
    return Finding(found <= 1 and complete, *_said(found, how))


def complete(of: View) -> bool:
    """Whether the coalition took off all that it could: its residuals add up to the honest clients' sum."""
    together = sum((of.residual(u) for u in HONEST), np.zeros(SIZE, dtype=ring_dtype(WIDTH)))
    truth = sum((vectors()[u] for u in HONEST), np.zeros(SIZE, dtype=ring_dtype(WIDTH)))
    return bool((together == truth).all())


# -- one number for a whole vector -----------------------------------------------------------------------------------


def scalar_pair(vector: RingVector, s: bytes, roster: bytes, u: str, v: str, sign: int) -> None:
    """The naive mask: one ring element of the pair's stream, for every coordinate."""
    one = np.zeros(1, dtype=vector.dtype)
    shipped_masking.add_pair(one, s, roster, u, v, sign)
    np.copyto(vector, vector + one)


def _differences(rest: RingVector) -> int:
    x = vectors()[VICTIM]
    return same(rest - rest[0], x - x[0])


def _scalar_breaks() -> Finding:
    return _broken(
        _differences(view(Masks(pair=scalar_pair)).residual(VICTIM)), "Up to one number, the coalition read"
    )


def _scalar_caught() -> Finding:
    seen = view()
    found = _differences(seen.residual(VICTIM))
    return _whole(found, "Up to one number, and with the honest sum right, it read", complete(seen))


# -- no mask of one's own --------------------------------------------------------------------------------------------


def no_own(vector: RingVector, b: bytes, roster: bytes, u: str, sign: int) -> None:
    """The naive mask of one's own: none."""


def _late(masks: Masks | None) -> int:
    return same(view(masks, late=[VICTIM]).residual(VICTIM), vectors()[VICTIM])


def _own_breaks() -> Finding:
    return _broken(_late(Masks(own=no_own)), "Called lost, its keys rebuilt, and then its vector came")


def _own_caught() -> Finding:
    return _whole(_late(None), "Called lost, its keys rebuilt, and then its vector came")


# -- short keys ------------------------------------------------------------------------------------------------------


def short_seed(*arguments: object) -> bytes:
    """The naive key: what the pair agrees on, cut to a few bits, as a generator's seed."""
    whole = shipped_keys.mask_seed(*arguments)  # type: ignore[arg-type]
    return (int.from_bytes(whole, "big") % 2**BITS).to_bytes(32, "big")


def _tried(of: View) -> int:
    """Try every short key for the mask between the two honest clients; small numbers betray the right one."""
    rest, digest = of.residual(VICTIM), of.roster.digest()
    for guess in range(2**BITS):
        key, head = guess.to_bytes(32, "big"), rest[:8].copy()
        shipped_masking.add_pair(head, key, digest, HONEST[0], HONEST[1], -1)
        if np.abs(signed(head)).max() < 2**10:
            shipped_masking.add_pair(rest, key, digest, HONEST[0], HONEST[1], -1)
            return same(rest, vectors()[VICTIM])
    return 0


def _short_breaks() -> Finding:
    return _broken(_tried(view(Masks(seed=short_seed))), f"All keys of {BITS} bits were tried")


def _short_caught() -> Finding:
    return _whole(_tried(view()), f"All keys of {BITS} bits were tried")


# -- a key that is used again ----------------------------------------------------------------------------------------


def lasting_pair(vector: RingVector, s: bytes, _roster: bytes, u: str, v: str, sign: int) -> None:
    """The naive mask: of the pair's key alone, whichever exchange it is."""
    mask = Stream(s, "pairwise-pair", b"").ring_vector(vector.size, WIDTH)
    np.copyto(vector, vector + mask if sign * (1 if u > v else -1) > 0 else vector - mask)


def lasting_seed(_secret: bytes, _roster: bytes, u: object, v: object) -> bytes:
    """The naive key: the one that the pair agreed on once."""
    first, second = sorted((u.name, v.name))  # type: ignore[attr-defined]
    return f"{first} and {second}".encode().ljust(32, b"\0")


def _twice(masks: Masks | None) -> int:
    """Two exchanges between which the victim's vector changes: how much of the change the difference tells."""
    moved = vectors()
    change = from_signed(np.random.default_rng(2).integers(-50, 50, SIZE), WIDTH)
    moved[VICTIM] = moved[VICTIM] + change
    first, second = view(masks, exchange=1), view(masks, moved, exchange=2)
    return same(second.residual(VICTIM) - first.residual(VICTIM), change)


def _reused_breaks() -> Finding:
    found = _twice(Masks(pair=lasting_pair, seed=lasting_seed))
    return _broken(found, "The difference of two exchanges told the change between them")


def _reused_caught() -> Finding:
    return _whole(_twice(None), "The difference of two exchanges told the change between them")


# -- both secrets ----------------------------------------------------------------------------------------------------


def _both_breaks() -> Finding:
    seen = View(vectors(), lambda name: Both(name, Policy(), Memory()), Masks())
    return _broken(
        same(seen.residual(VICTIM), vectors()[VICTIM]), "From shares of both secrets the coalition read"
    )


def _both_caught() -> Finding:
    seen = view()
    found = same(seen.residual(VICTIM), vectors()[VICTIM])
    return _whole(found, "From all shares that were revealed it read", complete(seen))


MUTANTS = (
    Mutant(
        "pairwise-scalar-mask",
        "pairwise-sum-only",
        "A pair's mask is one number, added to every coordinate.",
        _scalar_breaks,
        _scalar_caught,
    ),
    Mutant(
        "pairwise-no-own-mask",
        "pairwise-sum-only",
        "Clients add the masks that cancel, and none of their own.",
        _own_breaks,
        _own_caught,
    ),
    Mutant(
        "pairwise-short-key",
        "pairwise-256-bit-keys",
        "What a pair agrees on is cut to the seed of a generator.",
        _short_breaks,
        _short_caught,
    ),
    Mutant(
        "pairwise-key-reused",
        "pairwise-256-bit-keys",
        "A pair agrees on a key once, and expands it in the same way in every exchange.",
        _reused_breaks,
        _reused_caught,
    ),
    Mutant(
        "pairwise-both-shares",
        "pairwise-one-secret",
        "At the end a client reveals its shares of both secrets of everybody, so that nobody has to be asked again.",
        _both_breaks,
        _both_caught,
    ),
)
