"""Sums over the members of a session, both ways: against plain integers, byte for byte, and with a liar among them."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import mesh_reduce
from protocols.errors import ChannelError
from protocols.mesh import InProcessMesh
from protocols.mesh_reduce import all_reduce

WAYS = ["direct", "segments"]


class Watched(InProcessMesh):
    """Keeps what it sends, by peer and tag."""

    def __init__(self, *args):
        self.sent = {}
        super().__init__(*args)

    def _transmit(self, peer, header, payload, timeout):
        self.sent.setdefault((peer, header.tag), []).append(bytes(payload))
        super()._transmit(peer, header, payload, timeout)


def run(vectors, way, combine=np.add, programs=None):
    """Each member's total (or error), and the meshes, which remember what they sent."""
    hub = [None] * len(vectors)
    meshes = [Watched(hub, rank, 2.0) for rank in range(len(vectors))]

    def member(rank):
        with meshes[rank] as mesh:
            mesh.connect(20)
            try:
                if programs and rank in programs:
                    return programs[rank](mesh)
                result = all_reduce(mesh, str.encode, vectors[rank], combine)
                mesh.exchange(b"end", dict.fromkeys(mesh.peers, b""), 0)
                return result
            except ChannelError as error:
                return error

    before = mesh_reduce.SCATTER_BYTES
    mesh_reduce.SCATTER_BYTES = 0 if way == "segments" else 2**40
    try:
        with ThreadPoolExecutor(len(vectors)) as pool:
            return list(pool.map(member, range(len(vectors)))), meshes
    finally:
        mesh_reduce.SCATTER_BYTES = before


def vectors_of(n, size, seed=0):
    return list(np.random.default_rng(seed).integers(0, 2**64, (n, size), dtype=np.uint64))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40)
@given(data=st.data(), n=st.integers(2, 5), size=st.integers(0, 12))
def test_sums_and_exclusive_ors_are_those_of_plain_integers(way, data, n, size):
    rows = st.lists(st.integers(0, 2**64 - 1), min_size=size, max_size=size)
    numbers = data.draw(st.lists(rows, min_size=n, max_size=n))
    vectors = [np.array(row, dtype=np.uint64) for row in numbers]
    before = [vector.copy() for vector in vectors]
    sums, _ = run(vectors, way)
    xors, _ = run(vectors, way, np.bitwise_xor)
    for total, _ in sums:
        assert total.tolist() == [sum(column) % 2**64 for column in zip(*numbers, strict=True)]
    for total, _ in xors:
        expected = [0] * size
        for row in numbers:
            expected = [a ^ b for a, b in zip(expected, row, strict=True)]
        assert total.tolist() == expected
    assert all(np.array_equal(a, b) for a, b in zip(vectors, before, strict=True))


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("way", WAYS)
def test_each_member_sends_what_is_said(n, way):
    size = 4200
    results, meshes = run(vectors_of(n, size), way)
    for (_, sent), mesh in zip(results, meshes, strict=True):
        really = sum(len(message) for messages in mesh.sent.values() for message in messages)
        assert really == sent
        assert sent == 8 * size * (n - 1) * (1 if way == "direct" else 2 / n)


@pytest.mark.parametrize("way", WAYS)
def test_a_member_sees_of_another_ones_vector_at_most_what_it_sees_directly(way):
    """Of each other member: one segment as it is, or all; whatever else arrives is of the total."""
    size = 9
    vectors = vectors_of(3, size)
    results, meshes = run(vectors, way)
    total = results[0][0]
    segments = [slice(3 * k, 3 * k + 3) for k in range(3)]
    for source in range(3):
        for target in set(range(3)) - {source}:
            seen = {
                tag: np.frombuffer(messages[0], "<u8")
                for (peer, tag), messages in meshes[source].sent.items()
                if peer == target and tag != b"end"
            }
            if way == "direct":
                assert set(seen) == {b"sum"}
                assert np.array_equal(seen[b"sum"], vectors[source])
            else:
                assert set(seen) == {b"segment", b"total"}
                assert np.array_equal(seen[b"segment"], vectors[source][segments[target]])
                assert np.array_equal(seen[b"total"], total[segments[source]])


@pytest.mark.parametrize("way", WAYS)
def test_a_sum_that_is_repeated_sends_the_same_bytes_again(way):
    vectors = vectors_of(4, 1000)
    _, first = run(vectors, way)
    _, second = run(vectors, way)
    assert [mesh.sent for mesh in first] == [mesh.sent for mesh in second]
    _, other = run([vectors[0] + np.uint64(1), *vectors[1:]], way)  # the control
    assert [mesh.sent for mesh in first] != [mesh.sent for mesh in other]


def test_a_repeat_among_fewer_members_sends_parts_of_the_same_vector():
    vectors = vectors_of(4, 1000)
    _, some = run(vectors[:3], "segments")
    for mesh in some:
        for (_, tag), messages in mesh.sent.items():
            if tag == b"segment":
                assert messages[0] in vectors[mesh.rank].tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_liar_moves_the_total_by_what_it_adds_for_all_alike_or_for_one(way):
    """What the module says of a lying member, carried out: the same power either way."""
    vectors = vectors_of(3, 6)
    honest = sum(vectors[1:], start=vectors[0])
    error = np.arange(1, 7, dtype=np.uint64)

    def for_all(mesh):
        all_reduce(mesh, str.encode, vectors[2] + error, np.add)
        mesh.exchange(b"end", dict.fromkeys(mesh.peers, b""), 0)

    (first, second, _), _ = run(vectors, way, programs={2: for_all})
    assert np.array_equal(first[0], honest + error)
    assert np.array_equal(second[0], honest + error)

    def for_one(mesh):  # the same numbers to both, but in the last step, where it can choose
        if way == "direct":
            mesh.send(0, b"sum", (vectors[2] + error).tobytes())
            mesh.send(1, b"sum", vectors[2].tobytes())
            return
        mesh.send(0, b"segment", vectors[2][:2].tobytes())
        mesh.send(1, b"segment", vectors[2][2:4].tobytes())
        mine = vectors[2][4:].copy()
        for peer in (0, 1):
            mine += np.frombuffer(mesh.receive(peer, b"segment", 16), "<u8")
        mesh.send(0, b"total", (mine + error[4:]).tobytes())
        mesh.send(1, b"total", mine.tobytes())

    def take_part(mesh):
        for_one(mesh)
        for peer in (0, 1):
            for tag in [b"sum"] if way == "direct" else [b"total"]:
                mesh.receive(peer, tag, 48)
        mesh.exchange(b"end", dict.fromkeys(mesh.peers, b""), 0)

    (first, second, _), _ = run(vectors, way, programs={2: take_part})
    assert np.array_equal(second[0], honest)
    moved = first[0] - honest
    assert moved.tolist() == (error.tolist() if way == "direct" else [0, 0, 0, 0, 5, 6])


@pytest.mark.parametrize("way", WAYS)
def test_a_member_with_a_vector_of_another_length_is_named(way):
    vectors = [*vectors_of(2, 99), *vectors_of(1, 102)]
    results, _ = run(vectors, way)
    assert all(isinstance(result, ChannelError) for result in results)
    assert 2 in {results[0].peer, results[1].peer}


@pytest.mark.parametrize("way", WAYS)
def test_a_member_that_stops_half_way_is_named_at_the_deadline(way):
    vectors = vectors_of(3, 99)

    def half(mesh):
        if way == "direct":
            mesh.send(0, b"sum", vectors[2].tobytes())
        else:
            for peer in (0, 1):
                mesh.send(peer, b"segment", bytes(8 * 33))
        time.sleep(3)

    results, _ = run(vectors, way, programs={2: half})
    assert all(isinstance(result, ChannelError) for result in results[:2])
    assert 2 in {results[0].peer, results[1].peer}


def test_long_vectors_go_by_segments_and_short_ones_directly():
    long = mesh_reduce.SCATTER_BYTES // 8
    for size, tags in ((long, {b"segment", b"total"}), (long - 1, {b"sum"})):
        hub = [None] * 3
        meshes = [Watched(hub, rank, 10.0) for rank in range(3)]

        def member(mesh, size=size):
            with mesh:
                mesh.connect(20)
                total, _ = all_reduce(mesh, str.encode, np.full(size, mesh.rank, np.uint64), np.add)
                mesh.exchange(b"end", dict.fromkeys(mesh.peers, b""), 0)
                return total

        with ThreadPoolExecutor(3) as pool:
            for total in pool.map(member, meshes):
                assert (total == 3).all()
        assert {tag for _, tag in meshes[0].sent} - {b"end"} == tags
