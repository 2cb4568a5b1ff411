"""A mechanism's numbers: the multiplier that colluding parties leave, and what is no mechanism."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.noise import party_variance
from securefl.errors import SecureFLError
from securefl.privacy import Mechanism, PrivacyError

SOUND = Mechanism("patient", 0.1, 1000, 10**6, 3, 1, 50)


def test_each_colluding_party_takes_its_noise_away():
    assert [SOUND.multiplier(c) for c in range(3)] == [math.sqrt(3), math.sqrt(2), 1.0]
    assert [SOUND.honest_variance(c) for c in range(3)] == [3 * 10**6, 2 * 10**6, 10**6]
    for colluders in (-1, 3):
        with pytest.raises(PrivacyError):
            SOUND.multiplier(colluders)


@given(
    st.integers(1, 2**30),
    st.floats(0.01, 100),
    st.integers(1, 16).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p - 1))),
)
def test_the_target_multiplier_is_reached_at_the_collusion_bound(units, wanted, parties_and_colluding):
    parties, colluding = parties_and_colluding
    variance = party_variance(units, wanted, parties, colluding)
    mechanism = Mechanism("hospital", 1.0, units, variance, parties, colluding, 7)
    assert mechanism.multiplier(colluding) >= wanted * (1 - 1e-15)
    assert all(mechanism.multiplier(c) > mechanism.multiplier(c + 1) for c in range(parties - 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"unit": "record"},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.0000001},
        {"sampling_rate": math.nan},
        {"sampling_rate": "0.1"},
        {"clip_units": 0},
        {"clip_units": 2.0},
        {"party_variance": 0},
        {"party_variance": -5},
        {"parties": 0},
        {"colluding": 3},
        {"colluding": -1},
        {"size": 0},
        {"size": True},
    ],
)
def test_what_is_no_mechanism_is_refused(wrong):
    with pytest.raises(PrivacyError) as error:
        replace(SOUND, **wrong)
    assert isinstance(error.value, SecureFLError)
    assert str(error.value).endswith(".")
