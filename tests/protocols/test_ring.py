import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from protocols.errors import EncodingError
from protocols.ring import Encoding, from_bytes, from_signed, signed

WIDTHS = [16, 32, 64]
LONG = 70_000  # several of the module's pieces

widths = st.sampled_from(WIDTHS)
summands = st.integers(2, 100)
bounds = st.floats(min_value=1e-6, max_value=1e3)
finite = st.floats(allow_nan=False, allow_infinity=False)


def nearest(x, fraction_bits):
    """The integer nearest to x 2^f, half to even, in exact rational arithmetic."""
    return round(Fraction(x) * Fraction(2) ** fraction_bits)


def encoded(encoding, values):
    return [int(v) for v in signed(encoding.encode(np.array(values, dtype=np.float64)))]


# -- the range -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(widths, bounds, summands)
def test_the_range_holds_every_sum_and_no_finer_grid_does(width, bound, K):
    encoding = Encoding.for_bound(width, bound, K)
    largest = 2 ** (width - 1) - 1
    assert K * encoding.limit <= largest < K * (encoding.limit + 1)
    assert Fraction(bound) * Fraction(2) ** encoding.fraction_bits <= encoding.limit
    if encoding.fraction_bits < 62:
        assert math.ceil(Fraction(bound) * Fraction(2) ** (encoding.fraction_bits + 1)) > encoding.limit


@settings(deadline=None)
@given(widths, bounds, summands, st.integers(0, 2**32))
def test_sums_of_the_agreed_number_never_wrap(width, bound, K, seed):
    encoding = Encoding.for_bound(width, bound, K)
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-bound, bound, (K, 5))
    vectors[:, 0], vectors[:, 1] = bound, -bound
    total = np.zeros(5, dtype=f"<u{width // 8}")
    for vector in vectors:
        total += encoding.encode(vector)
    assert [int(v) for v in signed(total)] == [
        sum(nearest(x, encoding.fraction_bits) for x in column) for column in vectors.T
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_control_one_summand_too_many_wraps(width):
    encoding = Encoding(width, 0, 100)
    largest = from_signed(np.array([encoding.limit]), width)
    within, beyond = np.zeros_like(largest), np.zeros_like(largest)
    for _ in range(100):
        within += largest
    for _ in range(102):
        beyond += largest
    assert int(signed(within)[0]) == 100 * encoding.limit
    assert int(signed(beyond)[0]) == 102 * encoding.limit - 2**width


@pytest.mark.parametrize(
    ("width", "bound", "summands"),
    [
        (16, 4.0, 0),
        (16, 4.0, -1),
        (16, 0.0, 5),
        (16, -1.0, 5),
        (16, math.nan, 5),
        (16, math.inf, 5),
        (16, 1e300, 5),
        (16, 1.7976931348623157e308, 5),
        (64, 1e40, 5),
        (16, 1.0, 40_000),
        (16, 1.0, 10**30),
        (8, 1.0, 5),
        (0, 1.0, 5),
    ],
)
def test_a_bound_that_fits_no_grid_is_refused(width, bound, summands):
    with pytest.raises(EncodingError):
        Encoding.for_bound(width, bound, summands)


@pytest.mark.parametrize(
    "arguments", [(32, 63, 2), (32, -21, 2), (24, 4, 2), (16, 4, 0), (16, 4, -3), (16, 4, 32_768)]
)
def test_an_encoding_without_a_range_is_refused(arguments):
    with pytest.raises(EncodingError):
        Encoding(*arguments)


def test_the_smallest_ring_at_its_largest_number_of_summands():
    encoding = Encoding(16, 0, 32_767)
    assert encoding.limit == 1
    assert encoded(encoding, [1.0, -1.0, 0.0]) == [1, -1, 0]
    with pytest.raises(EncodingError):
        encoding.encode(np.array([2.0]))


# -- rounding --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(widths, st.integers(-20, 62), st.integers(1, 100), finite)
@example(32, 0, 2, 0.5)
@example(32, 0, 2, 1.5)
@example(32, 0, 2, -0.5)
@example(32, 0, 2, -1.5)
@example(64, 62, 2, 2.0**-63)
@example(64, 62, 2, 5e-324)
@example(64, 0, 1, 2.0**63)
@example(64, 0, 1, -(2.0**63))
@example(16, 0, 1, 32767.5)
@example(16, 0, 1, 32767.499999999996)
@example(16, 62, 1, 1.7976931348623157e308)
def test_a_number_becomes_its_nearest_integer_or_is_refused(width, fraction_bits, K, x):
    encoding = Encoding(width, fraction_bits, K)
    expected = nearest(x, fraction_bits)
    if abs(expected) <= encoding.limit:
        assert encoded(encoding, [x]) == [expected]
    else:
        with pytest.raises(EncodingError, match="beyond the agreed range"):
            encoding.encode(np.array([x]))


@settings(deadline=None)
@given(widths, bounds, summands, st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=20))
def test_reading_back_is_within_half_a_step(width, bound, K, fractions):
    encoding = Encoding.for_bound(width, bound, K)
    x = np.array(fractions) * bound
    integers = signed(encoding.encode(x))
    back = encoding.decode_sum(integers)
    for before, integer, after in zip(x, integers, back, strict=True):
        exact = Fraction(int(integer)) / Fraction(2) ** encoding.fraction_bits
        assert abs(exact - Fraction(before)) <= Fraction(encoding.resolution) / 2
        if abs(int(integer)) < 2**53:
            assert Fraction(after) == exact
        else:
            assert after == float(exact)


@settings(deadline=None)
@given(widths, bounds, summands, st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_rounding_is_symmetric_so_that_negative_numbers_lose_nothing(width, bound, K, fractions):
    encoding = Encoding.for_bound(width, bound, K)
    x = np.array(fractions) * bound
    assert np.array_equal(signed(encoding.encode(-x)), -signed(encoding.encode(x)))


def test_half_goes_to_even():
    halves = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    assert encoded(Encoding(16, 0, 2), halves) == [-4, -2, -2, 0, 0, 2, 2, 4]
    assert encoded(Encoding(32, 8, 2), [h / 256 for h in halves]) == [-4, -2, -2, 0, 0, 2, 2, 4]


@pytest.mark.parametrize("width", WIDTHS)
def test_single_precision_numbers_are_taken_as_they_are(width):
    encoding = Encoding.for_bound(width, 4.0, 5)
    x = np.random.default_rng(1).uniform(-4, 4, LONG).astype(np.float32)
    assert np.array_equal(encoding.encode(x), encoding.encode(x.astype(np.float64)))
    with pytest.raises(EncodingError):
        encoding.encode(np.array([3e38], dtype=np.float32))


def test_a_long_vector_is_encoded_entry_by_entry():
    encoding = Encoding.for_bound(32, 1.0, 7)
    x = np.random.default_rng(2).uniform(-1, 1, LONG)
    expected = np.array([nearest(v, encoding.fraction_bits) for v in x])
    before = x.copy()
    assert np.array_equal(signed(encoding.encode(x)), expected)
    assert np.array_equal(x, before)
    assert np.array_equal(signed(encoding.encode(x[::-3])), expected[::-3])


def test_no_entries():
    assert Encoding(32, 4, 2).encode(np.zeros(0)).size == 0


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("place", [0, LONG // 2, LONG - 1])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, 1.01, -1.01, 1e308])
@pytest.mark.parametrize("width", WIDTHS)
def test_one_bad_entry_refuses_the_whole_vector(width, value, place):
    encoding = Encoding(width, width - 2, 2)  # limit just below 1.0, in every ring
    x = np.zeros(LONG)
    x[place] = value
    with pytest.raises(EncodingError):
        encoding.encode(x)


def test_a_bad_entry_is_not_hidden_by_another():
    for values in ([math.nan, math.inf], [math.inf, math.nan], [-math.inf, math.nan, 0.0], [0.0, math.nan]):
        with pytest.raises(EncodingError, match="not a number"):
            Encoding(32, 8, 2).encode(np.array(values))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_edge_of_the_range_is_in_it(width):
    encoding = Encoding(width, 0, 3)
    edge = float(encoding.limit)
    while int(edge) > encoding.limit:  # 64 bits: the float above the limit
        edge = math.nextafter(edge, 0.0)
    assert encoded(encoding, [edge, -edge]) == [int(edge), -int(edge)]
    above = math.nextafter(edge, math.inf) if width == 64 else edge + 1
    for value in (above, -above):
        with pytest.raises(EncodingError, match="beyond the agreed range"):
            encoding.encode(np.array([value]))


# -- signed integers and bytes ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(widths, st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_signed_integers_enter_and_leave_the_ring(width, values):
    vector = from_signed(np.array(values, dtype=np.int64), width)
    assert [int(v) for v in vector] == [v % 2**width for v in values]
    half = 2 ** (width - 1)
    assert [int(v) for v in signed(vector)] == [(v + half) % 2**width - half for v in values]


@settings(deadline=None)
@given(widths, st.binary(max_size=100), st.integers(0, 60))
def test_bytes_are_a_vector_only_if_the_size_fits(width, data, size):
    if len(data) == size * width // 8:
        step = width // 8
        expected = [int.from_bytes(data[i : i + step], "little") for i in range(0, len(data), step)]
        assert [int(v) for v in from_bytes(data, width, size)] == expected
    else:
        with pytest.raises(EncodingError):
            from_bytes(data, width, size)


def test_bytes_are_viewed_and_not_to_be_written():
    vector = from_bytes(bytes(8), 32, 2)
    with pytest.raises(ValueError, match="read-only"):
        vector += np.uint32(1)


@settings(deadline=None)
@given(st.floats(1e-3, 100), summands)
def test_a_bound_may_be_reached_exactly(bound, K):
    encoding = Encoding.for_bound(32, bound, K)
    assume(encoding.fraction_bits < 62)
    encoding.encode(np.array([bound, -bound]))
