"""Statistics that no hospitals' records have: everybody refuses them in one sentence, and nothing goes in circles.

One hospital can make the opened sums anything, since nobody sees its own; what some records could have is believed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.chain import total_digest
from protocols.contribution import sign
from securefl.audit.stage import staged
from securefl.audit.stage_cast import VICTIM, trainer_of
from securefl.engines.late_trainer import LateTrainer
from securefl.errors import StatisticsError
from securefl.roles.hospital import HospitalMachine
from securefl.roles.messages import Accepted, Announcement, Refusal, Settled, read_message
from securefl.roles.refusals import told

HOSPITAL, LIAR = "va", "b"
SEED = "agree on another seed"


def lying(theatre, folder, count, **changes):
    """A stage whose opened number of records is this one: the liar sends what is missing to it, or too much."""
    cast = theatre.cast(5, 3, 1)
    cast = replace(cast, terms=replace(cast.terms, **changes))
    stage = theatre.stage(cast, folder)
    others = sum(trainer.count for name, trainer in stage.trainers.items() if name != LIAR)
    stage.trainers[LIAR].statistics = lambda: np.array([count - others, 0.0, 0.0])
    return stage


IMPOSSIBLE = [0, -596, 1, 4, 40.5, 5e9 + 1, 1e11]


@pytest.mark.parametrize("count", IMPOSSIBLE)
def test_a_count_that_cannot_be_ends_the_run_in_the_same_sentence_however_often_it_goes_on(
    theatre, tmp_path, count
):
    stage = lying(theatre, tmp_path, count)
    with pytest.raises(StatisticsError, match=SEED) as first:
        stage.run()
    assert f"they count {count:.12g} records, and 5 hospitals have 5 to 5000000000" in str(first.value)
    for _ in range(3):  # --resume
        stage.mail = {name: type(mail)() for name, mail in stage.mail.items()}
        stage._start_coordinator()
        sent = len(stage.wire)
        with pytest.raises(StatisticsError) as again:
            stage.run()
        assert str(again.value) == str(first.value)
        assert len(stage.wire) - sent < 30
    assert stage.done == []
    assert not any(isinstance(read_message(data), Settled) for data in stage.wire)


@pytest.mark.parametrize("count", [5, 45, 5e9])
def test_control_a_count_that_could_be_is_believed(theatre, tmp_path, count):
    stage = lying(theatre, tmp_path, count)
    stage.run(until=lambda: stage.done)
    assert stage.coordinator.replica.statistics[0] == count


@pytest.mark.parametrize("count", IMPOSSIBLE)
def test_a_hospital_refuses_an_outcome_with_such_a_count_and_stays_where_it_was(theatre, tmp_path, count):
    stage = theatre.stage(theatre.cast(5, 3, 1), tmp_path)
    stage.tamper = lambda _s, to, m: None if to == HOSPITAL and isinstance(m, Settled) else m
    stage.run(until=lambda: len(stage.done) == 1)
    settled = stage.recall(0)
    opened = stage.cast.terms.statistics.encode(np.array([count, 0.0, 0.0])).tobytes()
    outcome = settled.signed.outcome.model_copy(update={"total": total_digest(opened)})
    signatures = [sign(outcome, stage.cast.keys[party].signing) for party in stage.cast.terms.parties]
    signed = settled.signed.model_copy(update={"outcome": outcome, "signatures": signatures})
    before = dict(stage.store(HOSPITAL))
    answer = stage.ask(HOSPITAL, Settled(signed=signed, total=opened))
    reason = "impossible-statistics"
    assert answer == Refusal(
        member=HOSPITAL, about="settled", hospital="", reason=reason, explanation=told(reason)
    )
    assert dict(stage.store(HOSPITAL)) == before
    answers = [read_message(data) for data in stage.hosts[HOSPITAL].answer(settled.to_bytes())]
    assert Accepted(member=HOSPITAL, round=0) in answers  # the control


def test_a_roll_call_may_count_anything_since_nothing_depends_on_it(theatre, tmp_path):
    stage = lying(theatre, tmp_path, 0, records=None)
    stage.run(until=lambda: stage.done)
    assert stage.coordinator.replica.place.round == 1


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("lie", [True, False])
def test_mean_squares_that_cannot_be_are_refused_by_a_hospital_whenever_it_looks_at_them(late, lie):
    """At the outcome, or with the trainer made for the first contribution, as in a process for each message."""
    with staged() as stage:
        sums = stage.trainers["cleveland"].statistics()
        if lie:
            sums[-1] -= 1e6  # of the last feature's squares
        stage.trainers["cleveland"].statistics = lambda: sums
        keys, real = stage.people.keys[VICTIM], stage.trainers[VICTIM]
        trainer = real
        if late:
            data = stage.data[VICTIM]
            trainer = LateTrainer(lambda: trainer_of(stage.study, stage.terms, VICTIM, data))
        machine = HospitalMachine(
            VICTIM, stage.terms, keys.signing, keys.sealing, trainer, stage.study.settings.server,
            real.layout.trainable_size, stage.store(VICTIM),
        )  # fmt: skip
        stage.seat(VICTIM, machine)
        kept = stage.play(lambda to, _: to == VICTIM and stage.replica.place.round > 0)
        settled = next(m for _, m in kept if isinstance(m, Settled))
        announcement = next(m for _, m in kept if isinstance(m, Announcement))
        answers = [*stage.tell(VICTIM, settled), *stage.tell(VICTIM, announcement)]
    refused = [(a.about, a.reason) for a in answers if isinstance(a, Refusal)]
    expected = ("announcement" if late else "settled", "impossible-statistics")
    assert refused == ([expected] if lie else [])
