"""Mutants whose masks can be guessed, recomputed or told apart from noise.

The attacker is all parties but one. What it makes of one hospital's shares is the update minus the one mask that it
does not know: the *rest*.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from protocols.prg import RingVector, Stream, new_seed
from protocols.ring import Encoding, signed
from protocols.sharing import SEED, VECTOR, Shape, add_share, share, zeros
from securefl.audit.hostile import same
from securefl.audit.registry import Finding, Mutant

SIZE, WIDTH, PARTIES, HONEST = 1000, 32, 3, 2
ENCODING = Encoding.for_bound(WIDTH, 4.0, 5)
CONTEXT = b"study, round 1, hospital b"

Shares = Sequence[bytes | bytearray]
Sharing = Callable[[RingVector, bytes], Shares]
"""A vector and its context to a plaintext a party; party 0 holds the explicit share."""


def an_update(number: int) -> RingVector:
    """An update such as training makes: coordinates of about 0.01, encoded."""
    return ENCODING.encode(np.random.default_rng(number).normal(0.0, 0.01, SIZE))


def shipped(x: RingVector, context: bytes) -> Shares:
    """The shipped sharing."""
    return share(x, PARTIES, 0, context)


def with_seeds(x: RingVector, seeds: Sequence[bytes], context: bytes) -> Shares:
    """The same form of shares from seeds of one's own choice, 32 bytes each."""
    rest = x.copy()
    for party, seed in enumerate(seeds, start=1):
        rest -= _mask(seed, party, context)
    return [rest.tobytes() + VECTOR, *(seed + SEED for seed in seeds)]


def _mask(seed: bytes, party: int, context: bytes, size: int = SIZE) -> RingVector:
    return Stream(seed, "share", party.to_bytes(2, "big") + context).ring_vector(size, WIDTH)


def rest_of(shares: Shares, context: bytes) -> RingVector:
    """What the attacker's shares add up to."""
    total = zeros(Shape(SIZE, WIDTH))
    for party, plaintext in enumerate(shares):
        if party != HONEST:
            add_share(total, plaintext, party, context)
    return total


# -- masks from a short seed -----------------------------------------------------------------------------------------

SEED_BITS = 13
"""Scaled down from the 32 that CrypTen's generator keeps, so that all are tried in a second."""
LENGTHENED: dict[str, Callable[[int], bytes]] = {
    "filled up": lambda number: number.to_bytes(32, "big"),
    "filled up at the end": lambda number: number.to_bytes(32, "little"),
    "repeated": lambda number: number.to_bytes(4, "big") * 8,
    "hashed": lambda number: hashlib.sha256(number.to_bytes(4, "big")).digest(),
}
"""How few bits become the 32 bytes that a seed must have."""


def short_seeds(lengthened: Callable[[int], bytes]) -> Sharing:
    """The naive sharing: random seeds, of few bits."""
    return lambda x, context: with_seeds(
        x, [lengthened(secrets.randbits(SEED_BITS)) for _ in range(1, PARTIES)], context
    )


def _brute_force(sharing: Sharing) -> tuple[int, int, float]:
    """Try every short seed for the honest party's, made long in each way; the right one leaves small numbers.

    Returns:
        Coordinates, tries, tries a second.
    """
    x, context, tries = an_update(1), CONTEXT, 0
    rest = rest_of(sharing(x, context), context)
    started = time.process_time()
    for guess in range(2**SEED_BITS):
        for lengthened in LENGTHENED.values():
            seed, tries = lengthened(guess), tries + 1
            first = signed(rest[:4] + _mask(seed, HONEST, context, 4))
            if np.abs(first).max() < 2**24:  # one wrong seed in 2^28
                found = same(rest + _mask(seed, HONEST, context), x)
                if found == SIZE:
                    return found, tries, tries / (time.process_time() - started)
    return 0, tries, tries / (time.process_time() - started)


def _short_seed_breaks() -> Finding:
    results = [_brute_force(short_seeds(lengthened)) for lengthened in LENGTHENED.values()]
    found, rate = sum(recovered == SIZE for recovered, _, _ in results), results[-1][2]
    hours = len(LENGTHENED) * 2**32 / rate / 3600
    said = (
        f"Trying the seeds of {SEED_BITS} bits, {', '.join(LENGTHENED)}, gave the whole update {found} of "
        f"{len(results)} times. At {rate:.0f} tries a second a core finds 32 bits in {hours:.0f} hours at most."
    )
    return Finding(
        found == len(results),
        said,
        {"recovered": found, "tries_a_second": round(rate), "hours": round(hours)},
    )


def _short_seed_caught() -> Finding:
    found, tries, rate = _brute_force(shipped)
    years = 2.0**256 / rate / 3.15e7
    said = (
        f"The same {tries} tries found {found} of {SIZE} coordinates; to try all seeds of 256 bits takes "
        f"{years:.0e} years."
    )
    return Finding(found == 0, said, {"recovered": found, "tries": tries})


# -- masks from a generator with a known seed ------------------------------------------------------------------------

STUDY_SEED = 1


def from_torch(x: RingVector, context: bytes) -> Shares:
    """The naive sharing: seeds of 256 bits, drawn from torch's generator so that a run repeats."""
    import torch

    drawn = torch.randint(0, 256, (PARTIES - 1, 32), dtype=torch.uint8).numpy()
    return with_seeds(x, [row.tobytes() for row in drawn], context)


@contextmanager
def _seeded() -> Iterator[None]:
    """For the block, every generator of the process that a seed reaches begins at the study's seed."""
    import torch

    before, numpy_before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(STUDY_SEED)
            np.random.seed(STUDY_SEED)
            torch.manual_seed(STUDY_SEED)
            yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def _run_again(sharing: Sharing) -> int:
    """The attacker knows the study's seed, runs the hospital's program again, and takes its masks off."""
    x, context = an_update(1), CONTEXT
    with _seeded():
        shares = sharing(x, context)
    with _seeded():
        again = sharing(np.zeros_like(x), context)
    rest = rest_of(shares, context)
    add_share(rest, again[HONEST], HONEST, context)
    return same(rest, x)


def _generator_breaks() -> Finding:
    found = _run_again(from_torch)
    said = (
        f"Whoever knows the study's seed draws the same masks: {found} of {SIZE} coordinates of the update."
    )
    return Finding(found == SIZE, said, {"recovered": found})


def _generator_caught() -> Finding:
    found = _run_again(shipped)
    said = (
        f"With torch, NumPy and Python's generator all seeded alike, a second run draws other masks: {found} of {SIZE} "
        "coordinates."
    )
    return Finding(found <= 1, said, {"recovered": found})


# -- one scalar for the whole vector ---------------------------------------------------------------------------------


def one_scalar(x: RingVector, context: bytes) -> RingVector:
    """The naive sharing's rest: each party's seed gives one number, which masks every coordinate."""
    return x - _mask(new_seed(), HONEST, context, 1)[0]


def _differences(rest: RingVector, x: RingVector) -> int:
    return same(rest[1:] - rest[0], x[1:] - x[0])


def _scalar_breaks() -> Finding:
    x = an_update(1)
    found = _differences(one_scalar(x, CONTEXT), x)
    said = f"{found} of {SIZE - 1} differences between coordinates stand in the open: one coordinate gives all others."
    return Finding(found == SIZE - 1, said, {"differences": found})


def _scalar_caught() -> Finding:
    x = an_update(1)
    found = _differences(rest_of(shipped(x, CONTEXT), CONTEXT), x)
    said = f"{found} of {SIZE - 1} differences came out right; each does by chance once in 2^{WIDTH}."
    return Finding(found <= 1, said, {"differences": found})


MUTANTS = (
    Mutant(
        "short-seed",
        "parties-see-nothing",
        f"Masks are expanded from seeds of few bits: here {SEED_BITS}, in CrypTen 32.",
        _short_seed_breaks,
        _short_seed_caught,
    ),
    Mutant(
        "masks-from-torch",
        "no-seeded-secrets",
        "Masks are drawn from torch's generator, which the study's seed was given to so that a run repeats.",
        _generator_breaks,
        _generator_caught,
    ),
    Mutant(
        "one-scalar-mask",
        "parties-see-nothing",
        "A seed gives one number, which is added to every coordinate of the vector.",
        _scalar_breaks,
        _scalar_caught,
    ),
)
