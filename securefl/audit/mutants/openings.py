"""Mutants that open a sum too many, or one over too few: from two sums or a small one, a hospital's update follows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields

import numpy as np

from protocols.contribution import RoundContext
from protocols.prg import RingVector
from protocols.ring import from_signed, signed
from protocols.sharing import Shape, add_share, share, zeros
from securefl.audit.hostile import Attempted, context, same, try_round
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, closing, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM, Members
from securefl.consortium import load_keys, rotate
from securefl.errors import RefusedError
from securefl.roles.effects import Effect, Enter, Event, Machine, OpenSum, RunCommittee
from securefl.roles.messages import Opened, Release
from securefl.roles.party_memory import Ledger
from securefl.roles.terms import STATISTICS, UPDATE, Terms

OTHERS = [hospital for hospital in HOSPITALS if hospital != VICTIM]


# -- death after the opening share -----------------------------------------------------------------------------------


class WritesDownLater:
    """A party that opens the sum first, and writes down that it does when it is open."""

    def __init__(self, machine: Machine) -> None:
        self.name, self._machine = machine.name, machine

    def handle(self, event: Event) -> list[Effect]:
        """The shipped party's effects, the opening first."""
        return sorted(self._machine.handle(event), key=lambda effect: not _opens(effect))


def _opens(effect: Effect) -> bool:
    return isinstance(effect, RunCommittee) and isinstance(effect.job, OpenSum)


def _die_after_opening(stage: Stage, party: Callable[[Machine], Machine]) -> tuple[RingVector, Attempted]:
    """Everybody's power fails once the opening shares have left; a further attempt, without one hospital, follows.

    Returns:
        The sum that was seen before the failure, and how the second attempt went.
    """
    for name in PARTIES:
        stage.seat(name, party(stage.party(name)))
    stage.play_to_round_1()
    for name in PARTIES:
        stage.jobs[name].dies_after_opening = True
    try_round(stage, context(stage))
    for name in PARTIES:
        stage.start_again(name, party(stage.party(name)))
    seen = from_signed(stage.jobs[PARTIES[0]].opened[-1], stage.terms.update.width)
    return seen, try_round(stage, context(stage, attempt=2), OTHERS, session=2)


def _second_sum_breaks() -> Finding:
    with staged() as stage:
        first, again = _die_after_opening(stage, WritesDownLater)
        truth = stage.update(VICTIM)
        if again.total is None:
            return Finding(False, "No second sum was opened.")
        found = same(first - again.total, truth)
    said = f"The difference of two sums of one model gave {found} of {truth.size} coordinates of {VICTIM}'s update."
    return Finding(found == truth.size, said, {"recovered": found, "coordinates": truth.size})


def _second_sum_caught() -> Finding:
    with staged() as stage:
        first, again = _die_after_opening(stage, lambda machine: machine)
        release = next(m for _, _, m in reversed(stage.wire) if isinstance(m, Release))
        finished = stage.ask_all({name: release.model_copy(update={"session": 3}) for name in PARTIES})
        sums = {m.total for m in finished.values() if isinstance(m, Opened)}
        shares = [{data for round_, data in stage.jobs[name].sent if round_ == 1} for name in PARTIES]
        sent = max(len(different) for different in shares)
    refused = again.total is None and again.reasons == {"already-opened"}
    resent = sums == {first.tobytes()}
    said = (
        f"{len(again.refusals)} of {len(PARTIES)} parties refused a second attempt "
        f"({', '.join(sorted(again.reasons))}) and finished the first: no party has sent more than {sent} "
        "opening share."
    )
    return Finding(
        refused and resent and sent == 1, said, {"refusals": len(again.refusals), "different_shares": sent}
    )


# -- a list of one ---------------------------------------------------------------------------------------------------


class NoMinimum(Terms):
    """Terms under which a sum may be over one hospital."""

    def least(self, round_: int) -> int:
        """One."""
        return 1


def _list_of_one(careless: bool) -> tuple[Attempted, int, int]:
    with staged() as stage:
        values = {f.name: getattr(stage.terms, f.name) for f in fields(Terms)}
        for name in PARTIES if careless else ():
            stage.seat(name, stage.party(name, NoMinimum(**values)))
        stage.play_to_round_1()
        tried, truth = try_round(stage, context(stage), [VICTIM]), stage.update(VICTIM)
        return tried, 0 if tried.total is None else same(tried.total, truth), truth.size


def _list_of_one_breaks() -> Finding:
    _, found, size = _list_of_one(careless=True)
    said = f"The sum over one hospital gave {found} of {size} coordinates of {VICTIM}'s update."
    return Finding(found == size, said, {"recovered": found, "coordinates": size})


def _list_of_one_caught() -> Finding:
    tried, found, _ = _list_of_one(careless=False)
    said = f"{len(tried.refusals)} of {len(PARTIES)} parties refused the list ({', '.join(sorted(tried.reasons))})."
    refused = tried.reasons == {"too-few-hospitals"} and len(tried.refusals) == len(PARTIES)
    return Finding(refused and not found, said, {"refusals": len(tried.refusals), "recovered": found})


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


# -- the count difference --------------------------------------------------------------------------------------------


def opened_count(stage: Stage, present: Sequence[str]) -> int:
    """The naive round: whoever is there shares its number of records, and the total is opened beside the updates."""
    encoding, total = stage.terms.statistics, zeros(Shape(1, stage.terms.statistics.width))
    for hospital in present:
        x = encoding.encode(stage.trainers[hospital].statistics()[:1])
        for rank, part in enumerate(share(x, len(PARTIES), 0, hospital.encode())):
            add_share(total, part, rank, hospital.encode())
    return round(float(encoding.decode_sum(signed(total))[0]))


def _counts_break() -> Finding:
    with staged() as stage:
        found = opened_count(stage, HOSPITALS) - opened_count(stage, OTHERS)
        truth = int(stage.trainers[VICTIM].statistics()[0])
    said = f"When {VICTIM} dropped out, the total fell by {found}: it has {truth} records."
    return Finding(found == truth, said, {"found": found, "records": truth})


def _counts_caught() -> Finding:
    with staged() as stage:
        first = context(stage)
        tried = {
            "a cohort without it": try_round(stage, first, OTHERS, OTHERS),
            "a list without it": try_round(stage, context(stage, attempt=2), OTHERS, session=2),
        }
    with staged() as stage:
        first = context(stage, attempt=2)
        stage.play_to_round_1()
        tried["the statistics once more"] = try_round(stage, first, OTHERS)
        counted = context(stage, purpose=STATISTICS, size=first.size, width=first.width)
        tried["a count in training"] = try_round(stage, counted, OTHERS)
        dropped = try_round(stage, context(stage, attempt=3), OTHERS, session=2)
    refused = [what for what, attempt in tried.items() if attempt.total is None and attempt.refusals]
    reasons = sorted(set().union(*(attempt.reasons for attempt in tried.values())))
    purpose = dropped.settled.signed.outcome.context.purpose if dropped.settled else "nothing"
    said = (
        f"{len(refused)} of {len(tried)} ways to a second count were refused ({', '.join(reasons)}); "
        f"the round without {VICTIM} opened a sum of {purpose}s alone."
    )
    holds = len(refused) == len(tried) and purpose == UPDATE
    return Finding(holds, said, {"refused": len(refused), "tried": len(tried)})


MUTANTS = (
    Mutant(
        "death-after-opening",
        "one-sum-a-round",
        "A party opens its sum first and writes down afterwards that it does, so that a restart has forgotten it.",
        _second_sum_breaks,
        _second_sum_caught,
    ),
    Mutant(
        "list-of-one",
        "minimum-hospitals",
        "Parties agree to any list of contributions, also to a list of one.",
        _list_of_one_breaks,
        _list_of_one_caught,
    ),
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
    Mutant(
        "count-difference",
        "no-count-difference",
        "The hospitals' numbers of records are added and opened in each round, over who is there.",
        _counts_break,
        _counts_caught,
    ),
)
