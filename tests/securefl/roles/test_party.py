"""A party's discipline: what it refuses, with which code, and what survives a restart."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.chain import Closing
from protocols.contribution import FrozenList, Vote, binding, check_signature, contribute, sign
from protocols.envelope import envelope_digest, seal
from securefl.errors import EngineError, RefusedError
from securefl.roles.effects import CommitteeFailed, OpenSum
from securefl.roles.host import Answering, Restarted, Store
from securefl.roles.messages import (
    Accepted,
    Announcement,
    Behind,
    CloseRequest,
    ClosingSignature,
    Freeze,
    Held,
    KeyRequest,
    Part,
    PartyStatus,
    Prepare,
    Refusal,
    Release,
    Settled,
    SignedPrepared,
    SignedRoundKey,
    SignedVote,
    StatusRequest,
)
from securefl.roles.party import PartyMachine, spool
from securefl.roles.party_memory import MEMORY, SHARE, PartyMemory
from securefl.roles.records import receipt_name

PARTY = "party-2"


@pytest.fixture
def stage(theatre, tmp_path):
    return theatre.stage(theatre.cast(), tmp_path)


def reason(stage, message, party=PARTY):
    """The code with which the party refuses; its memory must not have changed."""
    before = dict(stage.store(party))
    answer = stage.ask(party, message)
    assert isinstance(answer, Refusal), answer
    assert (answer.member, answer.about) == (party, type(message).kind)
    assert answer.explanation.strip()
    assert dict(stage.store(party)) == before
    return answer.reason


def changed(record, **fields):
    return record.model_copy(update=fields)


# -- keys ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(theatre, tmp_path_factory):
    """A stage whose parties are about to be asked for keys; refusals leave it as it is, so that tests share it."""
    stage = theatre.stage(theatre.cast(), tmp_path_factory.mktemp("asked"))
    return stage, stage.capture(KeyRequest, 1)[PARTY]


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("other-study", {"study": bytes(32)}),
        ("other-round", {"round": 9}),
        ("other-round", {"round": -1}),
        ("other-round", {"purpose": "statistics"}),
        ("other-round", {"attempt": 0}),
        ("other-encoding", {"width": 64}),
        ("other-encoding", {"size": 0}),
        ("other-encoding", {"size": 2**31 + 1}),
        ("other-chain", {"previous": bytes(32)}),
        ("other-chain", {"round": 2}),
    ],
)
def test_a_key_for_another_context_is_refused(asked, code, fields):
    stage, request = asked
    assert reason(stage, changed(request, context=changed(request.context, **fields))) == code


@pytest.mark.parametrize(
    ("code", "cohort"),
    [
        ("unknown-hospital", ["charite", "nobody", "va"]),
        ("unknown-hospital", ["va", "charite"]),
        ("unknown-hospital", ["charite", "charite", "va"]),
        ("too-few-hospitals", ["va"]),
        ("too-few-hospitals", []),
    ],
)
def test_a_key_for_another_cohort_is_refused(asked, code, cohort):
    stage, request = asked
    assert reason(stage, changed(request, cohort=cohort)) == code


def test_the_statistics_need_every_hospital(stage):
    request = stage.capture(KeyRequest, 0)[PARTY]
    assert reason(stage, changed(request, cohort=request.cohort[:-1])) == "too-few-hospitals"


def test_a_key_is_signed_by_the_pinned_key_and_is_new_in_each_attempt(stage):
    request = stage.capture(KeyRequest, 1)[PARTY]
    publics = set()
    for attempt in (1, 2, 5):
        context = changed(request.context, attempt=attempt)
        answer = stage.ask(PARTY, changed(request, context=context))
        assert isinstance(answer, SignedRoundKey)
        assert (answer.key.context, answer.key.party) == (context.digest(), PARTY)
        check_signature(answer.key, stage.cast.terms.parties[PARTY], answer.signature)
        publics.add(answer.key.public)
    assert len(publics) == 3


@pytest.mark.parametrize("restarted", [False, True])
def test_an_attempt_is_made_once(stage, restarted):
    request = stage.capture(KeyRequest, 1)[PARTY]
    stage.ask(PARTY, changed(request, context=changed(request.context, attempt=3)))
    if restarted:
        stage.lose(PARTY)
    for attempt in (1, 2, 3):
        again = changed(request, context=changed(request.context, attempt=attempt))
        assert reason(stage, again) == "old-attempt"


# -- parts ---------------------------------------------------------------------------------------------------


def part_of(stage, part, x=None, key=None, **fields):
    """What hospital ``va`` would send this party, made anew; ``fields`` change the contribution before it is signed."""
    context = stage.coordinator._now().context
    keys = {k.key.party: k.key.public for k in stage.coordinator._now().announced.keys}
    x = np.zeros(context.size, dtype="<u4") if x is None else x
    contribution, envelopes = contribute(x, context, "va", keys, part.contribution.coin)
    contribution = changed(contribution, **fields)
    signature = sign(contribution, key or stage.cast.keys["va"].signing)
    rank = list(stage.cast.terms.parties).index(PARTY)
    return changed(part, contribution=contribution, signature=signature, envelope=envelopes[rank])


@pytest.fixture
def part(stage):
    """A part of a hospital that has reached nobody yet, in round 1."""
    kept = {}

    def keep(sender, _to, message):
        if sender == "coordinator" and isinstance(message, Part) and message.contribution.hospital == "va":
            kept.setdefault(_to, message)
            return None if stage.coordinator.replica.place.round == 1 else message
        return message

    stage.tamper = keep
    stage.run(until=lambda: stage.coordinator.replica.place.round == 1)
    kept.clear()
    stage.run(until=lambda: len(kept) == len(stage.cast.terms.parties))
    stage.run(until=lambda: not stage.moves())
    return kept[PARTY]


def test_a_good_part_is_held_and_spooled_as_it_came(stage, part):
    answer = stage.ask(PARTY, part)
    assert isinstance(answer, Held)
    assert answer.contribution == part.contribution.digest()
    assert stage.store(PARTY)[spool("va")] == part.envelope
    assert stage.ask(PARTY, part) == answer


def test_a_part_of_another_attempt_is_refused(stage, part):
    other = changed(part, contribution=changed(part.contribution, context=bytes(32)))
    assert reason(stage, other) == "other-attempt"


def test_a_part_of_a_stranger_is_refused(stage, part):
    other = changed(part, contribution=changed(part.contribution, hospital="nobody"))
    assert reason(stage, other) == "unknown-hospital"


def test_a_second_contribution_is_refused_and_the_first_is_kept(stage, part):
    stage.ask(PARTY, part)
    assert reason(stage, part_of(stage, part)) == "second-contribution"
    assert stage.store(PARTY)[spool("va")] == part.envelope


def test_parts_that_are_not_valid_are_refused(stage, part):
    digests = part.contribution.envelopes
    foreign = stage.cast.keys["charite"].signing
    short = np.zeros(3, dtype="<u4")
    assert reason(stage, changed(part, signature=bytes(64))) == "bad-contribution"
    assert reason(stage, part_of(stage, part, key=foreign)) == "bad-contribution"
    assert reason(stage, changed(part, envelope=part.envelope[:-1])) == "bad-contribution"
    assert reason(stage, part_of(stage, part, envelopes=digests[:2])) == "bad-contribution"
    assert reason(stage, part_of(stage, part, envelopes=[*digests, digests[0]])) == "bad-contribution"
    with pytest.raises(Exception, match="elements"):  # the control: an honest hospital cannot even make one
        part_of(stage, part, x=short)
    assert isinstance(stage.ask(PARTY, part_of(stage, part)), Held)


def sealed(stage, part, content, party=PARTY, **context):
    """A signed part whose envelope holds ``content``, sealed to a party's key under a context."""
    now = stage.coordinator._now()
    public = next(k.key.public for k in now.announced.keys if k.key.party == party)
    envelope = seal(public, content, binding(changed(now.context, **context), "va", party))
    digests = list(part.contribution.envelopes)
    digests[list(stage.cast.terms.parties).index(PARTY)] = envelope_digest(envelope)
    contribution = changed(part.contribution, envelopes=digests)
    signature = sign(contribution, stage.cast.keys["va"].signing)
    return Part(contribution=contribution, signature=signature, envelope=envelope)


def test_envelopes_that_do_not_open_here_and_now_are_refused(stage, part):
    seed = b"\x00" + bytes(32)
    assert reason(stage, sealed(stage, part, seed, party="party-1")) == "bad-contribution"
    assert reason(stage, sealed(stage, part, seed, attempt=2)) == "bad-contribution"
    assert reason(stage, sealed(stage, part, seed, previous=bytes(32))) == "bad-contribution"
    assert reason(stage, sealed(stage, part, seed[:-1])) == "bad-contribution"
    assert reason(stage, sealed(stage, part, b"\x01" + bytes(4))) == "bad-contribution"
    assert reason(stage, sealed(stage, part, b"")) == "bad-contribution"
    assert isinstance(stage.ask(PARTY, sealed(stage, part, seed)), Held)


def test_a_restart_forgets_the_key_and_with_it_the_attempt(stage, part):
    stage.ask(PARTY, part)
    stage.lose(PARTY)
    assert reason(stage, part) == "other-attempt"
    frozen = FrozenList(
        context=part.contribution.context,
        cohort=["va"],
        contributions={"va": part.contribution.digest()},
        absent={},
    )
    assert reason(stage, Freeze(frozen=frozen)) == "other-attempt"
    assert reason(stage, Prepare(frozen=frozen, votes=[])) == "other-attempt"


# -- the list ------------------------------------------------------------------------------------------------


def without(frozen, *hospitals):
    """The list without these, who are then absent from it."""
    kept = {h: d for h, d in frozen.contributions.items() if h not in hospitals}
    return changed(frozen, contributions=kept, absent={**frozen.absent, **dict.fromkeys(hospitals, "left")})


def listed(stage):
    """The list of all contributions that have reached the coordinator."""
    now = stage.coordinator._now()
    return FrozenList(
        context=now.context.digest(), cohort=now.cohort, contributions={**now.digests}, absent={}
    )


def test_one_list_an_attempt(stage):
    freeze = stage.capture(Freeze, 1)[PARTY]
    first = stage.ask(PARTY, freeze)
    assert isinstance(first, SignedVote)
    assert (first.party, first.vote.frozen, first.vote.commitment) == (PARTY, freeze.frozen.digest(), b"")
    check_signature(first.vote, stage.cast.terms.parties[PARTY], first.signature)
    assert stage.ask(PARTY, freeze) == first
    assert reason(stage, changed(freeze, frozen=without(freeze.frozen, "va"))) == "second-list"


def test_lists_that_the_party_cannot_agree_to(stage):
    freeze = stage.capture(Freeze, 1)[PARTY]
    all_of_them = freeze.frozen.contributions
    small = without(freeze.frozen, "va", "charite", "st-anna")
    assert reason(stage, Freeze(frozen=small)) == "too-few-hospitals"
    assert sorted(all_of_them) == freeze.frozen.cohort
    for code, fields in (
        ("not-held", {"contributions": {**all_of_them, "va": bytes(32)}}),
        # Every hospital that was asked is accounted for, once, and nobody else.
        ("other-list", {"contributions": {**all_of_them, "zz": bytes(32)}}),
        ("other-list", {"contributions": {h: d for h, d in all_of_them.items() if h != "va"}}),
        ("other-list", {"absent": {"va": "no-answer"}}),
        ("other-list", {"absent": {"zz": "no-answer"}}),
        ("other-list", {"cohort": [*freeze.frozen.cohort, "zz"], "absent": {"zz": "no-answer"}}),
        ("other-list", {"cohort": [h for h in all_of_them if h != "va"]}),
        ("other-list", {"cohort": freeze.frozen.cohort[::-1]}),
        ("other-attempt", {"context": bytes(32)}),
    ):
        assert reason(stage, Freeze(frozen=changed(freeze.frozen, **fields))) == code, (code, fields)
    assert isinstance(stage.ask(PARTY, freeze), SignedVote)


def test_a_contribution_that_is_not_here_cannot_be_frozen(stage, part):
    # ``va`` has reached no party; the others have.
    frozen = listed(stage)
    assert "va" in frozen.contributions
    assert reason(stage, Freeze(frozen=frozen)) == "not-held"


def test_nothing_is_taken_after_the_freeze(stage, part):
    assert isinstance(stage.ask(PARTY, Freeze(frozen=without(listed(stage), "va"))), SignedVote)
    assert reason(stage, part) == "frozen"


# -- prepare -------------------------------------------------------------------------------------------------


def test_preparing_needs_every_partys_signature_on_this_list(stage):
    prepare = stage.capture(Prepare, 1)[PARTY]
    one, two, three = prepare.votes
    keys = stage.cast.keys

    def voted(by, key=None, **fields):
        vote = changed(by.vote, **fields)
        return changed(by, vote=vote, signature=sign(vote, keys[key or by.party].signing))

    assert voted(three) == three
    for votes in (
        [],
        [one, two],
        [one, two, two],
        [two, one, three],
        [one, two, three, three],
        [one, two, changed(three, signature=two.signature)],
        [one, two, voted(three, key="party-1")],
        [one, two, voted(three, frozen=bytes(32))],
        [one, voted(two, commitment=bytes(32)), three],
    ):
        assert reason(stage, changed(prepare, votes=votes)) == "not-agreed"
    assert reason(stage, changed(prepare, frozen=without(prepare.frozen, "va"))) == "other-list"


def test_a_second_prepare_gets_the_same_word(stage):
    prepare = stage.capture(Prepare, 1)
    for party, message in prepare.items():
        stage.mail[party].append(message.to_bytes())
    stage.capture(Release, 1)
    share = stage.store(PARTY)[SHARE]
    again = stage.ask(PARTY, prepare[PARTY])
    assert isinstance(again, SignedPrepared)
    assert again == stage.ask(PARTY, StatusRequest(study=b"")).prepared
    assert stage.store(PARTY)[SHARE] == share


# -- release -------------------------------------------------------------------------------------------------


def test_a_release_brings_every_partys_word_on_this_share(stage):
    release = stage.capture(Release, 1)[PARTY]
    one, two, three = release.prepared
    foreign = stage.cast.keys["party-1"].signing

    def signed(prepared, key, **fields):
        unsigned = changed(prepared, signature=b"", **fields)
        return changed(unsigned, signature=key.sign(SignedPrepared.kind, unsigned.digest()))

    keys = stage.cast.keys
    for prepared in (
        [],
        [one, two],
        [two, one, three],
        [one, two, two],
        [one, two, changed(three, signature=one.signature)],
        [one, two, signed(three, foreign)],
        [one, two, signed(three, keys["party-3"].signing, session=bytes(32))],
        [one, two, signed(three, keys["party-3"].signing, frozen=bytes(32))],
        [one, two, changed(three, session=bytes(32))],
    ):
        assert reason(stage, changed(release, prepared=prepared)) == "not-agreed"
    assert reason(stage, changed(release, frozen=without(release.frozen, "va"))) == "not-prepared"
    assert stage.emitted[PARTY, 1] == set()


def test_a_release_before_preparing_is_refused(stage):
    prepare = stage.capture(Prepare, 1)[PARTY]
    assert reason(stage, Release(frozen=prepare.frozen, prepared=[], session=1)) == "not-prepared"


def released_alone(stage):
    """Party 2 alone is released; the others never hear of it. Then everybody is asked for a new attempt."""
    release = stage.capture(Release, 1)
    stage.mail[PARTY].append(release[PARTY].to_bytes())
    stage.run(until=lambda: not stage.moves())
    status = stage.ask("party-1", StatusRequest(study=b""))
    stage.lose(PARTY)
    request = KeyRequest(
        context=changed(status.context, attempt=2), cohort=list(stage.cast.terms.hospitals), session=9
    )
    return release, request


def test_after_a_release_there_is_no_other_attempt(stage):
    _, request = released_alone(stage)
    assert len(stage.emitted[PARTY, 1]) == 1
    assert reason(stage, request) == "already-opened"
    assert isinstance(
        stage.ask("party-1", request), SignedRoundKey
    )  # the control: it is the release that forbids


def test_a_released_party_only_sends_the_same_bytes_again(stage):
    release, _ = released_alone(stage)
    status = stage.ask(PARTY, StatusRequest(study=b""))
    assert isinstance(status, PartyStatus)
    assert status.released
    assert status.frozen == release[PARTY].frozen
    for party, message in release.items():
        stage.mail[party].append(changed(message, session=7).to_bytes())
    stage.run()
    assert {len(shares) for shares in stage.emitted.values()} == {1}
    assert {len(sums) for sums in stage.sums.values()} == {1}


class FailingOnce(Store):
    """A disk that is full when the memory is written for the first time."""

    full = True

    def put(self, name, data):
        if name == MEMORY and self.full:
            self.full = False
            raise EngineError("The disk is full.")
        super().put(name, data)


def test_a_sum_is_not_opened_by_a_party_whose_release_was_never_written(stage):
    release = stage.capture(Release, 1)[PARTY]
    store, ledger = FailingOnce(stage.folder / PARTY), stage.store(f"{PARTY}-ledger", PARTY)
    terms, key = stage.cast.terms, stage.cast.keys[PARTY].signing
    opened = []

    def run(job):
        opened.append((job, PartyMemory.from_bytes(store[MEMORY]).released))
        return CommitteeFailed("Nobody opened.")

    party = Restarted(lambda: Answering(PartyMachine(PARTY, terms, key, store, ledger), store, run, ledger))
    with pytest.raises(EngineError):
        party.answer(release.to_bytes())
    assert not opened
    party.answer(release.to_bytes())
    ((job, released),) = opened
    assert isinstance(job, OpenSum)
    assert released


def test_nothing_is_voted_for_or_opened_on_a_damaged_ledger(stage):
    freeze = stage.capture(Freeze, 1)
    (statistics,) = stage.store(f"{PARTY}-ledger")
    entry = stage.store(f"{PARTY}-ledger").path(statistics.replace("statistics", "update"))
    entry.write_bytes(b"")
    with pytest.raises(EngineError, match=f"{entry.name} in the party's ledger is damaged: put back"):
        stage.ask(PARTY, freeze[PARTY])
    entry.unlink()
    assert isinstance(stage.ask(PARTY, freeze[PARTY]), SignedVote)  # the control
    for party, message in freeze.items():
        stage.mail[party].append(message.to_bytes())
    release = stage.capture(Release, 1)[PARTY]
    entry.write_bytes(b"")
    with pytest.raises(EngineError, match="is damaged"):
        stage.ask(PARTY, release)
    assert not stage.emitted[PARTY, 1]


def test_two_cohorts_are_never_both_opened(stage):
    # A coordinator that has one party release a first list tries to have a second list opened.
    _, request = released_alone(stage)
    for party in ("party-1", "party-3"):
        assert isinstance(stage.ask(party, request), SignedRoundKey)
    # Party 2 neither gives a key for it nor signs its list, and without that signature nobody prepares.
    assert reason(stage, request) == "already-opened"
    frozen = FrozenList(context=request.context.digest(), cohort=[], contributions={}, absent={})
    assert reason(stage, Freeze(frozen=frozen)) == "other-attempt"
    vote = Vote(frozen=frozen.digest(), commitment=b"")
    votes = [
        SignedVote(party=party, vote=vote, signature=sign(vote, stage.cast.keys[party].signing))
        for party in ("party-1", "party-3")
    ]
    assert reason(stage, Prepare(frozen=frozen, votes=votes), "party-1") == "other-list"
    assert sum(len(shares) for (_, round_), shares in stage.emitted.items() if round_ == 1) == 1


# -- outcomes and closing ------------------------------------------------------------------------------------


def test_an_outcome_that_does_not_continue_the_chain_is_refused(stage):
    stage.run(until=lambda: stage.coordinator.replica.place.round == 2)
    stage.run(until=lambda: stage.ask(PARTY, StatusRequest(study=b"")).round == 2)
    first, second = stage.recall(0), stage.recall(1)
    assert stage.ask(PARTY, first) == Accepted(member=PARTY, round=0)
    assert stage.ask(PARTY, second) == Accepted(member=PARTY, round=1)
    last = second.signed.outcome

    def future(**fields):
        context = changed(last.context, **{"round": 2, "previous": last.digest(), **fields})
        frozen = changed(last.frozen, context=context.digest())
        return changed(last, context=context, frozen=frozen)

    def told(outcome, by=tuple(stage.cast.terms.parties)):
        signatures = [sign(outcome, stage.cast.keys[p].signing) for p in by]
        return Settled(signed=changed(second.signed, outcome=outcome, signatures=signatures), total=b"")

    good = future()
    for settled in (
        told(good, ("party-1", "party-2", "party-1")),
        told(good, ("party-1", "party-2")),
        told(future(parties=["party-1", "party-2"]), ("party-1", "party-2")),
        told(future(previous=bytes(32))),
        told(future(study=bytes(32))),
        told(future(round=3)),
        told(changed(good, frozen=changed(good.frozen, context=bytes(32)))),
        told(changed(good, frozen=changed(good.frozen, absent={"va": "left"}))),
        told(changed(good, excluded={"zz": "norm-too-large"})),
    ):
        assert reason(stage, settled) == "other-chain"
    # The control; a party follows only the chain, whose members are the coordinator's and the hospitals' to check.
    assert stage.ask(PARTY, told(good)) == Accepted(member=PARTY, round=2)


def test_nothing_of_a_round_is_left_after_its_outcome(stage):
    stage.run(until=lambda: stage.coordinator.replica.place.round == 2)
    stage.run(until=lambda: stage.ask(PARTY, StatusRequest(study=b"")).round == 2)
    assert not [name for name in stage.store(PARTY) if name.startswith("spool-")]
    # The opening share, which the other parties have, stays until the memory of the next attempt is on disk.
    stage.run(until=lambda: stage.ask(PARTY, StatusRequest(study=b"")).attempt == 1)
    assert list(stage.store(PARTY)) == ["memory", receipt_name(0), receipt_name(1)]


def test_one_closing_record_is_signed(stage):
    stage.run()
    closing = stage.finished.closing.closing
    assert isinstance(stage.ask(PARTY, CloseRequest(closing=closing)), ClosingSignature)
    assert reason(stage, CloseRequest(closing=changed(closing, model=bytes(32)))) == "closed"
    assert reason(stage, CloseRequest(closing=changed(closing, last=bytes(32)))) == "other-chain"
    assert reason(stage, CloseRequest(closing=changed(closing, study=bytes(32)))) == "other-chain"
    assert reason(stage, CloseRequest(closing=changed(closing, rounds=9))) == "other-chain"
    stage.lose(PARTY)
    assert reason(stage, CloseRequest(closing=changed(closing, model=bytes(32)))) == "closed"
    # Who signs, and which sums were checked since, may have changed: a party died, a hospital came back.
    for fields in (
        {"parties": ["party-1", "party-2", "party-3"]},
        {"unverified": [1]},
        {"verifications": bytes(32)},
    ):
        other = changed(closing, **fields)
        answer = stage.ask(PARTY, CloseRequest(closing=other))
        assert answer.closing == other.digest()
        check_signature(other, stage.cast.terms.parties[PARTY], answer.signature)
    assert reason(stage, CloseRequest(closing=changed(closing, parties=["party-1"]))) == "other-parties"


def test_a_study_is_not_closed_before_its_last_round(stage):
    last = stage.cast.terms.rounds
    stage.run(until=lambda: stage.coordinator.replica.place.round == last)
    stage.run(until=lambda: stage.ask(PARTY, StatusRequest(study=b"")).round == last)
    place = stage.coordinator.replica.place
    closing = Closing(
        study=place.study,
        rounds=place.round,
        last=place.previous,
        model=bytes(32),
        parties=list(stage.cast.terms.parties),
        unverified=[],
        verifications=bytes(32),
    )
    assert reason(stage, CloseRequest(closing=closing)) == "other-chain"
    # The control: after it, the same request is granted.
    end = stage.run().finished.closing.closing
    same = changed(closing, rounds=end.rounds, last=end.last, model=end.model)
    assert isinstance(stage.ask(PARTY, CloseRequest(closing=same)), ClosingSignature)


# -- the rest ------------------------------------------------------------------------------------------------


def test_messages_for_others_and_malformed_bytes_are_refused(stage):
    announcement = stage.capture(Announcement, 1)["va"]
    assert reason(stage, announcement) == "unexpected"
    assert reason(stage, Behind(hospital="va", round=0)) == "unexpected"
    for data in (b"", b"\x00", b"\xff" * 20, StatusRequest(study=b"").to_bytes() + b"\x00"):
        (answer,) = stage.hosts[PARTY].answer(data)
        assert Refusal.from_bytes(answer).reason == "malformed"


def test_the_memory_of_another_study_is_refused(stage, theatre):
    stage.run()
    other = theatre.cast(3, 3, 3)
    with pytest.raises(RefusedError, match="another study"):
        PartyMachine(PARTY, other.terms, other.keys[PARTY].signing, stage.store(PARTY), {})


def test_the_key_of_an_attempt_never_shows(stage):
    stage.capture(Part, 1)
    attempt = stage.hosts[PARTY]._machine._attempt
    private = attempt.key.private_bytes()
    assert private.hex() not in repr(attempt)
    assert str(private) not in repr(attempt)
    assert attempt.cohort[0] in repr(attempt)
