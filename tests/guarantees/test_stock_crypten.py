"""Faults of stock CrypTen 0.4.1, each shown on the stock parts (the control) and absent from ours."""

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import local

import numpy as np
import pytest
import torch

from protocols.committee import Committee, import_share
from protocols.crypten_repairs import RefusingGenerators, import_crypten
from protocols.errors import CommitteeError, EncodingError
from protocols.mesh import in_process_meshes
from protocols.prg import Stream
from protocols.ring import Encoding
from protocols.zero_sharing import PairwiseKeys, zero_share

CRYPTEN = import_crypten()
CPU = torch.device("cpu")
CONTEXT = b"round 1"
SIZE = 200


@pytest.fixture(autouse=True)
def stock_parts():
    """A committee that an earlier test dropped without leaving it keeps the guard up until it is collected."""
    gc.collect()
    assert not isinstance(CRYPTEN.generators, RefusingGenerators)


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def stock_zero_share(monkeypatch, previous, following):
    """``ArithmeticSharedTensor.PRZS`` of stock CrypTen, for the party that holds these two generators."""
    monkeypatch.setattr(CRYPTEN, "generators", {"prev": {CPU: previous}, "next": {CPU: following}})
    share = CRYPTEN.mpc.primitives.ArithmeticSharedTensor.PRZS((SIZE,)).share
    return share.numpy().view(np.uint64)


def stock_opening_shares(monkeypatch, seeds, shares):
    """All parties' masked shares; party i shares seed i with the next party, as CrypTen's ``_sync_seeds`` does."""
    zeros = [
        stock_zero_share(monkeypatch, seeded(seeds[rank - 1]), seeded(seeds[rank]))
        for rank in range(len(shares))
    ]
    assert not sum(zeros).any()
    return [import_share(share, zero) for share, zero in zip(shares, zeros, strict=True)]


def ring_elements(generator, size=SIZE):
    from crypten.common.rng import generate_random_ring_element

    return generate_random_ring_element((size,), generator=generator).numpy().view(np.uint64)


def random_shares(world_size, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 2**32, SIZE, dtype=np.uint32) for _ in range(world_size)]


def pairwise_keys(world_size):
    """Our keys, made as in a session but without a network."""
    generator = np.random.default_rng(world_size)
    table = {(i, j): generator.bytes(32) for i in range(world_size) for j in range(i + 1, world_size)}
    return table, [
        PairwiseKeys(i, {j: table[min(i, j), max(i, j)] for j in range(world_size) if j != i}, bytes(32))
        for i in range(world_size)
    ]


def our_opening_shares(keys, shares):
    return [import_share(share, zero_share(k, CONTEXT, SIZE)) for k, share in zip(keys, shares, strict=True)]


# 1. The seed.


def test_the_stock_generator_keeps_32_bits_of_its_64_bit_seed():
    seed = 0x0123456789ABCDEF
    assert np.array_equal(ring_elements(seeded(seed)), ring_elements(seeded(seed & 0xFFFFFFFF)))
    # Ours: every one of the 256 bits counts.
    key = bytes(range(32))
    reference = Stream(key, "label", CONTEXT).ring_vector(SIZE, 64)
    for bit in range(256):
        changed = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(key))
        assert not np.array_equal(Stream(changed, "label", CONTEXT).ring_vector(SIZE, 64), reference)


def brute_force(opening_share, known_mask, candidates):
    """Party 0 alone, against party 1 of three. It knows one mask of party 1's and guesses the seed of the other.

    A lifted share x 2^32 has no low bits, so that the low bits of the masked share are those of the mask: a guess
    can be checked. Gives the share, or None.
    """
    unknown = known_mask - opening_share  # the other mask, minus x 2^32
    for seed in candidates:
        mask = ring_elements(seeded(seed))
        if not np.any((mask - unknown) & np.uint64(2**32 - 1)):
            return ((mask - unknown) >> np.uint64(32)).astype(np.uint32)
    return None


def test_one_party_finds_a_stock_seed_and_with_it_another_s_share(monkeypatch):
    """Scaled down: the seed is among 2^11. All 2^32 take half an hour on one core."""
    first = 0x5EED0000
    seeds = [11, first + 1234, 13]
    shares = random_shares(3)
    stock = stock_opening_shares(monkeypatch, seeds, shares)
    candidates = range(first, first + 2**11)
    found = brute_force(stock[1], ring_elements(seeded(seeds[0])), candidates)
    assert np.array_equal(found, shares[1])

    table, keys = pairwise_keys(3)
    ours = our_opening_shares(keys, shares)
    known = -Stream(table[0, 1], "committee-zero-share", CONTEXT).ring_vector(SIZE, 64)
    assert brute_force(ours[1], known, candidates) is None


# 2. The ring of seeds.


def unmasked_by(known, table, victim, opening_share):
    """What the parties in ``known`` make of the victim's masked share with the keys that they hold."""
    result = opening_share.copy()
    for peer in known:
        mask = Stream(
            table[min(peer, victim), max(peer, victim)], "committee-zero-share", CONTEXT
        ).ring_vector(SIZE, 64)
        result = result - mask if peer > victim else result + mask
    return result


@pytest.mark.parametrize("world_size", [3, 4, 5])
def test_two_neighbours_unmask_the_party_between_them_in_the_stock_ring(monkeypatch, world_size):
    victim, neighbours = 1, (0, 2)
    seeds, shares = [100 + rank for rank in range(world_size)], random_shares(world_size)
    lifted = shares[victim].astype(np.uint64) << np.uint64(32)

    stock = stock_opening_shares(monkeypatch, seeds, shares)
    replayed = stock_zero_share(monkeypatch, seeded(seeds[neighbours[0]]), seeded(seeds[victim]))
    assert np.array_equal(stock[victim] - replayed, lifted)

    table, keys = pairwise_keys(world_size)
    ours = our_opening_shares(keys, shares)
    found = unmasked_by(neighbours, table, victim, ours[victim])
    if world_size == 3:
        # The two are all others. They learn what the opened sum minus their own shares says anyway, and nothing more.
        opened = sum(ours)
        own = sum(shares[rank].astype(np.uint64) << np.uint64(32) for rank in neighbours)
        assert np.array_equal(found, lifted)
        assert np.array_equal(found, opened - own)
    else:
        assert np.count_nonzero(found & np.uint64(2**32 - 1)) == SIZE  # noise in every coordinate
        others = [rank for rank in range(world_size) if rank != victim]
        assert np.array_equal(
            unmasked_by(others, table, victim, ours[victim]), lifted
        )  # the attack itself works


# 3. The trusted first party.


class GeneratorsOfThread:
    """CrypTen's generators are the process's; here every thread is a party and has its own."""

    def __init__(self):
        self._of_thread = local()

    def set(self, generators):
        self._of_thread.generators = generators

    def __getitem__(self, key):
        return self._of_thread.generators[key]


@contextmanager
def connected(mesh):
    with mesh:
        mesh.connect()
        yield mesh


def test_rank_0_reads_what_is_multiplied_under_the_stock_provider(monkeypatch):
    from protocols.channel import MeshCommunicator

    generators = GeneratorsOfThread()
    monkeypatch.setattr(CRYPTEN, "generators", generators)
    secret, other = torch.tensor([123456, -99]), torch.tensor([7, 1000])
    seeds = [31, 32, 33]
    shares = [[secret - 1000, other - 50], [torch.tensor([400, 400]), torch.tensor([20, 20])]]
    shares.append([secret - shares[0][0] - shares[1][0], other - shares[0][1] - shares[1][1]])
    meshes = in_process_meshes(3)

    def party(rank):
        mine = {"prev": seeds[rank - 1], "next": seeds[rank], "local": 900 + rank}
        generators.set({name: {CPU: seeded(seed)} for name, seed in mine.items()})
        seen = []
        with connected(meshes[rank]) as mesh:
            communicator = MeshCommunicator(mesh)
            reveal = communicator.all_reduce

            def watched(*args, **kwargs):
                seen.append(reveal(*args, **kwargs))
                return seen[-1]

            communicator.all_reduce = watched
            with communicator.active(CONTEXT):
                shared = CRYPTEN.mpc.primitives.ArithmeticSharedTensor
                x, y = (shared.from_shares(share, precision=0) for share in shares[rank])
                product = x.mul(y).reveal()
        # Rank 0 made the triple up with its own generator: it draws the same mask again and takes it off.
        mask = torch.from_numpy(ring_elements(seeded(900 + rank), 2).view(np.int64))
        (epsilon, _), *_ = seen
        return product, epsilon + mask

    results = together([lambda rank=rank: party(rank) for rank in range(3)])
    assert all(torch.equal(product, secret * other) for product, _ in results)
    assert torch.equal(results[0][1], secret)  # rank 0 has read it
    assert not torch.equal(results[1][1], secret)  # the others have not


def joined_committees(world_size):
    meshes = in_process_meshes(world_size)

    def join(mesh):
        mesh.connect()
        return Committee.join(mesh)

    return together([lambda mesh=mesh: join(mesh) for mesh in meshes])


def test_our_committee_has_no_provider_to_trust():
    members = joined_committees(2)
    with members[0], members[1], members[0].active(CONTEXT) as crypten:
        x = crypten.mpc.primitives.ArithmeticSharedTensor.from_shares(torch.tensor([1, 2]), precision=0)
        for operation in (lambda: x.mul(x), lambda: x.matmul(x), x.square):
            with pytest.raises(CommitteeError):
                operation()


# 4. Decoding, 5. encoding.


def test_stock_decoding_makes_some_negative_numbers_too_low_by_one_and_ours_none():
    integers = -np.arange(100 * 65536, 101 * 65536, dtype=np.int64)  # every number from -100 to -101
    exact = integers / 65536
    stock = CRYPTEN.encoder.FixedPointEncoder(precision_bits=16).decode(torch.from_numpy(integers)).numpy()
    errors = stock.astype(np.float64) - exact
    assert set(errors.tolist()) == {0.0, -1.0}
    assert np.count_nonzero(errors) == 100  # |x| of the 65536
    assert np.array_equal(Encoding(width=32, fraction_bits=16, summands=1).decode_sum(integers), exact)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_stock_encoding_turns_what_is_no_number_into_minus_2_to_the_63_and_ours_refuses(bad):
    stock = CRYPTEN.encoder.FixedPointEncoder(precision_bits=16).encode(torch.tensor([bad]))
    assert stock.item() == -(2**63)
    for width in (16, 32, 64):
        encoding = Encoding.for_bound(width, 1.0, 5)
        encoding.encode(np.array([0.5, -1.0]))
        with pytest.raises(EncodingError):
            encoding.encode(np.array([0.5, bad]))


# 6. torch's generator.


def test_nothing_of_ours_asks_torch_for_randomness(monkeypatch):
    class AskedError(Exception):
        pass

    def refuse(*args, **kwargs):
        raise AskedError

    generators = {"prev": {CPU: seeded(1)}, "next": {CPU: seeded(2)}, "local": {CPU: seeded(3)}}
    functions = [
        "rand",
        "randn",
        "randint",
        "randperm",
        "normal",
        "bernoulli",
        "multinomial",
        "Generator",
        "manual_seed",
    ]
    for name in (*functions, "rand_like", "randn_like", "randint_like", "seed", "default_generator"):
        monkeypatch.setattr(torch, name, refuse)
    for name in ("random_", "uniform_", "normal_", "bernoulli_", "exponential_"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    state = torch.get_rng_state()

    with monkeypatch.context() as stock_parts:
        stock_parts.setattr(CRYPTEN, "generators", generators)
        with pytest.raises(AskedError):  # the control: stock CrypTen does ask
            CRYPTEN.mpc.primitives.ArithmeticSharedTensor.PRZS((3,))

    shares = random_shares(3)
    members = joined_committees(3)
    opening = [member.prepare(share, CONTEXT) for member, share in zip(members, shares, strict=True)]
    opened = together(
        [lambda m=m, o=o: m.open(o, 32, CONTEXT) for m, o in zip(members, opening, strict=True)]
    )
    for member in members:
        member.leave()
    expected = sum(shares).astype(np.uint32).view(np.int32).astype(np.int64)
    assert all(np.array_equal(result, expected) for result in opened)
    assert torch.equal(state, torch.get_rng_state())
