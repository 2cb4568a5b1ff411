"""Mutants that open a sum too many, or one over too few: from two sums or a small one, a hospital's update follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

from protocols.prg import RingVector
from protocols.ring import from_signed, signed
from protocols.sharing import Shape, add_share, share, zeros
from securefl.audit.hostile import Attempted, context, same, try_round
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, VICTIM
from securefl.roles.effects import Effect, Event, Machine, OpenSum, RunCommittee
from securefl.roles.messages import Opened, Release
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
        "count-difference",
        "no-count-difference",
        "The hospitals' numbers of records are added and opened in each round, over who is there.",
        _counts_break,
        _counts_caught,
    ),
)
