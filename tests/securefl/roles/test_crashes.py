"""Kill any role before any effect: the study ends with the same model, and no party opens two sums of one round."""

from __future__ import annotations

import numpy as np
import pytest

HOSPITALS, PARTIES, ROUNDS = 3, 2, 1


def check_honest(stage, expected):
    """What must hold however often somebody was killed."""
    assert np.array_equal(stage.model, expected)
    for (party, round_), shares in stage.emitted.items():
        assert len(shares) == 1, f"{party} sent two opening shares of round {round_}"
    for round_, sums in stage.sums.items():
        assert len(sums) == 1, f"two sums of round {round_} were opened"
    included = [signed.outcome.included for signed in stage.outcomes()]
    assert included == [sorted(stage.cast.terms.hospitals)] * len(included)


def steps(theatre, tmp_path, seed=None):
    """How many places there are to kill each role."""
    fuse = theatre.fuse()
    theatre.stage(theatre.cast(HOSPITALS, PARTIES, ROUNDS), tmp_path, seed=seed, fuses=[fuse]).run()
    return dict(fuse.steps)


ROLES = ["coordinator", "coordinator alone", "party-1", "party-2", "st-anna", "va"]
EVERY = [pytest.param(role, 1, marks=pytest.mark.slow) for role in ROLES]
SOME = [("coordinator", 8), ("coordinator alone", 17), ("party-1", 4), ("party-2", 11), ("st-anna", 1)]


@pytest.mark.parametrize(("role", "stride"), [*SOME, *EVERY])
def test_a_role_killed_at_any_step(theatre, tmp_path, role, stride):
    cast = theatre.cast(HOSPITALS, PARTIES, ROUNDS)
    expected = theatre.expected(cast, [set(cast.terms.hospitals)] * ROUNDS)
    name = role.split()[0]
    count = steps(theatre, tmp_path / "count")[name]
    assert count >= 10
    for at in range(count - 1, -1, -stride):
        fuse = theatre.fuse(name, at)
        stage = theatre.stage(cast, tmp_path / str(at), fuses=[fuse], together="alone" not in role).run()
        # The very last step comes after the study's end.
        assert stage.crashes == 1 or at == count - 1, f"not killed at step {at}"
        check_honest(stage, expected)


@pytest.mark.parametrize("seed", range(10))
def test_several_roles_killed_in_any_order_of_the_mail(theatre, tmp_path, seed):
    cast = theatre.cast(HOSPITALS, PARTIES, ROUNDS)
    expected = theatre.expected(cast, [set(cast.terms.hospitals)] * ROUNDS)
    draw = np.random.default_rng(seed)
    roles = ["coordinator", *cast.terms.parties, *cast.terms.hospitals]
    fuses = [theatre.fuse(str(draw.choice(roles)), int(draw.integers(60))) for _ in range(4)]
    stage = theatre.stage(cast, tmp_path, seed=seed, fuses=fuses, together=bool(seed % 2)).run()
    check_honest(stage, expected)
