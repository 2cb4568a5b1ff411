"""The bytes of a study's messages, counted: they are the same whatever the records are."""

from __future__ import annotations

import zlib
from collections import defaultdict

import numpy as np
import pytest

from protocols import contribution as contributions
from securefl.audit.stage import staged
from securefl.audit.stage_cast import PARTIES
from securefl.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


def sizes(norm_bound):
    """The lengths of all messages of each kind and member.

    The parties' are counted together: which of them gets a hospital's vector, and which ones seeds, depends on the
    study's digest, and so on the keys that were drawn for its members.
    """
    with staged(rounds=2, norm_bound=norm_bound) as stage:
        stage.play()
        assert stage.finished is not None
        found = defaultdict(list)
        for sender, recipient, message in stage.wire:
            place = tuple("party" if name in PARTIES else name for name in (sender, recipient))
            found[(*place, type(message).__name__)].append(len(message.to_bytes()))
    return {place: sorted(lengths) for place, lengths in found.items()}


def other_records(monkeypatch):
    """Every hospital learns something else: nothing at all, or as much as fits in."""
    draw = np.random.default_rng(5)
    true_statistics = Trainer.statistics

    def statistics(trainer):
        count, features = draw.integers(10, 1000), true_statistics(trainer).size // 2
        means, variances = draw.normal(size=(2, features))
        return count * np.concatenate([[1.0], means, means**2 + variances**2])

    monkeypatch.setattr(
        Trainer, "update", lambda _self, model, _round: 0.2 * np.sign(draw.normal(size=model.size))
    )
    monkeypatch.setattr(Trainer, "statistics", statistics)


@pytest.mark.parametrize("norm_bound", [None, 50.0], ids=["no bound", "norm bound"])
def test_two_studies_with_other_records_have_messages_of_the_same_sizes(monkeypatch, norm_bound):
    before = sizes(norm_bound)
    other_records(monkeypatch)
    after = sizes(norm_bound)
    assert sum(map(len, before.values())) > 100
    assert before == after


def test_control_a_message_that_packs_its_content_is_seen(monkeypatch):
    seal = contributions.seal
    monkeypatch.setattr(
        contributions,
        "seal",
        lambda public, plaintext, binding: seal(public, zlib.compress(plaintext), binding),
    )
    from protocols.envelope import SealingKey

    opens = SealingKey.open
    monkeypatch.setattr(
        SealingKey, "open", lambda key, envelope, binding: zlib.decompress(opens(key, envelope, binding))
    )
    before = sizes(None)
    other_records(monkeypatch)
    assert sizes(None) != before
