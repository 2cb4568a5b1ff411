"""Mutants that open sums of one model over several sets of hospitals, each in a study of its own."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping

import numpy as np

from protocols.contribution import RoundContext
from securefl.audit.hostile import Attempted, context, same, try_round
from securefl.audit.mutants.openings import OTHERS
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, closing, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM, Members
from securefl.consortium import load_keys, rotate
from securefl.errors import RefusedError
from securefl.roles.effects import Enter
from securefl.roles.party_memory import Ledger

# -- two studies of one model ----------------------------------------------------------------------------------------


def _two_studies(one_ledger: bool) -> tuple[Attempted, int, int]:
    """The same sum in two studies of one model, the second time without one hospital."""
    with staged() as stage:
        stage.play_to_round_1()
        first, truth = try_round(stage, context(stage)), stage.update(VICTIM)
        other = stage.sister("Another study", ledgers=stage.folder if one_ledger else None)
        other.play_to_round_1()
        second = try_round(other, context(other), OTHERS)
        if first.total is None or second.total is None:
            return second, 0, truth.size
        return second, same(first.total - second.total, truth), truth.size


def _two_studies_breaks() -> Finding:
    _, found, size = _two_studies(one_ledger=False)
    said = f"The sums of two studies differ by {VICTIM}'s update: {found} of {size} coordinates recovered."
    return Finding(found == size, said, {"recovered": found, "coordinates": size})


def _two_studies_caught() -> Finding:
    tried, found, _ = _two_studies(one_ledger=True)
    said = (
        f"{len(tried.refusals)} of {len(PARTIES)} parties refused the second study's list "
        f"({', '.join(sorted(tried.reasons))})."
    )
    return Finding(
        tried.reasons == {"other-cohort"} and not found,
        said,
        {"refusals": len(tried.refusals), "recovered": found},
    )


# -- several studies of one model ------------------------------------------------------------------------------------

TRIPLES = [[h for h in HOSPITALS if h != left_out] for left_out in HOSPITALS]
"""Four cohorts, of which no two differ by one hospital."""


class TwoByTwo(Ledger):
    """The ledger of a party that compares a cohort with each of those that it has opened, and refuses near ones."""

    def __init__(self) -> None:
        super().__init__({}, {})
        self._cohorts: list[frozenset[str]] = []

    def check(self, context: RoundContext, included: Collection[str]) -> None:
        """Refuse a cohort that differs by one hospital from an opened one."""
        if context.round > 0 and any(len(opened ^ frozenset(included)) == 1 for opened in self._cohorts):
            raise RefusedError("differs-by-one", "The difference of two sums would be a hospital's update.")

    def enter(self, context: RoundContext, included: Collection[str]) -> list[Enter]:
        """Remember it, without a disk."""
        if context.round > 0:
            self._cohorts.append(frozenset(included))
        return []


def _several_studies(ledgers: Mapping[str, Ledger]) -> tuple[list[Attempted], int, int]:
    """The same round in four studies of one model, each time without another hospital; what the sums tell of one.

    Args:
        ledgers: the naive parties' own, over all studies; none where what ships is attacked.
    """
    with staged() as stage:
        studies, tried = [stage], []
        for name in ("A second", "A third", "A fourth"):
            studies.append(studies[-1].sister(name, ledgers=stage.folder))
        for study, cohort in zip(studies, TRIPLES, strict=True):
            for name, ledger in ledgers.items():
                machine = study.party(name)
                machine._ledger = ledger
                study.seat(name, machine)
            study.play_to_round_1()
            tried.append(try_round(study, context(study), cohort))
        truth = stage.update(VICTIM)
    sums = {stage: attempt.total for stage, attempt in zip(HOSPITALS, tried, strict=True)}
    without, found = sums.pop(VICTIM), 0
    rest = [total for total in sums.values() if total is not None]
    if without is not None and len(rest) == len(sums):
        # Three sums with it and two of the other three each, less the one of those three twice: three times it.
        triple = sum(rest[1:], rest[0]) - without - without
        found = same(triple * truth.dtype.type(pow(3, -1, 2**stage.terms.update.width)), truth)
    return tried, found, truth.size


def _several_studies_breaks() -> Finding:
    tried, found, size = _several_studies({name: TwoByTwo() for name in PARTIES})
    said = f"{len(tried)} sums, no two of them a hospital apart, gave {found} of {size} coordinates of an update."
    return Finding(found == size, said, {"recovered": found, "coordinates": size})


def _several_studies_caught() -> Finding:
    tried, found, _ = _several_studies({})
    opened = sum(attempt.total is not None for attempt in tried)
    reasons = set().union(*(attempt.reasons for attempt in tried))
    said = (
        f"{opened} of {len(tried)} studies got a sum; the others were refused ({', '.join(sorted(reasons))})."
    )
    holds = opened == 1 and reasons == {"other-cohort"} and not found
    return Finding(holds, said, {"opened": opened, "recovered": found})


# -- one name for two keys -------------------------------------------------------------------------------------------


class NamesOnly(Ledger):
    """The ledger of a party that compares the hospitals' names."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        super().__init__(stored, dict.fromkeys(HOSPITALS, b""))


def _with_an_impostor(stage: Stage) -> Members:
    """The same members, but for one whose name stands for a key of the researcher's."""
    folder = stage.folder / "impostor"
    shutil.copytree(stage.people.folder, folder)
    pinned = rotate(folder, VICTIM)
    keys = load_keys(folder / "keys" / VICTIM, pinned.member(VICTIM))
    return Members(folder, pinned, {**stage.people.keys, VICTIM: keys})


def _two_keys(names_only: bool) -> tuple[Attempted, int, int]:
    """The statistics in two studies of one model; in the second, an impostor adds nothing under a hospital's name."""
    with staged() as stage:
        people, tried = _with_an_impostor(stage), []
        truth = stage.terms.statistics.encode(stage.trainers[VICTIM].statistics())
        with closing(Stage(stage.folder / "other", people, "Another study", ledgers=stage.folder)) as other:
            other.trainers[VICTIM].statistics = lambda: np.zeros(truth.size)
            for study in (stage, other):
                for name in PARTIES if names_only else ():
                    machine = study.party(name)
                    machine._ledger = NamesOnly(study.ledger(name))
                    study.seat(name, machine)
                tried.append(try_round(study, context(study)))
    first, second = (attempt.total for attempt in tried)
    found = 0 if first is None or second is None else same(first - second, truth)
    return tried[1], found, truth.size


def _two_keys_break() -> Finding:
    _, found, size = _two_keys(names_only=True)
    said = f"Two sums over the same names differ by {found} of {VICTIM}'s {size} statistics."
    return Finding(found == size, said, {"recovered": found, "statistics": size})


def _two_keys_caught() -> Finding:
    tried, found, _ = _two_keys(names_only=False)
    said = (
        f"{len(tried.refusals)} of {len(PARTIES)} parties refused the list with another key under {VICTIM}'s name "
        f"({', '.join(sorted(tried.reasons))})."
    )
    holds = tried.reasons == {"other-cohort"} and not found
    return Finding(holds, said, {"refusals": len(tried.refusals), "recovered": found})


MUTANTS = (
    Mutant(
        "two-studies-of-one-model",
        "no-two-sums-of-a-model",
        "A party remembers what it opened in this study, and nothing of the others that it serves.",
        _two_studies_breaks,
        _two_studies_caught,
    ),
    Mutant(
        "several-studies-of-one-model",
        "no-two-sums-of-a-model",
        "A party compares cohorts two by two, and refuses one that differs by one hospital from one that it opened.",
        _several_studies_breaks,
        _several_studies_caught,
    ),
    Mutant(
        "one-name-for-two-keys",
        "no-two-sums-of-a-model",
        "A party compares the names of the hospitals whose sum it opened, and not their keys.",
        _two_keys_break,
        _two_keys_caught,
    ),
)
