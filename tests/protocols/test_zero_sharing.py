from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.canonical import encode
from protocols.errors import ChannelError, CommitteeError
from protocols.mesh import in_process_meshes
from protocols.zero_sharing import PairwiseKeys, pair_key, zero_bits, zero_share

SESSION = bytes(32)


def key_of(pair: frozenset[int]) -> bytes:
    return bytes([min(pair), max(pair)]) * 16


def dealt_keys(world_size: int) -> list[PairwiseKeys]:
    """Every party's keys, from a fixed table."""
    return [
        PairwiseKeys(i, {j: key_of(frozenset({i, j})) for j in range(world_size) if j != i}, SESSION)
        for i in range(world_size)
    ]


def agreed_keys(world_size: int) -> list[PairwiseKeys]:
    meshes = in_process_meshes(world_size, deadline=10)

    def agree(rank: int) -> PairwiseKeys:
        with meshes[rank] as mesh:
            mesh.connect()
            return PairwiseKeys.agree(mesh)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(agree, range(world_size)))


@given(world_size=st.integers(2, 6), size=st.integers(1, 300), context=st.binary(max_size=40))
@settings(max_examples=30, deadline=None)
def test_the_shares_of_all_parties_sum_to_zero(world_size, size, context):
    total = [0] * size
    for keys in dealt_keys(world_size):
        total = [(a + int(b)) % 2**64 for a, b in zip(total, zero_share(keys, context, size), strict=True)]
    assert total == [0] * size


@given(world_size=st.integers(2, 6), size=st.integers(1, 300), context=st.binary(max_size=40))
@settings(max_examples=30, deadline=None)
def test_the_bit_shares_of_all_parties_xor_to_zero(world_size, size, context):
    total = [0] * size
    for keys in dealt_keys(world_size):
        total = [a ^ int(b) for a, b in zip(total, zero_bits(keys, context, size), strict=True)]
    assert total == [0] * size


def mask(label: str, pair: frozenset[int], size: int) -> list[int]:
    """A pair's stream from the definition: HKDF, AES-256-CTR, plain integers."""
    info = encode(["securefl-prg-1", label, b"round 1"])
    key = HKDF(SHA256(), length=32, salt=None, info=info).derive(key_of(pair))
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(8 * size))
    return [int.from_bytes(stream[8 * k : 8 * k + 8], "little") for k in range(size)]


def test_a_share_is_the_signed_sum_of_the_pairs_aes_streams():
    low, high = (mask("committee-zero-share", frozenset(pair), 5) for pair in ((0, 1), (1, 2)))
    expected = [(b - a) % 2**64 for a, b in zip(low, high, strict=True)]
    assert zero_share(dealt_keys(3)[1], b"round 1", 5).tolist() == expected


def test_a_bit_share_is_the_xor_of_the_pairs_aes_streams():
    low, high = (mask("committee-zero-bits", frozenset(pair), 5) for pair in ((0, 1), (1, 2)))
    expected = [a ^ b for a, b in zip(low, high, strict=True)]
    assert zero_bits(dealt_keys(3)[1], b"round 1", 5).tolist() == expected


def test_no_proper_subset_of_the_shares_sums_to_zero():
    shares = [zero_share(keys, b"x", 8) for keys in dealt_keys(4)]
    bit_shares = [zero_bits(keys, b"x", 8) for keys in dealt_keys(4)]
    for size in (1, 2, 3):
        for subset in combinations(shares, size):
            assert np.count_nonzero(sum(subset)) == 8
        for subset in combinations(bit_shares, size):
            assert np.count_nonzero(np.bitwise_xor.reduce(subset)) == 8


def test_contexts_give_unrelated_shares_and_each_is_drawn_once():
    keys = dealt_keys(3)[0]
    first, second = zero_share(keys, b"round 1", 64), zero_share(keys, b"round 2", 64)
    assert np.count_nonzero(first == second) == 0
    with pytest.raises(CommitteeError, match="already drawn"):
        zero_share(keys, b"round 1", 64)
    # The two kinds have streams of their own, with two parties the one pair's stream itself.
    bits = zero_bits(keys, b"round 1", 64)
    assert np.count_nonzero(bits == first) == 0
    pair = dealt_keys(2)[0]
    assert not np.array_equal(zero_bits(pair, b"x", 4), zero_share(pair, b"x", 4))
    with pytest.raises(CommitteeError, match="already drawn"):
        zero_bits(keys, b"round 1", 64)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_agreement_gives_one_session_and_matching_keys(world_size):
    parties = agreed_keys(world_size)
    assert len({keys.session_id for keys in parties}) == 1
    assert len(parties[0].session_id) == 32
    assert [keys.world_size for keys in parties] == [world_size] * world_size
    total = sum(zero_share(keys, b"", 1000).astype(object) for keys in parties) % 2**64
    assert not total.any()


def test_a_group_of_a_mesh_agrees_without_the_others():
    meshes = in_process_meshes(4, deadline=10)

    def agree(rank: int) -> PairwiseKeys | None:
        meshes[rank].connect()
        return PairwiseKeys.agree(meshes[rank].group([3, 0, 1])) if rank != 2 else None

    with ThreadPoolExecutor(4) as pool:
        first, second, nobody, zeroth = pool.map(agree, range(4))
    assert nobody is None
    parties = [zeroth, first, second]
    assert [keys.rank for keys in parties] == [0, 1, 2]
    assert not (sum(zero_share(keys, b"", 100).astype(object) for keys in parties) % 2**64).any()
    for mesh in meshes:
        mesh.close()


def test_every_session_has_new_keys_and_a_new_id():
    first, second = agreed_keys(2), agreed_keys(2)
    assert first[0].session_id != second[0].session_id
    assert not np.array_equal(zero_share(first[0], b"", 4), zero_share(second[0], b"", 4))


def test_a_pairs_key_is_the_same_at_both_ends_and_bound_to_pair_and_session():
    a, b = bytes(range(32)), bytes(range(32, 64))
    key = pair_key(1, 3, a, b, SESSION)
    assert key == pair_key(3, 1, b, a, SESSION)
    others = [
        pair_key(1, 2, a, b, SESSION),
        pair_key(1, 3, a, b, bytes([1] * 32)),
        pair_key(1, 3, b, a, SESSION),
    ]
    assert len({key, *others}) == 4


def test_keys_do_not_show_in_a_repr():
    keys = dealt_keys(2)[0]
    assert repr(key_of(frozenset({0, 1}))) not in repr(keys)


@pytest.mark.parametrize(
    ("rank", "keys", "session"),
    [
        (0, {}, SESSION),
        (0, {0: bytes(32)}, SESSION),
        (0, {2: bytes(32)}, SESSION),
        (0, {1: bytes(16)}, SESSION),
        (0, {1: bytes(32)}, b""),
    ],
)
def test_incomplete_keys_are_refused(rank, keys, session):
    with pytest.raises(CommitteeError):
        PairwiseKeys(rank, keys, session)


def test_a_peer_in_another_session_is_found():
    """Party 1 tells party 0 another nonce than party 2: the session ids differ, and party 0 and 2 both notice."""
    meshes = in_process_meshes(3, deadline=10)

    def honest(rank: int) -> str:
        meshes[rank].connect()
        try:
            PairwiseKeys.agree(meshes[rank])
        except (CommitteeError, ChannelError) as error:
            return str(error)
        return "agreed"

    def liar() -> str:
        mesh = meshes[1]
        mesh.connect()
        got = mesh.exchange(b"zero-sharing/keys", {0: b"a" * 64, 2: b"b" * 64}, 64)
        mesh.exchange(b"zero-sharing/session", dict.fromkeys(got, bytes(32)), 32)
        return ""

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(honest, 0), pool.submit(liar), pool.submit(honest, 2)]
        assert all("another session" in answers[rank].result() for rank in (0, 2))
    for mesh in meshes:
        mesh.close()
