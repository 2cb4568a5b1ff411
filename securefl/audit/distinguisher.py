"""A trained distinguisher: it sees views whose origin it is told, learns, and then guesses the origin of others.

Two games over what P - 1 parties see of two rounds of two honest hospitals. In the first the other origin is a
simulator, which is given the sums and nothing else; in the second the adversary chose two lists of updates with the
same sums, and one of them was used. It computes everything that is known to go wrong with masks (matches with an
update, with differences of coordinates, rounds and hospitals, with every short seed and every key that public values
give, balance of bits), and weighs it by logistic regression.

Under the promise its guesses are fair coins, whatever it has learnt: it is called a distinguisher when fair coins would
guess so well at most once in 10^9 (``likely``). With ``TESTS`` views one whose true accuracy is 0.75 is missed at most
once in 10^6; a smaller advantage goes unseen, and is for the argument in ``protocols.sharing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from protocols.prg import RingVector, Stream, new_seed
from protocols.ring import signed
from protocols.sharing import SEED, VECTOR, Shape, add_share, share, zeros

ROUNDS, HOSPITALS, SIZE, WIDTH, PARTIES, HONEST = 2, 2, 32, 32, 3, 2
TRAINING, TESTS = 300, 600
SEED_BITS = 8
"""Scaled down from the 32 of the published fault, so that every seed is tried on every view."""
ALPHA = 1e-9

Vectors = NDArray[np.uint32]
"""(ROUNDS, HOSPITALS, SIZE) ring elements."""
Masking = Callable[[], Callable[[RingVector, bytes], RingVector]]
"""Begins a study, in which each update and its context become what the colluding parties' shares add up to."""
Features = NDArray[np.float64]


def context_of(round_: int, hospital: int) -> bytes:
    """What the masks of one contribution are bound to; everybody knows it."""
    return f"study, round {round_}, hospital {hospital}".encode()


def mask_of(seed: bytes, context: bytes) -> RingVector:
    """The honest party's mask, as the shipped sharing expands it: (SIZE,)."""
    return Stream(seed, "share", HONEST.to_bytes(2, "big") + context).ring_vector(SIZE, WIDTH)


def public_seed(context: bytes) -> bytes:
    """A key that whoever knows the context can make."""
    return sha256(context).digest()


def shipped() -> Callable[[RingVector, bytes], RingVector]:
    """What ships; the first party holds the explicit share."""

    def rest(x: RingVector, context: bytes) -> RingVector:
        plaintexts = share(x, PARTIES, 0, context)
        total = zeros(Shape(SIZE, WIDTH))
        for party in range(PARTIES):
            if party != HONEST:
                add_share(total, plaintexts[party], party, context)
        return total

    return rest


@dataclass(frozen=True)
class View:
    """What the coalition has at the end, in the form in which it is easiest to attack.

    Attributes:
        rests: for each round and hospital, the coalition's shares added up: the update less the honest party's mask.
        openings: (ROUNDS, SIZE), what the honest party sends to open, less its share of zero, which the others know.
    """

    rests: Vectors
    openings: NDArray[np.uint32]


def real(updates: Vectors, masking: Masking) -> View:
    """The view of a run with these updates."""
    rest = masking()
    rests = np.array(
        [[rest(updates[r, h], context_of(r, h)) for h in range(HOSPITALS)] for r in range(ROUNDS)]
    )
    return View(rests, (updates - rests).sum(axis=1, dtype=np.uint32))


def simulated(sums: NDArray[np.uint32]) -> View:
    """A view made from the sums alone: uniform shares and seeds, and the opening that fits them.

    Args:
        sums: (ROUNDS, SIZE) over the honest hospitals.
    """
    rests = np.empty((ROUNDS, HOSPITALS, SIZE), dtype=np.uint32)
    for r in range(ROUNDS):
        for h in range(HOSPITALS):
            explicit = b"".join(new_seed() for _ in range(SIZE * WIDTH // 8 // 32)) + VECTOR
            total = zeros(Shape(SIZE, WIDTH))
            add_share(total, explicit, 0, context_of(r, h))
            add_share(total, new_seed() + SEED, 1, context_of(r, h))
            rests[r, h] = total
    return View(rests, sums - rests.sum(axis=1, dtype=np.uint32))


def same_sums() -> tuple[Vectors, Vectors]:
    """Two lists of updates, such as training makes, with the same sum in each round."""
    draw = np.random.default_rng(1)
    first = draw.normal(0.0, 2.0**20, (ROUNDS, HOSPITALS, SIZE)).astype(np.int64)
    moved = draw.normal(0.0, 2.0**20, (ROUNDS, SIZE)).astype(np.int64)
    second = first + np.stack([moved, -moved], axis=1)
    return first.astype(np.uint32), second.astype(np.uint32)


class Distinguisher:
    """What is computed of a view, for an adversary that knows which updates may be behind it.

    Args:
        candidates: the lists of updates that it has in mind.
    """

    def __init__(self, candidates: Sequence[Vectors]) -> None:
        self._candidates = candidates
        short = [guess.to_bytes(32, "big") for guess in range(2**SEED_BITS)]
        self._guesses = {
            (r, h): np.array([mask_of(s, context_of(r, h)) for s in (*short, public_seed(context_of(r, h)))])
            for r in range(ROUNDS)
            for h in range(HOSPITALS)
        }

    def features(self, view: View) -> Features:
        """One number for each thing that can go wrong, and one for each bit of an element."""
        numbers = [self._matches(view, x) for x in self._candidates]
        bits = np.unpackbits(view.rests.view(np.uint8)).reshape(-1, WIDTH).mean(axis=0)
        openings = np.unpackbits(view.openings.view(np.uint8)).reshape(-1, WIDTH).mean(axis=0)
        return np.concatenate([*numbers, bits, openings])

    def _matches(self, view: View, x: Vectors) -> Features:
        rests = view.rests
        pairs = [
            (rests, x),
            (np.diff(rests, axis=2), np.diff(x, axis=2)),
            (np.diff(rests, axis=0), np.diff(x, axis=0)),
            (np.diff(rests, axis=1), np.diff(x, axis=1)),
            (view.openings, x.sum(axis=1, dtype=np.uint32)),
        ]
        guessed = [
            float((masks + rests[place] == x[place]).mean(axis=1).max())
            for place, masks in self._guesses.items()
        ]
        follows = np.corrcoef(signed(rests.ravel()), signed(x.ravel()))[0, 1]
        return np.array([*(float((a == b).mean()) for a, b in pairs), max(guessed), follows])


def accuracy(
    distinguisher: Distinguisher,
    origins: Sequence[Callable[[], View]],
    train: int = TRAINING,
    tests: int = TESTS,
) -> float:
    """How often it names the origin of a new view, after it has learnt from others.

    Args:
        origins: two, which make views.
        train, tests: views of both origins together.
    """
    learnt = _sample(distinguisher, origins, train)
    asked = _sample(distinguisher, origins, tests)
    weights = _fit(*learnt)
    features, labels = asked
    return float(((_with_one(features) @ weights > 0) == labels).mean())


def likely(tests: int = TESTS) -> float:
    """The accuracy that fair coins exceed at most once in 10^9."""
    total, tail = 2**tests, 0
    for right in range(tests, 0, -1):
        tail += math.comb(tests, right)
        if tail / total > ALPHA:
            return right / tests
    return 1.0


def games(masking: Masking, train: int = TRAINING, tests: int = TESTS) -> tuple[float, float]:
    """Its accuracy on real against simulated views, and on two lists of updates with the same sums."""
    first, second = same_sums()
    sums = first.sum(axis=1, dtype=np.uint32)
    against_simulator = accuracy(
        Distinguisher([first]), [lambda: real(first, masking), lambda: simulated(sums)], train, tests
    )
    between_inputs = accuracy(
        Distinguisher([first, second]),
        [lambda: real(first, masking), lambda: real(second, masking)],
        train,
        tests,
    )
    return against_simulator, between_inputs


def _sample(
    distinguisher: Distinguisher, origins: Sequence[Callable[[], View]], count: int
) -> tuple[Features, NDArray[np.bool_]]:
    views = [origins[i % 2]() for i in range(count)]
    return np.array([distinguisher.features(view) for view in views]), np.arange(count) % 2 == 1


def _with_one(features: Features) -> Features:
    return np.column_stack([features, np.ones(len(features))])


def _fit(features: Features, labels: NDArray[np.bool_], ridge: float = 1.0) -> Features:
    """Logistic regression with a ridge, by Newton's method, on standardised features; weights for the plain ones."""
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1.0
    x = _with_one((features - mean) / spread)
    weights = np.zeros(x.shape[1])
    for _ in range(15):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (p - labels) + ridge * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(x.shape[1])
        weights -= np.linalg.solve(hessian, gradient)
    plain = weights[:-1] / spread
    return np.append(plain, weights[-1] - plain @ mean)
