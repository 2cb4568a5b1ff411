import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import ReduceOp

from protocols.certificates import make_party_certificate
from protocols.committee import Committee
from protocols.crypten_repairs import import_crypten
from protocols.dealer import Dealer, DealerLink
from protocols.errors import ChannelError
from protocols.mesh import PIECE_BYTES, GrpcMesh, in_process_meshes

CRYPTEN = import_crypten()
CONTEXT = b"round 1"


def run_parties(world_size, program, meshes=None, contexts=None, deadline=3):
    """``program(communicator, rank)`` in one thread for each party; a ChannelError is a result too."""
    from protocols.channel import MeshCommunicator

    meshes = meshes or in_process_meshes(world_size, deadline)

    def party(rank):
        with meshes[rank] as mesh:
            mesh.connect(20)
            communicator = MeshCommunicator(mesh)
            try:
                with communicator.active((contexts or [CONTEXT] * world_size)[rank]):
                    result = program(CRYPTEN.communicator.get(), rank)
                    communicator.barrier()
                    return result
            except ChannelError as error:
                return error

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(party, range(world_size)))


def tensor_of(rank, *shape):
    """Distinct numbers over the whole 64-bit range, known from the rank."""
    generator = torch.Generator().manual_seed(1000 + rank)
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)


def wrapped_sum(tensors):
    total = [sum(int(t) for t in column) for column in zip(*[t.flatten() for t in tensors], strict=True)]
    return torch.tensor([(value + 2**63) % 2**64 - 2**63 for value in total]).reshape(tensors[0].shape)


@pytest.mark.parametrize("world_size", [2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (0,)])
def test_sums_wrap_around_in_the_ring_and_leave_the_input_alone(world_size, shape):
    inputs = [tensor_of(rank, *shape) for rank in range(world_size)]

    def program(communicator, rank):
        mine = inputs[rank].clone()
        everywhere = communicator.all_reduce(mine)
        at_one = communicator.reduce(mine, 1)
        assert torch.equal(mine, inputs[rank])
        return everywhere, at_one

    results = run_parties(world_size, program)
    expected = wrapped_sum(inputs) if inputs[0].numel() else inputs[0]
    for rank, (everywhere, at_one) in enumerate(results):
        assert torch.equal(everywhere, expected)
        assert torch.equal(at_one, expected) if rank == 1 else at_one is None


def test_batches_and_exclusive_or():
    inputs = [[tensor_of(rank, 4), tensor_of(rank + 10, 2, 2)] for rank in range(3)]

    def program(communicator, rank):
        summed = communicator.all_reduce(inputs[rank], batched=True)
        xored = communicator.all_reduce(inputs[rank][0], op=ReduceOp.BXOR)
        at_two = communicator.reduce(inputs[rank], 2, op=ReduceOp.BXOR, batched=True)
        return summed, xored, at_two

    results = run_parties(3, program)
    for rank, (summed, xored, at_two) in enumerate(results):
        for index in (0, 1):
            assert torch.equal(summed[index], wrapped_sum([inputs[r][index] for r in range(3)]))
        assert torch.equal(xored, inputs[0][0] ^ inputs[1][0] ^ inputs[2][0])
        assert (at_two is None) == (rank != 2)
    assert torch.equal(results[2][2][1], inputs[0][1] ^ inputs[1][1] ^ inputs[2][1])


def test_gathering_scattering_and_broadcasting():
    def program(communicator, rank):
        mine = tensor_of(rank, 2, 3)
        everyone = communicator.all_gather(mine)
        at_zero = communicator.gather(mine, 0)
        parts = [tensor_of(20 + r, 3) for r in range(3)] if rank == 2 else None
        part = communicator.scatter(parts, 2, size=(3,))
        target = tensor_of(rank, 5)
        assert communicator.broadcast(target, 1) is target
        batch = communicator.broadcast([tensor_of(rank, 1), tensor_of(rank, 2)], 0, batched=True)
        return everyone, at_zero, part, target, batch

    for rank, (everyone, at_zero, part, target, batch) in enumerate(run_parties(3, program)):
        assert all(torch.equal(everyone[r], tensor_of(r, 2, 3)) for r in range(3))
        if rank == 0:
            assert all(torch.equal(at_zero[r], tensor_of(r, 2, 3)) for r in range(3))
        else:
            assert at_zero == [None]
        assert torch.equal(part, tensor_of(20 + rank, 3))
        assert torch.equal(target, tensor_of(1, 5))
        assert torch.equal(batch[1], tensor_of(0, 2))


def test_point_to_point_around_the_ring():
    def program(communicator, rank):
        following, preceding = (rank + 1) % 3, (rank - 1) % 3
        received = torch.zeros(4, dtype=torch.int64)
        sending = communicator.isend(tensor_of(rank, 4), following)
        receiving = communicator.irecv(received, preceding)
        assert not receiving.is_completed()
        receiving.wait()
        sending.wait()
        assert receiving.is_completed()
        if rank == 0:
            communicator.send(tensor_of(9, 2), 2)
        if rank == 2:
            assert torch.equal(communicator.recv(torch.zeros(2, dtype=torch.int64), 0), tensor_of(9, 2))
        return received

    for rank, received in enumerate(run_parties(3, program)):
        assert torch.equal(received, tensor_of((rank - 1) % 3, 4))


def names_the_odd_one(results, odd):
    """Everyone fails; what the others met first is the odd party, or a peer that had already failed because of it."""
    return all(isinstance(error, ChannelError) for error in results) and any(
        results[rank].peer == odd for rank in range(3) if rank != odd
    )


@pytest.mark.parametrize(
    "odd_program",
    [
        lambda communicator: communicator.all_gather(torch.zeros(3, dtype=torch.int64)),
        lambda communicator: communicator.all_reduce(torch.zeros(4, dtype=torch.int64)),
        lambda communicator: communicator.all_reduce(torch.zeros(3, 1, dtype=torch.int64)),
        lambda communicator: communicator.barrier(),
    ],
)
def test_a_party_out_of_step_is_named_and_its_numbers_are_not_taken(odd_program):
    def program(communicator, rank):
        if rank == 1:
            return odd_program(communicator)
        return communicator.all_reduce(torch.zeros(3, dtype=torch.int64))

    assert names_the_odd_one(run_parties(3, program), odd=1)


def test_a_party_of_another_context_is_named():
    results = run_parties(
        3,
        lambda communicator, _: communicator.all_reduce(torch.zeros(3, dtype=torch.int64)),
        contexts=[b"round 1", b"round 1", b"round 2"],
    )
    assert names_the_odd_one(results, odd=2)


def test_objects_other_types_and_other_reductions_are_refused():
    def program(communicator, rank):
        refused = [
            lambda: communicator.send_obj({}, 1 - rank),
            lambda: communicator.recv_obj(1 - rank),
            lambda: communicator.broadcast_obj({}, 0),
            lambda: communicator.all_reduce(torch.zeros(2)),
            lambda: communicator.all_reduce(torch.zeros(2, dtype=torch.int32)),
            lambda: communicator.all_reduce([torch.zeros(2, dtype=torch.int64)]),
            lambda: communicator.recv(torch.zeros(2, dtype=torch.int64)),
            lambda: communicator.scatter([torch.zeros(2, dtype=torch.int64)], rank),
            lambda: CRYPTEN.communicator.DistributedCommunicator.initialize(0, 2),
        ]
        for call in refused:
            with pytest.raises(ChannelError):
                call()
        return "refused"

    # Party 0 and 1 each refuse before anything is sent, so that the final barrier still meets.
    assert run_parties(2, program) == ["refused", "refused"]


def test_a_product_is_no_reduction():
    results = run_parties(
        2,
        lambda communicator, _: communicator.all_reduce(
            torch.ones(1, dtype=torch.int64), op=ReduceOp.PRODUCT
        ),
    )
    assert all("XOR" in str(error) for error in results)


def test_each_thread_has_its_own_communicator_and_none_after_the_block():
    def program(communicator, rank):
        assert CRYPTEN.communicator.get() is communicator
        return communicator.get_rank(), communicator.get_world_size(), communicator.get_name()

    assert run_parties(3, program) == [(rank, 3, f"rank{rank}") for rank in range(3)]
    assert not CRYPTEN.communicator.is_initialized()


def test_traffic_is_counted():
    def program(communicator, _):
        communicator.reset_communication_stats()
        communicator.all_reduce(torch.zeros(100, dtype=torch.int64))
        return communicator.get_communication_stats()

    for stats in run_parties(3, program):
        assert stats["rounds"] == 1
        assert stats["bytes"] == 2 * 800
        assert stats["time"] > 0


def test_a_sum_over_grpc_larger_than_one_piece():
    identities = [make_party_certificate(rank, "test") for rank in range(3)]
    pinned = [identity.certificate_pem for identity in identities]
    meshes = [
        GrpcMesh(rank, "test", pinned, identities[rank].private_key_pem, deadline=20) for rank in range(3)
    ]
    for mesh in meshes:
        mesh.set_addresses([f"127.0.0.1:{other.port}" for other in meshes])
    size = 5 * PIECE_BYTES // 8 + 1  # segments of more than one piece
    inputs = [tensor_of(rank, size) for rank in range(3)]
    expected = inputs[0] + inputs[1] + inputs[2]
    results = run_parties(3, lambda communicator, rank: communicator.all_reduce(inputs[rank]), meshes)
    assert all(torch.equal(result, expected) for result in results)


# Every collective, with one party that does it otherwise.


def from_to(source, target):
    """One tensor from one party to another; the third does nothing."""

    def program(c, t):
        if c.get_rank() == source:
            c.isend(t, target).wait()
        elif c.get_rank() == target:
            c.irecv(t, source).wait() if source else c.recv(t, source)

    return program


COLLECTIVES = {
    "send": from_to(1, 0),
    "recv": from_to(0, 1),
    "irecv": from_to(2, 1),
    "scatter from": lambda c, t: c.scatter([t] * 3, 1),
    "scatter to": lambda c, t: c.scatter([t] * 3, 0),
    "broadcast from": lambda c, t: c.broadcast(t, 1),
    "broadcast to": lambda c, t: c.broadcast(t, 0),
    "broadcast many": lambda c, t: c.broadcast([t, t], 1, batched=True),
    "gather": lambda c, t: c.gather(t, 0),
    "all_gather": lambda c, t: c.all_gather(t),
    "reduce": lambda c, t: c.reduce(t, 0),
    "reduce many": lambda c, t: c.reduce([t, t], 2, batched=True),
    "all_reduce": lambda c, t: c.all_reduce(t),
    "all_reduce bits": lambda c, t: c.all_reduce(t, op=ReduceOp.BXOR),
    "all_reduce many": lambda c, t: c.all_reduce([t, t], batched=True),
}
RIGHT = torch.zeros(2, 3, dtype=torch.int64)


def names_party_one(results, limit, began):
    """Whoever was in it with party 1 names it; the rest name it, or one that had failed because of it; in time."""
    assert time.monotonic() - began < limit
    return all(isinstance(error, ChannelError) for error in results) and 1 in {
        results[0].peer,
        results[2].peer,
    }


@pytest.mark.parametrize("name", COLLECTIVES)
def test_every_collective_ends_for_parties_that_agree(name):  # the control of the three that follow
    program = COLLECTIVES[name]
    results = run_parties(3, lambda communicator, _: [program(communicator, RIGHT.clone())])
    assert not any(isinstance(result, ChannelError) for result in results)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (6,)])
@pytest.mark.parametrize("name", COLLECTIVES)
def test_another_shape_names_the_party_in_every_collective(name, shape):
    def program(communicator, rank):
        tensor = torch.zeros(shape, dtype=torch.int64) if rank == 1 else RIGHT.clone()
        return COLLECTIVES[name](communicator, tensor)

    began = time.monotonic()
    assert names_party_one(run_parties(3, program, deadline=0.6), 20, began)


@pytest.mark.parametrize("dtype", [torch.int32, pytest.param(torch.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", COLLECTIVES)
def test_another_type_is_refused_where_it_is_and_its_party_named_by_the_others(name, dtype):
    def program(communicator, rank):
        return COLLECTIVES[name](communicator, RIGHT.to(dtype) if rank == 1 else RIGHT.clone())

    began = time.monotonic()
    results = run_parties(3, program, deadline=0.6)
    assert names_party_one(results, 20, began)
    assert "64-bit" in str(results[1])


@pytest.mark.parametrize("name", COLLECTIVES)
def test_a_silent_party_is_named_in_every_collective(name):
    others_ended = threading.Barrier(3)

    def program(communicator, rank):
        try:
            return COLLECTIVES[name](communicator, RIGHT.clone()) if rank != 1 else None
        finally:
            others_ended.wait(20)
            if rank == 1:
                raise ChannelError("It was away.")

    began = time.monotonic()
    assert names_party_one(run_parties(3, program, deadline=0.6), 20, began)


@pytest.mark.parametrize("length", [0, 40, 47, 49, 56, 2**20])
def test_a_right_label_on_numbers_of_another_length_names_the_party(length):
    def program(communicator, rank):
        if rank == 1:
            communicator._collectives += 1
            communicator.mesh.send(0, communicator._tag("reduce", 1, [RIGHT]), bytes(length))
            return None
        return communicator.reduce(RIGHT, 0)

    began = time.monotonic()
    assert names_party_one(run_parties(3, program, deadline=0.6), 20, began)


def test_crypten_has_no_session_of_fewer_than_all_ranks_but_a_group_of_it():
    from protocols.channel import MeshCommunicator

    meshes = in_process_meshes(3, deadline=3)

    def party(rank):
        meshes[rank].connect(peers=[2 - rank])
        with pytest.raises(ChannelError, match="group"), MeshCommunicator(meshes[rank]).active(CONTEXT):
            pass
        communicator = MeshCommunicator(meshes[rank].group((2, 0)))
        with communicator.active(CONTEXT):
            return communicator.get_rank(), communicator.all_gather(torch.tensor([rank]))

    with ThreadPoolExecutor(2) as pool:
        (at_zero, at_two) = pool.map(party, (0, 2))
    assert (at_zero[0], at_two[0]) == (1, 0)
    assert [int(value) for value in at_zero[1]] == [int(value) for value in at_two[1]] == [2, 0]


@pytest.mark.parametrize("error", [ChannelError, RuntimeError])
def test_crypten_does_not_try_a_failed_conversion_again(error, monkeypatch):
    """CrypTen catches RuntimeError in A2B and begins anew, out of step with its peers: the control shows that it does.
    Party 1 fails in its first sum; whether it starts a second one is what counts."""
    from protocols.channel import MeshCommunicator

    *meshes, last = in_process_meshes(4, deadline=1.0)
    dealer = Dealer(last)
    serving = threading.Thread(target=dealer.serve, daemon=True)
    serving.start()
    tried = []
    stock = MeshCommunicator.all_reduce

    def all_reduce(self, *args, **kwargs):
        if self.get_rank() == 1:
            tried.append(1)
            if len(tried) == 1:
                raise error("The first sum fails.")
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(MeshCommunicator, "all_reduce", all_reduce)

    def party(rank):
        meshes[rank].connect(10)
        group = meshes[rank].group((0, 1, 2))
        with Committee.join(group, DealerLink(meshes[rank], 3)) as committee, committee.active(CONTEXT):
            shared = CRYPTEN.mpc.primitives.ArithmeticSharedTensor.from_shares(
                torch.ones(2).long(), precision=0
            )
            try:
                CRYPTEN.mpc.primitives.converters.convert(shared, CRYPTEN.mpc.ptype.binary)
            except (ChannelError, RuntimeError) as failure:
                return failure

    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(party, range(3)))
    assert time.monotonic() - began < 20
    dealer.close()
    if error is ChannelError:
        assert tried == [1]
        assert all(isinstance(result, ChannelError) for result in results)
        assert 1 in {results[0].peer, results[2].peer}
    else:
        assert len(tried) > 1
