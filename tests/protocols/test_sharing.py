import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import EncodingError
from protocols.prg import SEED_BYTES, ring_dtype
from protocols.sharing import SEED, VECTOR, Shape, ShareReader, add_share, check_share, share, zeros

WIDTHS = [16, 32, 64]
CONTEXT = b"context"


def random_vector(size, width, seed=0):
    rng = np.random.default_rng(seed)
    return np.frombuffer(rng.bytes(size * width // 8), dtype=ring_dtype(width))


def opened(plaintexts, size, width, context=CONTEXT):
    total = zeros(Shape(size, width))
    for party, plaintext in enumerate(plaintexts):
        add_share(total, plaintext, party, context)
    return total


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(WIDTHS), st.integers(2, 5), st.integers(1, 60), st.data())
def test_the_shares_add_up_to_the_vector(width, parties, size, data):
    x = random_vector(size, width, data.draw(st.integers(0, 2**32)))
    holder = data.draw(st.integers(0, parties - 1))
    context = data.draw(st.binary(max_size=40))
    before = x.copy()
    plaintexts = share(x, parties, holder, context)
    assert np.array_equal(x, before)
    assert np.array_equal(opened(plaintexts, size, width, context), x)
    for party, plaintext in enumerate(plaintexts):
        check_share(plaintext, Shape(size, width))
        assert plaintext[-1:] == (VECTOR if party == holder else SEED)
        assert len(plaintext) == 1 + (size * width // 8 if party == holder else SEED_BYTES)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [2**15 - 1, 2**15, 2**15 + 1, 100_003])
def test_long_vectors_are_shared_piece_by_piece(width, size):
    x = random_vector(size, width)
    plaintexts = share(x, 3, 1, CONTEXT)
    assert np.array_equal(opened(plaintexts, size, width), x)


def test_a_strided_vector_is_shared_like_its_copy():
    x = random_vector(1000, 32)
    for view in (x[::2], x[::-1], x[5:-3]):
        assert np.array_equal(opened(share(view, 3, 0, CONTEXT), view.size, 32), view)


@pytest.mark.parametrize("width", WIDTHS)
def test_sharing_is_linear_over_many_hospitals(width):
    vectors = [random_vector(50, width, seed) for seed in range(20)]
    totals = [zeros(Shape(50, width)) for _ in range(3)]
    for k, x in enumerate(vectors):
        for party, plaintext in enumerate(share(x, 3, k % 3, b"%d" % k)):
            add_share(totals[party], plaintext, party, b"%d" % k)
    opened_sum = [int(sum(int(t[i]) for t in totals) % 2**width) for i in range(50)]
    assert opened_sum == [sum(int(x[i]) for x in vectors) % 2**width for i in range(50)]


def test_every_sharing_draws_its_own_seeds():
    x = random_vector(4, 32)
    seeds = [p[:-1] for _ in range(50) for i, p in enumerate(share(x, 5, 2, CONTEXT)) if i != 2]
    assert len(set(seeds)) == len(seeds) == 200


def test_another_context_or_party_opens_to_something_else():
    x = random_vector(64, 32)
    plaintexts = share(x, 3, 0, CONTEXT)
    assert np.array_equal(opened(plaintexts, 64, 32), x)
    assert not np.any(opened(plaintexts, 64, 32, b"contexu") == x)
    swapped = [plaintexts[0], plaintexts[2], plaintexts[1]]
    assert not np.any(opened(swapped, 64, 32) == x)


def test_no_proper_subset_of_the_shares_adds_up_to_the_vector():
    # Equal entries occur by chance once in 2^64 per entry.
    x = random_vector(64, 64)
    plaintexts = share(x, 4, 1, CONTEXT)
    for count in range(4):
        for subset in itertools.combinations(range(4), count):
            total = zeros(Shape(64, 64))
            for party in subset:
                add_share(total, plaintexts[party], party, CONTEXT)
            assert not np.any(total == x)


@pytest.mark.parametrize(("parties", "holder"), [(0, 0), (1, 0), (2, 2), (3, -1), (3, 3)])
def test_one_party_or_no_such_holder_is_refused(parties, holder):
    with pytest.raises(EncodingError):
        share(random_vector(4, 32), parties, holder, CONTEXT)


@pytest.mark.parametrize(
    "x",
    [
        np.ones(4, np.float32),
        np.ones(4, np.float64),
        np.ones(4, np.int32),
        np.ones(4, ">u4"),
        np.ones((2, 2), np.uint32),
        np.ones(0, np.uint32),
    ],
    ids=lambda x: f"{x.dtype.str}{x.shape}",
)
def test_what_was_never_encoded_is_not_shared(x):
    # Random floats would hide nothing: most of them are tiny beside x.
    with pytest.raises(EncodingError, match="not a vector over"):
        share(x, 3, 0, CONTEXT)
    with pytest.raises(EncodingError, match="not a vector over"):
        add_share(x, bytes(32) + SEED, 0, CONTEXT)


MALFORMED = {
    "empty": b"",
    "seed_without_kind": b"\x07" * 32,
    "kind_first": SEED + b"\x07" * 32,
    "kind_alone": SEED,
    "vector_kind_alone": VECTOR,
    "unknown_kind": bytes(32) + b"\x02",
    "seed_short": bytes(31) + SEED,
    "seed_long": bytes(33) + SEED,
    "vector_short": bytes(39) + VECTOR,
    "vector_an_element_short": bytes(36) + VECTOR,
    "vector_long": bytes(41) + VECTOR,
    "vector_as_seed": bytes(40) + SEED,
    "seed_as_vector": bytes(32) + VECTOR,
    "vector_of_another_width": bytes(20) + VECTOR,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_share_is_refused_and_the_sum_kept(name):
    total = random_vector(10, 32).copy()
    before = total.copy()
    with pytest.raises(EncodingError):
        add_share(total, MALFORMED[name], 0, CONTEXT)
    assert np.array_equal(total, before)
    with pytest.raises(EncodingError):
        check_share(MALFORMED[name], Shape(10, 32))


@settings(deadline=None)
@given(st.binary(max_size=45), st.sampled_from([b"", SEED, VECTOR]))
def test_any_bytes_are_a_share_or_an_encoding_error(data, kind):
    plaintext, total = data + kind, zeros(Shape(10, 32))
    try:
        add_share(total, plaintext, 1, CONTEXT)
    except EncodingError:
        assert not total.any()
    else:
        assert (plaintext[-1:], len(plaintext)) in ((SEED, 33), (VECTOR, 41))


def test_a_vector_of_32_bytes_is_told_from_a_seed_by_its_kind():
    content = bytes(range(32))
    as_vector, as_seed = zeros(Shape(8, 32)), zeros(Shape(8, 32))
    add_share(as_vector, content + VECTOR, 0, CONTEXT)
    add_share(as_seed, content + SEED, 0, CONTEXT)
    assert as_vector.tobytes() == content != as_seed.tobytes()


def whole(plaintext, size, width, party, context=CONTEXT):
    """The share, by the code that adds it."""
    total = zeros(Shape(size, width))
    add_share(total, plaintext, party, context)
    return total


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(WIDTHS), st.integers(1, 300), st.lists(st.integers(0, 90), max_size=12))
def test_a_share_is_read_in_pieces_of_any_size(width, size, pieces):
    for party, plaintext in enumerate(share(random_vector(size, width), 3, 1, CONTEXT)):
        reader, read = ShareReader(plaintext, Shape(size, width), party, CONTEXT), []
        assert reader.shape == Shape(size, width)
        for piece in [*pieces, size]:
            out = np.full(min(piece, size - len(read)), 7, dtype=ring_dtype(width))
            reader.read_into(out)
            read += out.tolist()
        assert read == whole(plaintext, size, width, party).tolist()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_share_is_read_as_it_is_added(width):
    size = 2**16 + 77
    for party, plaintext in enumerate(share(random_vector(size, width), 2, 0, CONTEXT)):
        reader, out = ShareReader(plaintext, Shape(size, width), party, CONTEXT), zeros(Shape(size, width))
        for start in range(0, size, 8192):
            reader.read_into(out[start : start + 8192])
        assert np.array_equal(out, whole(plaintext, size, width, party))


def test_reading_leaves_an_explicit_share_as_it_was():
    plaintext = bytearray(bytes(range(40)) + VECTOR)
    out = zeros(Shape(10, 32))
    ShareReader(plaintext, Shape(10, 32), 0, CONTEXT).read_into(out)
    out += 1
    assert plaintext == bytes(range(40)) + VECTOR


@pytest.mark.parametrize("kind", [SEED, VECTOR])
def test_a_share_is_not_read_beyond_its_end_or_in_another_width(kind):
    reader = ShareReader(bytes(32 if kind == SEED else 40) + kind, Shape(10, 32), 0, CONTEXT)
    reader.read_into(np.empty(7, np.uint32))
    for bad in (
        np.empty(4, np.uint32),
        np.empty(2, np.uint16),
        np.empty(2, np.int32),
        np.empty(2, np.uint64),
    ):
        before = bad.copy()
        with pytest.raises(EncodingError, match="to its end at most"):
            reader.read_into(bad)
        assert np.array_equal(bad, before)
    reader.read_into(np.empty(3, np.uint32))
    with pytest.raises(EncodingError, match="to its end at most"):
        reader.read_into(np.empty(1, np.uint32))


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_share_is_not_read(name):
    with pytest.raises(EncodingError):
        ShareReader(MALFORMED[name], Shape(10, 32), 0, CONTEXT)


def test_what_a_reader_shows_of_itself_holds_no_seed():
    seed = bytes(range(1, 33))
    reader = ShareReader(seed + SEED, Shape(10, 32), 0, CONTEXT)
    assert seed.hex() not in repr(reader)
    assert repr(seed)[2:-1] not in repr(reader)
