import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

import protocols.dealer
from protocols.canonical import encode
from protocols.dealer import (
    MAX_TUPLE_SIZE,
    Dealer,
    DealerLink,
    DealtTuples,
    TupleRequest,
    correction,
    shares_of,
)
from protocols.errors import ChannelError, CommitteeError, EncodingError
from protocols.mesh import InProcessMesh, in_process_meshes

PARTIES = [2, 3, 4]
KINDS = ["binary-triple", "square", "bit"]
SESSION = bytes(range(32))
Q = 2**64


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@contextmanager
def serving(mesh):
    dealer = Dealer(mesh)
    thread = threading.Thread(target=dealer.serve)
    thread.start()
    try:
        yield dealer
    finally:
        dealer.close()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def with_dealer(parties, deadline=10.0):
    """The parties' meshes, and a dealer that serves them."""
    *meshes, last = in_process_meshes(parties + 1, deadline)
    with serving(last):
        yield meshes
    for mesh in meshes:
        mesh.close()


def opened(meshes, session_id=SESSION):
    """All parties' tuples of a new session."""

    def one(mesh):
        mesh.connect()
        return DealtTuples.open(DealerLink(mesh, len(meshes)), session_id)

    return together([lambda mesh=mesh: one(mesh) for mesh in meshes])


def drawn(tuples, kind, size):
    """By part, then by party."""
    by_party = together([lambda its=its: its.draw(kind, size) for its in tuples])
    return [list(shares) for shares in zip(*by_party, strict=True)]


def xor(shares):
    total = [0] * len(shares[0])
    for share in shares:
        total = [a ^ (int(b) % Q) for a, b in zip(total, share, strict=True)]
    return total


def add(shares):
    return [sum(int(x) for x in column) % Q for column in zip(*shares, strict=True)]


def check_true(kind, parts):
    """The relation of a tuple, in plain integers."""
    if kind == "binary-triple":
        a, b, c = map(xor, parts)
        assert c == [x & y for x, y in zip(a, b, strict=True)]
    elif kind == "square":
        r, s = map(add, parts)
        assert s == [x * x % Q for x in r]
    else:
        bits, numbers = xor(parts[0]), add(parts[1])
        assert set(bits) <= {0, 1}
        assert numbers == bits


@pytest.fixture(scope="module")
def rooms():
    """Of each size, parties in a session with a dealer."""
    with with_dealer(2) as two, with_dealer(3) as three, with_dealer(4) as four:
        yield {len(meshes): opened(meshes) for meshes in (two, three, four)}


@pytest.mark.parametrize("parties", PARTIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_parties_shares_make_a_true_tuple(rooms, parties, kind):
    parts = drawn(rooms[parties], kind, 500)
    assert all(share.shape == (500,) and share.dtype == np.int64 for shares in parts for share in shares)
    check_true(kind, parts)
    check_true(kind, drawn(rooms[parties], kind, 1))


@given(
    seeds=st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=6, unique=True),
    session=st.binary(min_size=32, max_size=32),
    kind=st.sampled_from(KINDS),
    size=st.integers(1, 40),
    number=st.integers(1, 2**63 - 1),
)
@settings(max_examples=60, deadline=None)
def test_from_whatever_seeds_the_correction_makes_the_tuple_true(seeds, session, kind, size, number):
    request = TupleRequest(number=number, of=kind, size=size)
    shares = [shares_of(seed, session, request, rank == 0) for rank, seed in enumerate(seeds)]
    shares[0].append(correction(seeds, session, request))
    check_true(kind, [list(part) for part in zip(*shares, strict=True)])


def test_a_share_is_an_aes_stream_bound_to_session_number_kind_and_size():
    """An independent computation from the definition: canonical CBOR, HKDF, AES-256-CTR."""
    seed = bytes([7]) * 32
    request = TupleRequest(number=5, of="square", size=3)
    context = encode([SESSION, {"number": 5, "of": "square", "size": 3}])
    info = encode(["securefl-prg-1", "dealer-tuple", context])
    key = HKDF(SHA256(), length=32, salt=None, info=info).derive(seed)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(48))
    expected = np.frombuffer(stream, dtype="<u8")
    r, s = shares_of(seed, SESSION, request, corrected=False)
    assert r.tolist() == expected[:3].tolist()
    assert s.tolist() == expected[3:].tolist()


def test_no_two_requests_share_a_mask():
    seed = bytes(32)
    base = {"number": 1, "of": "square", "size": 8}
    changes = [{}, {"number": 2}, {"of": "binary-triple"}, {"size": 9}]
    firsts = [
        shares_of(seed, session, TupleRequest(**(base | change)), False)[0][0].item()
        for session in (SESSION, bytes(32))
        for change in changes
    ]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize("kind", KINDS)
def test_without_one_party_s_shares_the_others_see_uniform_bits(rooms, kind):
    """P-1 shares of every part, the corrected party's among them; the control is the joined part of a bit."""
    parts = drawn(rooms[3], kind, 20_000)
    for left_out in range(3):
        for index, shares in enumerate(parts):
            partial = np.array(
                [share for party, share in enumerate(shares) if party != left_out], dtype=np.int64
            )
            joined = np.bitwise_xor.reduce(partial.view(np.uint64)) if kind != "square" else partial.sum(0)
            width = 1 if (kind, index) == ("bit", 0) else 64
            bits = np.unpackbits(joined.view(np.uint8), bitorder="little").reshape(-1, 64)[:, :width]
            # At most 64 x 8 comparisons a kind, at 6 standard deviations: 1e-6 by chance.
            assert np.abs(bits.mean(axis=0) - 0.5).max() < 6 * 0.5 / np.sqrt(20_000)
    joined = np.array(add(parts[-1]) if kind == "bit" else xor(parts[-1]), dtype=np.uint64)
    means = np.unpackbits(joined.view(np.uint8), bitorder="little").reshape(-1, 64).mean(axis=0)
    assert (np.abs(means - 0.5).max() > 0.2) == (kind in ("bit", "binary-triple"))


def test_no_tuple_is_given_twice_in_a_session_nor_in_the_next(monkeypatch):
    seen = []

    def watched(seed, session_id, request, corrected):
        shares = shares_of(seed, session_id, request, corrected)
        if not corrected:
            seen.append((threading.current_thread(), request.number, shares[0].tobytes()))
        return shares

    with with_dealer(2) as meshes:
        masks = []
        for _ in range(2):  # the same session id again: the seeds alone must differ
            monkeypatch.setattr(protocols.dealer, "shares_of", watched)
            tuples = opened(meshes)
            for kind in [*KINDS, *KINDS]:
                drawn(tuples, kind, 16)
            masks.append({mask for _, _, mask in seen})
            numbers = sorted({number for _, number, _ in seen})
            assert numbers == [1, 2, 3, 4, 5, 6]
            assert len(masks[-1]) == 6
            seen.clear()
        assert not masks[0] & masks[1]


def test_only_the_first_party_is_answered_and_the_others_ask_nothing():
    with with_dealer(3) as meshes:
        tuples = opened(meshes)
        sent = {1: [], 2: []}
        for rank, messages in sent.items():
            meshes[rank].start_send = lambda *message, messages=messages: messages.append(message)
        check_true("square", drawn(tuples, "square", 8))
        assert sent == {1: [], 2: []}


# -- who does not keep to it -----------------------------------------------------------------------------------------


def refused(mesh, dealer_rank, payload):
    """The dealer's answer to a raw request is a refusal, and it leaves the session."""
    mesh.send(dealer_rank, b"dealer/request", payload)
    return mesh.receive(dealer_rank, b"dealer/correction", 1 << 20) == b""


def raw(number=1, of="square", size=4, kind="tuple-request", **more):
    return encode([kind, {"number": number, "of": of, "size": size, **more}])


@pytest.mark.parametrize(
    "payload",
    [
        raw(number=0),
        raw(number=-1),
        raw(number=2**63),
        raw(of="additive-triple"),
        raw(of=1),
        raw(size=0),
        raw(size=-4),
        raw(size=MAX_TUPLE_SIZE + 1),
        raw(size=True),
        raw(more=1),
        raw(kind="other"),
        raw() + b"\x00",
        b"",
        b"\xff" * 100,
    ],
)
def test_a_bad_request_is_refused_and_the_next_session_is_served(payload):
    with with_dealer(2) as meshes:
        opened(meshes)
        assert refused(meshes[0], 2, payload)
        check_true("bit", drawn(opened(meshes), "bit", 4))


def test_a_number_is_served_once_and_never_an_older_one():
    for second in (3, 2):
        with with_dealer(2) as meshes:
            opened(meshes)
            meshes[0].send(2, b"dealer/request", raw(number=3))
            assert len(meshes[0].receive(2, b"dealer/correction", 32)) == 32
            assert refused(meshes[0], 2, raw(number=second))


def test_a_request_that_the_dealer_would_refuse_is_not_sent(rooms):
    for kind, size in (("square", 0), ("square", MAX_TUPLE_SIZE + 1), ("additive-triple", 4)):
        with pytest.raises(CommitteeError, match="The dealer has no"):
            rooms[2][0].draw(kind, size)
    check_true("square", drawn(rooms[2], "square", 2))


def test_parties_in_different_sessions_are_refused_all_of_them_and_may_come_again():
    with with_dealer(3) as meshes:

        def one(mesh, session_id):
            mesh.connect()
            with pytest.raises(CommitteeError, match="refuses this session"):
                DealtTuples.open(DealerLink(mesh, 3), session_id)

        ids = [SESSION, SESSION, bytes(32)]
        together([lambda m=m, i=i: one(m, i) for m, i in zip(meshes, ids, strict=True)])
        check_true("square", drawn(opened(meshes), "square", 4))


def test_a_session_id_of_another_length_is_refused():
    with with_dealer(2) as meshes, pytest.raises(CommitteeError, match="refuses this session"):
        opened(meshes, bytes(16))


def test_a_silent_dealer_is_named_within_the_deadline():
    *meshes, silent = in_process_meshes(3, deadline=1.0)
    together([mesh.connect for mesh in (*meshes, silent)])

    def one(mesh):
        with pytest.raises(ChannelError) as caught:
            DealtTuples.open(DealerLink(mesh, 2), SESSION)
        return caught.value.peer

    assert together([lambda mesh=mesh: one(mesh) for mesh in meshes]) == [2, 2]


def test_a_dealer_that_falls_silent_is_named_by_the_party_that_asks():
    *meshes, silent = in_process_meshes(3, deadline=1.0)

    def deal_seeds():
        silent.connect()
        for party in (0, 1):
            silent.receive(party, b"dealer/session", 32)
            silent.send(party, b"dealer/seed", bytes([party]) * 32)

    *tuples, _ = together([*[lambda mesh=mesh: opened_one(mesh) for mesh in meshes], deal_seeds])
    tuples[1].draw("square", 4)
    with pytest.raises(ChannelError) as caught:
        tuples[0].draw("square", 4)
    assert caught.value.peer == 2


def opened_one(mesh, dealer_rank=2):
    mesh.connect()
    return DealtTuples.open(DealerLink(mesh, dealer_rank), SESSION)


def test_a_dealer_waits_longer_than_the_deadline_for_work():
    with with_dealer(2, deadline=0.5) as meshes:
        tuples = opened(meshes)
        threading.Event().wait(1.2)
        check_true("square", drawn(tuples, "square", 4))


def test_a_dealer_that_is_restarted_ends_the_session_and_serves_the_next():
    *meshes, first = in_process_meshes(3, deadline=2.0)
    with serving(first):
        tuples = opened(meshes)
        check_true("square", drawn(tuples, "square", 4))
    with serving(InProcessMesh(first._hub, 2, 2.0)):
        with pytest.raises(ChannelError):
            tuples[0].draw("square", 4)
        check_true("square", drawn(opened(meshes), "square", 4))


def test_a_party_that_is_restarted_finds_the_dealer_again():
    with with_dealer(2) as meshes:
        opened(meshes)
        meshes[1].close()
        again = [meshes[0], InProcessMesh(meshes[0]._hub, 1, 10.0)]
        check_true("bit", drawn(opened(again), "bit", 4))


@pytest.mark.parametrize(("rank", "members"), [(0, 3), (1, 3), (1, 2)])
def test_a_dealer_is_the_last_of_at_least_three(rank, members):
    with pytest.raises(CommitteeError, match="last member"):
        Dealer(in_process_meshes(members)[rank])


def test_seeds_do_not_show(rooms):
    tuples = rooms[2][0]
    assert repr(tuples._seed) not in repr(tuples)
    with pytest.raises(EncodingError) as caught:
        TupleRequest.from_bytes(encode(["tuple-request", {"number": "secret"}]))
    assert "secret" not in str(caught.value)
