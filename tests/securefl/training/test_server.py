"""The server's step against an implementation written from the papers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.study.training_settings import ServerSettings
from securefl.training.server import ServerState


def by_the_paper(start, deltas, trainable, rate, beta):
    """FedAvgM, one coordinate at a time: v <- beta v + delta, x <- x + eta v; buffers simply add."""
    xs = []
    for index, x in enumerate(start):
        v = 0.0
        for delta in deltas:
            if index < trainable:
                v = beta * v + delta[index]
                x = x + rate * v
            else:
                x = x + delta[index]
        xs.append(x)
    return np.array(xs)


@given(
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(0, 12),
    st.sampled_from(
        [("fedavg", 0.9, 1.0), ("fedavg", 0.0, 0.3), ("fedavgm", 0.9, 1.0), ("fedavgm", 0.0, 0.7)]
    ),
)
def test_a_few_rounds_are_those_of_the_paper(seed, size, trainable, kind):
    optimizer, momentum, rate = kind
    trainable = min(trainable, size)
    draw = np.random.default_rng(seed)
    start, deltas = draw.normal(size=size), draw.normal(size=(4, size))
    settings = ServerSettings(optimizer=optimizer, momentum=momentum, learning_rate=rate)
    state = ServerState.initial(start)
    for delta in deltas:
        state = state.step(delta, trainable, settings)
    expected = by_the_paper(start, deltas, trainable, rate, momentum if optimizer == "fedavgm" else 0.0)
    assert np.array_equal(state.model, expected)
    assert state.round == 4


def test_fedavg_has_no_memory_and_fedavgm_has():
    delta, nothing = np.ones(3), np.zeros(3)
    for optimizer, moved in (("fedavg", 0.0), ("fedavgm", 0.5)):
        settings = ServerSettings(optimizer=optimizer, momentum=0.5)
        state = ServerState.initial(np.zeros(3)).step(delta, 3, settings)
        assert np.array_equal(state.step(nothing, 3, settings).model - state.model, np.full(3, moved))


def test_buffers_have_neither_momentum_nor_rate():
    settings = ServerSettings(optimizer="fedavgm", momentum=0.9, learning_rate=10.0)
    state = ServerState.initial(np.zeros(2))
    for _ in range(3):
        state = state.step(np.array([1.0, 1.0]), 1, settings)
    assert state.model[1] == 3.0
    assert state.velocity[1] == 0.0
    assert state.model[0] > 30.0  # the control: a parameter has both


def test_a_step_changes_nothing_of_the_state_before():
    model = np.arange(4.0)
    state = ServerState.initial(model)
    before = state.digest()
    state.step(np.ones(4), 2, ServerSettings())
    assert state.digest() == before
    assert np.array_equal(model, np.arange(4.0))


def test_the_digest_names_model_velocity_and_round():
    state = ServerState(np.zeros(3), np.zeros(3), 1)
    others = [
        ServerState(np.array([0.0, 0.0, 5e-324]), np.zeros(3), 1),
        ServerState(np.zeros(3), np.array([1e-300, 0.0, 0.0]), 1),
        ServerState(np.zeros(3), np.zeros(3), 2),
        ServerState(np.zeros(4), np.zeros(4), 1),
        ServerState(np.array([0.0, -0.0, 0.0]), np.zeros(3), 1),
    ]
    assert len({state.digest(), *(other.digest() for other in others)}) == 6
    assert ServerState(np.zeros(3), np.zeros(3), 1).digest() == state.digest()
    assert len(state.digest()) == 32


def test_the_same_outcomes_give_the_same_bits():
    draw = np.random.default_rng(3)
    start, deltas = draw.normal(size=50), draw.normal(size=(10, 50))
    digests = set()
    for _ in range(3):
        state = ServerState.initial(start)
        for delta in deltas:
            state = state.step(delta, 40, ServerSettings(optimizer="fedavgm", learning_rate=0.3))
        digests.add(state.digest())
    assert len(digests) == 1
    assert pytest.approx(state.model[:2]) != start[:2]
