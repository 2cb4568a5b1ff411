"""A hospital's process: without its steward's permit, no record is read and none of a study's code runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.contribution import RoundContext
from protocols.signing import SigningKey
from securefl import consortium as members
from securefl.engines.hospital_node import HospitalNode, HospitalPlaces
from securefl.errors import ConsortiumError
from securefl.permit import Permit, SignedPermit
from securefl.roles.messages import Announcement, Challenge, Declined, Refusal, read_message
from securefl.roles.terms import Terms
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
