"""Two hospitals with their stewards, a researcher and the coordinator's operator around one shared folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from securefl import deploy
from securefl.domain.operator_session import Operator
from securefl.domain.owner_session import Owner
from securefl.domain.researcher_session import Researcher, Sent

ROOT = Path(__file__).resolve().parents[4]
STUDY = ROOT / "examples" / "hospital_consortium" / "study"
CANARY = "67,canary-9d41c1,1"
"""A row of the private data."""


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """Everybody, with pinned fingerprints, and a study that fits."""

    root: Path
    clock: Clock
    relay: Path = field(init=False)
    study: Path = field(init=False)
    owners: dict[str, Owner] = field(init=False)

    def __post_init__(self) -> None:
        self.relay, self.study = self.root / "relay", self.root / "study"
        self.relay.mkdir()
        shutil.copytree(STUDY, self.study)
        shutil.copy(self.root / "all" / "public" / "consortium.toml", self.study)
        self.owners = {name: self._owner(name) for name in ("north", "south")}
        self.me = Researcher("me@lab.example", self.root / "me", self.relay, self.clock)
        self.operator = Operator(
            "ops@hub.example", self.root / "ops", self.relay, self.root / "all" / "coordinator", self.clock
        )
        for owner in self.owners.values():
            owner.accept(self.me.email, self.me.fingerprint)
            owner.accept(self.operator.email, self.operator.fingerprint)
            self.me.accept(owner.email, owner.fingerprint)
            self.operator.accept(owner.email, owner.fingerprint)
        self.me.accept(self.operator.email, self.operator.fingerprint)
        self.operator.accept(self.me.email, self.me.fingerprint)
        for name, owner in self.owners.items():
            owner.publish(
                "heart", self.root / name / "private", self.root / name / "mock", f"Patients of {name}"
            )

    def _owner(self, name: str) -> Owner:
        private, mock = self.root / name / "private", self.root / name / "mock"
        private.mkdir(parents=True)
        (private / "records.csv").write_text(f"age,note,disease\n{CANARY}\n")
        mock.mkdir()
        (mock / "records.csv").write_text("age,note,disease\n50,made up,0\n")
        return Owner(
            f"steward@{name}.example",
            self.root / name / "home",
            self.relay,
            self.root / "all" / name,
            self.clock,
        )

    def propose(self, **changes: object) -> Sent:
        """Propose the study to both."""
        settings = {"purpose": "To see who is ill", "operators": [self.operator.email], **changes}
        return self.me.propose(self.study, [owner.email for owner in self.owners.values()], **settings)

    def edit(self, old: str, new: str) -> None:
        """Change the study before it is proposed."""
        toml = self.study / "study.toml"
        assert old in toml.read_text()
        toml.write_text(toml.read_text().replace(old, new))

    def states(self, sent: Sent) -> list[str]:
        """How it stands, north first."""
        return [status.state for status in sent.status()]

    def actions(self, name: str) -> list[str]:
        """What an owner's log tells, in order."""
        return [entry.action for entry in self.owners[name].log.entries()]


@pytest.fixture(scope="session")
def members(tmp_path_factory) -> Path:
    """The members' folders, made once; only to be copied."""
    out = tmp_path_factory.mktemp("members") / "all"
    mesh = {"uni": "127.0.0.1:17001", "registry": "127.0.0.1:17002"}
    deploy.init(out, ["north", "south"], ["uni", "registry"], "127.0.0.1:18000", mesh)
    return out


@pytest.fixture
def stage(members, tmp_path) -> Stage:
    shutil.copytree(members, tmp_path / "all")
    return Stage(tmp_path, Clock())
