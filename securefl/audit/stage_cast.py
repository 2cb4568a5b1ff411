"""Who stands on the audit's stage: the members with their keys, and the study that they run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from securefl import consortium as members
from securefl.consortium import Consortium, MemberKeys
from securefl.study import Study

if TYPE_CHECKING:
    from securefl.data import HospitalData
    from securefl.privacy.budget import Budget
    from securefl.roles.host import Store
    from securefl.roles.spending import Spending
    from securefl.roles.terms import Terms

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
{standardise}
[model]
{model}
[training]
rounds = {rounds}
learning_rate = 0.1
[aggregation]
{aggregation}
{privacy}
"""
_NETWORK = """\
kind = "mlp"
hidden = [64]"""
_OWN = """\
kind = "module"
module = "model.py:build\""""
_PUBLIC = """\
standardise = "public"
public_mean = [55.0, 130.0, 200.0, 140.0, 1.0, 0.5, 1.5, 0.5, 1.0, 0.5]
public_std = [10.0, 20.0, 50.0, 25.0, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5]"""
_PRIVACY = """\
[privacy]
noise_multiplier = 2.0
delta = 1e-5
clip = 0.1
patients = 490
largest_hospital = 250
colluding_parties = 1
sampling_rate = {sampling_rate}"""


class Seat(Protocol):
    """Who answers for a member: the messages' bytes in, the answers' out."""

    def answer(self, data: bytes) -> list[bytes]: ...


@dataclass(frozen=True)
class Private:
    """That a study is private.

    Attributes:
        sampling_rate: with which patients are drawn; at 1 a hospital's vector can be computed again.
        budget: of each hospital, over all studies on its records; None sets no limit.
    """

    sampling_rate: float = 1.0
    budget: Budget | None = None


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


def write_study(
    folder: Path,
    people: Members,
    name: str,
    rounds: int,
    norm_bound: float | None,
    private: Private | None,
    code: Mapping[str, str] | None = None,
) -> Study:
    """Write a study of these members into ``folder``: name, rounds of training, what bounds and hides its updates.

    Args:
        code: Python files with the study's own model, in ``model.py:build``; by default it is a small network.
    """
    folder.mkdir(parents=True)
    for file, text in (code or {}).items():
        (folder / file).write_text(text)
    shutil.copy(people.folder / "consortium.toml", folder)
    text = _STUDY.format(
        name=name,
        rounds=rounds,
        model=_OWN if code else _NETWORK,
        aggregation=f"norm_bound = {norm_bound}" if norm_bound else "",
        standardise=_PUBLIC if private else 'standardise = "features"',
        privacy=_PRIVACY.format(sampling_rate=private.sampling_rate) if private else "",
    )
    (folder / "study.toml").write_text(text)
    return Study.load(folder)


def trainer_of(study: Study, terms: Terms, hospital: str, data: HospitalData) -> Any:
    """What computes with a hospital's records, as its node makes it."""
    from securefl.training.trainer import make_trainer

    bits = terms.private.encoding.fraction_bits if terms.private else None
    return make_trainer(study.settings, study.folder, hospital, data, bits)


def spending_of(study: Study, terms: Terms, ledger: Store, budget: Budget | None) -> Spending | None:
    """A hospital's ledger over all studies on its records, as its node makes it; None if the study is not private."""
    if terms.private is None:
        return None
    # Late: an accountant takes seconds to import.
    from securefl.privacy import PrivacyLedger, dataset_name
    from securefl.roles.spending import Spending

    return Spending(PrivacyLedger(dataset_name(study.settings.data, None), ledger, budget), terms.private)
