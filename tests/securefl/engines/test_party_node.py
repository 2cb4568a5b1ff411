"""A party's process, in this one: one folder for study after study, and a disk that fails."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from protocols.contribution import RoundContext
from securefl import consortium as members
from securefl.engines.link import Link, LinkFaultError
from securefl.engines.local.children import free_ports
from securefl.engines.party_node import PartyPlaces, serve_party
from securefl.errors import EngineError
from securefl.roles.host import home_of
from securefl.roles.messages import KeyRequest, StatusRequest, read_message
from securefl.roles.party_memory import MEMORY
from securefl.roles.records import receipt_name
from securefl.roles.terms import Terms
from securefl.study import Study

STUDY = """
name = "Two studies"
seed = {seed}
[consortium]
file = "consortium.toml"
[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""


class Folder:
    """A party's folder, as it is deployed: the study can be changed, the party started again."""

    def __init__(self, root: Path, run: Path) -> None:
        self.root, self.run = root, run
        members.create(root, ["north", "south"], ["uni", "registry"])
        (root / "study").mkdir()
        shutil.copy(root / "consortium.toml", root / "study")
        self.servers = []

    def put(self, seed: int) -> Terms:
        (self.root / "study" / "study.toml").write_text(STUDY.format(seed=seed))
        return Terms.of(Study.load(self.root / "study"), members.load(self.root / "consortium.toml"))

    def start(self, home: str = "home/{study}/uni") -> Link:
        for server in self.servers:
            server.close()
        ports = free_ports(2)
        peers = [f"127.0.0.1:{port}" for port in ports]
        places = PartyPlaces(
            self.root / "study", self.root / "consortium.toml", self.root / "keys" / "uni", self.root / home,
            self.run / "s", peers[0], peers, self.root / "home" / "uni.ledger",
        )  # fmt: skip
        self.servers = [serve_party("uni", places)]
        return Link(self.run / "s")


@pytest.fixture
def folder(tmp_path):
    run = Path(tempfile.mkdtemp())  # a socket's name must be short
    found = Folder(tmp_path, run)
    yield found
    for server in found.servers:
        server.close()
    shutil.rmtree(run)


def ask(link, message):
    (answer,) = link.exchange(message.to_bytes(), 30).messages
    return read_message(answer)


def keys(terms):
    """The request for the first attempt's keys."""
    context = RoundContext(
        study=terms.study, round=0, attempt=1, previous=terms.beginning, purpose="statistics", model=bytes(32),
        parties=list(terms.parties), width=64, size=3,
    )  # fmt: skip
    return KeyRequest(context=context, cohort=list(terms.hospitals), session=1)


def test_one_folder_serves_study_after_study_and_remembers_each(folder):
    first = folder.put(1)
    link = folder.start()
    assert ask(link, keys(first)).kind == "signed-round-key"
    second = folder.put(2)
    assert second.study != first.study
    link = folder.start()
    assert ask(link, StatusRequest(study=second.study)).attempt == 0
    assert ask(link, keys(second)).kind == "signed-round-key"
    folder.put(1)
    link = folder.start()
    assert ask(link, StatusRequest(study=first.study)).attempt == 1
    homes = sorted(path.parent.name for path in (folder.root / "home").glob("*/uni"))
    assert homes == sorted(terms.study.hex()[:16] for terms in (first, second))


def test_a_party_whose_disk_failed_goes_on_from_its_disk(folder):
    terms = folder.put(1)
    link = folder.start("home/uni")
    memory = folder.root / "home" / "uni" / MEMORY
    memory.mkdir()  # a folder where the file should stand: it cannot be written
    with pytest.raises(LinkFaultError, match="cannot be written"):
        ask(link, keys(terms))
    memory.rmdir()
    # The attempt that was never written was never made.
    assert ask(link, StatusRequest(study=terms.study)).attempt == 0
    assert ask(link, keys(terms)).kind == "signed-round-key"


def test_a_party_without_its_memory_does_not_start(folder):
    terms = folder.put(1)
    link = folder.start("home/uni")
    assert ask(link, keys(terms)).kind == "signed-round-key"
    home = folder.root / "home" / "uni"
    (home / receipt_name(0)).write_bytes(b"1")
    whole = (home / MEMORY).read_bytes()
    (home / MEMORY).write_bytes(b"")
    with pytest.raises(EngineError, match="The memory of uni is damaged: put back"):
        folder.start("home/uni")
    (home / MEMORY).unlink()
    with pytest.raises(EngineError, match="The memory of uni has gone, and others of its files are there"):
        folder.start("home/uni")
    (home / MEMORY).write_bytes(whole)
    assert ask(folder.start("home/uni"), StatusRequest(study=terms.study)).attempt == 1


def test_a_home_without_a_place_for_the_study_is_of_one_study():
    assert home_of(Path("/runs/homes/uni"), b"\xab" * 32) == Path("/runs/homes/uni")
    assert home_of(Path("home/{study}/uni"), b"\xab" * 32) == Path("home/abababababababab/uni")
