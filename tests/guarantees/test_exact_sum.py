"""The opened sum is the integer sum, bit for bit: w in 16, 32, 64, P in 2 to 5, K in 2 to 100.

The path is the real one: encode, share, seal, open, add by each party, open the sum. The oracle is plain Python:
rationals for the encoding, integers for the sum. Most cases open by the definition (the parties' opening shares added
modulo 2^64); some run the committee's CrypTen program over a mesh.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.committee import Committee
from protocols.contribution import RoundContext, contribute, open_share, share_context
from protocols.envelope import SealingKey
from protocols.mesh import in_process_meshes
from protocols.prg import new_seed, ring_dtype
from protocols.ring import Encoding, from_signed, signed
from protocols.sharing import Shape, add_share, zeros

WIDTHS = [16, 32, 64]
PARTIES = [2, 3, 4, 5]
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon")


@cache
def sealing_keys(parties):
    return {party: SealingKey.generate() for party in NAMES[:parties]}


def context_of(width, size, parties, round_=1):
    return RoundContext(
        study=bytes(32),
        round=round_,
        attempt=1,
        previous=bytes(32),
        purpose="update",
        model=bytes(32),
        parties=list(NAMES[:parties]),
        width=width,
        size=size,
    )


def share_sums(ring_vectors, context, left_out=()):
    """What each party ends with, after the way through envelopes; ``left_out`` are pairs of party and hospital."""
    keys = sealing_keys(len(context.parties))
    publics = {party: key.public for party, key in keys.items()}
    totals = [zeros(Shape(context.size, context.width)) for _ in keys]
    for k, x in enumerate(ring_vectors):
        hospital = f"hospital-{k}"
        _, envelopes = contribute(x, context, hospital, publics, coin=new_seed())
        for index, (party, key) in enumerate(keys.items()):
            if (index, k) in left_out:
                continue
            plaintext = open_share(envelopes[index], key, context, hospital, party)
            add_share(totals[index], plaintext, index, share_context(context, hospital))
    return totals


def opened_by_definition(totals, width):
    """The signed sum of x 2^(64-w) over the parties modulo 2^64, divided by 2^(64-w), in Python's integers."""
    sums = []
    for column in zip(*(total.tolist() for total in totals), strict=True):
        lifted = sum(value << (64 - width) for value in column) % 2**64
        sums.append((lifted - 2**64 if lifted >= 2**63 else lifted) >> (64 - width))
    return sums


def nearest(x, fraction_bits):
    return round(Fraction(x) * Fraction(2) ** fraction_bits)


@pytest.mark.parametrize("parties", PARTIES)
@pytest.mark.parametrize("width", WIDTHS)
@settings(deadline=None, max_examples=4)
@given(
    hospitals=st.integers(2, 100),
    size=st.integers(1, 12),
    bound=st.floats(1e-3, 100.0),
    seed=st.integers(0, 2**32),
)
def test_updates_are_summed_exactly(width, parties, hospitals, size, bound, seed):
    encoding = Encoding.for_bound(width, bound, hospitals)
    rng = np.random.default_rng(seed)
    updates = rng.uniform(-bound, bound, (hospitals, size))
    updates[:, 0] = bound if seed % 2 else -bound
    totals = share_sums([encoding.encode(u) for u in updates], context_of(width, size, parties))
    expected = [sum(nearest(x, encoding.fraction_bits) for x in column) for column in updates.T]
    assert opened_by_definition(totals, width) == expected


@pytest.mark.parametrize("parties", PARTIES)
@pytest.mark.parametrize("width", WIDTHS)
@settings(deadline=None, max_examples=4)
@given(hospitals=st.integers(2, 100), data=st.data())
def test_integers_are_summed_exactly(width, parties, hospitals, data):
    limit = Encoding(width, 0, hospitals).limit
    entries = st.sampled_from([limit, -limit, limit - 1, 0, 1, -1]) | st.integers(-limit, limit)
    rows = data.draw(
        st.lists(st.tuples(entries, entries, entries), min_size=hospitals, max_size=hospitals)
        if hospitals < 20
        else st.lists(st.tuples(entries, entries, entries), min_size=3, max_size=3)
    )
    vectors = [rows[k % len(rows)] for k in range(hospitals)]
    ring_vectors = [from_signed(np.array(v, dtype=np.int64), width) for v in vectors]
    totals = share_sums(ring_vectors, context_of(width, 3, parties))
    assert opened_by_definition(totals, width) == [sum(column) for column in zip(*vectors, strict=True)]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("hospitals", [2, 100])
@pytest.mark.parametrize("width", WIDTHS)
def test_all_entries_at_the_limit(width, hospitals, sign):
    limit = sign * Encoding(width, 0, hospitals).limit
    x = from_signed(np.full(5, limit), width)
    totals = share_sums([x] * hospitals, context_of(width, 5, 3))
    assert opened_by_definition(totals, width) == [hospitals * limit] * 5


def test_the_smallest_ring_with_the_most_hospitals():
    # 100 hospitals share 32767 steps: the grid is coarse, the sum exact all the same.
    encoding = Encoding.for_bound(16, 1.0, 100)
    assert (encoding.limit, encoding.fraction_bits) == (327, 8)
    updates = np.tile(
        [[1.0, -1.0, 0.001953125, -0.005859375]], (100, 1)
    )  # the last two are half a step, and 1.5
    totals = share_sums([encoding.encode(u) for u in updates], context_of(16, 4, 5))
    assert opened_by_definition(totals, 16) == [25600, -25600, 0, -200]
    assert list(encoding.decode_sum(np.array([25600, -25600]))) == [100.0, -100.0]


@pytest.mark.parametrize("width", WIDTHS)
def test_control_more_hospitals_than_agreed_give_another_sum(width):
    limit = Encoding(width, 0, 2).limit
    x = from_signed(np.full(1, limit), width)
    totals = share_sums([x] * 3, context_of(width, 1, 3))
    assert opened_by_definition(totals, width) == [3 * limit - 2**width]


@pytest.mark.parametrize("width", WIDTHS)
def test_control_one_hospitals_missing_share_spoils_the_sum(width):
    context = context_of(width, 64, 3)
    x = from_signed(np.arange(64), width)
    totals = share_sums([x] * 4, context)
    assert opened_by_definition(totals, width) == [4 * i for i in range(64)]
    totals[2] = share_sums([x] * 4, context)[2]  # of another sharing of the same vectors
    # For w = 16 an entry stays right once in 2^16.
    assert sum(a == 4 * i for i, a in enumerate(opened_by_definition(totals, width))) <= 1


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=4)
@given(hospitals=st.integers(2, 12), data=st.data())
def test_a_hospital_that_all_parties_leave_out_is_not_in_the_sum_and_the_others_are(
    width, parties, hospitals, data
):
    limit = Encoding(width, 0, hospitals).limit
    out = data.draw(st.sets(st.integers(0, hospitals - 1), min_size=1))
    vectors = np.random.default_rng(hospitals).integers(-limit, limit, (hospitals, 4), endpoint=True)
    left_out = {(party, k) for party in range(parties) for k in out}
    totals = share_sums([from_signed(v, width) for v in vectors], context_of(width, 4, parties), left_out)
    expected = [sum(int(v) for k, v in enumerate(column) if k not in out) for column in vectors.T]
    assert opened_by_definition(totals, width) == expected


@pytest.mark.parametrize("width", WIDTHS)
def test_control_a_hospital_that_one_party_leaves_out_spoils_the_sum(width):
    x = from_signed(np.arange(64), width)
    totals = share_sums([x] * 4, context_of(width, 64, 3), left_out={(1, 2)})
    opened = opened_by_definition(totals, width)
    # For w = 16 an entry is right by chance once in 2^16.
    assert sum(a in (3 * i, 4 * i) for i, a in enumerate(opened)) <= 1


# -- the committee's program -----------------------------------------------------------------------------------------


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@pytest.fixture(scope="module", params=PARTIES)
def committee(request):
    meshes = in_process_meshes(request.param)

    def join(mesh):
        mesh.connect()
        return Committee.join(mesh)

    with ExitStack() as stack:
        for mesh in meshes:
            stack.callback(mesh.close)
        yield [
            stack.enter_context(member) for member in together([lambda m=mesh: join(m) for mesh in meshes])
        ]


@pytest.mark.parametrize("hospitals", [2, 13])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_committee_opens_the_integer_sum(committee, width, hospitals):
    size = 300
    context = context_of(width, size, len(committee), round_=hospitals)
    limit = Encoding(width, 0, hospitals).limit
    rng = np.random.default_rng(width + hospitals)
    vectors = rng.integers(-limit, limit, (hospitals, size), endpoint=True)
    vectors[:, 0], vectors[:, 1], vectors[:, 2] = limit, -limit, 0
    totals = share_sums([from_signed(v, width) for v in vectors], context)

    def opens(member, total):
        prepared = member.prepare(total, context.digest())
        return prepared, member.open(prepared, width, context.digest())

    results = together([lambda m=m, t=t: opens(m, t) for m, t in zip(committee, totals, strict=True)])
    expected = [sum(int(v) for v in column) for column in vectors.T]
    for _, total in results:
        assert total.dtype == np.int64
        assert total.tolist() == expected
    # The definition that the other tests open by is what the committee's opening shares add up to.
    lifted = np.sum([prepared for prepared, _ in results], axis=0, dtype=np.uint64)
    assert (lifted.view(np.int64) >> (64 - width)).tolist() == expected


def test_the_committee_opens_what_was_encoded(committee):
    encoding = Encoding.for_bound(32, 1.0, 5)
    updates = np.random.default_rng(5).uniform(-1, 1, (5, 1000))
    context = context_of(32, 1000, len(committee), round_=500)
    ring_vectors = [encoding.encode(u) for u in updates]
    totals = share_sums(ring_vectors, context)

    def opens(member, total):
        return member.open(member.prepare(total, context.digest()), 32, context.digest())

    expected = np.sum([signed(x) for x in ring_vectors], axis=0)
    for total in together([lambda m=m, t=t: opens(m, t) for m, t in zip(committee, totals, strict=True)]):
        assert np.array_equal(total, expected)
        assert np.abs(encoding.decode_sum(total) - updates.sum(axis=0)).max() <= 5 * encoding.resolution / 2
    assert all(total.dtype == ring_dtype(32) for total in totals)
