"""The norm check among the roles: who is excluded, what it costs the others, and what nobody can do about the coin."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from protocols.chain import check_chain
from protocols.contribution import sign
from protocols.dealer import Dealer
from protocols.mesh import in_process_meshes
from protocols.projection import commit
from securefl.errors import EngineError
from securefl.roles.coordinator import MAX_RECOVERIES
from securefl.roles.effects import AddShares, CheckNorms, NormsChecked, OpenSum, coin_context
from securefl.roles.messages import Freeze, KeyRequest, Prepare, Refusal, Release, SignedRoundKey
from securefl.roles.party import spool
from securefl.roles.party_memory import SHARE, OpenedCohort

BOUND = 2.0
"""The stage's hospitals have updates of norms below 1.5."""
PARTY = "party-2"


def changed(record, **fields):
    return record.model_copy(update=fields)


def included(stage):
    return [set(done.settled.signed.outcome.included) for done in stage.done]


def sums(stage):
    return [done.settled.total for done in stage.done]


@pytest.fixture
def cast(theatre):
    return theatre.cast(norm_bound=BOUND)


def of_norm(theatre, norm):
    return np.full(theatre.size, norm / np.sqrt(theatre.size))


def offending(theatre, *hospitals, norm=2 * BOUND, rounds=(1,)):
    """Faults: these hospitals' updates are of another norm."""
    return {h: dict.fromkeys(rounds, of_norm(theatre, norm)) for h in hospitals}


# -- the verdict -----------------------------------------------------------------------------------------------


def test_an_update_of_twice_the_bound_is_excluded_and_named(theatre, cast, tmp_path):
    everyone = set(cast.terms.hospitals)
    stage = theatre.stage(cast, tmp_path, faults=offending(theatre, "va")).run()
    assert included(stage) == [everyone, everyone - {"va"}, everyone]
    assert stage.done[1].absent == {
        "va": ("norm-too-large", "The committee found its update longer than the study's norm bound.")
    }
    outcome = stage.outcomes()[1].outcome
    assert (outcome.excluded, outcome.absent) == ({"va": "norm-too-large"},) * 2
    assert set(outcome.frozen.contributions) == everyone  # it did contribute
    assert [done.settled.signed.outcome.context.attempt for done in stage.done] == [1, 1, 1]
    check_chain(stage.outcomes(), stage.finished.closing, cast.terms.study, cast.terms.signers)
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone - {"va"}, everyone]))


def silent_in(stage, hospital, round_):
    """Let a hospital's contribution to this round be lost."""

    def tamper(sender, _to, message):
        now = stage.coordinator.replica.place.round
        lost = sender == hospital and now == round_ and type(message).kind == "signed-contribution"
        return None if lost else message

    stage.tamper = tamper
    return stage


def test_the_others_go_on_as_if_it_had_not_answered(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path / "long", faults=offending(theatre, "va")).run()
    silent = silent_in(theatre.stage(cast, tmp_path / "silent"), "va", 1).run()
    assert included(stage) == included(silent)
    assert sums(stage) == sums(silent)
    assert stage.model.tobytes() == silent.model.tobytes()
    # The control: it makes a difference whether it is there.
    undisturbed = theatre.stage(cast, tmp_path / "undisturbed").run()
    assert sums(undisturbed)[1] != sums(stage)[1]


@pytest.mark.parametrize(("norm", "within"), [(BOUND, True), (0.999 * BOUND, True), (1.001 * BOUND, False)])
def test_the_bound_is_where_the_study_says(theatre, cast, tmp_path, norm, within):
    # 24 coordinates are checked directly, so that the check is exact up to rounding.
    stage = theatre.stage(cast, tmp_path, faults=offending(theatre, "va", norm=norm))
    stage.run(until=lambda: len(stage.done) == 2)
    assert ("va" in included(stage)[1]) is within


def test_nobody_is_excluded_from_the_statistics(theatre, cast, tmp_path):
    # A statistic of any size is allowed: the bound is one of updates.
    stage = theatre.stage(cast, tmp_path, faults={})
    stage.trainers["va"].count = 10**9
    stage.run(until=lambda: len(stage.done) == 2)
    checked = {job.context.round for _, job in stage.jobs if isinstance(job, CheckNorms)}
    assert checked == {1}
    assert set(cast.terms.hospitals) == included(stage)[0]


def test_two_offenders_of_four_leave_the_smallest_sum(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path, faults=offending(theatre, "va", "charite", rounds=(1, 2))).run()
    assert included(stage)[1:] == [{"mayo-clinic-rochester", "st-anna"}] * 2
    assert set(stage.done[2].absent) == {"va", "charite"}


@pytest.mark.parametrize("count", [3, 4])
def test_the_minimum_is_checked_again_after_the_verdict(theatre, cast, tmp_path, count):
    offenders = sorted(cast.terms.hospitals)[:count]
    stage = theatre.stage(cast, tmp_path, faults=offending(theatre, *offenders))
    with pytest.raises(
        EngineError, match=rf"Round 1 cannot be opened. A sum over {4 - count} hospitals .* 2 are"
    ):
        stage.run()
    for party in cast.terms.parties:
        assert stage.emitted[party, 1] == set()
        assert SHARE not in stage.store(party)
    assert not [job for _, job in stage.jobs if isinstance(job, AddShares) and job.context.round == 1]


def test_the_verdict_may_not_leave_another_cohort_than_was_opened_on_the_model(theatre, cast, tmp_path):
    # In an earlier study of the same model, the parties opened the sum of all four.
    stage = theatre.stage(cast, tmp_path, faults=offending(theatre, "va"))
    stage.capture(Freeze, 1)
    place = f"opened-update-{stage.coordinator._now().context.model.hex()[:32]}"
    opened = OpenedCohort(cohort=cast.terms.hospitals).to_bytes()
    for party in cast.terms.parties:
        stage.store(f"{party}-ledger").put(place, opened)
    stage._restart_all()
    with pytest.raises(
        EngineError, match=r"Round 1 cannot be opened\. A sum over other hospitals was opened"
    ):
        stage.run()
    assert all(not stage.emitted[party, 1] for party in cast.terms.parties)


def test_parties_that_disagree_on_a_verdict_never_open(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    honest = stage._runners[PARTY].run

    def another_verdict(job, task):
        result = honest(job, task)
        return NormsChecked(result.within - {"va"}) if isinstance(result, NormsChecked) else result

    stage._runners[PARTY].run = another_verdict
    with pytest.raises(
        EngineError, match=f"Round 1 failed {MAX_RECOVERIES} times.* has prepared another sum"
    ):
        stage.run()
    assert all(not stage.emitted[party, 1] for party in cast.terms.parties)
    assert not [job for _, job in stage.jobs if isinstance(job, OpenSum) and job.context.round == 1]


def test_the_parts_of_the_excluded_are_not_in_any_share(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path, faults=offending(theatre, "va")).run()
    for kind, hospitals in ((CheckNorms, 4), (AddShares, 3)):
        jobs = [job for _, job in stage.jobs if isinstance(job, kind) and job.context.round == 1]
        assert len(jobs) == 3
        assert all(len(job.parts) == hospitals for job in jobs)
        assert all((spool("va") in job.parts.values()) == (hospitals == 4) for job in jobs)


# -- the coin --------------------------------------------------------------------------------------------------


@pytest.fixture
def prepare(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    return stage, stage.capture(Prepare, 1)


def checks(stage, party=PARTY):
    return [job for name, job in stage.jobs if name == party and isinstance(job, CheckNorms)]


def refused(stage, message, party=PARTY):
    answer = stage.ask(party, message)
    assert isinstance(answer, Refusal), answer
    return answer.reason


def revote(stage, by, signer=None, **fields):
    """The same vote with other fields, signed by its party (or by another)."""
    vote = changed(by.vote, **fields)
    return changed(by, vote=vote, signature=sign(vote, stage.cast.keys[signer or by.party].signing))


def test_a_part_of_the_coin_is_told_to_nobody_before_every_party_has_voted(prepare):
    stage, messages = prepare
    message = messages[PARTY]
    one, two, three = message.votes
    swapped = [
        revote(stage, one, commitment=two.vote.commitment),
        revote(stage, two, commitment=one.vote.commitment),
    ]
    for votes in (
        [],
        [two],
        [one, two],
        [one, two, two],
        [two, one, three],
        [one, two, three, three],
        # The commitments are under the signatures: no other can be put in, taken away, or given another party's name.
        [one, two, changed(three, vote=changed(three.vote, commitment=bytes(32)))],
        [one, two, changed(three, vote=changed(three.vote, commitment=b""))],
        [one, two, changed(three, vote=one.vote)],
        [one, two, changed(one, party="party-3")],
        [one, two, revote(stage, three, signer="party-1", commitment=bytes(32))],
        [changed(two, party="party-1"), changed(one, party="party-2"), three],
        # Not even the parties can have this one say that it committed to something else.
        [one, revote(stage, two, commitment=bytes(32)), three],
        [*swapped, three],
    ):
        assert refused(stage, changed(message, votes=votes)) == "not-agreed"
    assert checks(stage) == []
    # The control: with every vote it begins, and brings the part that it had committed to.
    for party, right in messages.items():
        stage.mail[party].append(right.to_bytes())
    stage.run(until=lambda: len(checks(stage)) == 1)
    (job,) = checks(stage)
    assert job.commitments == [vote.vote.commitment for vote in message.votes]
    assert commit(job.coin_part, coin_context(job.frozen, PARTY)) == two.vote.commitment
    assert commit(job.coin_part, coin_context(job.frozen, "party-1")) != two.vote.commitment


def test_each_attempt_has_another_part(prepare):
    stage, messages = prepare
    context = stage.coordinator._now().context
    commitments = {messages[PARTY].votes[1].vote.commitment}
    for attempt in (2, 3):
        again = changed(context, attempt=attempt)
        request = KeyRequest(context=again, cohort=stage.coordinator._now().cohort, session=9)
        assert isinstance(stage.ask(PARTY, request), SignedRoundKey)
        machine = stage.hosts[PARTY]._machine
        commitments.add(
            commit(machine._attempt.coin_part, coin_context(messages[PARTY].frozen.digest(), PARTY))
        )
    assert len(commitments) == 3


def test_a_party_that_commits_to_two_coins_ends_the_attempt_and_opens_nothing(prepare):
    # Party 3 and the coordinator: party 1 is shown one commitment, party 2 another, each with a good signature.
    stage, messages = prepare
    first, second, third = messages[PARTY].votes
    other = revote(stage, third, commitment=commit(bytes(32), coin_context(third.vote.frozen, "party-3")))
    stage.mail["party-1"].append(messages["party-1"].to_bytes())
    stage.mail["party-2"].append(changed(messages[PARTY], votes=[first, second, other]).to_bytes())
    stage.mail["party-3"].append(messages["party-3"].to_bytes())
    answers = []
    stage.tamper = lambda sender, _to, message: (
        answers.append((sender, message)) if sender == PARTY else message
    )
    stage.run(until=lambda: answers)
    assert (answers[0][1].reason, answers[0][1].about) == ("committee-failed", "committee")
    assert SHARE not in stage.store(PARTY)
    assert refused(stage, Release(frozen=messages[PARTY].frozen, prepared=[], session=1)) == "not-prepared"


# -- the shipped committee -------------------------------------------------------------------------------------


def test_the_shipped_committee_comes_to_the_oracles_verdict(theatre, tmp_path):
    cast = theatre.cast(3, 2, 1, norm_bound=BOUND)
    *meshes, last = in_process_meshes(3)
    dealer = Dealer(last)
    serving = threading.Thread(target=dealer.serve)
    serving.start()
    try:
        stage = theatre.stage(
            cast, tmp_path / "shipped", faults=offending(theatre, "va"), meshes=meshes
        ).run()
    finally:
        dealer.close()
        for mesh in meshes:
            mesh.close()
        serving.join(10)
    oracle = theatre.stage(cast, tmp_path / "oracle", faults=offending(theatre, "va")).run()
    assert stage.outcomes()[1].outcome.excluded == {"va": "norm-too-large"}
    assert sums(stage) == sums(oracle)
    assert stage.model.tobytes() == oracle.model.tobytes()
