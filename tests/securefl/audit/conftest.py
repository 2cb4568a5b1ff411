"""Finished runs for the audit: made once, copied for each test, and forged by those who hold the parties' keys."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocols.chain import (
    Closing,
    Outcome,
    SignedClosing,
    SignedOutcome,
    digest_of_verifications,
    total_digest,
)
from protocols.contribution import FrozenList, sign
from securefl import consortium as members
from securefl import running
from securefl.audit.deployment import Examined, examine
from securefl.cli import main
from securefl.roles.messages import Settled
from securefl.roles.records import CLOSING, receipt_name, sum_name, verification_name
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.world import World

ROUNDS = 4
STUDY = f"""\
name = "Audited"
seed = 7
averaged_rounds = 2
[simulation]
baselines = []
exhibits = false
[consortium]
hospitals = ["b", "charite", "st-anna", "va"]
parties = 3
[committee]
collusion_bound = 1
minimum_parties = 2
[data]
source = "fed-heart"
standardise = "features"
[model]
kind = "logistic"
[training]
rounds = {ROUNDS}
learning_rate = 0.1
[server]
optimizer = "fedavgm"
"""
PUBLIC = """\
standardise = "public"
public_mean = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
public_std = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]"""
PRIVACY = """\
learning_rate = 0.1
[privacy]
epsilon = 20.0
delta = 1e-5
clip = 0.5
sampling_rate = 0.25
patients = 490
largest_hospital = 250"""
PRIVATE = (
    ('standardise = "features"', PUBLIC),
    ("minimum_parties = 2\n", ""),
    ("learning_rate = 0.1", PRIVACY),
)
COPIED = ("study", "consortium.toml", "receipts", "run.json", "model.safetensors")


def changed(study: str, *changes: tuple[str, str]) -> str:
    """The study with some text replaced."""
    for old, new in changes:
        assert old in study
        study = study.replace(old, new)
    return study


def lines(examined: Examined) -> dict[str, tuple[str, str]]:
    return {check.name: (check.mark, check.says) for check in examined.checks}


def failing(folder: Path, **arguments: Any) -> str:
    """The one promise that is broken, with what is said of it."""
    examined = examine(folder, **arguments)
    broken = [check for check in examined.checks if check.mark == "fails"]
    assert len(broken) == 1, broken
    assert examined.broken == broken[0]
    return f"{broken[0].name}: {broken[0].says}"


@dataclass(frozen=True)
class Runs:
    """Makes runs of changed studies, each once, and copies them."""

    root: Path
    play: Callable[..., RunFolder]

    def make(self, name: str, *changes: tuple[str, str], **script: Any) -> Path:
        """The run of that name; never to be written to."""
        folder = self.root / name
        if not folder.exists():
            (folder / "source").mkdir(parents=True)
            (folder / "source" / "study.toml").write_text(changed(STUDY, *changes))
            self.play(folder / "source", folder / "run", **script)
        return folder / "run"


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, play: Callable[..., RunFolder]) -> Runs:
    return Runs(tmp_path_factory.mktemp("audit"), play)


@pytest.fixture(scope="session")
def finished_once(runs: Runs) -> Path:
    """A run with an absent hospital (round 2), an unchecked sum (round 3) and a party gone for good (round 4)."""
    return runs.make("finished", silent={2: {"va"}}, secretive={3: {"b"}}, gone={4: "party-2"})


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> RunFolder:
    """A copy of that run, to be changed at will."""
    return RunFolder(Path(shutil.copytree(finished_once, tmp_path / "run")))


@pytest.fixture(scope="session")
def private_once(runs: Runs) -> Path:
    return runs.make("private", *PRIVATE)


@pytest.fixture
def private(private_once: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(private_once, tmp_path / "private")))


@pytest.fixture
def stopped(runs: Runs, tmp_path: Path) -> RunFolder:
    """A run that was stopped after round 2."""
    return RunFolder(Path(shutil.copytree(runs.make("stopped", stop_after=2), tmp_path / "stopped")))


@pytest.fixture
def auditors(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """An auditor's copy: no keys, no homes, no figures, and the study's own folder is gone."""
    copy = tmp_path / "elsewhere" / "copy"
    copy.mkdir(parents=True)
    for name in COPIED:
        path = finished.path / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / name)
    return RunFolder(copy)


class Forger:
    """The coordinator and all parties of a finished run together: they sign what they like, and hold no hospital's key.

    Args:
        run: whose ``keys/`` it uses.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        study = Study.load(run.path / "study")
        consortium = run.consortium(study)
        self.terms = Terms.of(study, consortium)
        self.world = World.of(study, self.terms)
        self.keys = {
            name: members.load_keys(run.keys / name, consortium.member(name)).signing
            for name in self.terms.parties
        }

    def outcome(self, round_: int, total: bytes | None = None, **changes: Any) -> None:
        """Sign another outcome of a round; changes of ``frozen`` and ``context`` are nested dictionaries."""
        settled = self.run.settled(round_)
        old = settled.signed.outcome
        total = settled.total if total is None else total
        context = old.context.model_copy(update=changes.pop("context", {}))
        frozen = old.frozen.model_copy(update={"context": context.digest(), **changes.pop("frozen", {})})
        outcome = old.model_copy(
            update={
                "context": context,
                "frozen": FrozenList(**frozen.body()),
                "total": total_digest(total),
                **changes,
            }
        )
        self.put_outcome(outcome, total)

    def put_outcome(self, outcome: Outcome, total: bytes) -> None:
        signatures = [sign(outcome, self.keys[name]) for name in outcome.context.parties]
        store = self.run.store()
        store.put(sum_name(outcome.round), total)
        store.put(
            receipt_name(outcome.round), SignedOutcome(outcome=outcome, signatures=signatures).to_bytes()
        )
        for copy in self.run.homes.glob(f"*/{receipt_name(outcome.round)}"):
            shutil.copy(self.run.receipts / receipt_name(outcome.round), copy)

    def drop_check(self, round_: int) -> None:
        """Say that the hospitals did not check a sum."""
        self.run.store().put(verification_name(round_), b"")

    def close(self, **changes: Any) -> None:
        """Close the chain as it stands, with the model that it gives and figures that agree."""
        outcomes = self.run.outcomes()
        replica = self.world.start()
        for round_ in range(len(outcomes)):
            settled: Settled = self.run.settled(round_)
            replica = self.world.follow(replica, settled)
        records = [self.run.verification_digest(round_) for round_ in range(len(outcomes))]
        closing = Closing(
            study=self.terms.study,
            rounds=len(outcomes),
            last=outcomes[-1].outcome.digest(),
            model=replica.state.digest(),
            parties=outcomes[-1].outcome.context.parties,
            unverified=[round_ for round_, record in enumerate(records) if not record],
            verifications=digest_of_verifications(records),
        ).model_copy(update=changes)
        signatures = [sign(closing, self.keys[name]) for name in closing.parties]
        self.run.store().put(CLOSING, SignedClosing(closing=closing, signatures=signatures).to_bytes())
        running._write_model(self.run, self.world, replica)
        if self.run.summary_file.exists():
            summary = self.run.summary_file.read_text()
            text = re.sub(r'"model": "[0-9a-f]{64}"', f'"model": "{closing.model.hex()}"', summary)
            self.run.summary_file.write_text(text)


@pytest.fixture
def forge() -> type[Forger]:
    """``forge(run)``: who signs another outcome or closing of that run."""
    return Forger


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("COLUMNS", "150")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["securefl", "audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call
