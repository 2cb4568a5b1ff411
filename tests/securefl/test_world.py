"""The coordinator's side of a study: which opened statistics it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocols.chain import Outcome, SignedOutcome, total_digest
from protocols.contribution import FrozenList, RoundContext, sign
from securefl import consortium as members
from securefl.errors import StatisticsError
from securefl.roles.messages import Settled
from securefl.roles.terms import STATISTICS, Terms
from securefl.study import Study
from securefl.world import World

HOSPITALS = ["cleveland", "hungary", "switzerland", "va"]
STUDY = """
name = "Seen by the coordinator"
seed = 1
[consortium]
file = "consortium.toml"
[data]
source = "fed-heart"
standardise = "features"
minimum_records = 20
[model]
kind = "logistic"
[training]
rounds = 1
learning_rate = 0.1
"""


def settled(world: World, folder: Path, total: np.ndarray) -> Settled:
    """Round 0 with this sum, signed by all parties."""
    terms, consortium = world.terms, members.load(folder / "consortium.toml")
    replica, cohort, purpose = world.start(), list(terms.hospitals), terms.purpose(0)
    context = RoundContext(
        study=terms.study, round=0, attempt=1, previous=replica.place.previous, purpose=purpose,
        model=replica.state.digest(), parties=list(terms.parties), width=terms.encoding(purpose).width,
        size=total.size,
    )  # fmt: skip
    listed = dict.fromkeys(cohort, bytes(32))
    frozen = FrozenList(context=context.digest(), cohort=cohort, contributions=listed, absent={})
    data = terms.encoding(purpose).encode(total).tobytes()
    outcome = Outcome(context=context, frozen=frozen, excluded={}, total=total_digest(data))
    keys = [
        members.load_keys(folder / "keys" / name, consortium.member(name)).signing for name in terms.parties
    ]
    signatures = [sign(outcome, key) for key in keys]
    return Settled(signed=SignedOutcome(outcome=outcome, signatures=signatures), total=data)


@pytest.mark.parametrize(
    ("count", "square", "said"),
    [
        (490, 4.0, None),
        (490, 3.99, "number 3 of 10 features or channels has a mean square below the square of its mean"),
        (490, -1.0, "number 3 of 10 features or channels"),
        (80, 4.0, None),
        (79, 4.0, "they count 79 records, and 4 hospitals have 80 to 4000000000"),
        (0, 4.0, "they count 0 records"),
    ],
)
def test_statistics_that_no_records_have_are_refused(
    tmp_path: Path, count: int, square: float, said: str | None
) -> None:
    members.create(tmp_path, HOSPITALS, ["party-1", "party-2"])
    (tmp_path / "study.toml").write_text(STUDY)
    study = Study.load(tmp_path)
    world = World.of(study, Terms.of(study, members.load(tmp_path / "consortium.toml")))
    features = (world.sizes[STATISTICS] - 1) // 2
    mean, squares = np.full(features, 2.0), np.full(features, 5.0)
    squares[2] = square
    total = np.concatenate([[count], count * mean, count * squares])
    opened = settled(world, tmp_path, total)
    if said is None:
        assert world.follow(world.start(), opened).statistics[0] == count
        return
    with pytest.raises(StatisticsError, match=said):
        world.follow(world.start(), opened)
