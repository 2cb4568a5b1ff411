"""What a hospital's node is started from: the approved bytes and a permit that holds, or it is not started."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from protocols.signing import SigningKey
from securefl import consortium as members
from securefl import deploy
from securefl.domain import child
from securefl.domain.errors import LaunchError, NotApprovedError, ProposalError
from securefl.permit import Permit, Revocation, SignedPermit, SignedRevocation
from securefl.privacy import dataset_name
from securefl.study import Study

STEWARD = SigningKey.generate()
STUDY = """
name = "Own data"
seed = 1
[consortium]
file = "consortium.toml"
[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
[data]
source = "npz"
root = "../data/{hospital}.npz"
[model]
kind = "module"
module = "model.py:build"
[training]
rounds = 1
learning_rate = 0.1
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deployed")
    addresses = {"uni": "127.0.0.1:7801", "registry": "127.0.0.1:7802"}
    deploy.init(root / "all", ["north", "south"], ["uni", "registry"], "127.0.0.1:7800", addresses)
    study = root / "study"
    study.mkdir()
    (study / "study.toml").write_text(STUDY)
    (study / "model.py").write_text(
        "import torch\n\n\ndef build(shape, classes):\n    return torch.nn.Linear(3, 2)\n"
    )
    shutil.copy(root / "all" / "public" / "consortium.toml", study)
    return root


class Node:
    """All that a start takes; a test changes what it is about."""

    def __init__(self, folders: Path, home: Path) -> None:
        self.hospital = folders / "all" / "north"
        self.study = shutil.copytree(folders / "study", home / "study")
        self.consortium = self.hospital / "consortium.toml"
        self.digest = Study.load(self.study).digest(members.load(self.consortium).digest())
        self.permit, self.run = home / "permit", home / "run"
        self.signed = Permit(
            number=b"n" * 16, study=self.digest, proposal=b"p" * 32, hospital="north", dataset="", purpose="", runs=1,
            epsilon="", delta="", unit="", not_before=0, expires=int(time.time()) + 600, steward="", researcher="",
            reason="",
        )  # fmt: skip
        SignedPermit.of(self.signed, STEWARD).save(self.permit)

    def start(self, **fields: object) -> child.Child:
        values = {
            "study": self.study, "digest": self.digest, "permit": self.permit, "steward": STEWARD.public,
            "hospital": self.hospital, "data": self.hospital / "data", "run": self.run, **fields,
        }  # fmt: skip
        return child.start(**values)  # type: ignore[arg-type]


@pytest.fixture
def node(folders: Path, tmp_path: Path) -> Node:
    return Node(folders, tmp_path)


def copied(node: Node) -> None:
    child.copy_study(node.study, node.digest, node.consortium, node.run / "study")


def test_the_copy_is_what_was_approved_and_nobody_writes_it(node: Node) -> None:
    copied(node)
    again = Study.load(node.run / "study")
    assert again.files == Study.load(node.study).files
    modes = {path.stat().st_mode & 0o777 for path in [node.run / "study", *(node.run / "study").rglob("*")]}
    assert modes == {0o500, 0o400}
    copied(node)  # a start after an interruption makes it anew
    assert Study.load(node.run / "study").files == again.files


@pytest.mark.parametrize(
    "change",
    [
        lambda study: (study / "model.py").write_text("import os\n"),
        lambda study: (study / "more.py").write_text("import os\n"),
        lambda study: (study / "study.toml").write_text(STUDY.replace("rounds = 1", "rounds = 2")),
    ],
    ids=["changed", "added", "settings"],
)
def test_one_changed_byte_after_the_approval_and_nothing_starts(node: Node, change: object) -> None:
    copied(node)  # the control
    change(node.study)  # type: ignore[operator]
    with pytest.raises(ProposalError, match="not the ones that were approved"):
        node.start()
    assert not (node.run / "log").exists()


def test_what_was_put_into_the_copy_is_gone(node: Node) -> None:
    copied(node)
    (node.run / "study").chmod(0o700)
    (node.run / "study" / "sitecustomize.py").write_text("import os\n")
    copied(node)
    assert not (node.run / "study" / "sitecustomize.py").exists()


def test_without_a_permit_that_holds_nothing_starts(node: Node) -> None:
    with pytest.raises(NotApprovedError, match="not signed by this hospital's steward"):
        node.start(steward=SigningKey.generate().public)
    with pytest.raises(NotApprovedError, match="another study"):
        node.start(digest=bytes(32))
    with pytest.raises(NotApprovedError, match="expired"):
        node.start(clock=lambda: float(node.signed.expires))
    with pytest.raises(NotApprovedError, match="and not for south"):
        node.start(hospital=node.hospital.with_name("south"))
    revocation = Revocation(permit=node.signed.number, time=0, reason="objected")
    SignedRevocation.of(revocation, STEWARD).save(node.permit)
    with pytest.raises(NotApprovedError, match="objected"):
        node.start()
    with pytest.raises(NotApprovedError, match="has not approved"):
        node.start(permit=node.permit.with_name("none"))
    assert not (node.run / "study").exists()


def test_only_a_hospitals_folder_will_do(node: Node) -> None:
    with pytest.raises(LaunchError, match="folder of a party"):
        node.start(hospital=node.hospital.with_name("uni"))


@pytest.mark.slow
def test_it_runs_without_a_superlink_until_it_is_stopped_or_its_permit_ends(
    node: Node, tmp_path: Path
) -> None:
    short = node.signed.model_copy(update={"expires": int(time.time()) + 20})
    SignedPermit.of(short, STEWARD).save(node.permit)
    running, ending = node.start(run=tmp_path / "other"), time.monotonic() + 60
    try:
        assert running.alive
        assert running.state() == "running"
        while running.alive:
            assert time.monotonic() < ending, running.logs.read_text()
            time.sleep(0.2)
        assert running.state() == "It was ended: it used up its time."
        # The records' account in the privacy ledger is the same in every run.
        settings = Study.load(node.study).settings.data
        roots = [
            Path(os.path.abspath(tmp_path / "other" / "data" / "north.npz")),
            node.hospital / "data" / "north.npz",
        ]
        assert len({dataset_name(settings, root) for root in roots}) == 1
    finally:
        running.stop()
