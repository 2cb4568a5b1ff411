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
from securefl.consent import NOT_APPROVED
from securefl.roles.effects import COORDINATOR, AddShares, Effect, Event, Job, Send
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import Announcement, Declined

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


class Missing:
    """A hospital that is there for the statistics, and afterwards does what it is told in place of contributing."""

    def __init__(self, machine: HospitalMachine, instead: Callable[[Announcement], list[Effect]]) -> None:
        self.name, self._machine, self._instead = machine.name, machine, instead

    def handle(self, event: Event) -> list[Effect]:
        """Nothing of its own, once training has begun."""
        if isinstance(event, Announcement) and event.context.round > 0:
            return self._instead(event)
        return self._machine.handle(event)


def _silent(_announcement: Announcement) -> list[Effect]:
    return []


def _declines(announcement: Announcement) -> list[Effect]:
    context = announcement.context.digest()
    return [
        Send(COORDINATOR, Declined(context=context, hospital=VICTIM, reason=NOT_APPROVED, explanation=""))
    ]


MISSING: dict[str, Callable[[Announcement], list[Effect]]] = {"no-answer": _silent, NOT_APPROVED: _declines}
"""What a hospital does that is not in the sum, by the reason that the receipt has to give."""


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


def _without(instead: Callable[[Announcement], list[Effect]]) -> tuple[int, int, str]:
    """A study that one hospital is missing from: coordinates that are right, of how many, and why it was missing."""
    with staged() as stage:
        stage.seat(VICTIM, Missing(stage.hospital(VICTIM), instead))
        stage.play()
        updates = _true_updates(stage)
        settled = stage.done[-1].settled
        rest = _sum({h: u for h, u in updates.items() if h != VICTIM})
        found = same(np.frombuffer(settled.total, dtype=rest.dtype), rest)
        return found, rest.size, settled.signed.outcome.absent.get(VICTIM, "not named")


def _dropout_caught() -> Finding:
    tried = {reason: _without(instead) for reason, instead in MISSING.items()}
    found, size = min(found for found, _, _ in tried.values()), tried["no-answer"][1]
    told = ", ".join(reason for _, _, reason in tried.values())
    said = (
        f"{found} of {size} coordinates of the sum over the {len(HOSPITALS) - 1} others are right, whether one is "
        f"silent or declines, and the receipt names the absent one ({told})."
    )
    right = all(reason == given for reason, (_, _, given) in tried.items())
    return Finding(found == size and right, said, {"right": found, "coordinates": size})


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
