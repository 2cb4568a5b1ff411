import os
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from protocols.canonical import encode
from protocols.certificates import make_party_certificate
from protocols.errors import ChannelError, EncodingError
from protocols.mesh import PIECE_BYTES, GrpcMesh, in_process_meshes

DEADLINE = 5.0


def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def failure_of(call):
    with pytest.raises(ChannelError) as caught:
        call()
    return caught.value


@pytest.fixture(scope="module")
def identities():
    return [make_party_certificate(rank, "test") for rank in range(3)]


@pytest.fixture
def opened():
    """Meshes made in a test, closed at its end."""
    meshes = []
    yield meshes
    for mesh in meshes:
        mesh.close()


def grpc_mesh(identities, rank, opened, *, port=0, deadline=DEADLINE, identity=None):
    identity = identity or identities[rank]
    pinned = [i.certificate_pem for i in identities]
    pinned[rank] = identity.certificate_pem
    mesh = GrpcMesh(rank, "test", pinned, identity.private_key_pem, port=port, deadline=deadline)
    opened.append(mesh)
    return mesh


def introduce(meshes):
    for mesh in meshes:
        if isinstance(mesh, GrpcMesh):
            mesh.set_addresses([f"127.0.0.1:{other.port}" for other in meshes])


def grpc_meshes(identities, opened, deadline=DEADLINE):
    meshes = [grpc_mesh(identities, rank, opened, deadline=deadline) for rank in range(len(identities))]
    introduce(meshes)
    return meshes


@pytest.fixture(params=["in process", "grpc"])
def make(request, identities, opened):
    """Three connected meshes of either transport."""

    def of(deadline=DEADLINE):
        if request.param == "grpc":
            meshes = grpc_meshes(identities, opened, deadline)
        else:
            meshes = in_process_meshes(3, deadline)
            opened.extend(meshes)
        together(*[mesh.connect for mesh in meshes])
        return meshes

    return of


# Both transports.


def test_every_pair_exchanges_different_messages_at_once(make):
    meshes = make()

    def party(rank):
        mesh = meshes[rank]
        return mesh.exchange(b"t", {peer: bytes([rank, peer]) * 1000 for peer in mesh.peers}, 2000)

    results = together(*[lambda rank=rank: party(rank) for rank in range(3)])
    for rank, received in enumerate(results):
        assert received == {peer: bytes([peer, rank]) * 1000 for peer in range(3) if peer != rank}


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 17])
def test_messages_of_any_size_arrive_whole(make, size):
    a, b, _ = make()
    payload = os.urandom(size)
    sending = a.start_send(1, b"t", memoryview(payload))
    assert b.receive(0, b"t", size) == payload
    sending.wait()
    assert sending.is_completed()


def test_messages_of_one_peer_keep_their_order_and_wait_for_a_slow_reader(make):
    a, b, _ = make()
    sendings = [a.start_send(1, b"t", bytes([k])) for k in range(30)]
    time.sleep(0.05)
    assert not sendings[-1].is_completed()  # unread messages are bounded
    assert [b.receive(0, b"t", 1)[0] for _ in range(30)] == list(range(30))
    for sending in sendings:
        sending.wait()


def test_silence_ends_at_the_deadline_and_names_the_peer(make):
    a, _, _ = make(deadline=0.4)
    began = time.monotonic()
    error = failure_of(lambda: a.receive(2, b"t", 1))
    assert 0.3 < time.monotonic() - began < 3
    assert error.peer == 2
    assert "0.4 s" in str(error)
    assert failure_of(lambda: a.receive(1, b"t", 1)).peer == 2  # the first failure stays the cause


@pytest.mark.parametrize(("tag", "size"), [(b"other", 1), (b"t", 2)])
def test_a_message_out_of_step_or_too_long_names_the_peer_and_ends_the_session(make, tag, size):
    a, b, _ = make()
    b.send(0, tag, bytes(size))
    assert failure_of(lambda: a.receive(1, b"t", 1)).peer == 1
    assert failure_of(lambda: a.send(2, b"t", b"")).peer == 1


def test_a_full_reader_is_not_waited_for_beyond_the_deadline(make):
    a, _, _ = make(deadline=0.5)
    sendings = [a.start_send(1, b"t", b"") for _ in range(12)]
    began = time.monotonic()
    error = failure_of(lambda: [sending.wait() for sending in sendings])
    assert error.peer == 1
    assert time.monotonic() - began < 4


def test_a_new_session_forgets_what_was_sent_in_the_old_one(make):
    meshes = make()
    meshes[0].send(1, b"old", b"1")
    together(*[mesh.connect for mesh in meshes])
    meshes[0].send(1, b"new", b"2")
    assert meshes[1].receive(0, b"new", 1) == b"2"


def test_a_waiting_party_learns_at_once_that_a_peer_left_the_session(make):
    a, b, c = make(deadline=20)
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        waiting = pool.submit(failure_of, lambda: a.receive(2, b"t", 1))
        time.sleep(0.1)
        again = pool.submit(b.connect)
        assert waiting.result().peer == 1
        together(a.connect, c.connect)
        again.result()
    assert time.monotonic() - began < 10
    together(lambda: a.exchange(b"t", {1: b"1"}, 1), lambda: b.exchange(b"t", {0: b"2"}, 1))


def test_what_arrived_before_a_failure_is_still_read(make):
    a, b, _ = make()
    b.send(0, b"t", b"share")
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(lambda: failure_of(lambda: b.connect(0.5)))
        time.sleep(0.2)
        assert a.receive(1, b"t", 5) == b"share"
        assert failure_of(lambda: a.receive(1, b"t", 5)).peer == 1
        again.result()


def test_closing_ends_a_waiting_call(make):
    a, _, _ = make(deadline=20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure_of, lambda: a.receive(1, b"t", 1))
        time.sleep(0.05)
        a.close()
        assert "closed" in str(waiting.result(timeout=5))
    assert "closed" in str(failure_of(a.connect))


def test_a_peer_that_is_not_there_is_named_and_a_later_try_succeeds(identities, opened):
    a, b = (grpc_mesh(identities[:2], rank, opened) for rank in (0, 1))
    introduce([a, b])
    b_port = b.port
    b.close()
    assert failure_of(lambda: a.connect(0.3)).peer == 1
    back = grpc_mesh(identities[:2], 1, opened, port=b_port)
    introduce([a, back])
    together(a.connect, back.connect)
    a.send(1, b"t", b"hello")
    assert back.receive(0, b"t", 5) == b"hello"


def test_using_a_mesh_wrongly_is_said_plainly(identities, opened):
    mesh, _ = in_process_meshes(2)
    assert "connect first" in str(failure_of(lambda: mesh.receive(1, b"", 1)))
    assert "no peer 0" in str(failure_of(lambda: mesh.receive(0, b"", 1)))
    with pytest.raises(ChannelError):
        in_process_meshes(1)
    unintroduced = grpc_mesh(identities, 0, opened)
    assert "addresses" in str(failure_of(unintroduced.connect))
    assert "3 addresses" in str(failure_of(lambda: unintroduced.set_addresses(["127.0.0.1:1"])))


# gRPC alone: killed processes and hostile peers.


def test_survivors_form_a_session_with_a_restarted_party_without_restarting(identities, opened):
    meshes = grpc_meshes(identities, opened)
    together(*[mesh.connect for mesh in meshes])
    meshes[2].send(0, b"half", b"lost")  # what the killed party had sent is of no session any more
    meshes[2].close()

    def survive(mesh):
        error = failure_of(lambda: mesh.exchange(b"r1", dict.fromkeys(mesh.peers, b"x"), 1))
        assert error.peer in mesh.peers

    def restart():
        time.sleep(0.2)
        return grpc_mesh(identities, 2, opened)  # another port

    *_, meshes[2] = together(lambda: survive(meshes[0]), lambda: survive(meshes[1]), restart)
    introduce(meshes)
    together(*[mesh.connect for mesh in meshes])
    calls = [lambda mesh=mesh: mesh.exchange(b"r1", dict.fromkeys(mesh.peers, b"y"), 1) for mesh in meshes]
    assert all(set(received.values()) == {b"y"} for received in together(*calls))


def test_an_impostor_at_a_peers_address_is_refused_at_once(identities, opened):
    honest = grpc_mesh(identities, 0, opened, deadline=20)
    for identity in (
        make_party_certificate(1, "test"),
        identities[2],
    ):  # right name, wrong key; another party's
        pinned = [i.certificate_pem for i in identities]
        rank = 2 if identity is identities[2] else 1
        pinned[rank] = identity.certificate_pem
        impostor = GrpcMesh(rank, "test", pinned, identity.private_key_pem)
        opened.append(impostor)
        honest.set_addresses(["", f"127.0.0.1:{impostor.port}", "127.0.0.1:1"])
        began = time.monotonic()
        error = failure_of(honest.connect)
        assert error.peer == 1
        assert "pinned certificate" in str(error)
        assert time.monotonic() - began < 5


def test_a_caller_without_a_pinned_certificate_reaches_nothing(identities, opened):
    meshes = grpc_meshes(identities, opened)
    stranger = grpc_mesh(identities, 1, opened, identity=make_party_certificate(1, "test"))
    stranger.set_addresses([f"127.0.0.1:{mesh.port}" for mesh in meshes])
    assert failure_of(lambda: stranger.connect(1.0)).peer is not None
    assert meshes[0]._heard == {}
    together(*[mesh.connect for mesh in meshes])  # and disturbs nobody


def raw_call(mesh, identities, method, message, holder=None):
    """A call to ``mesh`` with the certificate of ``holder``, or with none."""
    root = identities[mesh.rank].certificate_pem
    mine = (
        (identities[holder].private_key_pem, identities[holder].certificate_pem) if holder is not None else ()
    )
    credentials = grpc.ssl_channel_credentials(root, *mine)
    options = [("grpc.ssl_target_name_override", f"party-{mesh.rank}.test.securefl")]
    with grpc.secure_channel(f"127.0.0.1:{mesh.port}", credentials, options) as channel:
        try:
            return channel.unary_unary(f"/securefl.Mesh/{method}")(message, timeout=3)
        except grpc.RpcError as error:
            return error.code()


def test_a_party_cannot_claim_another_rank_and_nobody_calls_without_a_certificate(identities, opened):
    (mesh, *_) = grpc_meshes(identities, opened)
    hello = encode([1, bytes(16)])
    assert raw_call(mesh, identities, "hello", hello, holder=2) is grpc.StatusCode.PERMISSION_DENIED
    assert raw_call(mesh, identities, "hello", hello) is grpc.StatusCode.UNAVAILABLE
    assert mesh._heard == {}
    assert len(raw_call(mesh, identities, "hello", hello, holder=1)) == 16  # the control
    assert mesh._heard == {1: bytes(16)}


def piece(mesh, peer, *, sequence=0, size=1, offset=0, body=b"x", tag=b"t", source=None):
    head = encode([peer, source or mesh._heard[peer], mesh._nonce, sequence, size, tag, offset])
    return struct.pack(">H", len(head)) + head + bytes(-(2 + len(head)) % 8) + body


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"sequence": 1}, True),
        ({"size": 5, "offset": 4}, True),
        ({"body": b"too long"}, True),
        ({"body": b""}, True),
        ({"size": 2**40}, True),
        ({"tag": bytes(5000)}, True),
        ({"source": bytes(16)}, False),  # of another session: refused, and no reason to end this one
    ],
)
def test_a_malformed_piece_is_refused_and_a_fault_of_the_peer_names_it(identities, opened, fault, named):
    meshes = grpc_meshes(identities, opened, deadline=1.0)
    together(*[mesh.connect for mesh in meshes])
    answer = raw_call(meshes[0], identities, "piece", piece(meshes[0], 1, **fault), holder=1)
    assert answer is grpc.StatusCode.FAILED_PRECONDITION
    if named:
        assert failure_of(lambda: meshes[0].receive(2, b"t", 1)).peer == 1
    else:
        meshes[1].send(0, b"t", b"y")
        assert meshes[0].receive(1, b"t", 1) == b"y"


@pytest.mark.parametrize("garbage", [b"", b"\xff\xff", bytes(100), b"\0\1\x80", encode([1, 2, 3])])
def test_garbage_is_refused_and_disturbs_nothing(identities, opened, garbage):
    meshes = grpc_meshes(identities, opened)
    together(*[mesh.connect for mesh in meshes])
    for method in ("hello", "piece"):
        assert raw_call(meshes[0], identities, method, garbage, holder=1) is grpc.StatusCode.INVALID_ARGUMENT
    meshes[1].send(0, b"t", b"y")
    assert meshes[0].receive(1, b"t", 1) == b"y"


def test_a_port_in_use_is_an_error(identities, opened):
    first = grpc_mesh(identities, 0, opened)
    assert str(first.port) in str(failure_of(lambda: grpc_mesh(identities, 1, opened, port=first.port)))


def test_certificates_are_checked_before_anything_listens(identities):
    pinned = [identities[rank].certificate_pem for rank in (1, 0)]
    with pytest.raises(EncodingError):
        GrpcMesh(0, "test", pinned, identities[0].private_key_pem)


def test_a_connection_that_is_not_tls_1_3_is_refused_although_its_certificate_is_pinned(
    identities, opened, tmp_path
):
    """A hand-made HTTP/2 client, since gRPC's own cannot be held back; at TLS 1.3 the same bytes are heard."""
    (mesh, *_) = grpc_meshes(identities, opened)
    (tmp_path / "key").write_bytes(identities[1].private_key_pem)
    (tmp_path / "certificate").write_bytes(identities[1].certificate_pem)
    nonce = bytes([7]) * 16

    def field(name, value):  # HPACK: a literal that is not indexed, without Huffman coding
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    def frame(kind, flags, stream, body):
        return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body

    fields = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": b"/securefl.Mesh/hello",
        b":authority": b"party-0.test.securefl",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    headers = b"".join(field(name, value) for name, value in fields.items())
    message = encode([1, nonce])
    request = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, b"")
        + frame(1, 4, 1, headers)
        + frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message)
    )

    def call(version):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=identities[0].certificate_pem.decode())
        context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
        context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(socket.create_connection(("127.0.0.1", mesh.port), timeout=2)) as connection:
            used = connection.version()
            connection.sendall(request)
            connection.settimeout(1.0)
            try:
                while connection.recv(4096):
                    pass
            except TimeoutError:
                pass
        return used

    assert call(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert mesh._heard == {}
    assert call(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert mesh._heard == {1: nonce}


def test_nothing_of_a_closed_mesh_stays_running(identities, opened):
    meshes = grpc_meshes(identities, opened)
    together(*[mesh.connect for mesh in meshes])
    meshes[0].send(1, b"t", b"x")
    for mesh in meshes:
        mesh.close()
    time.sleep(0.2)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("mesh-0-to")]
