"""A hospital's process: without its steward's permit, no record is read and none of a study's code runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from protocols.chain import Outcome, SignedOutcome, total_digest
from protocols.contribution import FrozenList, RoundContext, sign
from protocols.signing import SigningKey
from securefl import consortium as members
from securefl.domain.node import awaited_round
from securefl.engines.hospital_node import HospitalNode, HospitalPlaces
from securefl.errors import ConsortiumError
from securefl.permit import Permit, SignedPermit
from securefl.roles.host import home_of
from securefl.roles.messages import (
    Accepted,
    Announcement,
    Challenge,
    Declined,
    Refusal,
    Settled,
    read_message,
)
from securefl.roles.terms import Terms
from securefl.study import Study
from securefl.world import World

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
source = "module"
module = "data.py:load"
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""
MODULE = """
from pathlib import Path

import numpy as np

Path({marker!r}).touch()


def load(hospital, split):
    return [(np.ones(3, dtype=np.float32), label % 2) for label in range(8)]
"""


@pytest.fixture
def places(tmp_path):
    members.create(tmp_path, ["north", "south"], ["party-1", "party-2"])
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "data.py").write_text(MODULE.format(marker=str(tmp_path / "ran")))
    return HospitalPlaces(
        study=tmp_path, consortium=tmp_path / "consortium.toml", keys=tmp_path / "keys", home=tmp_path / "home",
        socket=tmp_path / "socket", permit=tmp_path / "permit", steward=STEWARD.public,
    )  # fmt: skip


@pytest.fixture
def terms(places):
    return Terms.of(Study.load(places.study), members.load(places.consortium))


@pytest.fixture
def announcement(terms):
    parties = list(terms.parties)
    context = RoundContext(
        study=terms.study, round=0, attempt=1, previous=terms.beginning, purpose="statistics", model=bytes(32),
        parties=parties, width=64, size=3,
    )  # fmt: skip
    return Announcement(context=context, cohort=list(terms.hospitals), keys=[])


def answer(places, message):
    (data,) = HospitalNode(places).handle("north", message.to_bytes()).messages
    return read_message(data)


def approve(places, terms):
    permit = Permit(
        number=b"n" * 16, study=terms.study, proposal=b"p" * 32, hospital="north", dataset="", purpose="", runs=1,
        epsilon="", delta="", unit="", not_before=0, expires=2**40, steward="", researcher="", reason="",
    )  # fmt: skip
    SignedPermit.of(permit, STEWARD).save(places.permit)


def test_without_a_permit_nothing_of_the_study_runs(places, terms, announcement):
    ran = places.study / "ran"
    declined = answer(places, announcement)
    assert isinstance(declined, Declined)
    assert (declined.context, declined.reason) == (announcement.context.digest(), "not-approved")
    assert "has not approved" in declined.explanation
    refused = answer(places, Challenge(outcome=b"", coins=[]))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.about) == ("not-approved", "challenge")
    assert not ran.exists()

    # The control: with a permit the same announcement gets as far as the model, for which the study's code ran.
    approve(places, terms)
    assert answer(places, announcement).reason == "other-model"
    assert ran.exists()


def test_without_a_steward_no_permit_is_wanted(places, announcement):
    assert answer(replace(places, steward=b"", permit=None), announcement).reason == "other-model"


def test_a_steward_without_a_folder_for_permits_is_an_error(places, announcement):
    with pytest.raises(ConsortiumError, match="no folder for permits"):
        answer(replace(places, permit=None), announcement)


def outcome(places, study):
    """The statistics round's outcome of a study, signed by the parties."""
    consortium = members.load(places.consortium)
    terms, world = Terms.of(study, consortium), World.of(study, Terms.of(study, consortium))
    context = RoundContext(
        study=terms.study, round=0, attempt=1, previous=terms.beginning, purpose="statistics",
        model=world.start().state.digest(), parties=list(terms.parties), width=64, size=world.sizes["statistics"],
    )  # fmt: skip
    cohort = list(terms.hospitals)
    frozen = FrozenList(
        context=context.digest(), cohort=cohort, contributions=dict.fromkeys(cohort, bytes(32)), absent={}
    )
    total = terms.statistics.encode(np.full(context.size, 16.0)).tobytes()
    outcome = Outcome(context=context, frozen=frozen, excluded={}, total=total_digest(total))
    keys = [members.load_keys(places.keys / name, consortium.member(name)).signing for name in terms.parties]
    signed = SignedOutcome(outcome=outcome, signatures=[sign(outcome, key) for key in keys])
    return Settled(signed=signed, total=total)


def test_one_folder_serves_study_after_study_and_remembers_each(places):
    places = replace(places, steward=b"", permit=None, home=places.home / "{study}")
    studies = []
    for seed in (1, 2):
        (places.study / "study.toml").write_text(STUDY.replace("seed = 1", f"seed = {seed}"))
        studies.append(Study.load(places.study))
        settled = outcome(places, studies[-1])
        # Each begins at its beginning, whatever stood in the folder before.
        assert answer(places, settled) == Accepted(member="north", round=0)
        node = HospitalNode(places)
        node.handle("north", settled.to_bytes())
        assert awaited_round(home_of(places.home, node._terms.study), "north") == 1
    assert len(list(places.home.parent.glob("*/north/memory"))) == 2
