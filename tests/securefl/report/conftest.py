"""Run folders as real runs leave them: real keys, shares, envelopes and signatures; only the training is made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.chain import Closing, Outcome, SignedClosing, SignedOutcome, total_digest
from protocols.contribution import FrozenList, RoundContext, contribute, open_share, share_context, sign
from protocols.envelope import SealingKey
from protocols.ring import signed
from protocols.sharing import Shape, add_share, zeros
from securefl import consortium as members
from securefl.engines import exhibits
from securefl.roles.coordinator import CLOSING, receipt_name, sum_name
from securefl.roles.terms import STATISTICS, UPDATE, Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

ROUNDS, SIZE = 12, 3000
HOSPITALS = ("east", "north", "south", "west")
STUDY = f"""
name = "Digits & <friends>"
description = "Four hospitals, two digits each."
seed = 7
averaged_rounds = 3

[consortium]
hospitals = {json.dumps(list(HOSPITALS))}
parties = 3

[data]
source = "mnist-5k"

[model]
kind = "cnn"

[training]
rounds = {ROUNDS}
learning_rate = 0.1

[simulation]
"""


class Maker:
    """Makes a finished run, and goes through its protocol with the members' real keys."""

    def __init__(self, path: Path, study: str) -> None:
        source = path.parent / "source"
        source.mkdir(parents=True)
        (source / "study.toml").write_text(study)
        self.study = Study.load(source)
        self.run = RunFolder(path)
        path.mkdir()
        self.run.prepare(self.study, _info(self.study))
        self.consortium = self.run.consortium(self.study)
        self.terms = Terms.of(self.study, self.consortium)
        self.keys = {
            name: members.load_keys(self.run.keys / name, self.consortium.member(name)).signing
            for name in self.terms.parties
        }
        self.random = np.random.default_rng(1)

    def rounds(self, count: int, close: bool = True) -> None:
        previous = self.terms.beginning
        for round_ in range(count):
            previous = self._round(round_, previous)
        if close:
            closing = Closing(study=self.terms.study, rounds=count, last=previous, model=bytes(range(32)))
            signed_closing = SignedClosing(
                closing=closing, signatures=[sign(closing, k) for k in self.keys.values()]
            )
            self.run.store().put(CLOSING, signed_closing.to_bytes())

    def _round(self, round_: int, previous: bytes) -> bytes:
        purpose, size = (UPDATE, SIZE) if round_ else (STATISTICS, 1)
        context = RoundContext(
            study=self.terms.study,
            round=round_,
            attempt=1,
            previous=previous,
            purpose=purpose,
            width=self.terms.encoding(purpose).width,
            size=size,
        )
        included = [h for h in HOSPITALS if not (round_ == 5 and h == "west")]
        sealing = {party: SealingKey.generate() for party in self.terms.parties}
        totals = {party: zeros(Shape(size, context.width)) for party in self.terms.parties}
        contributions = {}
        for hospital in included:
            update = (
                self.random.normal(0, 0.01, size) * np.repeat(self.random.random(-(-size // 60)), 60)[:size]
            )
            x = self.terms.encoding(purpose).encode(update)
            contribution, envelopes = contribute(
                x, context, hospital, {p: k.public for p, k in sealing.items()}
            )
            contributions[hospital] = contribution.digest()
            shown = round_ == exhibits.ROUND and hospital == HOSPITALS[0]
            if shown:
                exhibits.keep(self.run.exhibits, f"update-{hospital}", signed(x))
            for rank, (party, envelope) in enumerate(zip(sealing, envelopes, strict=True)):
                plaintext = open_share(envelope, sealing[party], context, hospital, party)
                share = zeros(Shape(size, context.width))
                add_share(share, plaintext, rank, share_context(context, hospital))
                totals[party] += share
                if shown:
                    bytes_ = np.frombuffer(envelope, dtype=np.uint8)
                    exhibits.keep(self.run.exhibits, f"envelope-{party}-{hospital}", bytes_)
                    exhibits.keep(self.run.exhibits, f"share-{party}-{hospital}", share)
        total = np.sum(list(totals.values()), axis=0, dtype=totals["party-1"].dtype)
        if round_ == exhibits.ROUND:
            exhibits.keep(self.run.exhibits, "sum", signed(total))
        outcome = Outcome(
            **{
                k: getattr(context, k)
                for k in ("study", "round", "attempt", "purpose", "width", "size", "previous")
            },
            included=included,
            contributions=FrozenList(context=context.digest(), contributions=contributions).digest(),
            total=total_digest(total.tobytes()),
        )
        signatures = [sign(outcome, key) for key in self.keys.values()]
        self.run.store().put(sum_name(round_), total.tobytes())
        self.run.store().put(
            receipt_name(round_), SignedOutcome(outcome=outcome, signatures=signatures).to_bytes()
        )
        return outcome.digest()

    def results(self) -> None:
        rounds = np.arange(1, ROUNDS + 1)
        accuracy = (0.95 - 0.8 * np.exp(-rounds / 4)).round(4).tolist()
        self.run.write_history(
            [_line(0, None), *(_line(int(r), a) for r, a in zip(rounds, accuracy, strict=True))]
        )
        local = {h: (0.1 + 0.05 * k + 0.001 * rounds).tolist() for k, h in enumerate(HOSPITALS)}
        baselines: dict[str, Any] = {
            "plaintext": {"accuracy": accuracy, "model": bytes(range(32)).hex(), "hospitals": None},
            "float": {"accuracy": [a - 0.001 for a in accuracy], "model": None, "hospitals": None},
            "pooled": {"accuracy": [0.9, 0.95, 0.97], "model": None, "hospitals": None},
            "local": {
                "accuracy": np.mean(list(local.values()), axis=0).tolist(),
                "model": None,
                "hospitals": local,
            },
        }
        self.run.baselines.mkdir()
        for name, baseline in baselines.items():
            (self.run.baselines / f"{name}.json").write_text(json.dumps(baseline))
        counts = {h: [120 + 7 * c if c // 2 == k else 0 for c in range(10)] for k, h in enumerate(HOSPITALS)}
        partition = {"classes": 10, "hospitals": counts, "test": [100] * 10}
        (self.run.path / "partition.json").write_text(json.dumps(partition))
        self.run.summary_file.write_text(json.dumps(summary_of(self.study, self.terms)))


def summary_of(study: Study, terms: Terms) -> dict[str, Any]:
    """A plausible ``summary.json``."""
    return {
        "name": study.settings.name,
        "accuracy": 0.9123,
        "accuracy_plaintext": 0.9123,
        "accuracy_float": 0.9113,
        "accuracy_pooled": 0.9711,
        "accuracy_local_mean": 0.1871,
        "accuracy_last_round": 0.9101,
        "averaged_rounds": 3,
        "plaintext_identical": True,
        "upload_bytes_per_hospital_round": 16000,
        "upload_ratio": 1.3333,
        "aggregation_share": 0.042,
        "seconds": 14.4,
        "rounds": ROUNDS,
        "parties": 3,
        "hospitals": 4,
        "parameters": SIZE,
        "width": 32,
        "model": bytes(range(32)).hex(),
        "study": terms.study.hex(),
    }


def _info(study: Study) -> dict[str, Any]:
    return {
        "name": study.settings.name,
        "engine": "local",
        "fingerprint": "x86_64 AVX2, torch 2.14.1, numpy 2.4.6, Python 3.11.9",
        "securefl": "0.1.0",
        "started": "2026-01-02T03:04:05+00:00",
        "workers": 2,
    }


def _line(round_: int, accuracy: float | None) -> dict[str, Any]:
    missing = {
        "west": {"reason": "update-not-encodable", "explanation": "It has <script>alert(1)</script> in it."}
    }
    return {
        "round": round_,
        "attempt": 1,
        "included": [h for h in HOSPITALS if not (round_ == 5 and h == "west")],
        "absent": missing if round_ == 5 else {},
        "accuracy": accuracy,
        "loss": None if accuracy is None else 1 - accuracy,
        "seconds": 1.2,
        "training_seconds": 1.15 if round_ else 0.0,
        "aggregation_seconds": 0.05 if round_ else 1.2,
        "upload_bytes": 16000,
    }


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    maker = Maker(tmp_path_factory.mktemp("report") / "run", STUDY)
    maker.rounds(ROUNDS + 1)
    maker.results()
    return maker.run.path


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> RunFolder:
    """A finished run of a simulation, to be changed at will."""
    return RunFolder(Path(shutil.copytree(finished_once, tmp_path / "run")))


@pytest.fixture
def begun(tmp_path: Path) -> RunFolder:
    """A run that has settled its statistics round and two rounds, without any result."""
    maker = Maker(tmp_path / "run", STUDY)
    maker.rounds(3, close=False)
    return maker.run


@pytest.fixture
def just_prepared(tmp_path: Path) -> RunFolder:
    """A run in which nothing has happened yet."""
    return Maker(tmp_path / "run", STUDY).run
