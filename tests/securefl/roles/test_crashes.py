"""One fault at a time, everywhere: a role is killed, stops for good, is slow, or is told old things again.

What must hold: the study ends with the model that the included hospitals' updates give; no party lets two opening
shares of a round go, and no round has two sums; a hospital that is missing costs its own contribution, and the check
of a sum that it is in, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from protocols.chain import check_chain
from securefl.errors import EngineError
from securefl.roles.effects import Received
from securefl.roles.messages import SignedAnswer, read_message
from securefl.roles.records import receipt_name
from securefl.roles.sum_check import check_verification

SHAPE = HOSPITALS, PARTIES, ROUNDS = 3, 2, 1
BOUNDS = [None, 2.0]
"""Without and with a norm check, which all hospitals pass."""
ROLES = ["coordinator", "party-1", "party-2", "charite", "st-anna", "va"]


def check_one_sum(stage):
    """What must hold at any time, whatever happened."""
    for (party, round_), shares in stage.emitted.items():
        assert len(shares) <= 1, f"{party} sent two opening shares of round {round_}"
    for round_, sums in stage.sums.items():
        assert len(sums) <= 1, f"two sums of round {round_} were opened"


def check_ended(theatre, stage, missing=None, unverified=()):
    """What must hold at the end.

    missing: the hospital whose fault it is, which may be left out of the sums of updates.
    unverified: the rounds whose check it may have spoilt.
    """
    cast = stage.cast
    everyone, outcomes = set(cast.terms.hospitals), [signed.outcome for signed in stage.outcomes()]
    assert len(outcomes) == cast.terms.rounds + 1
    included = [set(outcome.included) for outcome in outcomes]
    assert included[0] == everyone
    assert all(everyone - there <= {missing} for there in included)
    assert np.array_equal(stage.model, theatre.expected(cast, included[1:]))
    check_one_sum(stage)
    assert all(len(sums) == 1 for sums in stage.sums.values())
    check_chain(stage.outcomes(), stage.finished.closing, cast.terms.study, cast.terms.signers)
    assert set(stage.finished.closing.closing.unverified) <= set(unverified)
    for outcome in outcomes:
        record = stage.verification(outcome.round)
        if record is not None:
            check_verification(record, outcome, stage.recall(outcome.round).total, cast.terms)
        own = stage.store("coordinator")[receipt_name(outcome.round)]
        assert all(stage.store(party)[receipt_name(outcome.round)] == own for party in cast.terms.parties)


# -- killed before any write, or at any step ---------------------------------------------------------------------


def counted(theatre, cast, tmp_path):
    """A run in which nobody is killed, to count where everybody could be."""
    fuse = theatre.fuse()
    theatre.stage(cast, tmp_path / "count", fuses=[fuse]).run()
    return fuse


def check_kills(theatre, cast, tmp_path, role, places, together=True):
    """Kill a role at each of these steps, each in a run of its own."""
    for at in places:
        fuse = theatre.fuse(role, at)
        stage = theatre.stage(cast, tmp_path / str(at), fuses=[fuse], together=together).run()
        assert stage.crashes == 1, f"{role} was not killed at step {at}"
        check_ended(theatre, stage)


@pytest.mark.parametrize(
    "role", [*(pytest.param(r, marks=pytest.mark.slow) for r in ("coordinator", "party-1")), "st-anna"]
)
def test_a_role_killed_before_any_write(theatre, tmp_path, role):
    cast = theatre.cast(*SHAPE)
    places = counted(theatre, cast, tmp_path).writes[role]
    assert len(places) >= 4
    check_kills(theatre, cast, tmp_path, role, places)


def test_a_coordinator_killed_while_the_others_live_on(theatre, tmp_path):
    cast = theatre.cast(*SHAPE)
    places = counted(theatre, cast, tmp_path).writes["coordinator"]
    check_kills(theatre, cast, tmp_path, "coordinator", places, together=False)


@pytest.mark.slow
@pytest.mark.parametrize("norm_bound", BOUNDS)
@pytest.mark.parametrize(("role", "together"), [*((role, True) for role in ROLES), ("coordinator", False)])
def test_a_role_killed_at_any_step(theatre, tmp_path, role, together, norm_bound):
    cast = theatre.cast(*SHAPE, norm_bound=norm_bound)
    # The very last step comes after the study's end.
    places = range(counted(theatre, cast, tmp_path).steps[role] - 1)
    check_kills(theatre, cast, tmp_path, role, places, together)


@pytest.mark.parametrize("seed", range(10))
def test_several_roles_killed_in_any_order_of_the_mail(theatre, tmp_path, seed):
    cast = theatre.cast(*SHAPE, norm_bound=BOUNDS[seed % 2])
    draw = np.random.default_rng(seed)
    roles = ["coordinator", *cast.terms.parties, *cast.terms.hospitals]
    fuses = [theatre.fuse(str(draw.choice(roles)), int(draw.integers(60))) for _ in range(4)]
    stage = theatre.stage(cast, tmp_path, seed=seed, fuses=fuses, together=bool(seed % 2)).run()
    check_ended(theatre, stage, unverified=range(ROUNDS + 1))


# -- stopped, slow, late, told again -----------------------------------------------------------------------------


class StoppedError(Exception):
    """The coordinator stops here, and everything with it."""


class Trouble:
    """One role's fault, from the n-th message on that comes to it."""

    def __init__(self, stage, role, fault="", at=-1):
        self.stage, self.role, self.at = stage, role, at
        self.heard, self.answered = [], defaultdict(set)
        self._fault = getattr(self, fault or "nothing")
        stage.before, stage.tamper = self._before, self._overhear

    def _before(self, to, what):
        if to != self.role:
            return
        self.heard.append(what)
        if len(self.heard) == self.at + 1:
            self._fault()

    def _overhear(self, sender, _to, message):
        if isinstance(message, SignedAnswer):
            self.answered[message.answer.outcome].add(sender)
        return message

    def nothing(self):
        """It goes well."""

    def stopped(self):
        """It says nothing any more."""
        if self.role == "coordinator":
            raise StoppedError
        if self.role in self.stage.cast.terms.parties:
            self.stage.bury(self.role)
        else:
            self.stage.muted.add(self.role)

    def slowed(self):
        """Whatever it gets and says comes last."""
        self.stage.slow.add(self.role)

    def late(self):
        """It gets nothing before a deadline has passed because of it."""
        self.stage.late.add(self.role)

    def told_again(self):
        """All that ever came to it comes again, after what is on its way."""
        if self.role != "coordinator":
            self.stage.mail[self.role].extend(self.heard)
            return
        for event in self.heard:
            if isinstance(event, Received):
                self.stage.inbox[event.sender].append(event)


FAULTS = {
    "coordinator": ["stopped", "slowed", "told_again"],
    "party": ["stopped", "slowed", "told_again"],
    "hospital": ["stopped", "late", "slowed", "told_again"],
}


def faults_of(role):
    return FAULTS.get(role) or FAULTS["party" if role.startswith("party") else "hospital"]


def kind_of(what):
    message = read_message(what) if isinstance(what, bytes) else getattr(what, "message", what)
    return type(message).__name__


def heard(theatre, cast, folder, role):
    """The kinds of the messages that come to a role when nothing happens; none of them before there was a study."""
    trouble = Trouble(theatre.stage(cast, folder), role)
    trouble.stage.run()
    check_ended(theatre, trouble.stage)
    return [kind_of(what) for what in trouble.heard]


def played(trouble):
    """Play to the end; returns why it cannot go on, empty if it did."""
    try:
        trouble.stage.run()
    except (EngineError, StoppedError) as error:
        trouble.stage.leave()
        return str(error) or "stopped"
    return ""


def begun_again(theatre, stage):
    """Everybody is there again, and the study goes on from the disks. What was opened before still counts."""
    again = theatre.stage(stage.cast, stage.folder)
    for mine, before in ((again.emitted, stage.emitted), (again.sums, stage.sums)):
        for key, found in before.items():
            mine[key] |= found
    again.run()
    return again


def check_fault(theatre, cast, folder, role, fault, at):
    """One run with one fault."""
    trouble = Trouble(theatre.stage(cast, folder), role, fault, at)
    stage, why = trouble.stage, played(trouble)
    check_one_sum(stage)
    if fault in ("slowed", "told_again"):
        assert not why
        check_ended(theatre, stage)
        return
    if role == "coordinator":
        assert why == "stopped"
        check_ended(theatre, begun_again(theatre, stage))
        return
    if role in cast.terms.parties:
        # Nobody opens without it; when it is back, all goes on.
        assert f"mend {role}" in why
        check_ended(theatre, begun_again(theatre, stage))
        return
    if why:
        assert f"Round 0 has {HOSPITALS - 1} contributions and needs {HOSPITALS} ({role}: " in why
        check_ended(theatre, begun_again(theatre, stage))
        return
    outcomes = [signed.outcome for signed in stage.outcomes()]
    spoilt = [o.round for o in outcomes if role in o.included and role not in trouble.answered[o.digest()]]
    check_ended(theatre, stage, role, outcome_rounds := range(len(outcomes)))
    assert [outcome.context.attempt for outcome in outcomes] == [1] * len(outcome_rounds)
    unverified = stage.finished.closing.closing.unverified
    assert unverified == spoilt if fault == "stopped" else set(spoilt) <= set(unverified)
    missing = {done.round: done.missing for done in stage.verified if done.missing}
    assert missing == {round_: (f"{role} did not answer",) for round_ in unverified}


def one_of_each(kinds):
    """A place for each kind of message: in the middle of its places, which is in the round of training."""
    places = defaultdict(list)
    for at, kind in enumerate(kinds):
        places[kind].append(at)
    return sorted(found[len(found) // 2] for found in places.values())


QUICK = [
    (role, fault, BOUNDS[(i + j) % 2])
    for i, role in enumerate(["coordinator", "party-1", "st-anna"])
    for j, fault in enumerate(faults_of(role))
]


@pytest.mark.parametrize(("role", "fault", "norm_bound"), QUICK)
def test_a_fault_at_each_kind_of_message(theatre, tmp_path, role, fault, norm_bound):
    cast = theatre.cast(*SHAPE, norm_bound=norm_bound)
    places = one_of_each(heard(theatre, cast, tmp_path / "count", role))
    assert len(places) >= 4
    for at in places:
        check_fault(theatre, cast, tmp_path / str(at), role, fault, at)


@pytest.mark.slow
@pytest.mark.parametrize("norm_bound", BOUNDS)
@pytest.mark.parametrize(("role", "fault"), [(role, fault) for role in ROLES for fault in faults_of(role)])
def test_a_fault_at_any_message(theatre, tmp_path, role, fault, norm_bound):
    cast = theatre.cast(*SHAPE, norm_bound=norm_bound)
    for at in range(len(heard(theatre, cast, tmp_path / "count", role))):
        check_fault(theatre, cast, tmp_path / str(at), role, fault, at)
