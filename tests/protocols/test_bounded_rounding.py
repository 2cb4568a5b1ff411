"""Bounded rounding against Python's own integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protocols.bounded_rounding import MAX_CLIP, bounded_rounding, squared_norm
from protocols.errors import EncodingError

any_float = st.floats(allow_nan=False, allow_infinity=False)
clips = st.integers(1, 100) | st.integers(1, MAX_CLIP) | st.integers(0, 62).map(lambda k: 2**k)
fraction_bits = st.integers(-20, 62)


def exact_square(vector):
    return sum(int(value) ** 2 for value in vector)


def naive(x, clip, bits):
    """What is wrong without the guard: clip in floating point, then round."""
    y = np.ldexp(x, bits)
    return np.rint(y * min(1.0, clip / np.linalg.norm(y))).astype(np.int64)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, st.integers(0, 20), elements=any_float), clips, fraction_bits)
def test_norm_is_bounded_whatever_comes(x, clip, bits):
    rounded = bounded_rounding(x, clip, bits)
    assert rounded.dtype == np.int64
    assert rounded.shape == x.shape
    assert exact_square(rounded) <= clip**2
    # No coordinate changes its sign, and zeros stay.
    assert all(int(r) * np.sign(v) >= 0 for r, v in zip(rounded, x, strict=True))
    assert not rounded[x == 0].any()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 30), st.floats(0.3, 3), clips.filter(lambda c: c < 2**50), st.integers(0, 2**32))
def test_around_the_bound(size, stretch, clip, seed):
    """Norms about C, where rounding decides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=size)
    x *= clip * stretch / np.linalg.norm(x)
    rounded = bounded_rounding(x, clip, 0)
    assert exact_square(rounded) <= clip**2
    nearest = [round(Fraction(float(v))) for v in x]
    true_square = sum(Fraction(float(v)) ** 2 for v in x)
    if true_square <= clip**2 * (1 - Fraction(1, 2**40)) and exact_square(nearest) <= clip**2:
        assert rounded.tolist() == nearest


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3)), st.integers(-10, 20))
def test_small_vectors_are_rounded_to_nearest(x, bits):
    expected = [round(Fraction(float(v)) * Fraction(2) ** bits) for v in x]
    assert bounded_rounding(x, 2**40, bits).tolist() == expected


@pytest.mark.parametrize("clip", [1, 2, 3, 10, 49, 50, 51, 1000, 2**20, 2**40])
@pytest.mark.parametrize("value", [0.5, np.nextafter(0.5, 1), 0.75, 1.0, 1.5, 2.5, 1e300, 5e-324])
@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_all_coordinates_alike(size, value, clip):
    """√D/2 is 50 for the largest: the bounds lie on both sides of it."""
    for x in (np.full(size, value), value * (-1.0) ** np.arange(size)):
        rounded = bounded_rounding(x, clip, 0)
        assert exact_square(rounded) <= clip**2
        if size * Fraction(value) ** 2 <= clip**2 and size * round(value) ** 2 <= clip**2:
            assert (np.abs(rounded) == round(value)).all()


def test_clipping_keeps_what_it_can():
    """A long vector comes out with nearly the whole norm, in its own direction, whatever its length was."""
    rng = np.random.default_rng(3)
    for size, clip, lost in [(50_000, 2**20, 3), (1_000_000, 2**20, 4), (30, 1000, 3), (50_000, 2**12, 4)]:
        x = rng.normal(size=size)
        for stretch in (1e-3, 1.0, 1e300):
            rounded = bounded_rounding(x * stretch, clip, 62).astype(float)
            norm = math.sqrt(exact_square(rounded))
            assert clip - lost <= norm <= clip
            best = x * (clip / np.linalg.norm(x))
            # √(D/12) is the error of rounding itself.
            assert np.linalg.norm(rounded - best) < math.sqrt(size / 12) * 1.05 + lost


def test_without_the_guard_the_bound_fails():
    """The control: clipped and rounded, about half of all vectors are too long."""
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(200, 50))
    too_long = sum(exact_square(naive(x, 1000, 10)) > 1000**2 for x in vectors)
    assert too_long > 50
    assert all(exact_square(bounded_rounding(x, 1000, 10)) <= 1000**2 for x in vectors)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_zero(bad):
    assert bounded_rounding(np.array([1.0, bad, 3.0]), 100, 4).tolist() == [0, 0, 0]


def test_zero_empty_and_float32():
    assert bounded_rounding(np.zeros(5), 1, 62).tolist() == [0] * 5
    assert bounded_rounding(np.array([-0.0]), 1, 62).tolist() == [0]
    assert bounded_rounding(np.zeros(0), 1, 0).shape == (0,)
    x = np.array([0.1, -3.7], dtype=np.float32)
    assert (
        bounded_rounding(x, 2**30, 20).tolist() == bounded_rounding(x.astype(np.float64), 2**30, 20).tolist()
    )
    assert bounded_rounding(x, np.int64(2**40), 20).tolist() == bounded_rounding(x, 2**40, 20).tolist()


def test_input_is_not_changed():
    x = np.array([3.0, 4.0])
    bounded_rounding(x, 2, 3)
    assert x.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("numbers", [0, 1, 2**21 - 1, 2**31, 2**62, 2**63 - 1])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_squared_norm_at_its_limits(numbers, size):
    assert squared_norm(np.full(size, -numbers, dtype=np.int64)) == size * numbers**2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(2**32), 2**32), max_size=50))
def test_squared_norm_is_exact(values):
    assert squared_norm(np.array(values, dtype=np.int64)) == exact_square(values)


def test_squared_norm_over_several_pieces():
    """Of 2^20 numbers a piece: the largest digits, three times over."""
    size = 3 * 2**20 + 5
    assert squared_norm(np.full(size, 2**63 - 1)) == size * (2**63 - 1) ** 2


@pytest.mark.parametrize(("clip", "bits"), [(0, 0), (-1, 0), (2**62 + 1, 0), (1, -21), (1, 63)])
def test_refuses_settings(clip, bits):
    with pytest.raises(EncodingError, match="must be from"):
        bounded_rounding(np.ones(3), clip, bits)


@pytest.mark.parametrize("x", [np.ones(3, dtype=np.int64), np.ones((2, 2)), np.ones(3, dtype=np.longdouble)])
def test_refuses_what_is_no_vector_of_floats(x):
    with pytest.raises(EncodingError, match="vector"):
        bounded_rounding(x, 10, 0)
