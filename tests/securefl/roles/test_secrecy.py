"""Nothing of a hospital stands unsealed on any disk or wire, and round keys stand nowhere."""

from __future__ import annotations

import numpy as np
import pytest

from protocols import contribution as contributions
from protocols.envelope import SealingKey
from securefl.roles.messages import Freeze


@pytest.fixture
def watched(theatre, tmp_path, monkeypatch):
    """A whole study, with all round keys and share plaintexts that were ever made."""
    secrets = {"keys": [], "shares": [], "updates": []}
    generate, share = SealingKey.generate, contributions.share

    def watched_generate():
        key = generate()
        secrets["keys"].append(key.private_bytes())
        return key

    def watched_share(x, *arguments):
        secrets["updates"].append(x.tobytes())
        made = share(x, *arguments)
        secrets["shares"] += [bytes(plaintext) for plaintext in made]
        return made

    monkeypatch.setattr(SealingKey, "generate", watched_generate)
    monkeypatch.setattr(contributions, "share", watched_share)
    stage = theatre.stage(theatre.cast(), tmp_path).run()
    assert len(secrets["keys"]) == 3 * 3
    assert len(secrets["updates"]) == 3 * 4
    return stage, secrets


def found(needle, hay):
    return any(needle in straw for straw in hay)


def test_round_keys_are_in_no_store_and_on_no_wire(watched):
    stage, secrets = watched
    for key in secrets["keys"]:
        for half in (key[:64], key[64:], key[:32], key[32:64]):
            assert not found(half, stage.written)
            assert not found(half, stage.wire)
    # The control: their public halves are on the wire, and the search finds them.
    assert all(found(SealingKey(key).public, stage.wire) for key in secrets["keys"])


def test_no_share_and_no_update_is_in_any_store_or_on_any_wire(watched):
    stage, secrets = watched
    for plaintext in secrets["shares"]:
        assert not found(plaintext[1:], stage.written)
        assert not found(plaintext[1:], stage.wire)
    for update in secrets["updates"]:
        assert not found(update, stage.written)
        assert not found(update, stage.wire)
    # The control: the opened sums are there, as they must be.
    assert all(found(done.settled.total, stage.written) for done in stage.done)


def test_updates_are_not_in_any_store_as_floats(watched, theatre):
    stage, _ = watched
    for name in stage.cast.terms.hospitals:
        trainer = theatre.trainer(name)
        trainer.use_statistics(stage.coordinator.replica.statistics)
        update = trainer.update(theatre.initial_model(), 1)
        for form in (update, update.astype(np.float32), -update):
            assert not found(form.tobytes(), stage.written)


def test_parties_keep_sealed_parts_until_the_outcome_and_no_longer(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(), tmp_path)
    stage.capture(Freeze, 1)
    spooled = [n for n in stage.store("party-1") if n.startswith("spool-")]
    assert len(spooled) == 4
    stage = theatre.stage(theatre.cast(), tmp_path / "whole").run()
    for party in stage.cast.terms.parties:
        assert list(stage.store(party)) == ["memory"]


def test_what_a_kill_left_behind_is_gone_when_the_study_is_closed(theatre, tmp_path):
    # Killed between the last outcome and the erasing: before each write of its last round.
    cast = theatre.cast(3, 2, 1)
    count = theatre.fuse()
    theatre.stage(cast, tmp_path / "count", fuses=[count]).run()
    for at in range(count.steps["party-1"] - 10, count.steps["party-1"]):
        stage = theatre.stage(cast, tmp_path / str(at), fuses=[theatre.fuse("party-1", at)]).run()
        assert list(stage.store("party-1")) == ["memory"]
