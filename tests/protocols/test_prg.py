import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from protocols.errors import EncodingError
from protocols.prg import SEED_BYTES, Stream, new_seed, ring_dtype, width_of

SEED = bytes(range(32))
MEGABYTE = 1 << 20


def drawn(size, seed=SEED, label="label", context=b"context"):
    out = bytearray(size)
    Stream(seed, label, context).fill(memoryview(out))
    return bytes(out)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=5))
def test_pieces_are_one_stream_whatever_their_sizes(sizes):
    stream = Stream(SEED, "label", b"context")
    pieces = []
    for size in sizes:
        piece = bytearray(size)
        stream.fill(memoryview(piece))
        pieces.append(bytes(piece))
    assert b"".join(pieces) == drawn(sum(sizes))


def test_a_buffer_is_overwritten_not_added_to():
    out = bytearray(b"\xaa" * 1000)
    Stream(SEED, "label", b"context").fill(memoryview(out))
    assert bytes(out) == drawn(1000)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_ring_elements_are_the_stream_in_little_endian_order(width):
    size = 40_001
    vector = Stream(SEED, "label", b"context").ring_vector(size, width)
    assert vector.dtype == ring_dtype(width)
    assert vector.shape == (size,)
    step = width // 8
    expected = drawn(size * step)
    assert vector[1] == int.from_bytes(expected[step : 2 * step], "little")
    assert vector.tobytes() == expected


def test_no_elements_are_no_bytes():
    assert Stream(SEED, "label", b"").ring_vector(0, 32).size == 0


def test_seed_label_and_context_separate_streams():
    streams = [
        drawn(32),
        drawn(32, seed=bytes(32)),
        drawn(32, seed=SEED[:-1] + b"\x20"),
        drawn(32, label="labe"),
        drawn(32, label="labelc", context=b"ontext"),
        drawn(32, context=b"context\x00"),
        drawn(32, context=b""),
        drawn(32, label="", context=b"labelcontext"),
    ]
    assert len(set(streams)) == len(streams)


def test_the_stream_has_no_repeated_block_and_looks_uniform():
    # False alarm: 10^-9. Control: the same test refuses bytes of text.
    threshold = chi2.isf(1e-9, 255)

    def statistic(data):
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        return float(((counts - len(data) / 256) ** 2).sum() / (len(data) / 256))

    data = drawn(MEGABYTE)
    assert statistic(data) < threshold < statistic(b"securefl" * (MEGABYTE // 8))
    blocks = [data[i : i + 16] for i in range(0, MEGABYTE, 16)]
    assert len(set(blocks)) == len(blocks)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_seed_of_another_size_is_refused(size):
    with pytest.raises(EncodingError, match=f"32 bytes, this one has {size}"):
        Stream(bytes(size), "label", b"")


def test_one_seed_ends_before_2_to_the_36_bytes():
    stream = Stream(SEED, "label", b"")
    stream._drawn = 2**36 - 16
    stream.fill(memoryview(bytearray(16)))
    out = bytearray(1)
    with pytest.raises(EncodingError, match="split the vector"):
        stream.fill(memoryview(out))


def test_new_seeds_differ():
    seeds = {new_seed() for _ in range(1000)}
    assert len(seeds) == 1000
    assert {len(seed) for seed in seeds} == {SEED_BYTES}


@pytest.mark.parametrize("width", [-16, 0, 1, 8, 24, 31, 33, 63, 65, 128])
def test_there_are_three_rings(width):
    with pytest.raises(EncodingError, match="16, 32 or 64"):
        ring_dtype(width)


@pytest.mark.parametrize("width", [16, 32, 64])
def test_additions_in_the_ring_wrap(width):
    largest = np.array([2**width - 1], dtype=ring_dtype(width))
    assert int((largest + largest)[0]) == 2**width - 2
    assert width_of(largest) == width


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(3, np.float32),
        np.zeros(3, np.float64),
        np.zeros(3, np.float16),
        np.zeros(3, np.int32),
        np.zeros(3, np.uint8),
        np.zeros(3, ">u4"),
        np.zeros((3, 1), np.uint32),
        np.zeros(0, np.uint32),
        np.zeros(3, bool),
    ],
    ids=lambda v: f"{v.dtype.str}{v.shape}",
)
def test_what_is_not_a_vector_over_a_ring(vector):
    with pytest.raises(EncodingError, match="not a vector over"):
        width_of(vector)
