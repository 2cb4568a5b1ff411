import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import field61
from protocols.errors import EncodingError
from protocols.field61 import BITS, PRIME, inner_product
from protocols.prg import Stream

SEED = bytes(range(32))
MERSENNE_EXPONENTS = [2, 3, 5, 7, 13, 17, 19, 31, 61]
PIECE = field61._PIECE


def stream(seed=SEED):
    return Stream(seed, "test", b"")


class Chosen(Stream):
    """A stream whose words are chosen by the test, so that all of them can be tried."""

    def __init__(self, words):
        super().__init__(SEED, "test", b"")
        self._left = np.array(words, dtype="<u8").tobytes()

    def fill(self, out):
        out[:], self._left = self._left[: len(out)], self._left[len(out) :]


def expected(words, values, bits=BITS):
    """The same by Python's integers, one by one."""
    prime = 2**bits - 1
    return sum((int(word) % 2**bits) * int(value) for word, value in zip(words, values, strict=True)) % prime


def integers(width):
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
    edges = [low, low + 1, -1, 0, 1, high - 1, high, -(2**16) % high, 2**15, -(2**15)]
    return st.integers(low, high) | st.sampled_from([edge for edge in edges if low <= edge <= high])


vectors = st.sampled_from([16, 32, 64]).flatmap(
    lambda width: st.lists(integers(width), min_size=1, max_size=60).map(
        lambda values: np.array(values, dtype=f"<i{width // 8}")
    )
)


@given(values=vectors, seed=st.binary(min_size=32, max_size=32), bits=st.sampled_from(MERSENNE_EXPONENTS))
def test_an_inner_product_is_that_of_pythons_integers(values, seed, bits):
    words = stream(seed).ring_vector(values.size, 64)
    assert inner_product(stream(seed), values, bits) == expected(words, values, bits)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), integers(64)), min_size=1, max_size=20))
def test_any_words_and_any_values(pairs):
    words, values = zip(*pairs, strict=True)
    assert inner_product(Chosen(words), np.array(values)) == expected(words, values)


@pytest.mark.parametrize("size", [1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_sizes_about_a_piece(size, width):
    rng = np.random.default_rng(size)
    values = rng.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1, size, f"<i{width // 8}", endpoint=True)
    assert inner_product(stream(), values) == expected(stream().ring_vector(size, 64), values)


@pytest.mark.parametrize("word", [0, 1, PRIME - 1, PRIME, 2**61, 2**64 - 1, 0x1FFF_0000_FFFF_0000])
@pytest.mark.parametrize("value", [-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 1, 2**48 - 1, -PRIME, PRIME])
def test_the_largest_sums_are_exact(word, value):
    # Every word and value alike: what is added in float64 is as large as it can be.
    size = 2 * PIECE + 1
    assert inner_product(Chosen([word] * size), np.full(size, value)) == expected([word], [value * size])


def test_a_pieces_sums_stay_exact_in_float64():
    assert PIECE * (2**16 - 1) ** 2 < 2**53


def test_an_element_is_the_low_61_bits_and_all_ones_are_zero():
    one = np.array([1])
    assert inner_product(Chosen([2**61 - 2]), one) == PRIME - 1
    assert inner_product(Chosen([2**61 - 1]), one) == inner_product(Chosen([0]), one) == 0
    assert inner_product(Chosen([2**63 + 2**61 + 5]), one) == 5


def test_the_stream_goes_on_where_it_stopped():
    values = np.arange(-50, 50)
    parts = stream()
    first, second = inner_product(parts, values[:33]), inner_product(parts, values[33:])
    assert (first + second) % PRIME == inner_product(stream(), values)


def test_the_values_need_not_lie_together_and_are_not_written():
    values = np.arange(-40_000, 40_000)
    values.flags.writeable = False
    assert inner_product(stream(), values[::2]) == inner_product(stream(), values[::2].copy())
    assert inner_product(stream(), values[::-1]) == inner_product(stream(), values[::-1].copy())


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(0, np.int64),
        np.zeros((2, 2), np.int64),
        np.int64(1),
        np.zeros(3, np.uint64),
        np.zeros(3, np.uint32),
        np.zeros(3, np.float64),
        np.zeros(3, np.int8),
        np.zeros(3, bool),
        np.zeros(3, ">i8"),
        np.zeros(3, object),
    ],
    ids=lambda v: f"{v.dtype.str}{v.shape}",
)
def test_what_is_not_a_vector_of_signed_integers(values):
    with pytest.raises(EncodingError, match="vector of signed integers"):
        inner_product(stream(), values)


def test_the_extra_memory_does_not_grow_with_the_vector():
    def peak(size):
        values = np.zeros(size, np.int16)
        tracemalloc.start()
        inner_product(stream(), values)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(64 * PIECE) < peak(4 * PIECE) + 10_000


# -- how often a difference is missed --------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "size"), [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)])
def test_no_difference_is_missed_by_more_than_two_words_in_all(bits, size):
    # Every vector of words and every difference modulo p, of which the promise is 2 / 2^bits.
    prime, words = 2**bits - 1, list(itertools.product(range(2**bits), repeat=size))
    missed = {}
    for difference in itertools.product(range(prime), repeat=size):
        values = np.array(difference)
        missed[difference] = sum(inner_product(Chosen(w), values, bits) == 0 for w in words) / len(words)
    assert missed.pop((0,) * size) == 1
    assert max(missed.values()) == 2 / 2**bits  # a single entry that differs is missed by 0 and by all ones


def test_multiples_of_the_prime_are_always_missed():
    # Why a sum's entries must be bounded before it is checked.
    values = np.array([PRIME, -2 * PRIME, 0, 4 * PRIME])
    assert all(inner_product(stream(bytes([i]) * 32), values) == 0 for i in range(20))
    values[2] = 1
    assert all(inner_product(stream(bytes([i]) * 32), values) != 0 for i in range(20))
