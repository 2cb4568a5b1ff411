"""A group of some members behaves as a mesh of its own; its errors name the ranks that people know."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.committee import Committee
from protocols.errors import ChannelError
from protocols.mesh import in_process_meshes


def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def failure_of(call):
    with pytest.raises(ChannelError) as caught:
        call()
    return caught.value


@pytest.fixture
def meshes():
    """Five connected members."""
    made = in_process_meshes(5, deadline=3)
    together(*[mesh.connect for mesh in made])
    yield made
    for mesh in made:
        mesh.close()


@given(st.integers(2, 6).flatmap(lambda n: st.permutations(range(n))), st.data())
def test_ranks_are_renumbered_in_the_order_given(order, data):
    ranks = order[: data.draw(st.integers(2, len(order)))]
    meshes = in_process_meshes(len(order))
    groups = [meshes[rank].group(ranks) for rank in ranks]
    for rank, group in enumerate(groups):
        assert (group.rank, group.world_size, group.ranks) == (rank, len(ranks), tuple(ranks))
        assert group.peers == tuple(peer for peer in range(len(ranks)) if peer != rank)


def test_a_group_exchanges_under_its_own_ranks(meshes):
    ranks = (4, 0, 2)
    groups = [meshes[rank].group(ranks) for rank in ranks]
    results = together(
        *[
            lambda g=group: g.exchange(b"t", {peer: bytes([g.rank, peer]) for peer in g.peers}, 2)
            for group in groups
        ]
    )
    for rank, received in enumerate(results):
        assert received == {peer: bytes([peer, rank]) for peer in groups[rank].peers}
    # The same message lies under the mesh's own rank for whoever does not use the group.
    groups[0].send(1, b"u", b"from 4")
    assert meshes[0].receive(4, b"u", 6) == b"from 4"
    sending = meshes[4].start_send(2, b"v", b"from 4")
    pieces = []
    groups[2].receive_pieces(0, b"v", 6, lambda offset, piece: pieces.append((offset, bytes(piece))))
    sending.wait()
    assert pieces == [(0, b"from 4")]


def test_errors_name_the_rank_in_the_mesh(meshes):
    group = meshes[0].group((4, 0, 2))
    meshes[2].send(0, b"other", b"x")
    error = failure_of(lambda: group.receive(2, b"t", 1))
    assert error.peer == 2
    assert "Party 2" in str(error)


def test_silence_in_a_group_names_the_rank_in_the_mesh_and_may_have_its_own_wait(meshes):
    group = meshes[0].group((4, 0))
    began = time.monotonic()
    error = failure_of(lambda: group.receive(0, b"t", 1, seconds=0.2))
    assert time.monotonic() - began < 2
    assert error.peer == 4
    assert group.deadline == 3


def test_a_member_outside_the_group_fails_the_session_that_it_is_in(meshes):
    group = meshes[0].group((0, 1))
    threading.Timer(0.1, lambda: failure_of(lambda: meshes[3].connect(0.5))).start()
    assert failure_of(lambda: group.receive(1, b"t", 1, seconds=30)).peer == 3


@pytest.mark.parametrize("ranks", [(), (0,), (1, 2), (0, 1, 1), (0, 5), (0, -1)])
def test_a_group_is_of_the_session_and_holds_this_party(meshes, ranks):
    assert "group" in str(failure_of(lambda: meshes[0].group(ranks)))


def test_a_group_holds_nobody_who_is_not_in_the_session(meshes):
    together(lambda: meshes[0].connect(3, [1]), lambda: meshes[1].connect(3, [0]))
    meshes[0].group((1, 0))  # the control
    assert "group" in str(failure_of(lambda: meshes[0].group((0, 1, 2))))


@pytest.mark.parametrize("peer", [1, 3, -1])
def test_a_group_has_no_other_peers(meshes, peer):
    group = meshes[0].group((4, 0, 2))  # rank 1 is this party itself
    for call in (lambda: group.send(peer, b"t", b""), lambda: group.receive(peer, b"t", 1)):
        assert "no peer" in str(failure_of(call))


def test_a_committee_opens_over_a_group_beside_a_dealer_that_stays_out(meshes):
    """Parties 0, 1 and 3 of five; rank 4 would be the dealer, and rank 2 is away."""
    ranks, context = (0, 1, 3), b"round 1"
    shares = [np.full(5, value, dtype=np.uint32) for value in (7, 11, 2**32 - 20)]

    def party(i):
        with Committee.join(meshes[ranks[i]].group(ranks)) as committee:
            return committee.rank, committee.open(committee.prepare(shares[i], context), 32, context)

    for i, (rank, total) in enumerate(together(*[lambda i=i: party(i) for i in range(3)])):
        assert rank == i
        assert total.tolist() == [-2] * 5
