"""Nothing of a hospital stands unsealed on any disk or wire, and round keys stand nowhere."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from protocols import contribution as contributions
from protocols.envelope import SealingKey
from securefl.roles import party
from securefl.roles.messages import Freeze
from securefl.roles.pledges import PLEDGE, TOTAL, Pledges


@pytest.fixture(params=[None, 50.0], ids=["no bound", "norm bound"])
def watched(request, theatre, tmp_path, monkeypatch):
    """A whole study, with all round keys, parts of coins and share plaintexts that were ever made."""
    secrets = {"keys": [], "coin parts": [], "coins": [], "shares": [], "updates": defaultdict(list)}
    make, share = party.Attempt, contributions.share
    hospital = contributions.contribute
    new_coin = Pledges.new_coin

    def watched_attempt(*arguments):
        attempt = make(*arguments)
        secrets["keys"].append(attempt.key.private_bytes())
        secrets["coin parts"].append(attempt.coin_part)
        return attempt

    def watched_share(x, *arguments):
        made = share(x, *arguments)
        secrets["shares"] += [bytes(plaintext) for plaintext in made]
        return made

    def watched_contribute(x, context, name, *arguments):
        secrets["updates"][name].append(x.tobytes())
        return hospital(x, context, name, *arguments)

    def watched_coin(pledges, context):
        coin, commitment = new_coin(pledges, context)
        secrets["coins"].append((context.digest(), coin))
        return coin, commitment

    monkeypatch.setattr(party, "Attempt", watched_attempt)
    monkeypatch.setattr(contributions, "share", watched_share)
    monkeypatch.setattr("securefl.roles.hospital.contribute", watched_contribute)
    monkeypatch.setattr(Pledges, "new_coin", watched_coin)
    stage = theatre.stage(theatre.cast(norm_bound=request.param), tmp_path).run()
    assert len(secrets["keys"]) == len(secrets["coin parts"]) == 3 * 3
    assert [len(made) for made in secrets["updates"].values()] == [3] * 4
    assert len(secrets["coins"]) == 3 * 4
    return stage, secrets


def found(needle, hay):
    return any(needle in straw for straw in hay)


def all_written(stage, without=""):
    """Every byte that was ever written, but by one role."""
    return [data for place, written in stage.written.items() if place != without for data in written]


def test_round_keys_and_parts_of_coins_are_in_no_store_and_on_no_wire(watched):
    stage, secrets = watched
    written = all_written(stage)
    for key in secrets["keys"]:
        for half in (key[:64], key[64:], key[:32], key[32:64]):
            assert not found(half, written)
            assert not found(half, stage.wire)
    for part in secrets["coin parts"]:
        assert not found(part, written)
        assert not found(part, stage.wire)
    # The control: their public halves are on the wire, and the search finds them.
    assert all(found(SealingKey(key).public, stage.wire) for key in secrets["keys"])


def test_no_share_is_in_any_store_or_on_any_wire(watched):
    stage, secrets = watched
    assert len(secrets["shares"]) == 3 * 4 * 3
    for plaintext in secrets["shares"]:
        assert not found(plaintext[1:], all_written(stage))
        assert not found(plaintext[1:], stage.wire)
    # The control: the opened sums are there, as they must be.
    assert all(found(done.settled.total, all_written(stage)) for done in stage.done)


def test_an_update_is_in_no_other_store_than_its_hospitals_own(watched):
    stage, secrets = watched
    for hospital, (_statistics, *updates) in secrets["updates"].items():  # the statistics of two are the same
        for update in updates:
            assert not found(update, all_written(stage, without=hospital))
            assert not found(update, stage.wire)
            assert found(update, stage.written[hospital])  # the control


def test_what_a_hospital_keeps_for_the_check_is_gone_with_the_check(watched):
    stage, secrets = watched
    while moves := stage.moves():
        moves[0]()
    assert [done.missing for done in stage.verified] == [()] * 3
    for hospital, updates in secrets["updates"].items():
        kept = dict(stage.store(hospital))
        assert not [name for name in kept if name.startswith((PLEDGE, TOTAL))]
        assert not any(found(update, kept.values()) for update in updates)


def test_a_coin_is_told_to_nobody_before_its_outcome(watched):
    stage, secrets = watched
    outcomes = {signed.outcome.context.digest(): signed.outcome.digest() for signed in stage.outcomes()}
    for context, coin in secrets["coins"]:
        before = next(i for i, data in enumerate(stage.wire) if outcomes[context] in data)
        assert not found(coin, stage.wire[:before])
        assert found(coin, stage.wire[before:])


def test_updates_are_not_in_any_store_as_floats(watched, theatre):
    stage, _ = watched
    for name in stage.cast.terms.hospitals:
        trainer = theatre.trainer(name)
        trainer.use_statistics(stage.coordinator.replica.statistics)
        update = trainer.update(theatre.initial_model(), 1)
        for form in (update, update.astype(np.float32), -update):
            assert not found(form.tobytes(), all_written(stage))


KEPT = ["memory", "receipt-000000", "receipt-000001"]
"""What a party has at the end of a study with one round of training."""


def test_parties_keep_sealed_parts_until_the_outcome_and_no_longer(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.capture(Freeze, 1)
    spooled = [n for n in stage.store("party-1") if n.startswith("spool-")]
    assert len(spooled) == 4
    stage = theatre.stage(theatre.cast(), tmp_path / "whole").run()
    for name in stage.cast.terms.parties:
        assert list(stage.store(name)) == [*KEPT, "receipt-000002"]


def test_what_a_kill_left_behind_is_gone_when_the_study_is_closed(theatre, tmp_path):
    # Killed between the last outcome and the erasing: before each write of its last round.
    cast = theatre.cast(3, 2, 1)
    count = theatre.fuse()
    theatre.stage(cast, tmp_path / "count", fuses=[count]).run()
    for at in range(count.steps["party-1"] - 10, count.steps["party-1"]):
        stage = theatre.stage(cast, tmp_path / str(at), fuses=[theatre.fuse("party-1", at)]).run()
        assert list(stage.store("party-1")) == KEPT
