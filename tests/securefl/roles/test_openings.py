"""One sum a round: whatever the coordinator asks the parties, in whatever order, and in whatever other study."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest

from protocols.envelope import SealingKey
from protocols.ring import from_bytes
from protocols.signing import SigningKey
from securefl.errors import EngineError
from securefl.roles.effects import CommitteeFailed, OpenSum, Start
from securefl.roles.host import Host, Store
from securefl.roles.messages import (
    Announcement,
    Freeze,
    FrozenList,
    Held,
    KeyRequest,
    Opened,
    Part,
    Prepare,
    Refusal,
    Release,
    SignedContribution,
    SignedPrepared,
    SignedRoundKey,
    SignedVote,
    StatusRequest,
    read_message,
)
from securefl.roles.party_memory import MEMORY, SHARE, Ledger, OpenedCohort, PartyMemory

PARTY = "party-2"


def changed(record, **fields):
    return record.model_copy(update=fields)


def subsets(items):
    return chain.from_iterable(combinations(items, n) for n in range(len(items) + 1))


# -- a coordinator that wants two sums ---------------------------------------------------------------------------


class Schemer:
    """A coordinator that makes several attempts of round 1 at once, each with a cohort of its own.

    It follows the protocol in each of them, one party and one step at a time and in an order that it draws, keeps all
    that it was ever answered, sends anything again, and has parties restart. Hospitals contribute to every attempt.
    """

    def __init__(self, stage, cohorts, seed):
        self.stage, self.draw = stage, random.Random(seed)
        self.parties = list(stage.cast.terms.parties)
        self.request = stage.capture(KeyRequest, 1)["party-1"]
        self.cohorts = dict(enumerate(cohorts, start=1))
        self.got = {attempt: defaultdict(dict) for attempt in self.cohorts}
        self.sent, self.attempt = [], 1
        self.stage.tamper = self._overhear

    def _overhear(self, sender, _to, message):
        if sender != "coordinator" and not isinstance(message, Refusal):
            for attempt in self.got:
                self._keep(attempt, sender, message)
        return None  # the stage's own coordinator hears of nothing

    def _keep(self, attempt, sender, message):
        got = self.got[attempt]
        match message:
            case SignedRoundKey() if message.key.context == self.context(attempt).digest():
                got["keys"][sender] = message
            case Held() if message.context == self.context(attempt).digest():
                got["held"][sender, message.hospital] = message
            case SignedVote() if message.vote.frozen == self.frozen(attempt).digest():
                got["votes"][sender] = message
            case SignedPrepared() if message.frozen == self.frozen(attempt).digest():
                got["prepared"][sender] = message
            case Opened() if message.outcome.frozen.digest() == self.frozen(attempt).digest():
                got["opened"][sender] = message

    def context(self, attempt):
        return changed(self.request.context, attempt=attempt)

    def frozen(self, attempt):
        contributions = {h: c.contribution.digest() for h, c in self.got[attempt]["contributions"].items()}
        return FrozenList(
            context=self.context(attempt).digest(),
            cohort=self.cohorts[attempt],
            contributions=contributions,
            absent={h: "no-answer" for h in self.cohorts[attempt] if h not in contributions},
        )

    def contribute(self, attempt):
        """All hospitals of the cohort contribute, once all keys are there."""
        got = self.got[attempt]
        if len(got["keys"]) < len(self.parties) or got["contributions"]:
            return
        keys = [got["keys"][party] for party in self.parties]
        announcement = Announcement(context=self.context(attempt), cohort=self.cohorts[attempt], keys=keys)
        for hospital in self.cohorts[attempt]:
            answer = self.stage.ask(hospital, announcement)
            assert isinstance(answer, SignedContribution), answer
            got["contributions"][hospital] = answer

    def could_send(self, attempt, party):
        """Everything that it can say to a party in this attempt with what it has."""
        got, rank = self.got[attempt], self.parties.index(party)
        yield changed(self.request, context=self.context(attempt), cohort=self.cohorts[attempt])
        if not got["contributions"]:
            return
        for signed in got["contributions"].values():
            yield Part(
                contribution=signed.contribution, signature=signed.signature, envelope=signed.envelopes[rank]
            )
        yield Freeze(frozen=self.frozen(attempt))
        if len(got["votes"]) == len(self.parties):
            votes = [got["votes"][name] for name in self.parties]
            yield Prepare(frozen=self.frozen(attempt), votes=votes)
        if len(got["prepared"]) == len(self.parties):
            prepared = [got["prepared"][name] for name in self.parties]
            yield Release(frozen=self.frozen(attempt), prepared=prepared, session=1)

    def settle(self):
        """Everything that was sent is handled; who waits for parties that do not come gives up."""
        stage = self.stage
        stage.run(until=lambda: not stage.moves() and not stage._tasks)
        for attempt in self.cohorts:
            self.contribute(attempt)

    def push(self, attempt, parties=None, upto=Release):
        """Drive an attempt, at some parties, as far as it goes."""
        for _ in range(8):
            for party in parties or self.parties:
                for message in self.could_send(attempt, party):
                    if not isinstance(message, Release) or upto is Release:
                        self.stage.mail[party].append(message.to_bytes())
            self.settle()

    def step(self):
        """Something, to somebody; now and then to all, so that the committee can meet."""
        if self.draw.random() < 0.2:
            self.attempt = self.draw.choice(list(self.cohorts))
        attempt, together = self.attempt, self.draw.random() < 0.7
        chosen = self.parties if together else [self.draw.choice(self.parties)]
        if self.draw.random() < 0.05:
            self.stage.lose(chosen[0])
        for party in chosen:
            options = list(self.could_send(attempt, party))
            late = options if self.draw.random() < 0.6 else options[-2:]
            for message in late:
                self.stage.mail[party].append(message.to_bytes())
                self.sent.append((party, message))
        if self.sent and self.draw.random() < 0.2:
            party, message = self.draw.choice(self.sent)
            self.stage.mail[party].append(message.to_bytes())
        self.settle()

    def sums(self):
        return {opened.total for got in self.got.values() for opened in got["opened"].values()}


def check_one_sum(schemer):
    """At most one sum, and at most one opening share of each party."""
    assert len(schemer.sums()) <= 1
    assert len(schemer.stage.sums[1]) <= 1
    for party in schemer.parties:
        assert len(schemer.stage.emitted[party, 1]) <= 1, party


def cohorts_of(cast):
    """Everyone, and everyone but one: the difference of their sums would be an update."""
    everyone = sorted(cast.terms.hospitals)
    return everyone, [name for name in everyone if name != "va"]


SMALL, LARGE = (3, 2, 1), (4, 3, 1)
CASES = [
    pytest.param(shape, released, marks=[] if shape == SMALL else pytest.mark.slow)
    for shape in (SMALL, LARGE)
    for released in subsets(["party-1", "party-2", "party-3"][: shape[1]])
]


@pytest.mark.parametrize(("shape", "released"), CASES)
def test_a_second_cohort_is_not_opened_once_anybody_released_the_first(theatre, tmp_path, shape, released):
    cast = theatre.cast(*shape)
    schemer = Schemer(theatre.stage(cast, tmp_path), cohorts_of(cast), 0)
    schemer.push(1, upto=Prepare)
    assert len(schemer.got[1]["prepared"]) == shape[1]
    if released:
        schemer.push(1, released)
    schemer.push(2)
    schemer.push(1)
    schemer.push(2)
    check_one_sum(schemer)
    opened = [attempt for attempt in (1, 2) if schemer.got[attempt]["opened"]]
    # The controls: nobody released the first, then the second is opened; all did, then the first is.
    if len(released) in (0, shape[1]):
        assert opened == ([1] if released else [2])
        assert len(schemer.sums()) == 1
    else:
        # Some did: they have burnt the round. Those who did not have given up their shares for the second attempt.
        assert opened == []


def test_two_lists_of_one_attempt_are_never_both_agreed(theatre, tmp_path):
    # The same keys and parts; party 1 is given one list to sign and the others another.
    stage = theatre.stage(theatre.cast(), tmp_path)
    freeze = stage.capture(Freeze, 1)["party-1"]
    long = freeze.frozen
    short = changed(
        long,
        contributions={h: d for h, d in long.contributions.items() if h != "va"},
        absent={"va": "no-answer"},
    )
    votes = {}
    for first, party in ((long, "party-1"), (short, "party-2"), (short, "party-3")):
        votes[party] = stage.ask(party, Freeze(frozen=first))
        assert isinstance(votes[party], SignedVote)
        other = short if first is long else long
        answer = stage.ask(party, Freeze(frozen=other))
        assert (type(answer), answer.reason) == (Refusal, "second-list")
    for frozen in (long, short):
        for party in votes:
            answer = stage.ask(party, Prepare(frozen=frozen, votes=list(votes.values())))
            assert isinstance(answer, Refusal)
            assert answer.reason in ("not-agreed", "other-list")
    assert not [job for _, job in stage.jobs if job.context.round == 1]


def scheme(theatre, cast, folder, cohorts, seed, steps):
    schemer = Schemer(theatre.stage(cast, folder), cohorts, seed)
    for _ in range(steps):
        schemer.step()
        check_one_sum(schemer)
    return schemer


def opened(schemers):
    """The attempts that got somewhere: the control is that the coordinator is clever enough for any of them."""
    return {attempt for s in schemers for attempt in s.cohorts if s.got[attempt]["opened"]}


def test_a_coordinator_that_mixes_attempts_gets_at_most_one_sum(theatre, tmp_path):
    cast = theatre.cast(*SMALL)
    cohorts = cohorts_of(cast)
    got = [scheme(theatre, cast, tmp_path / str(seed), cohorts, seed, 16) for seed in range(8)]
    assert opened(got) == {1, 2}


@pytest.mark.slow
def test_a_coordinator_that_mixes_attempts_for_long_gets_at_most_one_sum(theatre, tmp_path):
    cast = theatre.cast(*LARGE)
    everyone, without = cohorts_of(cast)
    cohorts = [everyone, without, everyone[1:]]
    got = [scheme(theatre, cast, tmp_path / str(seed), cohorts, seed, 25) for seed in range(100, 160)]
    assert opened(got) == {1, 2, 3}


# -- the same messages again -------------------------------------------------------------------------------------


def replayed(stage, party, data):
    """A party's answers to a message that comes again, when nobody else takes part; and the shares it let go."""
    before = {key: set(shares) for key, shares in stage.emitted.items()}
    alone = stage._runners[party].run
    stage._runners[party].run = lambda job, task: (
        (
            stage.emitted[party, job.context.round].add(stage.store(party)[SHARE])
            if isinstance(job, OpenSum)
            else None
        )
        or CommitteeFailed("Nobody else is there.")
    )
    stage._tasks[party] = None
    try:
        answers = stage.hosts[party].answer(data)
    finally:
        del stage._tasks[party]
        stage._runners[party].run = alone
    return answers, {key: shares - before.get(key, set()) for key, shares in stage.emitted.items()}


@pytest.mark.parametrize(
    ("norm_bound", "restarted"),
    [
        (None, False),
        (2.0, True),
        pytest.param(2.0, False, marks=pytest.mark.slow),
        pytest.param(None, True, marks=pytest.mark.slow),
    ],
)
def test_a_message_that_comes_again_gets_the_same_bytes_or_a_refusal(
    theatre, tmp_path, norm_bound, restarted
):
    # Everything that a party was ever sent, again, after each message of round 1.
    cast = theatre.cast(3, 2, 1, norm_bound=norm_bound)
    count = theatre.stage(cast, tmp_path / "count")
    heard = []
    count.before = lambda to, data: heard.append(data) if to == PARTY and isinstance(data, bytes) else None
    count.run()
    same, kinds = set(), set()
    for stop in range(9, len(heard) + 1):  # from the end of the statistics on
        stage = theatre.stage(cast, tmp_path / f"{stop}")
        told, answered = [], {}

        def before(to, data, told=told):
            if to == PARTY and isinstance(data, bytes):
                told.append(data)

        def answer(sender, _to, message, told=told, answered=answered):
            if sender == PARTY:
                answered.setdefault(told[-1], set()).add(message.to_bytes())
            return message

        stage.before, stage.tamper = before, answer
        stage.run(until=lambda t=told, s=stage, n=stop: len(t) == n and PARTY not in s._tasks)
        if restarted:
            stage.lose(PARTY)
        share = dict(stage.store(PARTY)).get(SHARE)
        for data in list(told):
            answers, let_go = replayed(stage, PARTY, data)
            for one in answers:
                if one in answered.get(data, ()):
                    same.add(type(read_message(data)))
                    continue
                message = read_message(one)
                # What may differ is what tells where the party stands.
                assert isinstance(message, Refusal) or type(message).kind == "party-status", message
                kinds.add(message.reason if isinstance(message, Refusal) else "status")
            assert not any(let_go.values()), "another opening share has left"
        assert dict(stage.store(PARTY)).get(SHARE) in (share, None)
    assert {"old-attempt", "not-prepared", "status"} <= kinds
    assert {Freeze, Part, Prepare} <= same or restarted


# -- other studies -----------------------------------------------------------------------------------------------


def another_study(cast, keys=None):
    """Of the same members and the same model; ``keys`` are pinned in it under the names of some hospitals."""
    keys = keys or {}
    terms = replace(
        cast.terms,
        study=bytes(range(32)),
        hospitals=cast.terms.hospitals | {name: pair.signing.public for name, pair in keys.items()},
        sealing=cast.terms.sealing | {name: pair.sealing.public for name, pair in keys.items()},
    )
    return replace(cast, terms=terms, keys=cast.keys | keys)


def hand_on(first, second):
    """The parties of one stage serve the other's study too: their ledgers are the same."""
    for party in second.cast.terms.parties:
        if party in first.cast.terms.parties:
            for name, data in first.store(f"{party}-ledger").items():
                second.store(f"{party}-ledger").put(name, data)


def after(theatre, tmp_path, first, second, silent=(), **rest):
    """A study, and then another one at the same parties; some hospitals keep silent in its round 1."""
    stage = theatre.stage(first, tmp_path / "first").run()
    other = theatre.stage(second, tmp_path / "second", **rest)
    hand_on(stage, other)
    other.tamper = lambda sender, _to, message: (
        None
        if sender in silent
        and isinstance(message, SignedContribution)
        and other.coordinator.replica.place.round == 1
        else message
    )
    return stage, other


def test_another_study_of_the_same_cohort_is_opened(theatre, tmp_path):
    first = theatre.cast(4, 3, 1)
    second = another_study(first)
    stage, other = after(theatre, tmp_path, first, second)
    other.run()
    assert np.array_equal(other.model, theatre.expected(second, [set(second.terms.hospitals)]))
    place = f"opened-update-{stage.outcomes()[1].outcome.context.model.hex()[:32]}"
    for folder in (stage, other):
        entry = OpenedCohort.from_bytes(folder.store(f"{PARTY}-ledger")[place])
        assert entry.cohort == first.terms.hospitals


def test_another_study_whose_cohort_differs_by_one_is_refused_at_the_freeze(theatre, tmp_path):
    first = theatre.cast(4, 3, 1)
    second = another_study(first)
    _, other = after(theatre, tmp_path, first, second, silent=["va"])
    refusals = []
    other.before = lambda _to, event: (
        refusals.append(event.message) if isinstance(getattr(event, "message", None), Refusal) else None
    )
    with pytest.raises(
        EngineError, match=r"Round 1 cannot be opened\. .*over other hospitals .* take another seed"
    ):
        other.run()
    assert {(r.about, r.reason) for r in refusals} == {("freeze", "other-cohort")}
    assert not [job for _, job in other.jobs if job.context.round == 1]
    assert all(not other.emitted[party, 1] for party in second.terms.parties)


def test_the_statistics_of_one_hospital_more_are_refused_too(theatre, tmp_path):
    _, other = after(theatre, tmp_path, theatre.cast(4, 3, 1), theatre.cast(3, 3, 1))
    with pytest.raises(EngineError, match=r"Round 0 cannot be opened\. .*over other hospitals "):
        other.run()
    assert not any(other.emitted.values())


def test_a_cohort_that_differs_by_more_is_refused_too(theatre, tmp_path):
    # With a third one, no pair of which differs by one, their sums could give a hospital's update away.
    _, other = after(theatre, tmp_path, theatre.cast(5, 3, 1), theatre.cast(3, 3, 1))
    with pytest.raises(EngineError, match=r"Round 0 cannot be opened\. .*over other hospitals "):
        other.run()
    assert not any(other.emitted.values())


def test_one_party_that_remembers_is_enough(theatre, tmp_path):
    first = theatre.cast(4, 3, 1)
    second = another_study(first)
    _, other = after(theatre, tmp_path, first, second, silent=["va"])
    for party in ("party-1", "party-3"):
        ledger = other.store(f"{party}-ledger")
        for name in list(ledger):
            ledger.put(name, b"")
    with pytest.raises(EngineError, match="over other hospitals"):
        other.run()


def impostor(cast, name="va"):
    """Keys that somebody else has made."""
    return {name: replace(cast.keys[name], signing=SigningKey.generate(), sealing=SealingKey.generate())}


def test_a_stolen_name_opens_no_second_sum(theatre, tmp_path):
    first = theatre.cast(4, 3, 1)
    second = another_study(first, impostor(first))
    _, other = after(theatre, tmp_path, first, second)
    with pytest.raises(
        EngineError, match=r"Round 0 cannot be opened\. .*over hospitals with other keys .* take another seed"
    ):
        other.run()
    assert not any(other.emitted.values())


def test_a_stolen_name_is_refused_for_updates_too(theatre, tmp_path):
    # As where the statistics were opened of another model: the ledger has the first study's updates alone.
    first = theatre.cast(4, 3, 1)
    second = another_study(first, impostor(first))
    _, other = after(theatre, tmp_path, first, second)
    for party in second.terms.parties:
        ledger = other.store(f"{party}-ledger")
        (statistics,) = (name for name in ledger if "statistics" in name)
        ledger.put(statistics, b"")
    with pytest.raises(EngineError, match=r"Round 1 cannot be opened\. .*over hospitals with other keys "):
        other.run()
    assert all(not other.emitted[party, 1] for party in second.terms.parties)


def test_control_where_names_are_compared_alone_the_difference_is_an_update(theatre, tmp_path, monkeypatch):
    monkeypatch.setattr(Ledger, "_keyed", lambda _ledger, included: dict.fromkeys(included, b""))
    first = theatre.cast(4, 3, 1)
    second = another_study(first, impostor(first))
    # The colluder adds nothing. It says the count of whom it stands for, which two sums of statistics tell.
    nothing = {"va": {1: np.zeros(theatre.size)}}
    stage, other = after(theatre, tmp_path, first, second, faults=nothing)
    other.run()
    sums = [from_bytes(one.recall(1).total, 32, theatre.size) for one in (stage, other)]
    update = stage.trainers["va"].update(theatre.initial_model(), 1)
    assert np.array_equal(sums[0] - sums[1], first.terms.update.encode(update))
    assert stage.outcomes()[1].outcome.included == other.outcomes()[1].outcome.included


# -- two processes of a party at the same moment -----------------------------------------------------------------


class Decided:
    """A machine that has taken its message, and whose effects are still to be carried out."""

    name = PARTY

    def __init__(self, effects):
        self._effects = effects

    def handle(self, _event):
        effects, self._effects = self._effects, []
        return effects


class Replacing(Store):
    """The naive ledger: an entry takes the place of what stands there."""

    enter = Store.put


@pytest.mark.parametrize(
    ("ledger_kind", "opened"), [(Store, 1), (Replacing, 2)]
)  # the control: the naive one
def test_two_processes_that_release_at_the_same_moment_open_one_sum(theatre, tmp_path, ledger_kind, opened):
    first = theatre.cast(4, 3, 1)
    (tmp_path / "ledger").mkdir()
    stages = []
    for cast, silent in ((first, ""), (another_study(first), "va")):
        folder = tmp_path / str(len(stages))
        folder.mkdir()
        (folder / f"{PARTY}-ledger").symlink_to(tmp_path / "ledger")
        stage = theatre.stage(cast, folder)
        stage.tamper = lambda sender, _to, message, who=silent, stage=stage: (
            None
            if sender == who
            and isinstance(message, SignedContribution)
            and stage.coordinator.replica.place.round == 1
            else message
        )
        stages.append((stage, stage.capture(Release, 1)[PARTY]))
    # Both have asked their ledger, and neither has entered anything.
    decided = [stage.hosts[PARTY]._machine.handle(release) for stage, release in stages]
    jobs, said = [], []
    for (stage, _), effects in zip(stages, decided, strict=True):
        host = Host(
            Decided(effects),
            stage.store(PARTY),
            lambda *_: None,
            run_job=lambda job: jobs.append(job) or CommitteeFailed("Nobody else is there."),
            ledger=ledger_kind(tmp_path / "ledger"),
        )
        try:
            host.take(Start())
        except EngineError as error:
            said.append(str(error))
    assert len(jobs) == opened
    assert len(said) == 2 - opened
    released = [PartyMemory.from_bytes(stage.store(PARTY)[MEMORY]).released for stage, _ in stages]
    assert released == [True, opened == 2]
    if opened == 1:
        # Started again from its disk, the second says which sum was opened.
        stage, release = stages[1]
        stage.lose(PARTY)
        answer = stage.ask(PARTY, release)
        assert (type(answer), answer.reason) == (Refusal, "other-cohort")


def test_the_ledger_is_written_before_the_release(theatre, tmp_path):
    """Killed at each write of its release, a party finishes its round; nothing has left before the ledger stood."""
    cast = theatre.cast(3, 2, 1)
    count = theatre.fuse()
    theatre.stage(cast, tmp_path / "count", fuses=[count]).run()
    met = set()
    for at in count.writes[PARTY]:
        stage = theatre.stage(cast, tmp_path / str(at), fuses=[theatre.fuse(PARTY, at)])
        stage.run(until=lambda stage=stage: stage.crashes == 1)
        ledger = [name for name in stage.store(f"{PARTY}-ledger") if "update" in name]
        memory = stage.store(PARTY).get(MEMORY)
        released = PartyMemory.from_bytes(memory).released if memory else False
        assert ledger or not stage.emitted[PARTY, 1]
        if stage.coordinator.replica.place.round != 1 or not ledger:
            continue
        met.add(released)
        stage.run()
        assert np.array_equal(stage.model, theatre.expected(cast, [set(cast.terms.hospitals)]))
        assert len(stage.emitted[PARTY, 1]) == 1
        assert [signed.outcome.included for signed in stage.outcomes()] == [sorted(cast.terms.hospitals)] * 2
    assert False in met  # in the ledger, and not yet released


def test_a_party_has_one_ledger_for_all_its_studies_and_one_memory_for_each(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(3, 2, 1), tmp_path).run()
    kinds = sorted(name.split("-")[1] for name in stage.store(f"{PARTY}-ledger"))
    assert kinds == ["statistics", "update"]
    assert MEMORY in stage.store(PARTY)
    answer = stage.ask(PARTY, StatusRequest(study=b""))
    assert answer.round == 2
