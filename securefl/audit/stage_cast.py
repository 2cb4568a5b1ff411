"""Who stands on the audit's stage: the members with their keys, and the study that they run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from securefl import consortium as members
from securefl.consortium import Consortium, MemberKeys
from securefl.study import Study

HOSPITALS = ("cleveland", "hungary", "switzerland", "va-long-beach")
PARTIES = ("party-1", "party-2", "party-3")
DEALER = "dealer"
VICTIM = "hungary"
"""The hospital that the attacks are after."""

_STUDY = """\
name = "{name}"
seed = 1
[consortium]
file = "consortium.toml"
[cohort]
minimum_hospitals = 3
[data]
source = "fed-heart"
standardise = "features"
[model]
kind = "mlp"
hidden = [64]
[training]
rounds = {rounds}
learning_rate = 0.1
[aggregation]
{aggregation}
"""


@dataclass(frozen=True)
class Members:
    """A consortium with everybody's private keys; an attack uses those of whom it controls."""

    folder: Path
    consortium: Consortium
    keys: Mapping[str, MemberKeys]

    @classmethod
    def make(cls, folder: Path, dealer: bool) -> Members:
        """New members with new keys in ``folder``."""
        made = members.create(folder, HOSPITALS, PARTIES, DEALER if dealer else None)
        return cls(
            folder, made, {m.name: members.load_keys(folder / "keys" / m.name, m) for m in made.members}
        )


def write_study(folder: Path, people: Members, name: str, rounds: int, norm_bound: float | None) -> Study:
    """Write a study of these members into ``folder``: a name, rounds of training, a bound on updates or none."""
    folder.mkdir(parents=True)
    shutil.copy(people.folder / "consortium.toml", folder)
    aggregation = f"norm_bound = {norm_bound}" if norm_bound else ""
    (folder / "study.toml").write_text(_STUDY.format(name=name, rounds=rounds, aggregation=aggregation))
    return Study.load(folder)
