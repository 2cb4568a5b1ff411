"""The gRPC mesh under fire: hostile peers, a hostile network. Each ends in a typed error that names the peer, in time,
or in nothing at all; and each test shows that without the attack the same thing works."""

import os
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import grpc
import pytest

from protocols.canonical import encode
from protocols.certificates import make_party_certificate
from protocols.errors import ChannelError
from protocols.mesh import GrpcMesh
from protocols.mesh_inbox import PIECE_BYTES

DEADLINE = 1.5
SLACK = 3.0
"""Seconds beyond the deadline that a loaded machine is given."""


def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def failure_of(call, limit=DEADLINE + SLACK):
    began = time.monotonic()
    with pytest.raises(ChannelError) as caught:
        call()
    assert time.monotonic() - began < limit
    assert not isinstance(caught.value, RuntimeError)
    return caught.value


@pytest.fixture(scope="module")
def identities():
    return [make_party_certificate(rank, "test") for rank in range(3)]


@pytest.fixture
def opened():
    things = []
    yield things
    for thing in reversed(things):
        thing.close()


class Recording(GrpcMesh):
    """Keeps the messages that arrive, as whoever watches this party's memory could."""

    def __init__(self, *args, **kwargs):
        self.recorded = []
        super().__init__(*args, **kwargs)

    def _serve_piece(self, message, context):
        self.recorded.append(message)
        return super()._serve_piece(message, context)


def grpc_mesh(identities, rank, opened, deadline=DEADLINE, **kwargs):
    pinned = [identity.certificate_pem for identity in identities]
    mesh = Recording(rank, "test", pinned, identities[rank].private_key_pem, deadline=deadline, **kwargs)
    opened.append(mesh)
    return mesh


@pytest.fixture
def meshes(identities, opened):
    """Three connected parties."""
    made = [grpc_mesh(identities, rank, opened) for rank in range(3)]
    for mesh in made:
        mesh.set_addresses([f"127.0.0.1:{other.port}" for other in made])
    together(*[lambda mesh=mesh: mesh.connect(20) for mesh in made])
    return made


def still_talk(meshes):
    """The session stands: every pair exchanges."""
    results = together(
        *[lambda m=m: m.exchange(b"still", dict.fromkeys(m.peers, bytes([m.rank])), 1) for m in meshes]
    )
    for mesh, received in zip(meshes, results, strict=True):
        assert received == {peer: bytes([peer]) for peer in mesh.peers}


def raw_call(mesh, identities, method, message, holder, **options):
    """A call with the certificate of ``holder``: what its process could send if it does not follow the program."""
    credentials = grpc.ssl_channel_credentials(
        identities[mesh.rank].certificate_pem,
        identities[holder].private_key_pem,
        identities[holder].certificate_pem,
    )
    target = [("grpc.ssl_target_name_override", f"party-{mesh.rank}.test.securefl")]
    with grpc.secure_channel(f"127.0.0.1:{mesh.port}", credentials, target) as channel:
        try:
            return channel.unary_unary(method)(message, timeout=DEADLINE + SLACK, **options)
        except grpc.RpcError as error:
            return error.code()


def piece_of(mesh, peer, *, rank=None, target=None, sequence=0, size=1, offset=0, body=b"x", tag=b"t"):
    claimed = peer if rank is None else rank
    head = encode([claimed, mesh._heard[peer], target or mesh._nonce, sequence, size, tag, offset])
    return struct.pack(">H", len(head)) + head + bytes(-(2 + len(head)) % 8) + body


HELLO, PIECE = "/securefl.Mesh/hello", "/securefl.Mesh/piece"


# A peer with the right certificate.


def test_a_captured_message_is_taken_once_in_its_session_and_never_in_the_next(meshes, identities):
    meshes[1].send(0, b"t", b"share")
    (captured,) = meshes[0].recorded
    assert meshes[0].receive(1, b"t", 5) == b"share"
    # In the next session it is nothing, whoever replays it.
    together(*[lambda mesh=mesh: mesh.connect(20) for mesh in meshes])
    assert raw_call(meshes[0], identities, PIECE, captured, 1) is grpc.StatusCode.FAILED_PRECONDITION
    assert raw_call(meshes[0], identities, PIECE, captured, 2) is grpc.StatusCode.PERMISSION_DENIED
    assert raw_call(meshes[2], identities, PIECE, captured, 1) is grpc.StatusCode.FAILED_PRECONDITION
    still_talk(meshes)
    # In its own session it ends the session, and names who sent it twice.
    meshes[1].send(0, b"t", b"again")
    captured = meshes[0].recorded[-1]
    assert meshes[0].receive(1, b"t", 5) == b"again"
    assert raw_call(meshes[0], identities, PIECE, captured, 1) is grpc.StatusCode.FAILED_PRECONDITION
    assert failure_of(lambda: meshes[0].receive(2, b"t", 5)).peer == 1


def test_a_message_to_a_former_incarnation_is_refused_although_its_sender_is_the_same(meshes, identities):
    late = piece_of(meshes[0], 1, target=bytes(16))
    assert raw_call(meshes[0], identities, PIECE, late, 1) is grpc.StatusCode.FAILED_PRECONDITION
    still_talk(meshes)
    timely = piece_of(meshes[0], 1, sequence=1)
    assert raw_call(meshes[0], identities, PIECE, timely, 1) == b""  # the control


def test_a_peer_that_says_another_rank_is_refused_with_every_message(meshes, identities):
    for rank in (0, 2, 3, -1):
        message = piece_of(meshes[0], 1, rank=rank)
        assert raw_call(meshes[0], identities, PIECE, message, 1) is grpc.StatusCode.PERMISSION_DENIED
        hello = encode([rank, bytes(16)])
        assert raw_call(meshes[0], identities, HELLO, hello, 1) is grpc.StatusCode.PERMISSION_DENIED
    assert raw_call(meshes[0], identities, PIECE, piece_of(meshes[0], 1), 1) == b""  # the control
    assert meshes[0].receive(1, b"t", 1) == b"x"


def test_a_message_beyond_the_transports_limit_is_refused_before_it_is_read(meshes, identities):
    too_long = piece_of(meshes[0], 1, size=3 * PIECE_BYTES, body=bytes(PIECE_BYTES + 2**17))
    assert raw_call(meshes[0], identities, PIECE, too_long, 1) is grpc.StatusCode.RESOURCE_EXHAUSTED
    # One that swells when it is unpacked is not unpacked.
    swelling = raw_call(meshes[0], identities, PIECE, too_long, 1, compression=grpc.Compression.Gzip)
    assert swelling in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    still_talk(meshes)
    longest = piece_of(meshes[0], 1, sequence=1, size=PIECE_BYTES, body=bytes(PIECE_BYTES), tag=bytes(4096))
    assert raw_call(meshes[0], identities, PIECE, longest, 1) == b""  # the control


def test_a_message_longer_than_the_receiver_wants_names_the_peer(meshes):
    meshes[1].send(0, b"t", bytes(9))
    assert failure_of(lambda: meshes[0].receive(1, b"t", 8)).peer == 1


@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_message_of_another_length_than_due_names_the_peer_before_anything_is_taken(meshes, size):
    taken = []
    meshes[1].send(0, b"t", bytes(size))
    error = failure_of(lambda: meshes[0].receive_pieces(1, b"t", 8, lambda *piece: taken.append(piece)))
    assert error.peer == 1
    assert taken == []


def test_a_message_that_is_never_finished_names_the_peer_at_the_deadline(meshes, identities):
    half = piece_of(meshes[0], 1, size=2 * PIECE_BYTES, body=bytes(PIECE_BYTES))
    assert raw_call(meshes[0], identities, PIECE, half, 1) == b""
    error = failure_of(lambda: meshes[0].receive(1, b"t", 2 * PIECE_BYTES))
    assert error.peer == 1
    assert "not all of a message" in str(error)


def test_a_peer_that_sends_while_its_last_message_waits_is_named(meshes, identities):
    sendings = [meshes[1].start_send(0, b"t", bytes([k])) for k in range(8)]
    for sending in sendings:
        sending.wait()
    ninth = piece_of(meshes[0], 1, sequence=8)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(raw_call, meshes[0], identities, PIECE, ninth, 1)
        time.sleep(0.3)
        assert not waiting.done()
        assert [meshes[0].receive(1, b"t", 1)[0] for _ in range(8)] == list(range(8))
        assert waiting.result() == b""  # the control: it waits alone, and is taken when there is room
    for k in range(8, 15):
        assert raw_call(meshes[0], identities, PIECE, piece_of(meshes[0], 1, sequence=k + 1), 1) == b""
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(raw_call, meshes[0], identities, PIECE, piece_of(meshes[0], 1, sequence=16), 1)
            for _ in range(2)
        ]
        assert wait(both).done
        assert {future.result() for future in both} == {grpc.StatusCode.FAILED_PRECONDITION}
    assert failure_of(lambda: meshes[0].receive(2, b"t", 1)).peer == 1


@pytest.mark.parametrize("length", [0, 15, 17, 70_000])
def test_a_nonce_of_another_length_is_refused(meshes, identities, length):
    hello = encode([1, bytes(length)])
    assert raw_call(meshes[0], identities, HELLO, hello, 1) is grpc.StatusCode.INVALID_ARGUMENT
    still_talk(meshes)


@pytest.mark.parametrize(
    "message",
    [b"\x81" * 20_000, b"\xff" * 65_537, b"\0\x03\x81\x81\x81" + bytes(20), os.urandom(5000)],
    ids=["nested", "longest head", "cut", "random"],
)
def test_bytes_without_meaning_disturb_nothing(meshes, identities, message):
    for method in (HELLO, PIECE):
        assert raw_call(meshes[0], identities, method, message, 1) is grpc.StatusCode.INVALID_ARGUMENT
    still_talk(meshes)


def test_padding_carries_nothing(meshes, identities):
    tags = [b"t" * length for length in range(1, 9)]
    message = next(m for m in (piece_of(meshes[0], 1, tag=tag) for tag in tags) if m[-2:-1] == b"\0")
    start = len(message) - 2
    spoilt = message[:start] + b"!" + message[start + 1 :]
    assert raw_call(meshes[0], identities, PIECE, spoilt, 1) is grpc.StatusCode.INVALID_ARGUMENT
    assert raw_call(meshes[0], identities, PIECE, message, 1) == b""  # the control


def test_a_method_that_there_is_not_and_metadata_without_end_disturb_nothing(meshes, identities):
    code = raw_call(meshes[0], identities, "/securefl.Mesh/other", b"", 1)
    assert code is grpc.StatusCode.UNIMPLEMENTED
    endless = [("x", "y" * 200_000)]
    code = raw_call(meshes[0], identities, HELLO, encode([1, bytes(16)]), 1, metadata=endless)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    still_talk(meshes)


# A peer's server that does not follow the program.


def hostile_server(identities, opened, hello, piece):
    """Whatever party 1 could serve, with its own key."""

    class Server:
        def __init__(self):
            self._server = grpc.server(ThreadPoolExecutor(4))
            methods = {
                "hello": grpc.unary_unary_rpc_method_handler(hello),
                "piece": grpc.unary_unary_rpc_method_handler(piece),
            }
            handlers = grpc.method_handlers_generic_handler("securefl.Mesh", methods)
            self._server.add_generic_rpc_handlers((handlers,))
            mine = (identities[1].private_key_pem, identities[1].certificate_pem)
            credentials = grpc.ssl_server_credentials([mine], identities[0].certificate_pem, True)
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
            self._server.start()

        def close(self):
            self._server.stop(0).wait()

    server = Server()
    opened.append(server)
    return server


@pytest.mark.parametrize(
    "answer",
    [b"short", bytes(100_000), lambda context: context.abort(grpc.StatusCode.UNKNOWN, "\n\x1b[2J" * 400)],
    ids=["short", "long", "shout"],
)
def test_an_answer_to_hello_that_is_none_names_the_peer_in_plain_words(identities, opened, answer):
    def hello(_message, context):
        return answer if isinstance(answer, bytes) else answer(context)

    server = hostile_server(identities[:2], opened, hello, lambda *_: b"")
    mesh = grpc_mesh(identities[:2], 0, opened)
    mesh.set_addresses(["", f"127.0.0.1:{server.port}"])
    error = failure_of(mesh.connect)
    assert error.peer == 1
    assert ("else than a nonce" in str(error)) == isinstance(answer, bytes)
    assert str(error).isprintable()
    assert len(str(error)) < 600


@pytest.mark.parametrize("fault", ["silent", "refuses", "swallows", "none"])
def test_a_server_that_takes_no_message_names_the_peer_at_the_deadline(identities, opened, fault):
    nonce = os.urandom(16)
    over = threading.Event()

    def hello(message, _context):
        return nonce

    def piece(_message, context):
        if fault == "silent":
            over.wait(20)
        elif fault == "refuses":
            context.abort(grpc.StatusCode.DATA_LOSS, "no")
        return b""

    server = hostile_server(identities[:2], opened, hello, piece)
    mesh = grpc_mesh(identities[:2], 0, opened)
    mesh.set_addresses(["", f"127.0.0.1:{server.port}"])
    with ThreadPoolExecutor(1) as pool:
        connected = pool.submit(mesh.connect, 20)
        while not mesh._met:
            time.sleep(0.02)
        raw_call(mesh, identities, HELLO, encode([1, nonce]), 1)
        connected.result()
    try:
        if fault in ("swallows", "none"):  # it says that it has the message
            mesh.send(1, b"t", b"x")
            if fault == "none":
                assert raw_call(mesh, identities, PIECE, piece_of(mesh, 1), 1) == b""
                assert mesh.receive(1, b"t", 1) == b"x"
                return
            error = failure_of(lambda: mesh.receive(1, b"t", 1))
        else:
            error = failure_of(lambda: mesh.send(1, b"t", b"x"))
        assert error.peer == 1
    finally:
        over.set()


# The network: whoever holds no certificate, and whoever stands between two parties.


class Proxy:
    """Stands between two parties and passes bytes on, until it is told to do otherwise."""

    def __init__(self, port):
        self._target = port
        self.mode = "pass"
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source, target):
        try:
            while data := source.recv(4096):
                if self.mode == "swallow":
                    continue
                if self.mode == "flip":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                if self.mode == "replay":
                    data = data + data
                if self.mode == "trickle":
                    for k in range(len(data)):
                        target.sendall(data[k : k + 1])
                        time.sleep(0.02)
                    continue
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()

    def close(self):
        self._listener.close()
        for end in list(self._sockets):
            end.close()


@pytest.mark.parametrize("mode", ["swallow", "flip", "replay", "trickle", "pass"])
def test_who_stands_between_two_parties_can_stop_them_and_nothing_else(identities, opened, mode):
    made = [grpc_mesh(identities[:2], rank, opened) for rank in range(2)]
    proxies = [Proxy(mesh.port) for mesh in made]
    opened.extend(proxies)
    for mesh in made:
        mesh.set_addresses([f"127.0.0.1:{proxy.port}" for proxy in proxies])
    together(*[lambda mesh=mesh: mesh.connect(20) for mesh in made])
    for proxy in proxies:
        proxy.mode = mode

    def exchange(mesh):
        return mesh.exchange(b"t", {1 - mesh.rank: bytes([mesh.rank]) * 10_000}, 10_000)

    if mode == "pass":  # the control
        received = together(*[lambda mesh=mesh: exchange(mesh) for mesh in made])
        assert received == [{1: b"\1" * 10_000}, {0: b"\0" * 10_000}]
        return
    errors = together(*[lambda mesh=mesh: failure_of(lambda: exchange(mesh)) for mesh in made])
    assert [error.peer for error in errors] == [1, 0]
    for proxy in proxies:  # and when it leaves, the parties meet again
        proxy.mode = "pass"
    together(*[lambda mesh=mesh: mesh.connect(30) for mesh in made])
    together(*[lambda mesh=mesh: exchange(mesh) for mesh in made])


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000), b"\x16\x03\x03\x00\x02\x02\x28"]
)
def test_an_address_where_somebody_else_answers_or_nobody_speaks_names_the_peer(identities, opened, answer):
    """Silence after accepting the connection, plain text, zeros, a TLS alert."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened.append(listener)
    held = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
                held.append(connection)
                connection.sendall(answer)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    made = [grpc_mesh(identities[:2], rank, opened) for rank in range(2)]
    made[0].set_addresses(["", f"127.0.0.1:{listener.getsockname()[1]}"])
    assert failure_of(made[0].connect).peer == 1
    for mesh in made:  # the control: told the right address, the same object connects
        mesh.set_addresses([f"127.0.0.1:{other.port}" for other in made])
    together(*[lambda mesh=mesh: mesh.connect(20) for mesh in made])
    for connection in held:
        connection.close()


def test_a_caller_in_plain_text_or_of_another_consortium_reaches_nothing(meshes, identities):
    other = make_party_certificate(1, "other")
    stranger = [identities[0], other, identities[2]]
    with grpc.insecure_channel(f"127.0.0.1:{meshes[0].port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(HELLO)(encode([1, bytes(16)]), timeout=DEADLINE)
    hello = encode([1, bytes(16)])
    assert raw_call(meshes[0], stranger, HELLO, hello, 1) is grpc.StatusCode.UNAVAILABLE
    still_talk(meshes)
    assert len(raw_call(meshes[0], identities, HELLO, encode([1, meshes[1]._nonce]), 1)) == 16  # the control


@contextmanager
def tls_connection(mesh, identities, holder, folder):
    """TLS 1.3 with a pinned certificate, and then whatever one likes."""
    (folder / "key").write_bytes(identities[holder].private_key_pem)
    (folder / "certificate").write_bytes(identities[holder].certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=identities[mesh.rank].certificate_pem.decode())
    context.load_cert_chain(folder / "certificate", folder / "key")
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", mesh.port), timeout=2)) as connection:
        yield connection


def frame(kind, flags, stream, body):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def request(method, body, data_end=True):
    def field(name, value):  # HPACK: a literal that is not indexed, without Huffman coding
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value

    fields = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": method.encode(),
        b":authority": b"party-0.test.securefl",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    headers = b"".join(field(name, value) for name, value in fields.items())
    return PREFACE + frame(1, 4, 1, headers) + frame(0, int(data_end), 1, body)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
HELLO_BODY = encode([1, bytes(16)])
LENGTH = struct.pack(">I", len(HELLO_BODY))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE + os.urandom(3000),
        PREFACE + frame(1, 4, 1, os.urandom(200)),
        PREFACE + b"\xff\xff\xff\0\0\0\0\0\1",
        request(HELLO, b"\0" + struct.pack(">I", 2**32 - 1) + HELLO_BODY),
        request(HELLO, b"\7" + LENGTH + HELLO_BODY),
        request(HELLO, b"\1" + LENGTH + HELLO_BODY),
        request(HELLO, b"\0" + LENGTH + HELLO_BODY[:-1]),
    ],
    ids=["http1", "noise", "headers", "frame", "length", "flag", "packed", "cut"],
)
def test_malformed_http2_and_grpc_disturb_nothing(meshes, identities, tmp_path, data):
    with tls_connection(meshes[0], identities, 1, tmp_path) as connection:
        connection.sendall(data)
        connection.settimeout(0.3)
        try:
            while connection.recv(4096):
                pass
        except (TimeoutError, OSError):
            pass
    still_talk(meshes)


def test_the_same_bytes_without_a_fault_are_heard(
    meshes, identities, tmp_path
):  # the control of the one above
    with tls_connection(meshes[0], identities, 1, tmp_path) as connection:
        connection.sendall(request(HELLO, b"\0" + LENGTH + HELLO_BODY))
        end = time.monotonic() + DEADLINE + SLACK
        while meshes[0]._heard[1] != bytes(16) and time.monotonic() < end:
            time.sleep(0.02)
    assert failure_of(lambda: meshes[0].receive(2, b"t", 1)).peer == 1  # a new nonce: it left the session


def test_a_peer_that_trickles_bytes_is_named_and_holds_up_nobody_else(meshes, identities, tmp_path):
    over = threading.Event()
    message = piece_of(meshes[0], 1, size=1000, body=bytes(1000))
    start = request(PIECE, b"\0" + struct.pack(">I", len(message)) + message[:50], data_end=False)

    def trickle():
        with tls_connection(meshes[0], identities, 1, tmp_path) as connection:
            connection.sendall(start)
            for k in range(50, len(message)):
                if over.wait(0.05):
                    return
                connection.sendall(frame(0, 0, 1, message[k : k + 1]))

    with ThreadPoolExecutor(1) as pool:
        trickling = pool.submit(trickle)
        meshes[2].send(0, b"t", b"x")
        assert meshes[0].receive(2, b"t", 1) == b"x"  # nobody else is held up
        assert failure_of(lambda: meshes[0].receive(1, b"t", 1000)).peer == 1
        over.set()
        trickling.result()
