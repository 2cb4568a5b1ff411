"""The folders of a small deployed consortium, and a study for it whose code an attack may change."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securefl import consortium as members
from securefl import deploy
from securefl.consortium import MemberKeys
from securefl.deploy.settings import PUBLIC
from securefl.domain.proposal import Proposal, Site, file_digests
from securefl.permit import Permit
from securefl.study import Study

HOSPITALS, PARTIES = ("north", "south"), ("uni", "lab")
CODE = "parts/layers.py"
APPROVED, OTHER = b"WIDTH = 3\n", b"import records_thief\n"
DAY = 86_400
_STUDY = """\
name = "Heart disease"
seed = 1
[consortium]
file = "consortium.toml"
[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
[data]
source = "npz"
root = "../data/records.npz"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""


@dataclass(frozen=True)
class Folders:
    """A consortium's folders, and the study that its researcher has written."""

    root: Path

    @property
    def study(self) -> Path:
        """The study's folder."""
        return self.root / "study"

    def of(self, member: str) -> Path:
        """A member's folder, as ``securefl deploy`` made it."""
        return self.root / "members" / member

    def keys(self, member: str) -> MemberKeys:
        """A member's private keys."""
        pinned = members.load(self.of(member) / members.FILE).member(member)
        return members.load_keys(self.of(member) / "keys" / member, pinned)

    def digest(self) -> bytes:
        """Of the study as it stands now, with its consortium."""
        return Study.load(self.study).digest(members.load(self.study / "consortium.toml").digest())

    def change(self) -> None:
        """Change the study's code."""
        (self.study / CODE).write_bytes(OTHER)

    def proposal(self, researcher: str, stewards: Mapping[str, str], operators: list[str]) -> Proposal:
        """The study as it stands now, proposed to who are said to be the hospitals' stewards."""
        return Proposal(
            number=bytes(16), researcher=researcher, title="Heart disease", purpose="who has it", study=self.digest(),
            files=file_digests(Study.load(self.study)), operators=operators, approver=stewards[HOSPITALS[0]], created=0,
            sites=[Site(steward=stewards[h], hospital=h, dataset="records") for h in HOSPITALS],
        )  # fmt: skip


@contextmanager
def deployed() -> Iterator[Folders]:
    """A new consortium in a temporary folder, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        folders, hub = Folders(Path(name)), "127.0.0.1:9"
        addresses = {party: f"127.0.0.1:{10 + k}" for k, party in enumerate(PARTIES)}
        deploy.init(folders.root / "members", HOSPITALS, PARTIES, hub, addresses)
        (folders.study / CODE).parent.mkdir(parents=True)
        (folders.study / CODE).write_bytes(APPROVED)
        (folders.study / "study.toml").write_text(_STUDY)
        shutil.copy(folders.root / "members" / PUBLIC / "consortium.toml", folders.study)
        yield folders


def permit_of(study: bytes, hospital: str, now: int, **changes: Any) -> Permit:
    """A permit of one run, for a day."""
    usual: dict[str, Any] = {
        "number": b"n" * 16, "study": study, "proposal": b"p" * 32, "hospital": hospital, "dataset": "records",
        "purpose": "", "runs": 1, "epsilon": "", "delta": "", "unit": "", "not_before": now, "expires": now + DAY,
        "steward": "", "researcher": "", "reason": "",
    }  # fmt: skip
    return Permit(**(usual | changes))


__all__ = ["APPROVED", "CODE", "DAY", "HOSPITALS", "OTHER", "PARTIES", "Folders", "deployed", "permit_of"]
