"""Mutants with which one hospital outweighs the others: no check of norms, or one that a hospital can see through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from protocols.chain import Outcome
from protocols.contribution import RoundContext
from protocols.norm_bounds import NormCheck
from protocols.prg import RingVector, Stream, new_seed
from protocols.projection import OPENING_BYTES, coin, commit, matrix_blocks, project
from protocols.ring import from_bytes, from_signed, signed
from protocols.sharing import Shape, ShareReader, share
from securefl.audit.hostile import same
from securefl.audit.mutants.naive_hospital import contribution
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS
from securefl.audit.stage_cast import PARTIES as STAGE_PARTIES
from securefl.roles.effects import COORDINATOR, CheckNorms, Effect, Event, Job, Send, coin_context
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


# -- no check at all -------------------------------------------------------------------------------------------------

GREEDY = "switzerland"
"""The smallest hospital: 31 of 490 records."""
NORM_BOUND = 0.2
"""Above the honest updates' norms, of which the largest is 0.14."""


class Greedy:
    """A hospital that contributes a vector of its own choice in training, and is honest otherwise.

    Args:
        chosen: the vector, by what it will be checked with; by default every coordinate is at the range's end.
        first: the first round in which it does so.
    """

    def __init__(
        self,
        stage: Stage,
        machine: HospitalMachine,
        chosen: Callable[[NormCheck], RingVector] | None = None,
        first: int = 1,
    ) -> None:
        self.name, self._stage, self._machine = machine.name, stage, machine
        self._chosen, self._first = chosen, first

    def handle(self, event: Event) -> list[Effect]:
        """The contribution."""
        if isinstance(event, Announcement) and event.context.round >= self._first:
            return [
                Send(COORDINATOR, contribution(self._stage, self.name, self._vector(event.context), event))
            ]
        return self._machine.handle(event)

    def _vector(self, of: RoundContext) -> RingVector:
        check = self._stage.terms.norm_check(of.purpose, of.size)
        if self._chosen is not None and check is not None:
            return self._chosen(check)
        encoding = self._stage.terms.update
        return from_signed(np.where(np.arange(of.size) % 2, 1, -1) * encoding.limit, encoding.width)


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


# -- a coin that is known before the list ----------------------------------------------------------------------------


def unseen_by(public: bytes, check: NormCheck) -> RingVector:
    """A vector whose projections are all zero modulo 2^w: Gauss's algorithm, with odd pivots."""
    rows = np.hstack([block.astype(np.int64) for block in matrix_blocks(check.size, check.rows, public)])
    left, pivots = from_signed(rows.ravel(), check.width).reshape(rows.shape), []
    for i in range(check.rows):
        j = int(np.flatnonzero(left[i] & 1)[0])  # there is one: the rows are far fewer than the columns
        left[i] *= left.dtype.type(pow(int(left[i, j]), -1, 2**check.width))
        factors = left[:, j].copy()
        factors[i] = 0
        left -= np.outer(factors, left[i])
        pivots.append(j)
    x = from_bytes(
        np.random.default_rng(1).bytes(check.width // 8 * check.size), check.width, check.size
    ).copy()
    x[pivots] = 0
    x[pivots] = -(left @ x)
    return x


KNOWN = b"round 1".ljust(OPENING_BYTES)
"""What the naive coin is made of: the round alone, so that hospitals know it when they choose their vectors."""


def _of_the_round(job: Job) -> Job:
    """The norm check with a coin that depends on nothing of this attempt."""
    if not isinstance(job, CheckNorms):
        return job
    commitments = [commit(KNOWN, coin_context(KNOWN, party)) for party in job.context.parties]
    return replace(job, frozen=KNOWN, coin_part=KNOWN, commitments=commitments)


def _early_coin_breaks() -> Finding:
    with staged(norm_bound=NORM_BOUND) as stage:
        for name in STAGE_PARTIES:
            stage.jobs[name].changed = _of_the_round
        public = coin(KNOWN, [KNOWN] * len(STAGE_PARTIES))
        times: list[float] = []

        def unseen(check: NormCheck) -> RingVector:
            x = unseen_by(public, check)
            times.append(_norm(x) / check.bound)
            return x

        stage.seat(GREEDY, Greedy(stage, stage.hospital(GREEDY), unseen))
        stage.play()
        included = stage.done[-1].settled.signed.outcome.included
    passed, most = GREEDY in included, round(times[0])
    said = f"A vector of {most} times the bound was {'added' if passed else 'refused'}: its projections are all zero."
    return Finding(passed and most > 1000, said, {"times_the_bound": most})


class _OtherParts:
    """A party that, in one norm check, tells another part of the coin than it had committed to."""

    def __init__(self, round_: int) -> None:
        self._round, self.told = round_, 0

    def __call__(self, job: Job) -> Job:
        if not isinstance(job, CheckNorms) or job.context.round != self._round or self.told:
            return job
        self.told += 1
        return replace(job, coin_part=new_seed())


def _early_coin_caught() -> Finding:
    """The last round's coin and parts are all that a hospital can know of the next; and a party tries to change its."""
    with staged(rounds=2, norm_bound=NORM_BOUND) as stage:
        told, liar = stage.jobs[STAGE_PARTIES[0]].coins, stage.jobs[STAGE_PARTIES[-1]]
        liar.changed = _OtherParts(2)
        greedy = Greedy(stage, stage.hospital(GREEDY), lambda check: unseen_by(told[-1][0], check), first=2)
        stage.seat(GREEDY, greedy)
        stage.play()
        outcome = stage.done[-1].settled.signed.outcome
    parts = [set(parts) for _, parts in told]
    again = len(told) - len({public for public, _ in told}) + sum(len(a & b) for a, b in pairwise(parts))
    excluded, attempts = GREEDY in outcome.excluded, outcome.context.attempt
    said = (
        f"The vector made for the last round's coin was {'refused' if excluded else 'added'}; {again} coins or parts "
        f"came again; a part that was changed after the votes {'ended' if attempts > 1 else 'did not end'} its attempt."
    )
    holds = excluded and not again and attempts > 1 and len(told) == 2
    return Finding(holds, said, {"passed": int(not excluded), "known_parts": again, "attempts": attempts})


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
