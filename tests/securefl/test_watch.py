"""What a run's history says of a round: never more than what was seen."""

from __future__ import annotations

import json

import pytest

from protocols.chain import Outcome, SignedOutcome
from protocols.contribution import FrozenList, RoundContext
from securefl import running
from securefl.engines.link import MAX_SECONDS, Reply
from securefl.roles.effects import RoundDone
from securefl.roles.messages import Behind, Settled
from securefl.run_folder import RunFolder
from securefl.watch import Watch

NAMES = ["hospital-1", "hospital-2", "hospital-3"]


@pytest.fixture
def watched(tmp_path, small_study):
    """A watch over a run that has not begun, its run folder and its world."""
    folder = RunFolder(tmp_path / "run")
    world = running._new_world(small_study, base_port=None, unchecked=False, local=True)
    with folder.locked():
        running._enter(
            folder, small_study, resume=False, overwrite=False, engine="local", workers=1, unchecked=False
        )
        yield Watch(folder, world, lambda _: None, lambda _: None), folder, world


def statistics_round(absent):
    context = RoundContext(
        study=bytes(32), round=0, attempt=1, previous=bytes(32), purpose="statistics", model=bytes(32),
        parties=["party-1", "party-2"], width=64, size=1,
    )  # fmt: skip
    included = {name: bytes(32) for name in NAMES if name not in absent}
    frozen = FrozenList(
        context=context.digest(),
        cohort=NAMES,
        contributions=included,
        absent={h: "no-answer" for h in absent},
    )
    outcome = Outcome(context=context, frozen=frozen, excluded={}, total=bytes(32))
    settled = Settled(signed=SignedOutcome(outcome=outcome, signatures=[]), total=bytes(8))
    return RoundDone(settled, absent)


@pytest.mark.parametrize("said", [0.0, MAX_SECONDS])
def test_nobody_trained_for_longer_than_the_round_took(watched, said):
    watch, folder, world = watched
    for name in NAMES:
        watch.exchanged(name, name, Behind(hospital=name, round=0), Reply([], said), 0)
    watch.round_done(statistics_round({}), world.start())
    (line,) = folder.history()
    assert (line["training_seconds"] > 0) == (said > 0)
    parts = line["training_seconds"] + line["aggregation_seconds"] + line["evaluation_seconds"]
    assert parts == pytest.approx(line["seconds"], abs=0.001)
    assert line["aggregation_seconds"] >= 0
    json.dumps(line, allow_nan=False)
