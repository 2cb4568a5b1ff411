"""The projection against plain integers: the matrix is read from its stream bit by bit, the products are Python's."""

import functools
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from protocols import projection
from protocols.canonical import encode
from protocols.errors import EncodingError
from protocols.norm_bounds import NormCheck
from protocols.prg import Stream, ring_dtype
from protocols.projection import BATCH, BLOCK, PIECE, coin, commit, matrix_blocks, project
from protocols.sharing import SEED, VECTOR, Shape, ShareReader, share

WIDTHS = [16, 32, 64]
COIN = bytes(range(32))
CONTEXT = b"context"


def entries(size, rows, public=COIN):
    """The matrix as lists of integers, read from the stream by the module's description of it."""
    length = sum(rows * -(-min(512, size - start) // 4) for start in range(0, size, 512))
    drawn = bytearray(length)
    Stream(public, "norm matrix", encode([size, rows])).fill(memoryview(drawn))
    matrix = [[] for _ in range(rows)]
    position = 0
    for start in range(0, size, 512):
        columns = min(512, size - start)
        for row in matrix:
            for j in range(columns):
                bits = drawn[position + j // 4] >> 2 * (j % 4) & 3
                row.append({0b00: -1, 0b01: 0, 0b10: 0, 0b11: 1}[bits])
            position += -(-columns // 4)
    assert position == length
    return matrix


def expected(check, vectors, public=COIN):
    """(n, m) of Python's integers."""
    return [
        [
            sum(r * int(v) for r, v in zip(row, x, strict=True)) % 2**check.width
            for row in matrix_of(check, public)
        ]
        for x in vectors
    ]


@functools.lru_cache(maxsize=8)
def matrix_of(check, public):
    return entries(check.size, check.rows, public)


def explicit(x, party=0):
    return ShareReader(x.tobytes() + VECTOR, Shape(x.size, 8 * x.dtype.itemsize), party, CONTEXT)


def random_vector(size, width):
    return np.frombuffer(os.urandom(size * width // 8), dtype=ring_dtype(width))


def extreme_vectors(size, width):
    """What could overflow a sum, or carry from digit to digit."""
    dtype, top = ring_dtype(width), 2**width - 1
    digits = [0x8000, 0x7FFF, 0xFFFF, 0x0001, 0x0000]
    yield np.zeros(size, dtype)
    for value in (1, top, top // 2, top // 2 + 1, top // 2 + 2):
        yield np.full(size, value, dtype)
    for digit in digits:
        yield np.full(size, sum(digit << 16 * i for i in range(width // 16)), dtype)
    yield np.resize(np.array([top // 2 + 1, top // 2], dtype), size)


def few_rows(size, width, rows=3):
    """A projection of so few rows as a test in Python's integers has time for."""
    return NormCheck(size, width, 1, rows, 3, 100, False)


# -- the matrix ------------------------------------------------------------------------------------------------------


SIZES = [1, 3, 4, 5, 511, 512, 513, 514, 515, 516, 1024, 1537]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 7])
def test_the_matrix_is_as_described(size, rows):
    blocks = [block.copy() for block in matrix_blocks(size, rows, COIN)]
    assert [block.shape for block in blocks] == [(rows, min(512, size - s)) for s in range(0, size, 512)]
    assert np.concatenate(blocks, axis=1).tolist() == entries(size, rows)


def test_the_entries_are_drawn_as_often_as_they_should():
    matrix = np.concatenate([block.copy() for block in matrix_blocks(20_000, 160, COIN)], axis=1)
    counts = [int(np.sum(matrix == value)) for value in (-1, 0, 1)]
    assert sum(counts) == matrix.size
    assert stats.chisquare(counts, [matrix.size / 4, matrix.size / 2, matrix.size / 4]).pvalue > 1e-4
    # Neither rows nor columns know of one another, at any distance up to a few bytes.
    for axis in (0, 1):
        for distance in (1, 2, 3, 4, 5, 8, 16):
            along = np.moveaxis(matrix, axis, 0)
            product = float(np.sum(along[distance:] * along[:-distance]))
            assert abs(product) < 5 * np.sqrt(along[distance:].size / 4)


def test_another_coin_size_or_number_of_rows_gives_another_matrix():
    def first(size, rows, public):
        return next(matrix_blocks(size, rows, public))[:3, :400]

    variants = [first(1000, 5, COIN), first(1001, 5, COIN), first(1000, 6, COIN), first(1000, 5, bytes(32))]
    for i, one in enumerate(variants):
        for other in variants[:i]:
            assert 0.5 < np.mean(one != other) < 0.75  # 5/8 of the entries of two independent matrices


# -- the product -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [4, 5, 511, 512, 513, 1027, PIECE - 1, PIECE, PIECE + 1, PIECE + 515])
def test_a_projection_is_the_one_in_plain_integers(width, size):
    check = few_rows(size, width)
    vectors = [random_vector(size, width) for _ in range(2)]
    y = project(check, COIN, [explicit(x) for x in vectors])
    assert y.dtype == ring_dtype(width)
    assert y.tolist() == expected(check, vectors)


@pytest.mark.parametrize("width", WIDTHS)
def test_extreme_vectors_are_projected_exactly(width):
    check = few_rows(1100, width)
    vectors = list(extreme_vectors(1100, width))
    assert project(check, COIN, map(explicit, vectors)).tolist() == expected(check, vectors)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_worst_vector_for_a_row_is_projected_exactly(width):
    # All products of a row have one sign, and the largest magnitude that a digit has.
    check = few_rows(3 * BLOCK, width)
    matrix = np.array(entries(check.size, check.rows))
    lowest, highest = (sum(d << 16 * i for i in range(width // 16)) for d in (0x8000, 0x7FFF))
    vectors = [np.where(row < 0, lowest, highest).astype(ring_dtype(width)) for row in matrix]
    vectors += [np.where(row > 0, lowest, highest).astype(ring_dtype(width)) for row in matrix]
    assert project(check, COIN, map(explicit, vectors)).tolist() == expected(check, vectors)


def test_a_block_s_worst_sum_just_fits():
    # The largest sum of a block: all its entries 1, all digits -2^15. One column more would not be exact.
    digits = np.full((1, 2 * BLOCK), -(2.0**15), dtype=np.float32)
    ones = np.ones((2 * BLOCK, 1), dtype=np.float32)
    assert (digits[:, :BLOCK] @ ones[:BLOCK]).item() == -(2**24) == -BLOCK * 2**15
    assert np.float32(2**24) + np.float32(1) == np.float32(2**24)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(WIDTHS),
    st.integers(1, 700),
    st.integers(1, 6),
    st.binary(min_size=32, max_size=32),
    st.data(),
)
def test_any_shape_is_projected_as_in_plain_integers(width, size, rows, public, data):
    check = few_rows(size, width, rows)
    count = data.draw(st.integers(1, 3))
    vectors = [random_vector(size, width) for _ in range(count)]
    y = project(check, public, [explicit(x) for x in vectors])
    assert y.shape == (count, rows)
    assert y.tolist() == expected(check, vectors, public)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("parties", [2, 3, 5])
def test_projections_of_shares_are_shares_of_the_projection(width, parties):
    size, hospitals = 1030, 4
    check = NormCheck.for_bound(size, width, 100)
    vectors = [random_vector(size, width) for _ in range(hospitals)]
    plaintexts = [share(x, parties, k % parties, b"%d" % k) for k, x in enumerate(vectors)]
    total = np.zeros((hospitals, check.rows), dtype=ring_dtype(width))
    for party in range(parties):
        readers = [
            ShareReader(of_hospital[party], Shape(size, width), party, b"%d" % k)
            for k, of_hospital in enumerate(plaintexts)
        ]
        total += project(check, COIN, readers)
    assert np.array_equal(total, project(check, COIN, [explicit(x) for x in vectors]))
    # Control: one party's share under another's name opens to something else.
    swapped = [ShareReader(of_hospital[0], Shape(size, width), 1, CONTEXT) for of_hospital in plaintexts]
    kept = [
        ShareReader(of_hospital[0], Shape(size, width), 0, b"%d" % k)
        for k, of_hospital in enumerate(plaintexts)
    ]
    assert not np.array_equal(project(check, COIN, swapped), project(check, COIN, kept))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 5])
def test_batches_change_nothing(width, count):
    check = few_rows(600, width)
    vectors = [random_vector(600, width) for _ in range(count)]
    y = project(check, COIN, [explicit(x) for x in vectors])
    assert (y.shape, y.dtype) == ((count, 3), ring_dtype(width))
    alone = [project(check, COIN, [explicit(x)])[0] for x in vectors]
    assert y.tolist() == [row.tolist() for row in alone]


@pytest.mark.parametrize("piece", [BLOCK, 3 * BLOCK])
def test_pieces_change_nothing(monkeypatch, piece):
    x, check = random_vector(5 * BLOCK + 77, 32), few_rows(5 * BLOCK + 77, 32)
    y = project(check, COIN, [explicit(x)])
    monkeypatch.setattr(projection, "PIECE", piece)
    assert np.array_equal(project(check, COIN, [explicit(x)]), y)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_direct_check_takes_the_shares_themselves(width):
    check = NormCheck.for_bound(160, width, 100)
    assert check.direct
    vectors = [random_vector(160, width) for _ in range(BATCH + 2)]
    y = project(check, COIN, map(explicit, vectors))
    assert y.dtype == ring_dtype(width)
    assert y.tolist() == [x.tolist() for x in vectors]
    longer = NormCheck.for_bound(161, width, 100)
    x = random_vector(161, width)
    assert project(longer, COIN, [explicit(x)]).tolist() == expected(longer, [x])


def test_the_signed_projection_of_a_short_vector_is_its_true_one():
    check = NormCheck.for_bound(1000, 32, 1000)
    u = np.random.default_rng(5).integers(-30, 31, 1000)
    y = project(check, COIN, [explicit(u.astype(np.int32).view(np.uint32))])
    assert y.view(np.int32)[0].tolist() == (np.array(matrix_of(check, COIN)) @ u).tolist()
    assert 0.7 < float(np.sum(y.view(np.int32) ** 2.0)) / (80 * float(u @ u)) < 1.4


# -- what it needs ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_matrix_or_the_hospitals():
    size, width = 120_000, 32
    check = NormCheck.for_bound(size, width, 100)

    def peak(count):
        readers = (ShareReader(bytes(32) + SEED, Shape(size, width), 0, b"%d" % k) for k in range(count))
        tracemalloc.start()
        try:
            project(check, COIN, readers)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    one_batch, three = peak(BATCH), peak(3 * BATCH)
    assert one_batch < 5e6  # 24 shares alone would be 11.5 MB, the matrix 76.8 MB
    assert three < 1.2 * one_batch


def test_shares_are_opened_one_batch_at_a_time():
    opened, check = [], few_rows(2000, 16)
    most = 0

    class Opened(ShareReader):
        def __del__(self):
            opened.remove(id(self))

    def envelopes():
        nonlocal most
        for _ in range(3 * BATCH):
            reader = Opened(bytes(32) + SEED, Shape(2000, 16), 0, CONTEXT)
            opened.append(id(reader))
            most = max(most, len(opened))
            yield reader

    project(check, COIN, envelopes())
    assert most == BATCH


@pytest.mark.parametrize(
    ("size", "width"),
    [(999, 32), (1001, 32), (1000, 16), (1000, 64)],
    ids=["short", "long", "narrow", "wide"],
)
@pytest.mark.parametrize("rows", [3, 1000])
def test_shares_of_another_size_or_width_are_refused(size, width, rows):
    check = NormCheck(1000, 32, 1, rows, 3, 1, rows == 1000)
    good = [explicit(random_vector(1000, 32)) for _ in range(2)]
    with pytest.raises(EncodingError, match="its own size and width"):
        project(check, COIN, [*good, explicit(random_vector(size, width))])


def test_no_coin_no_projection():
    with pytest.raises(EncodingError, match="32 bytes"):
        project(few_rows(1000, 32), COIN[:-1], [explicit(random_vector(1000, 32))])


# -- the coin --------------------------------------------------------------------------------------------------------


OPENINGS = [bytes([i]) * 32 for i in range(3)]


def test_everything_that_goes_into_a_coin_changes_it():
    coins = [
        coin(b"list", OPENINGS),
        coin(b"lisu", OPENINGS),
        coin(b"list", OPENINGS[:2]),
        coin(b"list", OPENINGS[::-1]),
        coin(b"list", [*OPENINGS, OPENINGS[0]]),
        coin(b"list" + OPENINGS[0], OPENINGS[1:]),
        *(coin(b"list", [*OPENINGS[:i], os.urandom(32), *OPENINGS[i + 1 :]]) for i in range(3)),
    ]
    assert len(set(coins)) == len(coins)
    assert all(len(c) == 32 for c in coins)


def test_a_commitment_is_to_one_opening_in_one_context():
    commitments = [
        commit(OPENINGS[0], b"list"),
        commit(OPENINGS[1], b"list"),
        commit(OPENINGS[0], b"lisu"),
        commit(OPENINGS[0], b""),
        coin(b"list", OPENINGS),
    ]
    assert len(set(commitments)) == len(commitments)
    assert commit(OPENINGS[0], b"list") == commitments[0]
    # The opening stands in none of them.
    assert not any(OPENINGS[0][:4] in c for c in commitments)


def test_a_party_that_echoes_another_s_opening_does_not_cancel_it():
    # As it would if openings were added: the coin would then be what the third wants.
    assert coin(b"list", [OPENINGS[0], OPENINGS[0], OPENINGS[2]]) != coin(
        b"list", [OPENINGS[1], OPENINGS[1], OPENINGS[2]]
    )


@pytest.mark.parametrize("bad", [b"", bytes(31), bytes(33)], ids=len)
def test_an_opening_has_32_bytes(bad):
    with pytest.raises(EncodingError, match="32 bytes"):
        commit(bad, b"list")
    with pytest.raises(EncodingError, match="32 bytes"):
        coin(b"list", [OPENINGS[0], bad])


@pytest.mark.parametrize("openings", [[], OPENINGS[:1]], ids=len)
def test_one_party_draws_no_coin(openings):
    with pytest.raises(EncodingError, match="at least two"):
        coin(b"list", openings)
