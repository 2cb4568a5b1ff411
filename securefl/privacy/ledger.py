"""A hospital's privacy ledger: what each of its datasets has given away, over all studies, and what may still go.

An attempt of a round is charged before the hospital's contribution leaves, and the charge is durable by then: a crash
can leave a charge whose contribution never left, never a contribution without its charge. Charges are only added.

Adversary: a study, or several, that ask for more than the hospital's budget or their own promise; a crash anywhere; a
    disk that loses or damages entries. Not whoever can write the ledger's folder: it could also begin an empty one.
Promise: at the collusion bound of each study, all that was charged composes to no more than the budget; an entry that
    is damaged, renamed, or missing before a later one stops the hospital and is never counted as nothing. Attempts of
    one kind are counted by their privacy-loss distribution. Once there are several kinds, the later ones may have been
    chosen by what the earlier ones gave, and a Rényi filter counts them. Either way ends within epsilon at delta, so
    that all ways together end within epsilon at twice delta.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from securefl.errors import RefusedError
from securefl.privacy import accounting
from securefl.privacy.accounting import ORDERS, Epsilon, Step, Steps
from securefl.privacy.budget import Budget
from securefl.privacy.charge import (
    ANY,
    ENDLESS,
    SCALE,
    Charge,
    LedgerError,
    Occasion,
    charge_name,
    entry,
    name_prefix,
    opened,
)
from securefl.privacy.mechanism import Mechanism, PrivacyError, Unit

if TYPE_CHECKING:
    from securefl.study.data_settings import DataSettings


class PrivacyLedger:
    """The charges of one dataset.

    Args:
        dataset: ``dataset_name``'s.
        entries: the hospital's ledger, which holds the entries of all its datasets and nothing else, by name; read
            again at every question, since other studies write to it. Whoever lets two processes write at once must
            let only one of them be between ``check`` and the entry's being durable.
        budget: what the steward allows; None sets no limit but the study's own promise.

    Every method raises LedgerError when an entry is not what was written.
    """

    def __init__(self, dataset: str, entries: Mapping[str, bytes], budget: Budget | None = None) -> None:
        self._dataset, self._entries, self._budget = dataset, entries, budget
        self._charges: dict[str, tuple[Charge, Step]] = {}

    def check(
        self,
        mechanism: Mechanism,
        occasion: Occasion,
        promise: Budget | None = None,
        extra_delta: float = 0.0,
        allowance: Budget | None = None,
    ) -> None:
        """Refuse an attempt that would exceed the hospital's budget, its permit, or what its study promises.

        promise: the study's epsilon and delta, for its own unit; None for a study that sets its noise alone.
        allowance: what the steward's permit allows the study, over all its runs, for any unit. An attempt that is
        charged already costs nothing more.

        Raises:
            RefusedError: ``budget-exceeded``; one sentence with the figures.
        """
        charges = self._read()
        if charge_name(self._dataset, occasion) in charges:
            self._charged(charges, mechanism, occasion, extra_delta)
            return
        step = Step.of(mechanism, mechanism.colluding, extra_delta)
        if promise is not None and promise.unit != mechanism.unit:
            raise PrivacyError(
                f"The study promises something to a {promise.unit}, but its mechanism is for a {mechanism.unit}."
            )
        own = [(c, s) for c, s in charges.values() if c.study == occasion.study]
        if promise is not None:
            self._limit(own, mechanism, step, promise, "what this study promises")
        if allowance is not None:
            self._limit(own, mechanism, step, allowance, "what the steward's permit allows")
        if self._budget is not None:
            self._limit(
                list(charges.values()), mechanism, step, self._budget, "the budget that this hospital sets"
            )

    def enter(self, mechanism: Mechanism, occasion: Occasion, extra_delta: float = 0.0) -> tuple[str, bytes]:
        """The entry to write, durably, before the contribution leaves: its name and its bytes.

        An attempt that is charged already has the bytes that it has on the disk.
        """
        charges, name = self._read(), charge_name(self._dataset, occasion)
        if name in charges:
            return name, entry(self._charged(charges, mechanism, occasion, extra_delta))
        return name, entry(Charge.of(self._dataset, len(charges), occasion, mechanism, extra_delta))

    def charges(self, study: bytes | None = None) -> list[Charge]:
        """All charges of the dataset, or one study's, in the order in which they were made."""
        found = [charge for charge, _ in self._read().values() if study in (None, charge.study)]
        return sorted(found, key=lambda c: (c.number, c.study, c.round, c.attempt))

    def total(self, delta: float, unit: Unit = "patient", study: bytes | None = None) -> Epsilon:
        """What the dataset, or one study alone, has spent for one unit at delta, at each study's collusion bound.

        A charge for hospitals counts for a patient as an attempt with twice the norm and no sampling: the patient's
        hospital is then changed, not removed. A charge for patients says nothing for a hospital: infinite.
        """
        found = [(c, s) for c, s in self._read().values() if study in (None, c.study)]
        return _epsilon(found, unit, delta)

    def _limit(
        self,
        charged: Sequence[tuple[Charge, Step]],
        mechanism: Mechanism,
        step: Step,
        limit: Budget,
        whose: str,
    ) -> None:
        counts = Counter(_for(limit.unit, charge.unit, s) for charge, s in charged)
        this = _for(limit.unit, mechanism.unit, step)
        wanted = counts.pop(this, 0) + 1
        if this is not None and not counts:
            # Asked for the next power of two, so that few rounds of a study compose anything.
            horizon = 1 << (wanted - 1).bit_length()
            if wanted <= _most(this, horizon, limit.epsilon, limit.delta):
                return
        candidate = Charge.of(
            self._dataset, len(charged), Occasion(b"", 0, 0, b""), mechanism, step.extra_delta
        )
        wished = [*charged, (candidate, step)]
        if counts and (filtered := _filtered(wished, limit)) <= limit.epsilon:
            return
        found = _epsilon(wished, limit.unit, limit.delta)
        if not counts and found.pld <= limit.epsilon:
            return
        how = f" and, as studies that follow each other add up, {filtered:.4g}" if counts else ""
        raise RefusedError(
            "budget-exceeded",
            f"This attempt would bring {self._dataset} to epsilon {found.pld:.4g} (by RDP {found.rdp:.4g}){how} at "
            f"delta {limit.delta:.3g} for a {limit.unit}, after {len(charged) + 1} attempts, and {whose} is "
            f"{limit.epsilon:g}: end the study here.",
        )

    def _charged(
        self,
        charges: Mapping[str, tuple[Charge, Step]],
        mechanism: Mechanism,
        occasion: Occasion,
        extra_delta: float,
    ) -> Charge:
        charge, step = charges[charge_name(self._dataset, occasion)]
        if (charge.mechanism(), step.extra_delta) != (mechanism, extra_delta):
            raise LedgerError(
                f"Attempt {occasion.attempt} of round {occasion.round} was charged for another mechanism: the same "
                "announcement is answered once."
            )
        return charge

    def _read(self) -> Mapping[str, tuple[Charge, Step]]:
        """Every charge by its name; each entry is read once, since entries never change."""
        prefix = name_prefix(self._dataset)
        names = set(self._entries)
        for name in names:
            if not name.startswith(ANY):
                raise LedgerError(f"{name} is no entry of a privacy ledger: find out where it comes from.")
        found = {name for name in names if name.startswith(prefix)}
        if lost := self._charges.keys() - found:
            raise LedgerError(
                f"The ledger's entry {min(lost)} has gone: restore it before any study goes on."
            )
        for name in found - self._charges.keys():
            self._charges[name] = opened(name, self._entries[name], self._dataset)
        numbers = sorted(charge.number for charge, _ in self._charges.values())
        for place, number in enumerate(numbers):
            if number > place:
                raise LedgerError(
                    f"The ledger of {self._dataset} lacks an entry: one was made after {number} others, of which "
                    f"{place} are left; restore it before any study goes on."
                )
        return self._charges


def _for(protected: str, charged: str, step: Step) -> Step | None:
    """What a charge means for the unit that is to be protected; None if it means nothing."""
    if protected == charged:
        return step
    return step.doubled() if protected == "patient" else None


def _epsilon(charged: Sequence[tuple[Charge, Step]], unit: Unit, delta: float) -> Epsilon:
    """By RDP from the stored curves, by PLD from the stored mechanisms."""
    steps, curves = _meant(charged, unit)
    if len(curves) < len(charged):
        return Epsilon(math.inf, math.inf)
    orders = sorted(set.intersection(*map(set, curves))) if curves else []
    totals = [math.fsum(curve[order] for curve in curves) for order in orders]
    return Epsilon(
        accounting.epsilon_of_curve(orders, totals, steps, delta), accounting.pld_epsilon(steps, delta)
    )


def _filtered(charged: Sequence[tuple[Charge, Step]], limit: Budget) -> float:
    """By the stored curves at one order, which the limit and the first charge decide."""
    charged = sorted(charged, key=lambda pair: pair[0].number)
    steps, curves = _meant(charged, limit.unit)
    if len(curves) < len(charged):
        return math.inf
    order = accounting.filter_order(curves[0], limit.epsilon, limit.delta)
    if not all(order in curve for curve in curves):
        return math.inf
    total = math.fsum(curve[order] for curve in curves)
    return accounting.epsilon_of_curve([order], [total], steps, limit.delta)


def _meant(charged: Sequence[tuple[Charge, Step]], unit: Unit) -> tuple[Steps, list[dict[int, float]]]:
    """For one unit: the kinds of steps with their numbers, and each one's curve, but of charges that mean nothing."""
    counts: Counter[Step] = Counter()
    curves: list[dict[int, float]] = []
    for charge, step in charged:
        meant = _for(unit, charge.unit, step)
        if meant is None:
            continue
        counts[meant] += 1
        if meant is step:
            pairs = zip(charge.orders, charge.curve, strict=True)
            curves.append({order: math.inf if c == ENDLESS else c / SCALE for order, c in pairs})
        else:
            curves.append(dict(zip(ORDERS, accounting.curve(meant), strict=True)))
    return tuple(sorted(counts.items(), key=repr)), curves


_most = lru_cache(maxsize=64)(accounting.most)


def dataset_name(settings: DataSettings, root: Path | None) -> str:
    """Which account a study's records are charged to: the folder where they lie, or the source without a folder.

    root: the hospital's folder or file, with its own name filled in. It is resolved here, so that neither a link nor
    another loader, name or study opens a second account for the same files. A copy elsewhere does: two folders with
    the same patients need budgets that are made for it. Records that a study's Python module reads are one account,
    whatever the module: where it reads them is not known.
    """
    return settings.source if root is None else str(Path(root).resolve())
