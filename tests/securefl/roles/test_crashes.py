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


def counted(theatre, tmp_path):
    """A run in which nobody is killed, to count where everybody could be."""
    fuse = theatre.fuse()
    theatre.stage(theatre.cast(HOSPITALS, PARTIES, ROUNDS), tmp_path / "count", fuses=[fuse]).run()
    return fuse


def check_kills(theatre, tmp_path, role, places, together=True):
    """Kill a role at each of these steps, each in a run of its own."""
    cast = theatre.cast(HOSPITALS, PARTIES, ROUNDS)
    expected = theatre.expected(cast, [set(cast.terms.hospitals)] * ROUNDS)
    for at in places:
        fuse = theatre.fuse(role, at)
        stage = theatre.stage(cast, tmp_path / str(at), fuses=[fuse], together=together).run()
        assert stage.crashes == 1, f"{role} was not killed at step {at}"
        check_honest(stage, expected)


@pytest.mark.parametrize("role", ["coordinator", "party-1", "st-anna"])
def test_a_role_killed_before_any_write(theatre, tmp_path, role):
    places = counted(theatre, tmp_path).writes[role]
    assert len(places) >= 4
    check_kills(theatre, tmp_path, role, places)


def test_a_coordinator_killed_while_the_others_live_on(theatre, tmp_path):
    places = counted(theatre, tmp_path).writes["coordinator"]
    check_kills(theatre, tmp_path, "coordinator", places, together=False)


EVERYBODY = [(role, True) for role in ("coordinator", "party-1", "party-2", "st-anna", "va")]


@pytest.mark.slow
@pytest.mark.parametrize(("role", "together"), [*EVERYBODY, ("coordinator", False)])
def test_a_role_killed_at_any_step(theatre, tmp_path, role, together):
    # The very last step comes after the study's end.
    check_kills(theatre, tmp_path, role, range(counted(theatre, tmp_path).steps[role] - 1), together)


@pytest.mark.parametrize("seed", range(10))
def test_several_roles_killed_in_any_order_of_the_mail(theatre, tmp_path, seed):
    cast = theatre.cast(HOSPITALS, PARTIES, ROUNDS)
    expected = theatre.expected(cast, [set(cast.terms.hospitals)] * ROUNDS)
    draw = np.random.default_rng(seed)
    roles = ["coordinator", *cast.terms.parties, *cast.terms.hospitals]
    fuses = [theatre.fuse(str(draw.choice(roles)), int(draw.integers(60))) for _ in range(4)]
    stage = theatre.stage(cast, tmp_path, seed=seed, fuses=fuses, together=bool(seed % 2)).run()
    check_honest(stage, expected)
