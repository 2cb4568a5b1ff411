"""Verdicts against plain integers; what is sent against uniform words; what a bad dealer could do."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, cycle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

import protocols.dealer
from protocols.canonical import decode, encode
from protocols.committee import Committee
from protocols.dealer import Dealer, DealerLink, correction, shares_of
from protocols.errors import ChannelError, CommitteeError, EncodingError
from protocols.mesh import InProcessMesh, in_process_meshes
from protocols.norm_bounds import NormCheck
from protocols.norm_program import sent_bytes
from protocols.prg import Stream
from protocols.projection import project
from protocols.ring import from_signed
from protocols.sharing import Shape, ShareReader, share

PARTIES = [2, 3, 4]
WIDTHS = [16, 32, 64]
LARGEST_K = {16: 12, 32: 27, 64: 27}
_fresh = count()


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


class Room:
    """P parties and their dealer, in threads. ``members`` are the parties' ends of the present committee."""

    def __init__(self, parties, deadline=30.0):
        *self.meshes, last = in_process_meshes(parties + 1, deadline)
        self.members = []
        self.open_dealer(last)

    def open_dealer(self, mesh):
        self.dealer = Dealer(mesh)
        self.thread = threading.Thread(target=self.dealer.serve)
        self.thread.start()

    def join(self):
        self.leave()
        parties = len(self.meshes)

        def one(mesh):
            mesh.connect()
            return Committee.join(mesh.group(range(parties)), DealerLink(mesh, parties))

        self.members = together([lambda mesh=mesh: one(mesh) for mesh in self.meshes])
        return self

    def leave(self):
        for member in self.members:
            member.leave()

    def close(self):
        self.leave()
        self.close_dealer()
        for mesh in self.meshes:
            mesh.close()

    def close_dealer(self):
        self.dealer.close()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def results(self, shares, check):
        """Every party's verdicts, or the error that it got."""
        context = f"check {next(_fresh)}".encode()

        def one(member, its):
            try:
                return member.check_norms(its, check, context)
            except (ChannelError, CommitteeError) as error:
                return error

        return together([lambda m=m, s=s: one(m, s) for m, s in zip(self.members, shares, strict=True)])

    def verdicts(self, y, check):
        """Of the projections ``y``, given as integers."""
        first, *others = self.results(split(y, len(self.members), check.width), check)
        assert all(other == first for other in others)
        return first


@contextmanager
def room_of(parties, deadline=30.0):
    room = Room(parties, deadline)
    try:
        yield room.join()
    finally:
        room.close()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a party's process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rooms():
    with room_of(2) as two, room_of(3) as three, room_of(4) as four:
        yield {2: two, 3: three, 4: four}


def split(y, parties, width):
    """Uniform additive shares of a matrix of integers."""
    modulus, shape = 2**width, (len(y), len(y[0]))
    shares = [
        np.frombuffer(os.urandom(shape[0] * shape[1] * width // 8), dtype=f"<u{width // 8}").reshape(shape)
        for _ in range(parties - 1)
    ]
    rest = [
        [(int(y[i][j]) - sum(int(s[i, j]) for s in shares)) % modulus for j in range(shape[1])]
        for i in range(shape[0])
    ]
    return [*shares, np.array(rest, dtype=f"<u{width // 8}")]


def expected(y, check):
    """The definition, in plain integers."""
    k = check.row_bits
    return [all(-(2**k) <= v < 2**k for v in row) and sum(v * v for v in row) <= check.threshold for row in y]


def check_of(rows, k, threshold, width=32):
    return NormCheck(
        size=10**6, width=width, bound=1, rows=rows, row_bits=k, threshold=threshold, direct=False
    )


# -- the verdicts ----------------------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    width = draw(st.sampled_from(WIDTHS))
    k = draw(st.integers(0, LARGEST_K[width]))
    rows, hospitals = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    inside = st.integers(-(2**k), 2**k - 1)
    edges = st.sampled_from([0, 1, -1, 2**k - 1, -(2**k), 2**k, -(2**k) - 1])
    half = 2 ** (width - 1)
    anything = st.integers(-half, half - 1) | st.sampled_from([-half, half - 1, half // 2])
    numbers = st.sampled_from([inside, inside | edges, inside | edges | anything])
    y = [draw(st.lists(draw(numbers), min_size=rows, max_size=rows)) for _ in range(hospitals)]
    sums = [sum(v * v for v in row) for row in y]
    threshold = draw(st.sampled_from(sums)) + draw(st.sampled_from([-1, 0, 1]))
    return y, check_of(rows, k, min(max(threshold, 0), 2**63 - 1), width)


@given(case=cases(), parties=st.sampled_from(PARTIES))
@settings(max_examples=20, deadline=None)
def test_verdicts_are_those_of_plain_integers(rooms, case, parties):
    y, check = case
    assert rooms[parties].verdicts(y, check) == expected(y, check)


@pytest.mark.parametrize(("parties", "width"), [(2, 16), (3, 16), (3, 32), (4, 32), (2, 64), (3, 64)])
def test_the_edges_of_the_range_and_of_the_threshold(rooms, parties, width):
    k, half = LARGEST_K[width], 2 ** (width - 1)
    b = 2**k
    inside = [[b - 1, 0, 0], [-b, 0, 0], [0, 0, 0], [b - 1, -b, b - 1]]
    outside = [[b, 0, 0], [0, -b - 1, 0], [0, 0, half - 1], [-half, 0, 0], [b - 1, b, -b]]
    y = inside + outside
    roomy = check_of(3, k, 3 * b * b, width)
    verdicts = rooms[parties].verdicts(y, roomy)
    assert verdicts == [True] * 4 + [False] * 5
    exact = 2 * (b - 1) ** 2 + b * b
    for threshold, passes in ((exact, True), (exact - 1, False), (exact + 1, True)):
        tight = check_of(3, k, threshold, width)
        assert rooms[parties].verdicts([inside[-1]], tight) == [passes]
    assert rooms[parties].verdicts([[0, 0, 0], [0, -1, 0]], check_of(3, k, 0, width)) == [True, False]


@pytest.mark.parametrize("parties", PARTIES)
def test_numbers_whose_squares_vanish_modulo_2_to_the_64_do_not_pass(rooms, parties):
    """Without the range check they would: all their squares are 0, or sum to 0."""
    y = [[2**32, 0], [2**63 - 2**32, 2**40], [-(2**63), -(2**63)], [-(2**32), 2**62], [1, 1]]
    assert all(sum(v * v for v in row) % 2**64 == 0 for row in y[:-1])
    assert rooms[parties].verdicts(y, check_of(2, 27, 2, 64)) == [False] * 4 + [True]


def test_the_largest_sum_of_squares_that_a_check_may_have_does_not_wrap(rooms):
    k, rows = 27, 511
    top = [[-(2**k)] * rows]
    exact = rows * 4**k
    assert 2**63 - 4**k <= exact < 2**63
    room = rooms[3]
    assert room.verdicts(top, check_of(rows, k, exact, 64)) == [True]
    assert room.verdicts(top, check_of(rows, k, exact - 1, 64)) == [False]
    assert room.verdicts(top, check_of(rows, k, 2**63 - 1, 64)) == [True]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_direct_check_is_exact(rooms, width):
    check = NormCheck.for_bound(4, width, 50)
    assert check.direct
    y = [[30, -40, 0, 0], [30, -40, 1, 0], [25, 25, -25, 25], [0, 0, 0, -51], [-(2 ** (width - 1)), 0, 0, 0]]
    assert rooms[3].verdicts(y, check) == [True, False, True, False, False]


def projected(updates, check, parties):
    """From the updates to the parties' shares of the projections, as in a round."""
    shape, coin = Shape(check.size, check.width), os.urandom(32)
    readers = [[] for _ in range(parties)]
    for hospital, update in enumerate(updates):
        context = f"hospital {hospital}".encode()
        plaintexts = share(from_signed(update, check.width), parties, hospital % parties, context)
        for party, plaintext in enumerate(plaintexts):
            readers[party].append(ShareReader(plaintext, shape, party, context))
    return [project(check, coin, its) for its in readers]


@pytest.mark.parametrize(("width", "unit"), [(16, 17), (32, 400), (64, 100_000)])
@pytest.mark.parametrize("parties", [2, 3])
def test_from_shares_of_updates_to_verdicts(rooms, parties, width, unit):
    """The honest one is refused with a probability of 2^-20, the others pass with at most 2^-30."""
    size = 2500
    generator = np.random.default_rng(width)
    signs = generator.choice([-1, 1], size)
    at_the_bound = unit * signs
    bound = 50 * unit
    assert int(np.square(at_the_bound).sum()) == bound**2
    huge, two_halves = np.zeros((2, size), dtype=np.int64)
    huge[17] = 2 ** (width - 1) - 1
    two_halves[[3, 2000]] = -(2 ** (width - 1))
    updates = [
        at_the_bound,
        np.zeros(size, dtype=np.int64),
        2 * at_the_bound,
        np.full(size, 2 * unit),  # equal coordinates, twice the bound
        huge,
        two_halves,
    ]
    check = NormCheck.for_bound(size, width, bound)
    results = rooms[parties].results(projected(updates, check, parties), check)
    assert results == [[True, True, False, False, False, False]] * parties


# -- what it costs, and what it asks for -----------------------------------------------------------------------------


def test_a_full_check_stays_within_its_bytes_whatever_the_size_of_the_updates():
    hospitals, check = 20, NormCheck.for_bound(10**7, 32, 28_000_000)
    assert (check.rows, check.row_bits) == (160, 27)
    n, parties = hospitals * check.rows, 3
    # Words to each peer. A number: two additions of shares at 13 ANDs of 2 words, its bits, its square, its row's AND.
    # A hospital: two additions, six ANDs of the bits, the verdict.
    words = n * (2 * 26 + (check.row_bits + 1) + 1 + 2) + hospitals * (2 * 26 + 12 + 1)
    with room_of(parties) as room:
        on_the_wire = [0, 0, 0]
        for rank, mesh in enumerate(room.meshes):

            def counted(peer, tag, payload, rank=rank, send=mesh.start_send):
                on_the_wire[rank] += memoryview(payload).nbytes
                return send(peer, tag, payload)

            mesh.start_send = counted
        y = np.zeros((hospitals, check.rows), dtype=np.int64)
        assert room.verdicts(y, check) == [True] * hospitals
        counted_bytes = [member._communicator.comm_bytes for member in room.members]
        assert counted_bytes == [8 * words * 2] * 3
        assert counted_bytes[0] == sent_bytes(check, hospitals, parties) == 4_270_400 < 10_000_000
        assert on_the_wire[1:] == counted_bytes[1:]
        assert 0 < on_the_wire[0] - counted_bytes[0] < 45 * 100  # the requests to the dealer
        assert room.members[0]._communicator.comm_rounds == 45


@pytest.mark.parametrize(
    "shares",
    [
        np.zeros((2, 3), np.uint64),
        np.zeros((2, 3), np.int32),
        np.zeros((2, 3), np.float64),
        np.zeros((2, 2), np.uint32),
        np.zeros((0, 3), np.uint32),
        np.zeros(3, np.uint32),
        np.zeros((2, 3), ">u4"),
    ],
)
def test_what_are_no_shares_of_such_projections_is_refused_before_anything_is_sent(rooms, shares):
    with pytest.raises(EncodingError):
        rooms[2].members[0].check_norms(shares, check_of(3, 5, 10), b"refused")


def test_without_a_dealer_or_a_membership_there_is_no_check():
    meshes = in_process_meshes(2)

    def one(mesh):
        mesh.connect()
        return Committee.join(mesh)

    members = together([lambda mesh=mesh: one(mesh) for mesh in meshes])
    with pytest.raises(CommitteeError, match="needs a dealer"):
        members[0].check_norms(np.zeros((1, 3), np.uint32), check_of(3, 5, 10), b"")
    for member in members:
        member.leave()
    with room_of(2) as room:
        room.leave()
        with pytest.raises(CommitteeError, match="was left"):
            room.members[0].check_norms(np.zeros((1, 3), np.uint32), check_of(3, 5, 10), b"")


def test_torch_is_asked_for_no_randomness(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("torch was asked for randomness")

    state = torch.get_rng_state()
    functions = ["rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "Generator"]
    for name in (*functions, "manual_seed", "rand_like", "randn_like", "randint_like", "seed"):
        monkeypatch.setattr(torch, name, refuse)
    for name in ("random_", "uniform_", "normal_", "bernoulli_", "exponential_"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    with room_of(3) as room:
        assert room.verdicts([[5, -3], [4, 4]], check_of(2, 3, 32)) == [False, True]
    assert torch.equal(state, torch.get_rng_state())


def test_shares_of_a_sum_are_opened_beside_the_check(rooms):
    room = rooms[3].join()
    shares = [np.array([7, 2**32 - 1], np.uint32), np.array([1, 0], np.uint32), np.array([0, 0], np.uint32)]
    opening = [member.prepare(its, b"sum") for member, its in zip(room.members, shares, strict=True)]
    assert room.verdicts([[0], [9]], check_of(1, 4, 80)) == [True, False]
    sums = together(
        [lambda m=m, s=s: m.open(s, 32, b"sum") for m, s in zip(room.members, opening, strict=True)]
    )
    assert all(its.tolist() == [8, -1] for its in sums)


# -- what is seen ----------------------------------------------------------------------------------------------------

ALPHA = 1e-9  # of a false alarm, for each of fewer than 1000 statistics


def watched(room, y, check):
    """What party 1 sends, and what is opened, by collective: arrays of words. The verdicts come last."""
    member = room.members[1]
    reveal, sent, seen = member._communicator.all_reduce, [], []

    def all_reduce(input, **kwargs):
        opened = reveal(input, **kwargs)
        for shares, values in ((sent, input), (seen, opened)):
            parts = values if isinstance(values, list) else [values]
            shares.append(np.concatenate([part.numpy().reshape(-1).view(np.uint64) for part in parts]))
        return opened

    member._communicator.all_reduce = all_reduce
    try:
        verdicts = room.verdicts(y, check)
    finally:
        del member._communicator.all_reduce
    return verdicts, sent, seen


def alarm(words, bits=64):
    """Whether words of that many bits look other than uniform: by the bits, and by the bytes of whole words."""
    table = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(-1, 64)
    z = (table.sum(axis=0) - len(words) / 2) / np.sqrt(len(words) / 4)
    if np.abs(z[:bits]).max() > norm.isf(ALPHA / 128) or table[:, bits:].any():
        return True
    if bits < 64:
        return False
    counts = np.bincount(words.view(np.uint8), minlength=256)
    statistic = float((np.square(counts - len(words) / 32) / (len(words) / 32)).sum())
    return not chi2.isf(1 - ALPHA / 2, 255) < statistic < chi2.isf(ALPHA / 2, 255)


def alarms(messages):
    """The numbers of the messages that look other than uniform. One message has bits in place of words."""
    raised = set()
    for number, words in enumerate(messages):
        bits = 1 if len(words) % (K_OF_VIEW + 1) == 0 and words.max() <= 1 else 64
        if len(words) >= 64 and alarm(words, bits):
            raised.add(number)
    return raised


HOSPITALS, ROWS, K_OF_VIEW = 16, 16, 20


def two_inputs():
    """Two very different matrices that all pass."""
    zeros = np.zeros((HOSPITALS, ROWS), dtype=np.int64)
    spread = np.resize([2**19, -(2**20), 1, 2**20 - 1, -1], zeros.shape)
    return zeros, spread, check_of(ROWS, K_OF_VIEW, ROWS * 4**K_OF_VIEW)


def seen_of_two(room):
    zeros, spread, check = two_inputs()
    runs = [watched(room.join(), y, check) for y in (zeros, spread)]
    assert all(verdicts == [True] * HOSPITALS for verdicts, _, _ in runs)
    return runs


def xors(first, second):
    assert [len(words) for words in first] == [len(words) for words in second]
    return [a ^ b for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("parties", [2, 3])
def test_what_is_sent_and_opened_is_uniform_and_unrelated_whatever_the_projections(parties):
    """Given the verdicts. Each message alone, and those of two inputs together; in number and length they agree."""
    with room_of(parties) as room:
        (_, sent_a, seen_a), (_, sent_b, seen_b) = seen_of_two(room)
    for messages in (sent_a, sent_b, seen_a, seen_b, xors(sent_a, sent_b), xors(seen_a, seen_b)):
        assert len([words for words in messages if len(words) >= 64]) >= 18
        # The last opening is the verdicts themselves.
        assert alarms(messages[:-1]) == set()
    assert seen_a[-1].tolist() == seen_b[-1].tolist() == [1] * HOSPITALS


def test_of_a_verdict_a_party_sends_a_fresh_bit_and_nothing_else(rooms):
    check = check_of(1, 4, 3)
    y = [[value] for value in (0, 1, 2, 15, 16, -16, -17, 2**31 - 1)] * 125
    verdicts, sent, seen = watched(rooms[3], y, check)
    assert verdicts == expected(y, check) == seen[-1].astype(bool).tolist()
    assert set(sent[-1].tolist()) == {0, 1}
    assert not alarm(sent[-1], 1)  # 1000 bits, of which 250 would be 1 if the verdict itself were sent


class NoMask(Stream):
    """A dealer's stream of zeros."""

    def fill(self, out):
        out[:] = bytes(len(out))


class NoSession(Stream):
    """A dealer's stream that forgets the session."""

    def __init__(self, seed, label, context):
        super().__init__(seed, label, encode(decode(context)[1]))


def test_the_opened_bit_s_mask_owes_nothing_to_the_dealer(monkeypatch):
    """With the dealer's masks gone, party 1's share of every verdict is 0 until it is masked anew."""
    monkeypatch.setattr(protocols.dealer, "Stream", NoMask)
    with room_of(2) as room:
        verdicts, sent, _ = watched(room, [[5]] * 1000, check_of(1, 4, 25))
    assert verdicts == [True] * 1000
    assert not alarm(sent[-1], 1)


def views_of(fault, monkeypatch):
    """The messages that look other than uniform: of two runs alone, and of both together."""
    monkeypatch.setattr(protocols.dealer, "Stream", fault)
    with room_of(2) as room:
        (_, _, seen_a), (_, _, seen_b) = seen_of_two(room)
    return alarms(seen_a[:-1]) | alarms(seen_b[:-1]), alarms(xors(seen_a, seen_b)[:-1])


def test_control_missing_masks_are_noticed(monkeypatch):
    alone, both = views_of(NoMask, monkeypatch)
    assert alone
    assert both


def test_control_masks_that_are_used_in_two_sessions_are_noticed(monkeypatch):
    seeds = cycle([bytes([1]) * 32, bytes([2]) * 32])
    monkeypatch.setattr(protocols.dealer, "secrets", SimpleNamespace(token_bytes=lambda size: next(seeds)))
    alone, both = views_of(NoSession, monkeypatch)
    # Each run alone looks uniform; their difference is that of what was masked.
    assert alone == set()
    assert both
    # Even then the session's id keeps the masks apart: a second line of defence.
    assert views_of(Stream, monkeypatch) == (set(), set())


# -- a dealer that is not what it should be --------------------------------------------------------------------------


def asked(monkeypatch):
    """What the dealer knows: its seeds, the session and the requests."""
    known = []

    def watch(seeds, session_id, request):
        known.append((list(seeds), session_id, request))
        return correction(seeds, session_id, request)

    monkeypatch.setattr(protocols.dealer, "correction", watch)
    return known


def test_a_dealer_that_works_with_one_party_reads_the_projections(monkeypatch):
    """The risk as it is stated: shown, so that nobody takes it for less. The control: the party's own seed."""
    known = asked(monkeypatch)
    y = np.random.default_rng(3).integers(-(2**20), 2**20, (4, 5))
    with room_of(3) as room:
        _, _, seen = watched(room, y, check_of(5, 20, 5 * 4**20))
    index, (seeds, session, request) = next((i, k) for i, k in enumerate(known) if k[2].of == "square")

    def masks(of):
        return sum(shares_of(seed, session, request, False)[0] for seed in of)

    opened = seen[index]
    assert np.array_equal((opened + masks(seeds)).view(np.int64).reshape(5, 4).T, y)
    guess = (opened + masks(seeds[1:2])).view(np.int64).reshape(5, 4).T
    assert np.count_nonzero(guess == y) == 0


def lying(monkeypatch, offset):
    """The dealer adds to the square of each hospital's first row."""

    def lie(seeds, session_id, request):
        words = correction(seeds, session_id, request)
        if request.of == "square":
            words[: len(offset)] += np.array(offset, dtype=np.int64).view(np.uint64)
        return words

    monkeypatch.setattr(protocols.dealer, "correction", lie)


def test_a_lying_dealer_turns_verdicts_and_leaves_the_sum_alone(monkeypatch):
    y, check = [[10, 0], [3, 4], [5, 1]], check_of(2, 10, 25)
    assert expected(y, check) == [False, True, False]
    with room_of(3) as room:
        assert room.verdicts(y, check) == [False, True, False]
        lying(monkeypatch, [-75, 1, 0])
        # An offender passes, an honest hospital is excluded, and of a third one nothing changes.
        assert room.verdicts(y, check) == [True, False, False]
        shares = [np.array([rank, 5], np.uint32) for rank in range(3)]
        opening = [member.prepare(its, b"sum") for member, its in zip(room.members, shares, strict=True)]
        sums = together(
            [lambda m=m, s=s: m.open(s, 32, b"sum") for m, s in zip(room.members, opening, strict=True)]
        )
    assert all(its.tolist() == [3, 15] for its in sums)


def test_a_lying_dealer_that_sees_the_verdict_has_one_bit_of_its_choice(monkeypatch):
    """Here: whether an honest hospital's sum of squares exceeds 12, where the threshold is 25."""
    with room_of(2) as room:
        lying(monkeypatch, [13, 13])
        assert room.verdicts([[2, 2], [4, 0]], check_of(2, 10, 25)) == [True, False]


def test_a_dealer_lost_on_the_way_is_an_error_and_the_next_session_works(monkeypatch):
    room = Room(3, deadline=2.0).join()
    served = []

    def lose(seeds, session_id, request):
        served.append(request.number)
        if len(served) == 10:
            room.dealer.close()
        return correction(seeds, session_id, request)

    monkeypatch.setattr(protocols.dealer, "correction", lose)
    y, check = [[1, 2], [9, 9]], check_of(2, 10, 25)
    results = room.results(split(y, 3, 32), check)
    assert all(isinstance(result, ChannelError) for result in results)
    assert results[0].peer == 3
    assert served == list(range(1, 11))
    room.thread.join(10)
    room.open_dealer(InProcessMesh(room.meshes[0]._hub, 3, 2.0))
    assert room.join().verdicts(y, check) == [True, False]
    room.close()


def test_no_mask_is_used_twice_over_checks_and_sessions(monkeypatch):
    known = asked(monkeypatch)
    y, check = [[1, 2], [9, 9]], check_of(2, 10, 25)
    with room_of(2) as room:
        for _ in range(2):
            assert room.verdicts(y, check) == [True, False]
            assert room.verdicts(y, check) == [True, False]
            room.join()
    numbers = [request.number for _, _, request in known]
    half = len(numbers) // 2
    assert numbers[:half] == numbers[half:] == list(range(1, half + 1))
    first, second = (
        {seed for seeds, _, _ in part for seed in seeds} for part in (known[:half], known[half:])
    )
    assert len(first) == len(second) == 2
    assert not first & second


def test_parties_with_different_checks_get_an_error_or_the_same_bits(rooms):
    """They are out of step as soon as shapes differ."""
    with room_of(2, deadline=2.0) as room:
        shares = split([[1, 2]], 2, 32)
        context = b"different"
        checks = [check_of(2, 10, 25), check_of(2, 9, 25)]

        def one(member, its, check):
            try:
                return member.check_norms(its, check, context)
            except (ChannelError, CommitteeError) as error:
                return error

        results = together(
            [lambda m=m, s=s, c=c: one(m, s, c) for m, s, c in zip(room.members, shares, checks, strict=True)]
        )
        assert all(isinstance(result, ChannelError) for result in results)
