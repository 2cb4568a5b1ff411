"""A party that is gone for good: the others go on, if the study allows it and the round is not being opened."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from protocols.chain import SignedOutcome, check_chain
from protocols.contribution import sign
from protocols.errors import ChainError
from protocols.mesh import in_process_meshes
from securefl.errors import EngineError, StudyError
from securefl.roles.messages import (
    Announcement,
    CloseRequest,
    Freeze,
    KeyRequest,
    Part,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedRoundKey,
    StatusRequest,
    read_message,
)
from securefl.roles.records import receipt_name
from securefl.roles.terms import Terms

GONE, LEFT = "party-3", ["party-1", "party-2"]
ALL = [*LEFT, GONE]


@pytest.fixture
def cast(theatre):
    return theatre.cast(3, 3, 2, minimum_parties=2)


def changed(record, **fields):
    return record.model_copy(update=fields)


def committees(stage):
    return [signed.outcome.context.parties for signed in stage.outcomes()]


def buried_at(stage, at, party=GONE):
    """Bury a party at the n-th message that comes to it; returns what it was, when it comes."""
    heard, met = [], []

    def before(to, data):
        if to == party and isinstance(data, bytes):
            if len(heard) == at:
                met.append(read_message(data))
                stage.bury(party)
            heard.append(data)

    stage.before = before
    return met


def whole(theatre, stage):
    """The study ended as it would have ended with everybody there."""
    cast = stage.cast
    everyone = set(cast.terms.hospitals)
    assert np.array_equal(stage.model, theatre.expected(cast, [everyone] * cast.terms.rounds))
    assert [set(signed.outcome.included) for signed in stage.outcomes()] == [everyone] * (
        cast.terms.rounds + 1
    )
    check_chain(stage.outcomes(), stage.finished.closing, cast.terms.study, cast.terms.signers)
    assert [done.missing for done in stage.verified] == [()] * (cast.terms.rounds + 1)
    assert all(len(shares) == 1 for shares in stage.emitted.values())
    assert all(len(sums) == 1 for sums in stage.sums.values())


# -- at every message of a study ---------------------------------------------------------------------------------


def messages_to(theatre, cast, tmp_path):
    """What comes to the party in an undisturbed study."""
    stage, heard = theatre.stage(cast, tmp_path / "count"), []
    stage.before = lambda to, data: heard.append(data) if to == GONE and isinstance(data, bytes) else None
    stage.tamper = lambda _s, _t, message: message
    stage._restart_all()
    heard.clear()
    stage.run()
    return [read_message(data) for data in heard]


def ended(stage):
    """Play; returns why the run could not go on, empty if it ended well."""
    try:
        stage.run()
    except EngineError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seed", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_a_party_that_dies_at_any_message(theatre, tmp_path, seed):
    cast = theatre.cast(2, 3, 1, minimum_parties=2)
    kinds = [type(message) for message in messages_to(theatre, cast, tmp_path)]
    assert set(kinds) == {StatusRequest, KeyRequest, Part, Freeze, Prepare, Release, Settled, CloseRequest}
    ends = {"void": 0, "smaller": 0, "closing": 0}
    for at in range(len(kinds)):
        stage = theatre.stage(cast, tmp_path / str(at), seed=seed)
        met = buried_at(stage, at)
        void = ended(stage)
        if void:
            # The others' opening shares may have left: nobody may form another sum of this round.
            assert "is void" in void
            assert isinstance(met[0], Release | Settled)
            assert any(stage.emitted[party, stage.coordinator.replica.place.round] for party in LEFT)
            ends["void"] += 1
            continue
        whole(theatre, stage)
        smaller = [parties == LEFT for parties in committees(stage)]
        assert smaller == sorted(smaller)  # once it is gone, it is gone
        assert stage.finished.closing.closing.parties == LEFT
        ends["smaller" if any(smaller) else "closing"] += 1
    assert all(ends.values()), ends


def test_the_outcome_says_who_its_committee_was(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    stage.capture(Freeze, 1, to=GONE)
    stage.bury(GONE)
    stage.run()
    whole(theatre, stage)
    assert committees(stage) == [ALL, LEFT, LEFT]
    assert [len(signed.signatures) for signed in stage.outcomes()] == [3, 2, 2]
    assert [signed.outcome.context.attempt for signed in stage.outcomes()] == [1, 2, 1]
    closing = stage.finished.closing
    assert (closing.closing.parties, len(closing.signatures)) == (LEFT, 2)
    assert not [key for key in stage.emitted if key[0] == GONE and key[1] > 0]


@pytest.mark.parametrize("party", ["party-1", "party-2"])
def test_any_one_party_may_be_the_one(theatre, cast, tmp_path, party):
    stage = theatre.stage(cast, tmp_path)
    stage.capture(Prepare, 1, to=party)
    stage.bury(party)
    stage.run()
    whole(theatre, stage)
    assert committees(stage)[1:] == [[name for name in ALL if name != party]] * 2


def test_the_shipped_committee_is_formed_of_those_who_are_left(theatre, tmp_path):
    cast = theatre.cast(3, 3, 1, minimum_parties=2)
    meshes = in_process_meshes(3)
    try:
        stage = theatre.stage(cast, tmp_path, meshes=meshes)
        stage.capture(KeyRequest, 1)
        stage.bury("party-2")
        stage.run()
    finally:
        for mesh in meshes:
            mesh.close()
    whole(theatre, stage)
    assert committees(stage) == [ALL, ["party-1", "party-3"]]


# -- when it may not be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyRequest, Part, Freeze, Prepare, Release])
def test_without_the_studys_leave_the_run_ends(theatre, tmp_path, kind):
    stage = theatre.stage(theatre.cast(3, 3, 1), tmp_path)
    stage.capture(kind, 1)
    stage.bury(GONE)
    with pytest.raises(
        EngineError, match=f"The study wants 3 parties: mend {GONE}, and run again with --resume"
    ):
        stage.run()
    # Mended, it goes on from there.
    again = theatre.stage(theatre.cast(3, 3, 1), tmp_path).run()
    assert np.array_equal(again.model, theatre.expected(again.cast, [set(again.cast.terms.hospitals)]))


def test_a_second_death_ends_the_run(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    stage.capture(Freeze, 1)
    stage.bury(GONE)
    stage.run(until=lambda: len(stage.outcomes()) == 2)
    stage.bury("party-1")
    with pytest.raises(EngineError, match="The study wants 2 parties: mend party-1"):
        stage.run()


def test_never_at_or_below_the_collusion_bound(cast):
    assert cast.terms.collusion_bound == 1
    settings = cast.study.settings
    for bound, minimum in ((1, 1), (2, 2)):
        committee = settings.committee.model_copy(
            update={"collusion_bound": bound, "minimum_parties": minimum}
        )
        study = replace(cast.study, settings=settings.model_copy(update={"committee": committee}))
        with pytest.raises(StudyError, match=f"must be more than the collusion bound, {bound}"):
            Terms.of(study, cast.consortium)
    for names in (["party-1"], [], ["party-2", "party-1"], ["party-1", "party-1"], ["party-1", "nobody"]):
        with pytest.raises(ChainError, match="committee"):
            cast.terms.signers.check_members(names)
    cast.terms.signers.check_members(["party-1", "party-3"])  # the control


def test_a_committee_that_is_too_small_is_refused_by_parties_and_hospitals(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    request = stage.capture(KeyRequest, 1)["party-1"]
    for parties in (["party-1"], ["party-2", "party-1"], ["party-1", "party-1"], ["nobody", "party-1"]):
        answer = stage.ask("party-1", changed(request, context=changed(request.context, parties=parties)))
        assert (type(answer), answer.reason) == (Refusal, "other-parties")
    answer = stage.ask(
        "party-1", changed(request, context=changed(request.context, parties=["party-2", GONE]))
    )
    assert (type(answer), answer.reason) == (Refusal, "other-parties")  # it is not in it
    context = changed(request.context, parties=LEFT)
    keys = [stage.ask(party, changed(request, context=context)) for party in LEFT]
    assert all(isinstance(key, SignedRoundKey) for key in keys)
    good = Announcement(context=context, cohort=request.cohort, keys=keys)
    small = changed(good, context=changed(context, parties=["party-1"]), keys=keys[:1])
    more = changed(good, context=changed(context, parties=ALL))
    for announcement in (small, more, changed(good, keys=keys[:1])):
        answer = stage.ask("va", announcement)
        assert (type(answer), answer.reason) == (Refusal, "other-parties")
    answer = stage.ask("va", good)
    assert len(answer.contribution.envelopes) == 2  # two shares, for a committee of two


def test_an_outcome_that_too_few_signed_is_refused_by_all(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    settled = stage.capture(Settled, 2)["va"]
    outcome = settled.signed.outcome

    def by(parties, signers):
        context = changed(outcome.context, parties=parties)
        made = changed(outcome, context=context, frozen=changed(outcome.frozen, context=context.digest()))
        signatures = [sign(made, stage.cast.keys[party].signing) for party in signers]
        return changed(settled, signed=SignedOutcome(outcome=made, signatures=signatures))

    for forged in (by(["party-1"], ["party-1"]), by(LEFT, ["party-1"]), by(ALL, LEFT), by([], [])):
        for member in ("va", "party-2"):
            answer = stage.ask(member, forged)
            assert (type(answer), answer.reason) == (Refusal, "other-chain")


# -- a round that the larger committee has begun to open ---------------------------------------------------------


@pytest.mark.parametrize("released", [["party-1"], ["party-2"], ["party-1", "party-2"], ["party-1", GONE]])
def test_a_round_that_is_being_opened_is_void_without_all_of_its_committee(theatre, cast, tmp_path, released):
    stage = theatre.stage(cast, tmp_path)
    release = stage.capture(Release, 1)
    for party in released:
        stage.mail[party].append(release[party].to_bytes())
    stage.run(until=lambda: not stage.moves())
    stage.bury(GONE)
    with pytest.raises(EngineError, match="Round 1 is void"):
        stage.run()
    assert stage.sums[1] == set()
    # It stays void as long as the party is away, and is finished from the disks when it is back.
    again = theatre.stage(cast, tmp_path)
    again.bury(GONE)
    with pytest.raises(EngineError, match="Round 1 is void"):
        again.run()
    mended = theatre.stage(cast, tmp_path).run()
    assert committees(mended) == [ALL] * 3
    assert len(mended.sums[1]) == 1


def test_who_is_gone_with_a_share_that_nobody_else_has_opened_opens_nothing_alone(theatre, cast, tmp_path):
    # Only the party that is gone had the release: without the others' shares, its own tells nothing.
    stage = theatre.stage(cast, tmp_path)
    release = stage.capture(Release, 1)
    stage.mail[GONE].append(release[GONE].to_bytes())
    stage.run(until=lambda: not stage.moves())
    assert len(stage.emitted[GONE, 1]) == 1
    stage.bury(GONE)
    stage.run()
    assert committees(stage) == [ALL, LEFT, LEFT]
    assert len(stage.sums[1]) == 1
    # The larger committee's release is dead: the others' shares of it are gone, and what comes late is refused.
    for party in LEFT:
        answer = stage.ask(party, release[party])
        assert (type(answer), answer.reason) == (Refusal, "not-prepared")
    assert all(len(shares) == 1 for shares in stage.emitted.values())


# -- it comes back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyRequest, Freeze, Settled])
def test_a_party_that_comes_back_catches_up(theatre, cast, tmp_path, kind):
    stage = theatre.stage(cast, tmp_path)
    stage.capture(kind, 1, to=GONE)
    stage.bury(GONE)
    stage.run(until=lambda: len(stage.outcomes()) == 2)
    assert receipt_name(1) not in stage.store(GONE)
    again = theatre.stage(cast, tmp_path).run()
    assert committees(again) == [ALL, LEFT, ALL]
    assert np.array_equal(again.model, theatre.expected(cast, [set(cast.terms.hospitals)] * 2))
    for signed in again.outcomes():
        assert again.store(GONE)[receipt_name(signed.outcome.round)] == signed.to_bytes()


def test_a_party_that_was_in_no_committee_yet_may_be_killed_while_it_catches_up(theatre, cast, tmp_path):
    # Its memory goes onto its disk before its first receipt: receipts without one would mean that it was lost.
    stage = theatre.stage(cast, tmp_path / "first")
    stage.bury(GONE)
    stage.run(until=lambda: len(stage.outcomes()) == 2)
    assert dict(stage.store(GONE)) == {}
    count = theatre.fuse()
    shutil.copytree(tmp_path / "first", tmp_path / "count")
    theatre.stage(cast, tmp_path / "count", fuses=[count]).run()
    left = set()
    for at in count.writes[GONE][:4]:
        shutil.copytree(tmp_path / "first", tmp_path / str(at))
        again = theatre.stage(cast, tmp_path / str(at), fuses=[theatre.fuse(GONE, at)])
        again.run(until=lambda again=again: again.crashes == 1)
        left.add(tuple(again.store(GONE)))
        again.run()
        assert committees(again)[:2] == [LEFT, LEFT]
        assert np.array_equal(again.model, theatre.expected(cast, [set(cast.terms.hospitals)] * 2))
    assert ("memory", receipt_name(0)) in left


def test_a_party_that_comes_back_when_all_is_over_signs_the_closing_again(theatre, cast, tmp_path):
    stage = theatre.stage(cast, tmp_path)
    stage.capture(Freeze, 2)
    stage.bury(GONE)
    stage.run()
    closing = stage.finished.closing.closing
    assert closing.parties == LEFT
    again = theatre.stage(cast, tmp_path)
    again.bury(GONE)
    assert again.run().finished.closing.closing == closing
