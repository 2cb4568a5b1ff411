"""One charge in a hospital's privacy ledger, as it lies on the disk, and how it is told from a damaged one.

Adversary: a disk that loses, mixes up or damages entries. Not whoever can write the ledger's folder.
Promise: what ``opened`` returns is what ``entry`` was given, under the name that it was given; all else is an error
    that names the entry.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from protocols.canonical import Record, digest
from protocols.errors import EncodingError
from securefl.privacy import accounting
from securefl.privacy.accounting import ORDERS, Step
from securefl.privacy.mechanism import Mechanism, PrivacyError, Unit

ANY = "charge-"
"""How every entry's name begins."""


def name_prefix(dataset: str) -> str:
    """How the names of this dataset's entries begin."""
    return f"{ANY}{hashlib.sha256(dataset.encode()).hexdigest()[:16]}-"


SCALE = 2**40
"""Rényi divergences are stored in units of 2^-40, rounded up."""

ENDLESS = 2**64 - 1
"""A stored divergence that says nothing any more."""

CLOSE = 1 + 1e-9
"""More than what two machines' floating point can differ by in a curve."""


class LedgerError(PrivacyError):
    """The ledger cannot be trusted as it stands; the message names the entry. The hospital must not go on."""


@dataclass(frozen=True)
class Occasion:
    """What is charged once: the answer to one announcement.

    Attributes:
        study: the study's digest, 32 bytes.
        round: from 0 (statistics).
        attempt: from 1.
        announcement: digest (32 bytes) of the announcement that is answered. A study that is run a second time has
            announcements of its own, with new keys, so its rounds are charged again.
    """

    study: bytes
    round: int
    attempt: int
    announcement: bytes


class Charge(Record):
    """One attempt's cost. Numbers that are not small integers are strings: integers in decimal, floats as ``repr``.

    Attributes:
        number: how many charges the dataset had before.
        orders, curve: the Rényi divergence of one attempt at the collusion bound, by order, units of 2^-40, upwards.
        The others: ``Occasion``'s and ``Mechanism``'s; ``extra_delta`` as in ``accounting.spent``.
    """

    kind = "privacy-charge"
    dataset: str
    number: int
    study: bytes
    round: int
    attempt: int
    announcement: bytes
    unit: str
    sampling_rate: str
    clip_units: str
    party_variance: str
    parties: int
    colluding: int
    size: int
    extra_delta: str
    orders: list[int]
    curve: list[int]

    @classmethod
    def of(
        cls, dataset: str, number: int, occasion: Occasion, mechanism: Mechanism, extra_delta: float
    ) -> Charge:
        """What this attempt costs."""
        return cls(
            dataset=dataset,
            number=number,
            study=occasion.study,
            round=occasion.round,
            attempt=occasion.attempt,
            announcement=occasion.announcement,
            unit=mechanism.unit,
            sampling_rate=repr(float(mechanism.sampling_rate)),
            clip_units=str(mechanism.clip_units),
            party_variance=str(mechanism.party_variance),
            parties=mechanism.parties,
            colluding=mechanism.colluding,
            size=mechanism.size,
            extra_delta=repr(float(extra_delta)),
            orders=list(ORDERS),
            curve=_scaled_up(accounting.curve(Step.of(mechanism, mechanism.colluding, extra_delta))),
        )

    def occasion(self) -> Occasion:
        """What it was charged for."""
        return Occasion(self.study, self.round, self.attempt, self.announcement)

    def mechanism(self) -> Mechanism:
        """The mechanism that was charged.

        Raises:
            PrivacyError, ValueError: the fields are no mechanism's.
        """
        return Mechanism(
            unit=_unit(self.unit),
            sampling_rate=float(self.sampling_rate),
            clip_units=int(self.clip_units),
            party_variance=int(self.party_variance),
            parties=self.parties,
            colluding=self.colluding,
            size=self.size,
        )

    def step(self) -> Step:
        """The attempt as the accountants see it, at the collusion bound."""
        mechanism = self.mechanism()
        return Step.of(mechanism, mechanism.colluding, float(self.extra_delta))


class _Entry(Record):
    """A charge as it lies on the disk, with its digest: no bit of it changes unseen."""

    kind = "privacy-entry"
    charge: dict[str, Any]
    checksum: bytes


def entry(charge: Charge) -> bytes:
    """The bytes of the charge's entry."""
    return _Entry(charge=charge.body(), checksum=charge.digest()).to_bytes()


def charge_name(dataset: str, occasion: Occasion) -> str:
    """The entry's name: the same for the same dataset and occasion, a safe file name."""
    about = [occasion.study, occasion.round, occasion.attempt, occasion.announcement]
    return f"{name_prefix(dataset)}{digest('privacy-occasion', [dataset, *about]).hex()[:40]}"


def opened(name: str, data: bytes, dataset: str) -> tuple[Charge, Step]:
    """Read the entry of that name, of that dataset.

    Raises:
        LedgerError: it is not what was written.
    """
    try:
        held = _Entry.from_bytes(data)
        charge = Charge.from_value([Charge.kind, held.charge])
        if held.checksum != charge.digest():
            raise EncodingError("its digest is not that of its content")
        if charge.dataset != dataset or charge_name(dataset, charge.occasion()) != name:
            raise EncodingError("it was made under another name")
        step = charge.step()
        if charge.number < 0 or not _covers(charge, step):
            raise EncodingError("its curve is not that of its mechanism")
    except (EncodingError, PrivacyError, ValueError, OverflowError) as error:
        raise LedgerError(
            f"The ledger's entry {name} is damaged ({str(error).rstrip('.')}): restore it before any study goes on."
        ) from error
    return charge, step


def _covers(charge: Charge, step: Step) -> bool:
    orders, stored = charge.orders, charge.curve
    if not orders or len(orders) != len(stored) or any(b <= a for a, b in pairwise(orders)):
        return False
    known = dict(zip(ORDERS, accounting.curve(step), strict=True))
    return all(
        stored[k] / SCALE * CLOSE >= known[order] or stored[k] == ENDLESS
        for k, order in enumerate(orders)
        if order in known
    )


def _scaled_up(curve: Sequence[float]) -> list[int]:
    return [ENDLESS if rho * CLOSE * SCALE >= ENDLESS else math.ceil(rho * CLOSE * SCALE) for rho in curve]


def _unit(name: str) -> Unit:
    if name == "patient":
        return "patient"
    if name == "hospital":
        return "hospital"
    raise PrivacyError("its unit is neither patient nor hospital")
