"""Whether the privacy ledgers in a folder keep to what the study promises and the hospitals allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from protocols.canonical import decode
from protocols.chain import Outcome
from protocols.errors import EncodingError
from securefl.audit.verdict import BrokenError, Check, checking
from securefl.errors import RunError
from securefl.privacy import PrivacyLedger, read_budgets
from securefl.privacy.charge import ANY, Charge
from securefl.privacy.mechanism import Unit
from securefl.roles.host import Store
from securefl.roles.terms import Terms
from securefl.study.privacy_settings import PrivacySettings

NAME = "budgets"


def check_budgets(
    folder: Path, settings: PrivacySettings | None, terms: Terms, outcomes: Sequence[Outcome]
) -> list[Check]:
    """One check: every ledger that is found is whole, has a charge for each round, and stays within its limits.

    Args:
        folder: of the run; ledgers are looked for in all of it.
        settings: the study's table ``[privacy]``, None if it has none.
        outcomes: the run's rounds.
    """
    try:
        with checking(NAME):
            found = ledgers(folder)
            spent = [
                _check(hospital, path, settings, terms, outcomes)
                for hospital, path in found
                if hospital in terms.hospitals
            ]
    except BrokenError as error:
        return [Check(NAME, "fails", str(error))]
    if settings is None and not found:
        return [
            Check(NAME, "unchecked", "The study has no [privacy]: nothing is promised about one patient.")
        ]
    if not found:
        says = "No privacy ledger lies in this folder: hospitals keep theirs."
        return [Check(NAME, "unchecked", says)]
    said = [f"{len(spent)} ledgers are whole and charge every round"]
    if spent:
        said.append(f"the most spent is epsilon {max(spent):.3g}")
    counted = {hospital for outcome in outcomes if outcome.round for hospital in outcome.included}
    missing = sorted(counted - {hospital for hospital, _ in found}) if terms.private else []
    if missing:
        said.append(f"none lies here for {', '.join(missing)}")
    strange = [path.relative_to(folder).as_posix() for name, path in found if name not in terms.hospitals]
    if strange:
        said.append(f"not looked at, since no hospital of this study has that name: {', '.join(strange)}")
    return [Check(NAME, "unchecked" if missing or strange else "holds", f"{'; '.join(said)}.")]


def ledgers(folder: Path) -> list[tuple[str, Path]]:
    """Every ledger in a folder, with the name that it lies under; a name may have several."""
    return [(path.parent.name, path) for path in sorted(folder.rglob("ledger")) if _is_ledger(path)]


def spent_in_study(hospital: str, path: Path, study: bytes, delta: float, unit: Unit) -> float:
    """The most that a ledger says the study has spent, of any dataset.

    Raises:
        SecureFLError: the ledger is damaged.
    """
    store = Store(path)
    totals = [PrivacyLedger(name, store).total(delta, unit, study).pld for name in _datasets(hospital, store)]
    return max(totals, default=0.0)


def _is_ledger(path: Path) -> bool:
    return path.is_dir() and any(p.name.startswith(ANY) for p in path.iterdir())


def _check(
    hospital: str, path: Path, settings: PrivacySettings | None, terms: Terms, outcomes: Sequence[Outcome]
) -> float:
    """The most that was spent at one hospital."""
    store = Store(path)
    budgets = read_budgets(path.parent / "budget.toml")
    most = 0.0
    charged: set[tuple[int, int]] = set()
    for dataset in _datasets(hospital, store):
        ledger = PrivacyLedger(dataset, store)
        own: list[Charge] = ledger.charges(terms.study)
        charged |= {(charge.round, charge.attempt) for charge in own}
        for charge in own:
            _check_mechanism(hospital, charge, terms)
        if own and settings is not None and settings.epsilon is not None:
            spent = ledger.total(settings.delta, settings.unit, terms.study).pld
            most = max(most, spent)
            if spent > settings.epsilon:
                raise RunError(
                    f"{hospital} has spent epsilon {spent:.4g} in this study, which promises {settings.epsilon:g}."
                )
        budget = budgets.datasets.get(dataset) if budgets else None
        if budget is not None:
            spent = ledger.total(budget.delta, budget.unit).pld
            most = max(most, spent)
            if spent > budget.epsilon:
                raise RunError(
                    f"{hospital} has spent epsilon {spent:.4g} of {dataset}, and its budget is {budget.epsilon:g}."
                )
    for outcome in outcomes:
        # The statistics are public in a private study, and nothing is charged for them.
        place = (outcome.round, outcome.context.attempt)
        if terms.private and outcome.round and hospital in outcome.included and place not in charged:
            raise RunError(
                f"{hospital} is in the sum of round {outcome.round}, and its ledger has no charge for it."
            )
    return most


def _check_mechanism(hospital: str, charge: Charge, terms: Terms) -> None:
    if terms.private is None:
        return
    wanted = terms.private.mechanism(charge.size)
    if charge.mechanism() != wanted:
        raise RunError(
            f"{hospital}'s ledger charges round {charge.round} for another noise than the study asks its parties for."
        )


def _datasets(hospital: str, entries: Mapping[str, bytes]) -> Iterator[str]:
    """The datasets of which a ledger has entries, by what the entries say; the ledger then checks each of them."""
    seen: dict[str, None] = {}
    for name, data in entries.items():
        try:
            value: Any = decode(data)
            seen[str(value[1]["charge"]["dataset"])] = None
        except (EncodingError, LookupError, TypeError) as error:
            raise RunError(f"The ledger's entry {name} of {hospital} is damaged.") from error
    yield from seen
