"""Mutants with which one hospital outweighs the others: no check of norms, or one that a hospital can see through."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import encode
from protocols.chain import Outcome
from protocols.norm_bounds import NormCheck
from protocols.prg import RingVector, Stream, new_seed
from protocols.projection import coin, commit, matrix_blocks, project
from protocols.ring import from_bytes, from_signed, signed
from protocols.sharing import Shape, ShareReader, share
from securefl.audit.hostile import same
from securefl.audit.mutants.naive_hospital import contribution
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS
from securefl.roles.effects import COORDINATOR, Effect, Event, Send
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import Announcement
from securefl.roles.party import NORM_TOO_LARGE

SIZE, WIDTH, PARTIES, COINS = 1000, 32, 3, 50
CHECK = NormCheck.for_bound(SIZE, WIDTH, 10**6)

# -- rows of signs alone ---------------------------------------------------------------------------------------------


def _passes(projections: NDArray[np.int64]) -> bool:
    """The check's definition, in plain integers."""
    ys = [int(y) for y in projections]
    limit = 1 << CHECK.row_bits
    return all(-limit <= y < limit for y in ys) and sum(y * y for y in ys) <= CHECK.threshold


def _norm(x: RingVector) -> float:
    return math.sqrt(sum(int(v) ** 2 for v in signed(x)))


def with_rows_of_signs(x: RingVector, public: bytes) -> bool:
    """The naive check: every entry of a row is -1 or +1, one bit each."""
    bits = Stream(public, "signs", b"").ring_vector(CHECK.rows * SIZE // 16 + 1, 16)
    rows = np.unpackbits(bits.view(np.uint8))[: CHECK.rows * SIZE].reshape(CHECK.rows, SIZE)
    projections = (2 * rows.astype(np.int64) - 1) @ signed(x)
    return _passes(signed(from_signed(projections, WIDTH)))


def as_shipped(x: RingVector, public: bytes) -> bool:
    """The shipped projections of the shares of x, added up: what the committee's program decides on."""
    shape, total = Shape(SIZE, WIDTH), np.zeros(CHECK.rows, dtype=x.dtype)
    for rank, plaintext in enumerate(share(x, PARTIES, 0, b"")):
        total += project(CHECK, public, [ShareReader(plaintext, shape, rank, b"")])[0]
    return _passes(signed(total))


def halves_of_the_ring() -> RingVector:
    """A small update, and half the ring in two of its coordinates."""
    x = np.random.default_rng(1).integers(-1000, 1000, SIZE)
    x[:2] = 2 ** (WIDTH - 1)
    return from_signed(x, WIDTH)


def _signs_break() -> Finding:
    x = halves_of_the_ring()
    passed = sum(with_rows_of_signs(x, new_seed()) for _ in range(COINS))
    said = (
        f"A vector of {_norm(x) / CHECK.bound:.0f} times the bound passed with {passed} of {COINS} matrices."
    )
    return Finding(passed == COINS, said, {"passed": passed, "matrices": COINS})


def _signs_caught() -> Finding:
    x = halves_of_the_ring()
    passed = sum(as_shipped(x, new_seed()) for _ in range(COINS))
    honest = from_signed(signed(x) * (np.arange(SIZE) > 1), WIDTH)
    taken = sum(as_shipped(honest, new_seed()) for _ in range(COINS))
    said = (
        f"It passed with {passed} of {COINS} matrices with entries -1, 0, 0, +1; without its two large coordinates it "
        f"passed with {taken}."
    )
    return Finding(passed == 0 and taken == COINS, said, {"passed": passed, "honest_passed": taken})


# -- a coin that is known before the list ----------------------------------------------------------------------------


def unseen_by(public: bytes) -> RingVector:
    """A vector whose projections are all zero modulo 2^w: Gauss's algorithm, with odd pivots."""
    rows = np.hstack([block.astype(np.int64) for block in matrix_blocks(SIZE, CHECK.rows, public)])
    left, pivots = from_signed(rows.ravel(), WIDTH).reshape(rows.shape), []
    for i in range(CHECK.rows):
        j = int(np.flatnonzero(left[i] & 1)[0])  # there is one: the rows are far fewer than the columns
        left[i] *= left.dtype.type(pow(int(left[i, j]), -1, 2**WIDTH))
        factors = left[:, j].copy()
        factors[i] = 0
        left -= np.outer(factors, left[i])
        pivots.append(j)
    x = from_bytes(np.random.default_rng(1).bytes(4 * SIZE), WIDTH, SIZE).copy()
    x[pivots] = 0
    x[pivots] = -(left @ x)
    return x


def _early_coin_breaks() -> Finding:
    # The naive coin is of the round alone, so that hospitals know it when they choose their vectors.
    public = coin(b"round 1", [bytes(32), bytes(32)])
    x = unseen_by(public)
    passed = as_shipped(x, public)
    said = (
        f"A vector of {_norm(x) / CHECK.bound:.0f} times the bound was {'accepted' if passed else 'refused'}: its "
        f"{CHECK.rows} projections are zero."
    )
    return Finding(
        passed and _norm(x) > 1000 * CHECK.bound, said, {"times_the_bound": round(_norm(x) / CHECK.bound)}
    )


def _early_coin_caught() -> Finding:
    """The openings are drawn and committed to; the list, with the vector on it, is there before they are told."""
    passed = 0
    for _ in range(COINS // 5):
        openings = [new_seed() for _ in range(PARTIES)]
        commitments = [commit(opening, encode([rank])) for rank, opening in enumerate(openings)]
        x = unseen_by(coin(b"list", commitments))  # the best that can be made of what is known by then
        passed += as_shipped(x, coin(b"list", openings))
    said = f"{passed} of {COINS // 5} such vectors passed when the coin was told after the list."
    return Finding(passed == 0, said, {"passed": passed, "tried": COINS // 5})


# -- no check at all -------------------------------------------------------------------------------------------------

GREEDY = "switzerland"
"""The smallest hospital: 31 of 490 records."""
NORM_BOUND = 0.2
"""Above the honest updates' norms, of which the largest is 0.14."""


class Greedy:
    """A hospital that contributes a vector of its own choice in training, and is honest otherwise."""

    def __init__(self, stage: Stage, machine: HospitalMachine) -> None:
        self.name, self._stage, self._machine = machine.name, stage, machine

    def handle(self, event: Event) -> list[Effect]:
        """A contribution with every coordinate at the range's end."""
        if isinstance(event, Announcement) and event.context.round > 0:
            encoding = self._stage.terms.update
            signs = np.where(np.arange(event.context.size) % 2, 1, -1)
            x = from_signed(signs * encoding.limit, encoding.width)
            return [Send(COORDINATOR, contribution(self._stage, self.name, x, event))]
        return self._machine.handle(event)


def _greedy_round(norm_bound: float | None) -> tuple[Outcome, NDArray[np.int64], NDArray[np.int64]]:
    """The outcome of round 1, its sum, and what the sum of the others' updates is."""
    with staged(norm_bound=norm_bound) as stage:
        stage.seat(GREEDY, Greedy(stage, stage.hospital(GREEDY)))
        stage.play()
        settled = stage.done[-1].settled
        of = settled.signed.outcome.context
        total = signed(from_bytes(settled.total, of.width, of.size))
        others = np.sum([signed(stage.update(h)) for h in HOSPITALS if h != GREEDY], axis=0)
        return settled.signed.outcome, total, others


def _greedy_breaks() -> Finding:
    _, total, others = _greedy_round(norm_bound=None)
    times = float(np.linalg.norm((total - others).astype(float)) / np.linalg.norm(others.astype(float)))
    said = f"{GREEDY}, the smallest hospital, put in {times:.0f} times as much as all others together."
    return Finding(times > 100, said, {"times_the_others": round(times)})


def _greedy_caught() -> Finding:
    outcome, total, others = _greedy_round(NORM_BOUND)
    found, reason = same(total, others), outcome.excluded.get(GREEDY, "not excluded")
    said = (
        f"The signed outcome names {', '.join(outcome.excluded) or 'nobody'} ({reason}); {found} of {others.size} "
        "coordinates are the others' sum."
    )
    holds = outcome.excluded == {GREEDY: NORM_TOO_LARGE} and found == others.size
    return Finding(holds, said, {"right": found, "excluded": len(outcome.excluded)})


MUTANTS = (
    Mutant(
        "rows-of-signs",
        "norms-are-bounded",
        "The random rows of the norm check have entries -1 and +1 only.",
        _signs_break,
        _signs_caught,
    ),
    Mutant(
        "coin-before-the-list",
        "norms-are-bounded",
        "The norm check's coin follows from the round, so that hospitals know it before they contribute.",
        _early_coin_breaks,
        _early_coin_caught,
    ),
    Mutant(
        "no-norm-check",
        "offenders-are-named",
        "Any vector that fits the ring is added.",
        _greedy_breaks,
        _greedy_caught,
    ),
)
