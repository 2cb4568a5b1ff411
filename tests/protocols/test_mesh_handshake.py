"""Sessions of some members: who is in, who is not, and what those outside can do (nothing)."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocols.certificates import make_party_certificate
from protocols.errors import ChannelError
from protocols.mesh import GrpcMesh, in_process_meshes


def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def failure_of(call):
    with pytest.raises(ChannelError) as caught:
        call()
    return caught.value


@pytest.fixture(scope="module")
def identities():
    return [make_party_certificate(rank, "test") for rank in range(4)]


@pytest.fixture(params=["in process", "grpc"])
def make(request, identities):
    """Four meshes of either transport, not connected."""
    opened = []

    def of(deadline=3.0):
        if request.param == "in process":
            meshes = in_process_meshes(4, deadline)
        else:
            pinned = [identity.certificate_pem for identity in identities]
            meshes = [
                GrpcMesh(rank, "test", pinned, identity.private_key_pem, deadline=deadline)
                for rank, identity in enumerate(identities)
            ]
            for mesh in meshes:
                mesh.set_addresses([f"127.0.0.1:{other.port}" for other in meshes])
        opened.extend(meshes)
        return meshes

    yield of
    for mesh in opened:
        mesh.close()


def connect(meshes, members, deadline=20):
    together(
        *[
            lambda rank=rank: meshes[rank].connect(deadline, [peer for peer in members if peer != rank])
            for rank in members
        ]
    )


def talk(meshes, members):
    """Every member of the session exchanges with all others."""
    results = together(
        *[
            lambda mesh=meshes[rank]: mesh.exchange(b"t", dict.fromkeys(mesh.peers, bytes([mesh.rank])), 1)
            for rank in members
        ]
    )
    for rank, received in zip(members, results, strict=True):
        assert received == {peer: bytes([peer]) for peer in members if peer != rank}


def test_some_members_form_a_session_without_the_others(make):
    meshes = make()
    connect(meshes, [0, 2, 3])
    assert meshes[2].peers == (0, 3)
    assert meshes[2].world_size == 4
    talk(meshes, [0, 2, 3])


def test_a_session_is_formed_anew_with_fewer_and_with_more_members(make):
    meshes = make()
    for members in ([0, 1, 2, 3], [0, 1, 2], [1, 2], [0, 1, 2, 3], [0, 3]):
        connect(meshes, members)
        talk(meshes, members)


def test_two_sessions_stand_side_by_side(make):
    meshes = make()
    connect(meshes, [0, 2])
    connect(meshes, [1, 3])
    talk(meshes, [0, 2])
    talk(meshes, [1, 3])


def test_who_is_outside_can_neither_fail_a_session_nor_send_into_it(make):
    meshes = make()
    connect(meshes, [0, 1, 2, 3])
    connect(meshes, [0, 1, 2])
    outsider = meshes[3]
    # It wants back in, for as long as it likes.
    assert failure_of(lambda: outsider.connect(0.5)).peer in (0, 1, 2)
    header = (0, b"t", b"x")  # peer, tag, payload
    outsider._established = True  # a member that only pretends to have been met
    outsider._met = {peer: meshes[peer]._nonce for peer in (0, 1, 2)}
    outsider._senders = {0: ThreadPoolExecutor(1)}
    assert failure_of(lambda: outsider.send(*header)).peer == 0
    assert failure_of(lambda: meshes[0].send(3, b"t", b"x")).peer == 3
    talk(meshes, [0, 1, 2])


def test_the_same_call_from_inside_does_fail_it(make):  # the control
    meshes = make()
    connect(meshes, [0, 1, 2])
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(failure_of, lambda: meshes[2].connect(0.5, [0, 1]))
        assert failure_of(lambda: meshes[0].receive(1, b"t", 1)).peer == 2
        again.result()


def test_a_party_left_outside_is_told_so(make):
    meshes = make()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure_of, lambda: meshes[3].connect(1.0, [0]))
        connect(meshes, [0, 1])
        error = waiting.result()
    assert error.peer == 0
    assert "without this party" in str(error)
    talk(meshes, [0, 1])


def test_members_that_name_different_sessions_end_at_the_deadline(make):
    meshes = make()
    results = together(
        lambda: meshes[0].connect(1.0, [1]),
        lambda: failure_of(lambda: meshes[1].connect(1.0, [0, 2])),
    )
    assert results[1].peer == 2


@pytest.mark.parametrize("peers", [[], [0], [0, 1], [4], [-1, 1]])
def test_a_session_needs_other_ranks(make, peers):
    mesh = make()[0]
    assert "name other ranks" in str(failure_of(lambda: mesh.connect(0.2, peers)))


def test_closing_ends_a_connect_that_waits(make):
    mesh = make()[0]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure_of, lambda: mesh.connect(20))
        time.sleep(0.2)
        mesh.close()
        assert "closed" in str(waiting.result(timeout=5))


def test_a_receive_may_be_given_its_own_wait(make):
    meshes = make(deadline=0.4)
    connect(meshes, [0, 3])
    threading.Timer(1.2, lambda: meshes[3].send(0, b"late", b"x")).start()
    assert meshes[0].receive(3, b"late", 1, seconds=10) == b"x"
    began = time.monotonic()
    error = failure_of(lambda: meshes[0].receive(3, b"never", 1, seconds=0.2))
    assert time.monotonic() - began < 2
    assert error.peer == 3
    assert "0.2 s" in str(error)


def test_a_long_wait_ends_at_once_when_the_session_fails(make):
    meshes = make()
    connect(meshes, [0, 1, 3])
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(failure_of, lambda: meshes[3].receive(0, b"t", 1, seconds=300))
        time.sleep(0.1)
        again = pool.submit(failure_of, lambda: meshes[1].connect(0.5, [0, 3]))
        assert waiting.result().peer == 1
        again.result()
    assert time.monotonic() - began < 5
