from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.certificates import make_party_certificate
from protocols.committee import Committee, import_share, reveal_sum
from protocols.crypten_repairs import import_crypten
from protocols.errors import ChannelError, CommitteeError, EncodingError
from protocols.mesh import GrpcMesh, in_process_meshes
from protocols.zero_sharing import PairwiseKeys, zero_share

PARTIES = [2, 3, 4, 5]
WIDTHS = [16, 32, 64]
_fresh = count()


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def join(mesh):
    mesh.connect()
    return Committee.join(mesh)


def join_all(meshes):
    return together([lambda mesh=mesh: join(mesh) for mesh in meshes])


@pytest.fixture(scope="module")
def committees():
    """A committee of each size, over threads."""
    meshes = {world_size: in_process_meshes(world_size) for world_size in PARTIES}
    members = {world_size: join_all(meshes[world_size]) for world_size in PARTIES}
    yield members
    for of_size in members.values():
        for member in of_size:
            member.leave()
    for of_size in meshes.values():
        for mesh in of_size:
            mesh.close()


def fresh_context():
    return f"test {next(_fresh)}".encode()


def prepared(members, shares, context):
    return [member.prepare(share, context) for member, share in zip(members, shares, strict=True)]


def opened(members, opening_shares, width, context):
    """Every party's result, or the error that it got."""

    def party(member, share):
        try:
            return member.open(share, width, context)
        except (CommitteeError, ChannelError) as error:
            return error

    return together([lambda m=m, s=s: party(m, s) for m, s in zip(members, opening_shares, strict=True)])


def random_shares(world_size, width, size, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 2**width, size, dtype=f"u{width // 8}") for _ in range(world_size)]


def signed_sum(shares, width):
    """Plain integers, one coordinate after the other."""
    totals = [sum(int(x) for x in column) % 2**width for column in zip(*shares, strict=True)]
    return [total - 2**width if total >= 2 ** (width - 1) else total for total in totals]


@pytest.mark.parametrize("world_size", PARTIES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_opened_sum_is_the_integer_sum_at_every_party(committees, world_size, width):
    members, context = committees[world_size], fresh_context()
    shares = random_shares(world_size, width, 257)
    for result in opened(members, prepared(members, shares, context), width, context):
        assert result.dtype == np.int64
        assert result.tolist() == signed_sum(shares, width)


@given(data=st.data(), world_size=st.sampled_from(PARTIES), width=st.sampled_from(WIDTHS))
@settings(max_examples=25, deadline=None)
def test_extreme_shares_open_exactly(committees, data, world_size, width):
    edge = st.sampled_from([0, 1, 2 ** (width - 1) - 1, 2 ** (width - 1), 2**width - 1])
    vectors = st.lists(edge | st.integers(0, 2**width - 1), min_size=3, max_size=3)
    shares = [np.array(data.draw(vectors), dtype=f"u{width // 8}") for _ in range(world_size)]
    members, context = committees[world_size], fresh_context()
    result, *_ = opened(members, prepared(members, shares, context), width, context)
    assert result.tolist() == signed_sum(shares, width)


@pytest.mark.parametrize("world_size", PARTIES)
@pytest.mark.parametrize("width", WIDTHS)
def test_crypten_s_own_in_process_communicator_gives_the_same_bits(committees, world_size, width):
    """The second implementation of the channel: the same program, over CrypTen's threads and queues."""
    members, context = committees[world_size], fresh_context()
    opening = prepared(members, random_shares(world_size, width, 64), context)
    expected, *_ = opened(members, opening, width, context)
    crypten = import_crypten()

    def party(rank):
        crypten.communicator._init(use_threads=True, rank=rank, world_size=world_size)
        return reveal_sum(opening[rank], width)

    try:
        results = together([lambda rank=rank: party(rank) for rank in range(world_size)])
    finally:
        crypten.uninit()
    assert all(np.array_equal(result, expected) for result in results)


@pytest.mark.parametrize("width", WIDTHS)
def test_importing_is_the_same_arithmetic_as_plain_integers(width):
    (share,) = random_shares(1, width, 50)
    zero = zero_share(PairwiseKeys(0, {1: bytes(32)}, bytes(32)), b"", 50)
    expected = [(int(x) * 2 ** (64 - width) + int(z)) % 2**64 for x, z in zip(share, zero, strict=True)]
    assert import_share(share, zero).tolist() == expected


def test_the_same_bytes_may_be_opened_again_in_this_session_and_in_the_next(committees):
    shares = random_shares(3, 32, 10)
    opening = prepared(committees[3], shares, b"kept")
    first, *_ = opened(committees[3], opening, 32, b"kept")
    again, *_ = opened(
        committees[3], [np.frombuffer(s.tobytes(), dtype=np.uint64) for s in opening], 32, b"kept"
    )
    meshes = in_process_meshes(3)
    later = join_all(meshes)
    assert later[0].session_id != committees[3][0].session_id
    in_next, *_ = opened(later, opening, 32, b"kept")
    assert first.tolist() == again.tolist() == in_next.tolist() == signed_sum(shares, 32)
    for member in later:
        member.leave()


@pytest.mark.parametrize("width", [16, 32])
def test_shares_of_different_sessions_do_not_open(committees, width):
    meshes = in_process_meshes(3)
    others = join_all(meshes)
    shares, context = random_shares(3, width, 100), fresh_context()
    mixed = [*prepared(committees[3], shares, context)[:2], prepared(others, shares, context)[2]]
    assert all(isinstance(r, CommitteeError) for r in opened(committees[3], mixed, width, context))
    for member in others:
        member.leave()


def test_a_context_is_prepared_once(committees):
    (member, *_), context = committees[2], fresh_context()
    member.prepare(np.zeros(3, np.uint32), context)
    with pytest.raises(CommitteeError, match="already drawn"):
        member.prepare(np.ones(3, np.uint32), context)


def test_an_opening_share_looks_uniform_whatever_the_share(committees):
    """All bits of a zero vector's opening share are balanced; the control is the share itself."""
    opening = committees[3][1].prepare(np.zeros(20_000, np.uint32), fresh_context())
    bits = np.unpackbits(opening.view(np.uint8)).reshape(-1, 64)
    means = bits.mean(axis=0)
    assert np.all(
        np.abs(means - 0.5) < 5 * 0.5 / np.sqrt(20_000)
    )  # 64 tests at 5 sigma: 4e-5 to fail by chance


def test_parties_that_open_different_things_get_an_error(committees):
    meshes = in_process_meshes(3, deadline=2)
    members = join_all(meshes)
    opening = prepared(members, random_shares(3, 32, 5), b"a")
    opening[2] = opening[2][:4]
    results = opened(members, opening, 32, b"a")
    assert all(isinstance(result, ChannelError) for result in results)
    for member in members:
        member.leave()


@pytest.mark.parametrize(
    "share",
    [
        np.zeros(3, np.int32),
        np.zeros(3, np.uint8),
        np.zeros(3, np.float64),
        np.zeros((3, 1), np.uint32),
        np.zeros(0, np.uint32),
        np.zeros(3, ">u4"),
    ],
)
def test_what_is_no_ring_vector_is_refused(committees, share):
    with pytest.raises(EncodingError):
        committees[2][0].prepare(share, fresh_context())


@pytest.mark.parametrize(
    ("share", "width"),
    [
        (np.zeros(3, np.int64), 32),
        (np.zeros(3, np.uint32), 32),
        (np.zeros((1, 3), np.uint64), 32),
        (np.zeros(0, np.uint64), 32),
        (np.zeros(3, np.uint64), 8),
    ],
)
def test_what_is_no_opening_share_is_refused_before_anything_is_sent(committees, share, width):
    with pytest.raises(EncodingError):
        committees[2][0].open(share, width, b"x")


def test_a_committee_that_was_left_does_nothing():
    meshes = in_process_meshes(2)
    members = join_all(meshes)
    for member in members:
        member.leave()
        member.leave()
    with pytest.raises(CommitteeError, match="was left"):
        members[0].prepare(np.zeros(1, np.uint32), b"")
    with pytest.raises(CommitteeError, match="was left"):
        members[0].open(np.zeros(1, np.uint64), 32, b"")


def test_within_a_committee_crypten_s_zero_sharing_is_ours_and_everything_else_is_refused(committees):
    import torch

    members = committees[3]

    def program(member):
        with member.active(b"program") as crypten:
            shared = crypten.mpc.primitives.ArithmeticSharedTensor
            zero = shared.PRZS((2, 3))
            another = shared.PRZS(2, 3)
            words = crypten.mpc.primitives.BinarySharedTensor
            zero_words = words.PRZS((2, 3))
            by_one = words(torch.tensor([5, -7]), src=1).reveal().tolist()
            with pytest.raises(CommitteeError):
                shared.PRSS((3,))
            # One party's own input is shared with our zeros: what CrypTen offers, though no hospital uses it.
            given_by_one = shared(torch.tensor([5, -7]), precision=0, src=1)
            with pytest.raises(CommitteeError):
                given_by_one.mul(given_by_one)
            return zero.share, another.share, given_by_one.reveal().tolist(), zero_words.share, by_one

    results = together([lambda member=member: program(member) for member in members])
    for index in (0, 1):
        assert not sum(result[index] for result in results).any()
        assert all(result[index].shape == (2, 3) and result[index].all() for result in results)
    assert not torch.equal(results[0][0], results[0][1])
    assert all(result[2] == result[4] == [5, -7] for result in results)
    assert not (results[0][3] ^ results[1][3] ^ results[2][3]).any()
    assert all(result[3].all() for result in results)


def test_three_parties_over_grpc_survive_the_loss_of_one():
    """Prepared before the loss, opened after it, in another session: the party that was killed kept its bytes."""
    identities = [make_party_certificate(rank, "test") for rank in range(3)]
    pinned = [identity.certificate_pem for identity in identities]

    def mesh_of(rank):
        return GrpcMesh(rank, "test", pinned, identities[rank].private_key_pem, deadline=20)

    meshes = [mesh_of(rank) for rank in range(3)]

    def introduce():
        for mesh in meshes:
            mesh.set_addresses([f"127.0.0.1:{other.port}" for other in meshes])

    introduce()
    members = join_all(meshes)
    shares = random_shares(3, 32, 300_000)
    opening = prepared(members, shares, b"round 7")
    meshes[2].close()
    members[2].leave()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(opened, [members[r]], [opening[r]], 32, b"round 7") for r in (0, 1)]
        meshes[2] = mesh_of(2)
        assert all(isinstance(future.result()[0], ChannelError) for future in waiting)
    introduce()
    for member in members:
        member.leave()
    members = join_all(meshes)
    results = opened(members, opening, 32, b"round 7")
    expected = sum(shares).astype(np.uint32).view(np.int32).astype(np.int64)
    assert all(np.array_equal(result, expected) for result in results)
    for member, mesh in zip(members, meshes, strict=True):
        member.leave()
        mesh.close()
