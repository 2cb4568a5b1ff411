"""Every secret of a whole study was drawn from the operating system, 32 bytes at least; other generators are refused.

The draws are recorded where they are made, and the secrets where they are used. Training has generators, seeded with
the study's seed; whoever does not train is refused all of them.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import threading
from collections import defaultdict
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import protocols.sharing
from protocols import integrity, zero_sharing
from protocols.crypten_repairs import import_crypten
from protocols.prg import Stream
from securefl.audit.stage import staged
from securefl.audit.stage_cast import HOSPITALS, PARTIES, Private
from securefl.roles import committee_runner

LEAST = 32
"""Bytes of a draw."""
GENERATORS = {
    random: [
        "random",
        "getrandbits",
        "randbytes",
        "randint",
        "randrange",
        "choice",
        "sample",
        "shuffle",
        "seed",
    ],
    np.random: [
        "default_rng",
        "rand",
        "randn",
        "randint",
        "bytes",
        "normal",
        "random",
        "seed",
        "RandomState",
    ],
    torch: [
        "rand",
        "randn",
        "randint",
        "randperm",
        "normal",
        "bernoulli",
        "multinomial",
        "manual_seed",
        "seed",
    ],
    torch.Tensor: ["random_", "uniform_", "normal_", "bernoulli_", "exponential_"],
}
MASKS = ("share",)
"""Streams that hide something and whose seeds are drawn as they are; those of zero shares are derived."""


class Sources:
    """What was drawn, what was used, by kind; and who asked a generator that is not a source."""

    def __init__(self):
        self.drawn, self.used, self.asked = set(), defaultdict(set), []
        self._training = threading.local()

    @contextmanager
    def training(self):
        self._training.now = True
        try:
            yield
        finally:
            self._training.now = False

    def unknown(self):
        """Kinds of secrets that were used and did not come from a draw."""
        return sorted(kind for kind, values in self.used.items() if values - self.drawn)

    def record(self, patch):
        """Record all draws and all uses from now on."""
        for module, name in ((secrets, "token_bytes"), (os, "urandom")):
            patch(module, name, self._draws(getattr(module, name)))
        for made in (Ed25519PrivateKey, X25519PrivateKey, MLKEM768PrivateKey):
            patch(made, "generate", self._makes(made.generate))

        used, begins = self.used, Stream.__init__

        def stream(made, seed, label, context):
            if label in MASKS:
                used["masks"].add(bytes(seed))
            begins(made, seed, label, context)

        patch(Stream, "__init__", stream)
        self._uses(
            patch, zero_sharing, "pair_key", "keys of pairs", lambda _r, _p, own, peers, _s: [own, peers]
        )
        self._uses(patch, integrity, "commit_coin", "coins of hospitals", lambda coin, *_: [coin])
        self._uses(patch, committee_runner, "coin", "coins of parties", lambda _context, parts: parts)

    def refuse(self, patch):
        """From now on nobody but who trains may ask these generators."""
        for owner, names in GENERATORS.items():
            for name in names:
                patch(owner, name, self._refused(getattr(owner, name), name))

    def _draws(self, draw):
        def drawn(size=None):
            value = draw(size)
            if len(value) >= LEAST:
                self.drawn.add(value)
            return value

        return drawn

    def _makes(self, generate):
        def made(*_):
            key = generate()
            self.drawn.add(key.private_bytes_raw())
            return key

        return made

    def _uses(self, patch, module, name, kind, parts):
        function = getattr(module, name)

        def uses(*arguments):
            self.used[kind].update(parts(*arguments))
            return function(*arguments)

        patch(module, name, uses)

    def _refused(self, function, name):
        def asked(*arguments, **named):
            if not getattr(self._training, "now", False):
                self.asked.append(name)
                raise AssertionError(f"{name} was asked.")
            return function(*arguments, **named)

        return asked


class InTraining:
    """A trainer that may use its generators."""

    def __init__(self, trainer, sources):
        self._trainer, self._sources = trainer, sources

    def __getattr__(self, name):
        found = getattr(self._trainer, name)
        if not callable(found):
            return found

        def call(*arguments):
            with self._sources.training():
                return found(*arguments)

        return call


def play(patch, **kind):
    """A whole study; where its secrets came from."""
    import_crypten()
    sources = Sources()
    sources.record(patch)
    with ExitStack() as stack:
        stage = stack.enter_context(staged(**kind))
        stage.trainers = {name: InTraining(trainer, sources) for name, trainer in stage.trainers.items()}
        for name in HOSPITALS:
            stage.seat(name, stage.hospital(name))
        for name in PARTIES:
            stage.jobs[name].changed = lambda job: note(sources, job)
        for keys in stage.people.keys.values():
            sources.used["signing keys"].add(keys.signing.private_bytes())
            if keys.sealing is not None:
                sources.used["sealing keys"].update(halves(keys.sealing))
        sources.refuse(patch)
        stage.play()
        assert stage.finished
    return sources


def note(sources, job):
    if hasattr(job, "key"):
        sources.used["round keys"].update(halves(job.key))
    return job


def halves(key):
    """ML-KEM's seed and X25519's scalar."""
    private = key.private_bytes()
    return private[:64], private[64:]


@pytest.mark.parametrize("kind", [{"norm_bound": 0.2}, {"private": Private(0.5)}], ids=["checked", "private"])
def test_every_secret_of_a_study_was_drawn_from_the_operating_system(monkeypatch, kind):
    sources = play(monkeypatch.setattr, **kind)
    assert sources.unknown() == []
    assert sources.asked == []
    count = {name: len(values) for name, values in sources.used.items()}
    # For each of two rounds: two masks a hospital, two numbers a key of a party.
    assert count["masks"] == 2 * len(HOSPITALS) * (len(PARTIES) - 1)
    assert count["round keys"] == 2 * 2 * len(PARTIES)
    assert count["keys of pairs"] >= len(PARTIES) * (len(PARTIES) - 1)
    assert count["signing keys"] == len(HOSPITALS) + len(PARTIES) + ("norm_bound" in kind)
    if "norm_bound" in kind:
        assert count["coins of hospitals"] == 2 * len(HOSPITALS)
        assert count["coins of parties"] == len(PARTIES)
    assert all(len(value) >= LEAST for values in sources.used.values() for value in values)


@pytest.mark.parametrize(
    "seed",
    [
        lambda: secrets.randbits(32).to_bytes(32, "big"),
        lambda: secrets.token_bytes(4) * 8,
        lambda: hashlib.sha256(secrets.token_bytes(4)).digest(),
        lambda: bytes(32),
    ],
    ids=["few bits", "repeated", "hashed", "constant"],
)
def test_control_a_seed_that_was_not_drawn_as_it_is_is_found_out(monkeypatch, seed):
    monkeypatch.setattr(protocols.sharing, "new_seed", seed)
    assert play(monkeypatch.setattr).unknown() == ["masks"]


@pytest.mark.parametrize("owner", GENERATORS, ids=lambda owner: owner.__name__)
def test_control_another_generator_is_refused(monkeypatch, owner):
    sources = Sources()
    sources.refuse(monkeypatch.setattr)
    for name in GENERATORS[owner]:
        with pytest.raises(AssertionError, match=name):
            getattr(owner, name)()
    assert sources.asked == GENERATORS[owner]
