"""A hospital's process: without its steward's permit, no record is read and none of a study's code runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from protocols.chain import Outcome, SignedOutcome, total_digest
from protocols.contribution import FrozenList, RoundContext, sign
from protocols.signing import SigningKey
from securefl import consortium as members
from securefl.domain.node import awaited_round
from securefl.engines.hospital_node import HospitalNode, HospitalPlaces
from securefl.engines.late_trainer import LAYOUT
from securefl.errors import ConsortiumError
from securefl.permit import Permit, SignedPermit
from securefl.roles.hospital import MEMORY
from securefl.roles.host import home_of
from securefl.roles.messages import (
    Accepted,
    Announcement,
    Challenge,
    Declined,
    Refusal,
    Settled,
    Verification,
    read_message,
)
from securefl.roles.refusals import told
from securefl.roles.replica import Replica
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


def test_without_a_permit_nothing_of_the_study_runs(places, terms, announcement, caplog):
    ran = places.study / "ran"
    declined = answer(places, announcement)
    assert isinstance(declined, Declined)
    assert (declined.context, declined.reason) == (announcement.context.digest(), "not-approved")
    assert declined.explanation == told("not-approved")
    assert "has not approved" in caplog.text  # to its own log alone
    caplog.clear()
    refused = answer(places, Challenge(outcome=b"", coins=[]))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.about) == ("not-approved", "challenge")
    assert refused.explanation == told("not-approved")
    assert "has not approved" in caplog.text
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


def test_a_hospital_with_a_budget_takes_no_part_in_a_study_without_privacy(places, announcement, caplog):
    """What such a study tells has no number; before a record is read, and in round 0 too."""
    places = replace(places, steward=b"", permit=None, privacy=places.study / "privacy")
    budget = places.privacy / "north" / "budget.toml"
    budget.parent.mkdir(parents=True)
    assert answer(places, announcement).reason == "other-model"  # the control: it has none
    (places.study / "ran").unlink()
    budget.write_text('[datasets."another"]\nepsilon = 1.0\ndelta = 1e-5\n')
    declined = answer(places, announcement)
    assert isinstance(declined, Declined)
    assert (declined.context, declined.reason) == (announcement.context.digest(), "budget-exceeded")
    assert "no table [privacy]" in caplog.text
    assert not (places.study / "ran").exists()


def outcomes(places, study):
    """Two outcomes of a study, signed by the parties: the statistics round's, and an update's."""
    consortium = members.load(places.consortium)
    terms = Terms.of(study, consortium)
    world = World.of(study, terms)
    keys = [members.load_keys(places.keys / name, consortium.member(name)).signing for name in terms.parties]
    cohort, replica, made = list(terms.hospitals), world.start(), []
    for round_, value in enumerate((16.0, 0.25)):
        purpose = terms.purpose(round_)
        context = RoundContext(
            study=terms.study, round=round_, attempt=1, previous=replica.place.previous, purpose=purpose,
            model=replica.state.digest(), parties=list(terms.parties), width=terms.encoding(purpose).width,
            size=world.sizes[purpose],
        )  # fmt: skip
        frozen = FrozenList(
            context=context.digest(), cohort=cohort, contributions=dict.fromkeys(cohort, bytes(32)), absent={}
        )
        total = terms.encoding(purpose).encode(np.full(context.size, value)).tobytes()
        outcome = Outcome(context=context, frozen=frozen, excluded={}, total=total_digest(total))
        signed = SignedOutcome(outcome=outcome, signatures=[sign(outcome, key) for key in keys])
        made.append(Settled(signed=signed, total=total))
        replica = world.follow(replica, made[-1])
    return made, replica


def test_one_folder_serves_study_after_study_and_remembers_each(places):
    places = replace(places, steward=b"", permit=None, home=places.home / "{study}")
    for seed in (1, 2):
        (places.study / "study.toml").write_text(STUDY.replace("seed = 1", f"seed = {seed}"))
        (settled, _), replica = outcomes(places, Study.load(places.study))
        # Each begins at its beginning, whatever stood in the folder before.
        assert answer(places, settled) == Accepted(member="north", round=0)
        assert awaited_round(home_of(places.home, replica.place.study), "north") == 1
    assert len(list(places.home.parent.glob("*/north/memory"))) == 2


STEP = """
import sys
from pathlib import Path
from securefl.engines.hospital_node import HospitalNode, HospitalPlaces
study, message = map(Path, sys.argv[1:])
places = HospitalPlaces(study, study / "consortium.toml", study / "keys", study / "home", study / "socket")
HospitalNode(places).handle("north", message.read_bytes())
print("torch" in sys.modules)
"""


def test_only_a_contribution_loads_torch(places, announcement):
    """Over Flower each message has a process of its own, and torch costs seconds."""
    places = replace(places, steward=b"", permit=None)
    (first, second), replica = outcomes(places, Study.load(places.study))
    digest = second.signed.outcome.digest()
    check = Verification(outcome=digest, round=1, coins=[], answers=[])
    loaded = {}
    for name, message in {
        "the first": first, "an outcome": second, "a challenge": Challenge(outcome=digest, coins=[]),
        "a check": check,
    }.items():  # fmt: skip
        (places.study / "message").write_bytes(message.to_bytes())
        command = [sys.executable, "-c", STEP, str(places.study), str(places.study / "message")]
        loaded[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    # The first of a study needs the model: it is the control.
    assert loaded == {"the first": "True", "an outcome": "False", "a challenge": "False", "a check": "False"}
    kept = Replica.from_bytes((places.home / "north" / MEMORY).read_bytes())
    assert kept.state.digest() == replica.state.digest()
    assert kept.place == replica.place


def test_a_damaged_layout_is_made_anew(places):
    places = replace(places, steward=b"", permit=None)
    (first, second), replica = outcomes(places, Study.load(places.study))
    answer(places, first)
    (places.home / "north" / LAYOUT).write_bytes(b"x")
    answer(places, second)
    assert (places.home / "north" / LAYOUT).read_bytes().isdigit()
    kept = Replica.from_bytes((places.home / "north" / MEMORY).read_bytes())
    assert kept.state.digest() == replica.state.digest()
