"""Mutants that lose the sum, or its last bits: no room for the summands, floats, masks that need everybody."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import permutations

import numpy as np

from protocols.errors import EncodingError
from protocols.prg import RingVector, Stream, new_seed, ring_dtype
from protocols.ring import Encoding, from_bytes, from_signed, signed
from securefl.audit.hostile import same
from securefl.audit.mutants.norms import Greedy
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM
from securefl.roles.effects import AddShares, Effect, Event, Job
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import Announcement

# -- no room for the summands ----------------------------------------------------------------------------------------

BOUND, SUMMANDS, WIDTH = 4.0, 5, 32


def _largest_sum(encoding: Encoding) -> tuple[float, float]:
    """The sum of as many vectors as there are hospitals, all at the bound: in the ring, and the true one."""
    x = np.array([BOUND, -BOUND, BOUND / 2])
    total = np.zeros(x.size, dtype=ring_dtype(WIDTH))
    for _ in range(SUMMANDS):
        total += encoding.encode(x)
    error = np.abs(encoding.decode_sum(signed(total)) - SUMMANDS * x)
    return float(error.max()), SUMMANDS * BOUND


def _wraps_breaks() -> Finding:
    # The naive encoding: as fine as one hospital's bound allows.
    error, largest = _largest_sum(Encoding.for_bound(WIDTH, BOUND, 1))
    said = (
        f"The sum of {SUMMANDS} vectors wrapped around: it is wrong by {error:g} where {largest:g} is right."
    )
    return Finding(error > BOUND, said, {"error": error})


def _wraps_caught() -> Finding:
    """All hospitals of a study contribute the largest vector that they may, and the committee opens the sum."""
    with staged() as stage:
        for hospital in HOSPITALS:
            stage.seat(hospital, Greedy(stage, stage.hospital(hospital)))
        stage.play()
        encoding, settled = stage.terms.update, stage.done[-1].settled
        of = settled.signed.outcome.context
        total = signed(from_bytes(settled.total, of.width, of.size))
        wrong = of.size - same(np.abs(total), np.full(of.size, len(HOSPITALS) * encoding.limit))
        try:
            encoding.encode(np.array([1.01 * encoding.limit * encoding.resolution]))
            refused = False
        except EncodingError:
            refused = True
    said = (
        f"Of a sum of {len(HOSPITALS)} vectors at the range's end, {wrong} of {of.size} coordinates are wrong, and a "
        f"coordinate beyond the range was {'refused' if refused else 'taken'}."
    )
    return Finding(wrong == 0 and refused, said, {"wrong": wrong, "coordinates": of.size})


# -- floats in the order in which they come --------------------------------------------------------------------------

ORDERS = 4
"""Studies that are played."""


def _order_breaks() -> Finding:
    with staged() as stage:
        stage.play_to_round_1()
        state, server = stage.replica.state, stage.study.settings.server
        updates = [stage.trainers[hospital].update(state.model, 1) for hospital in HOSPITALS]
        digests = set()
        for order in permutations(updates):
            delta = reduce(np.add, [u.astype(np.float32) for u in order]).astype(np.float64)
            digests.add(state.step(delta, delta.size, server).digest())
    orders = math.factorial(len(updates))
    said = f"{orders} orders of adding four updates give {len(digests)} different models."
    return Finding(len(digests) > 1, said, {"models": len(digests), "orders": orders})


def _adding_in(order: Sequence[str]) -> Callable[[Job], Job]:
    """The committee's jobs, with the hospitals' shares in an order of one's own."""

    def changed(job: Job) -> Job:
        if not isinstance(job, AddShares):
            return job
        return replace(job, parts={hospital: job.parts[hospital] for hospital in order})

    return changed


def _order_caught() -> Finding:
    """Whole studies, in each of which the parties add the shares in other orders, and not in the same."""
    orders = list(permutations(HOSPITALS))
    models = set()
    for first in range(ORDERS):
        with staged() as stage:
            for rank, name in enumerate(PARTIES):
                stage.jobs[name].changed = _adding_in(orders[(first * 5 + rank * 7) % len(orders)])
            stage.play()
            models.add(stage.replica.state.digest())
    said = (
        f"{ORDERS} studies whose parties add in {ORDERS * len(PARTIES)} orders end with {len(models)} model."
    )
    return Finding(len(models) == 1, said, {"models": len(models), "studies": ORDERS})


# -- masks that need everybody ---------------------------------------------------------------------------------------


def with_pairwise_masks(updates: dict[str, RingVector], present: list[str]) -> RingVector:
    """The naive aggregation, without a committee: each pair of hospitals has a mask, which one adds and one takes off.

    Returns:
        The sum of what the hospitals that are present send.
    """
    names, seeds = sorted(updates), {}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            seeds[first, second] = new_seed()
    total = np.zeros_like(next(iter(updates.values())))
    for name in present:
        total += updates[name]
        for (first, second), seed in seeds.items():
            if name in (first, second):
                mask = Stream(seed, "pairwise", b"").ring_vector(total.size, WIDTH)
                total = total + mask if name == first else total - mask
    return total


class DropsOut:
    """A hospital that is there for the statistics and does not answer afterwards."""

    def __init__(self, machine: HospitalMachine) -> None:
        self.name, self._machine = machine.name, machine

    def handle(self, event: Event) -> list[Effect]:
        """Nothing, once training has begun."""
        silent = isinstance(event, Announcement) and event.context.round > 0
        return [] if silent else self._machine.handle(event)


def _true_updates(stage: Stage) -> dict[str, RingVector]:
    return {hospital: stage.update(hospital) for hospital in HOSPITALS}


def _dropout_breaks() -> Finding:
    with staged() as stage:
        stage.play_to_round_1()
        updates = _true_updates(stage)
    everyone = same(with_pairwise_masks(updates, list(HOSPITALS)), _sum(updates))
    rest = {h: u for h, u in updates.items() if h != VICTIM}
    found, size = same(with_pairwise_masks(updates, list(rest)), _sum(rest)), updates[VICTIM].size
    said = (
        f"Without {VICTIM}, {found} of {size} coordinates of the sum came out right; with it {everyone} did."
    )
    return Finding(found <= 1 and everyone == size, said, {"right": found, "right_with_all": everyone})


def _dropout_caught() -> Finding:
    with staged() as stage:
        stage.seat(VICTIM, DropsOut(stage.hospital(VICTIM)))
        stage.play()
        updates = _true_updates(stage)
        settled = stage.done[-1].settled
        reason = settled.signed.outcome.absent.get(VICTIM, "not named")
        rest = _sum({h: u for h, u in updates.items() if h != VICTIM})
        found, size = same(np.frombuffer(settled.total, dtype=rest.dtype), rest), rest.size
    said = (
        f"{found} of {size} coordinates of the sum over the {len(HOSPITALS) - 1} others are right, and the receipt "
        f"names the absent one ({reason})."
    )
    return Finding(found == size and reason == "no-answer", said, {"right": found, "coordinates": size})


def _sum(updates: dict[str, RingVector]) -> RingVector:
    total = np.sum([signed(u) for u in updates.values()], axis=0)
    return from_signed(total, WIDTH)


MUTANTS = (
    Mutant(
        "no-room-for-the-sum",
        "exact-sum",
        "The encoding is as fine as one hospital's bound allows, whatever the number of hospitals.",
        _wraps_breaks,
        _wraps_caught,
    ),
    Mutant(
        "floats-in-any-order",
        "model-is-determined",
        "Updates are added as floats, in the order in which they arrive.",
        _order_breaks,
        _order_caught,
    ),
    Mutant(
        "pairwise-masks",
        "missing-hospitals-cost-themselves",
        "There is no committee: hospitals add masks that cancel pair by pair, and a missing one's do not.",
        _dropout_breaks,
        _dropout_caught,
    ),
)
