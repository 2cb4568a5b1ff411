"""Mutants of what lies between the members: a wait without end, ranks that are only said, messages read on trust."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc

from protocols.canonical import encode
from protocols.certificates import make_party_certificate, party_name
from protocols.errors import ChannelError
from protocols.mesh import GrpcMesh, InProcessMesh, in_process_meshes
from protocols.prg import SEED_BYTES
from protocols.zero_sharing import pair_key
from securefl.audit.registry import Finding, Mutant

# -- a wait without end ----------------------------------------------------------------------------------------------

DEADLINE, PATIENCE = 0.3, 1.5
"""Seconds: the channel's deadline, and how long the audit waits for it."""
WITHOUT_END = 1e6


@contextmanager
def _met(deadline: float) -> Iterator[InProcessMesh]:
    """A party that has met another, which sends one message and is silent then."""
    with ExitStack() as stack:
        meshes = in_process_meshes(2, deadline)
        for mesh in meshes:
            stack.callback(mesh.close)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda mesh: mesh.connect(10.0), meshes))
        meshes[1].send(0, b"share", b"1")
        meshes[0].receive(1, b"share", 1)
        yield meshes[0]


def _waits_for_ever() -> Finding:
    """The naive channel is the shipped one without its deadline."""
    with ThreadPoolExecutor(1) as pool:
        with _met(WITHOUT_END) as mesh:
            reading = pool.submit(mesh.receive, 1, b"share", 1)
            time.sleep(PATIENCE)
            waiting = not reading.done()
        # Its end of the channel was closed: it would wait for ever otherwise.
        ended = isinstance(reading.exception(), ChannelError)
    said = f"After {PATIENCE} s the party {'still waits, and would for ever' if waiting else 'has gone on'}."
    return Finding(waiting and ended, said, {"seconds": PATIENCE})


def _ends_at_the_deadline() -> Finding:
    with _met(DEADLINE) as mesh:
        started = time.monotonic()
        try:
            mesh.receive(1, b"share", 1)
            named, said = None, "A message came from nowhere"
        except ChannelError as error:
            named, said = error.peer, str(error)
        seconds = time.monotonic() - started
    return Finding(
        named == 1 and seconds < PATIENCE, f"After {seconds:.2f} s: {said}", {"seconds": round(seconds, 2)}
    )


# -- ranks that are only said ----------------------------------------------------------------------------------------

Contact = Callable[[int], bytes]
"""Ask party 0, as the party of a rank, for its half of a pairwise key."""


@contextmanager
def _naive_party() -> Iterator[tuple[Contact, bytes]]:
    """Party 0 behind a plain socket, which believes the rank that a caller says; and its half of the key."""
    half = secrets.token_bytes(SEED_BYTES)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                rank = connection.recv(1)[0]
                connection.sendall(half if rank == 1 else bytes(SEED_BYTES))

        def ask(rank: int) -> bytes:
            with socket.create_connection(server.getsockname(), timeout=5) as connection:
                connection.sendall(bytes([rank]))
                return connection.recv(SEED_BYTES, socket.MSG_WAITALL)

        thread = threading.Thread(target=serve)
        thread.start()
        yield ask, half
        thread.join()


def _impostor_breaks() -> Finding:
    own, session = secrets.token_bytes(SEED_BYTES), bytes(32)
    with _naive_party() as (ask, half):
        got = ask(1)
    same = pair_key(1, 0, own, got, session) == pair_key(0, 1, half, own, session)
    said = (
        f"Whoever says that it is party 1 {'shares' if same else 'does not share'} a mask key with party 0."
    )
    return Finding(same, said, {"bytes": len(got)})


def _impostor_caught() -> Finding:
    """Somebody with a certificate of its own for rank 1 calls two parties, and answers where one of them calls."""
    consortium = secrets.token_hex(8)
    made = [make_party_certificate(rank, consortium) for rank in range(2)]
    pinned = [party.certificate_pem for party in made]
    false = make_party_certificate(1, consortium)
    with ExitStack() as stack:

        def mesh(rank: int, pems: list[bytes], key: bytes) -> GrpcMesh:
            opened = GrpcMesh(rank, consortium, pems, key, deadline=2.0)
            stack.callback(opened.close)
            return opened

        honest = mesh(0, pinned, made[0].private_key_pem)
        impostor = mesh(1, [pinned[0], false.certificate_pem], false.private_key_pem)
        for one in (honest, impostor):
            one.set_addresses([f"127.0.0.1:{honest.port}", f"127.0.0.1:{impostor.port}"])
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(_connect, (honest, impostor)))
        real = mesh(1, pinned, made[1].private_key_pem)
        for one in (honest, real):
            one.set_addresses([f"127.0.0.1:{honest.port}", f"127.0.0.1:{real.port}"])
        with ThreadPoolExecutor(2) as pool:
            meets = [not error for error in pool.map(lambda one: _connect(one, 20.0), (honest, real))]
    refused = all(ends) and "pinned" in ends[0]
    met = "was met" if all(meets) else "was not met"
    said = f"{ends[0] or 'The impostor was taken for party 1.'} The real party 1 {met}."
    return Finding(refused and all(meets), said, {"sessions_with_the_impostor": ends.count("")})


def _connect(mesh: GrpcMesh, seconds: float = 2.0) -> str:
    try:
        mesh.connect(seconds)
    except ChannelError as error:
        return str(error)
    return ""


# -- callers who are not asked ---------------------------------------------------------------------------------------


def _hello(server: str, certificate: bytes, name: str, own: tuple[bytes, bytes] | None) -> bytes:
    """Say to a party's server that one is party 1, with a certificate of one's own or with none; b"" if refused."""
    root_and_own = (certificate,) if own is None else (certificate, *own)
    credentials = grpc.ssl_channel_credentials(*root_and_own)
    options = [("grpc.ssl_target_name_override", name)]
    with grpc.secure_channel(server, credentials, options) as channel:
        try:
            answer: bytes = channel.unary_unary("/securefl.Mesh/hello")(encode([1, bytes(16)]), timeout=5)
        except grpc.RpcError:
            return b""
    return answer


def _stranger_breaks() -> Finding:
    """The naive server has a certificate, as servers on the web do, and asks its callers for none."""
    made = make_party_certificate(0, "audit")
    credentials = grpc.ssl_server_credentials([(made.private_key_pem, made.certificate_pem)])
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        hello = grpc.unary_unary_rpc_method_handler(lambda _message, _context: secrets.token_bytes(16))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("securefl.Mesh", {"hello": hello}),)
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        answer = _hello(f"127.0.0.1:{port}", made.certificate_pem, party_name(0, "audit"), None)
        server.stop(None).wait()
    said = f"A stranger without a certificate {'is' if answer else 'is not'} answered as party 1."
    return Finding(bool(answer), said, {"bytes": len(answer)})


def _stranger_caught() -> Finding:
    made = [make_party_certificate(rank, "audit") for rank in range(2)]
    own = make_party_certificate(1, "audit")
    pems = [party.certificate_pem for party in made]
    mesh = GrpcMesh(0, "audit", pems, made[0].private_key_pem, deadline=5.0)
    try:
        where = (f"127.0.0.1:{mesh.port}", pems[0], party_name(0, "audit"))
        without = _hello(*where, None)
        another = _hello(*where, (own.private_key_pem, own.certificate_pem))
        party = _hello(*where, (made[1].private_key_pem, pems[1]))
    finally:
        mesh.close()
    said = (
        f"{sum(map(bool, (without, another)))} of 2 strangers are answered, one without a certificate and one with its "
        f"own; party 1 {'is' if party else 'is not'}."
    )
    holds = not without and not another and bool(party)
    return Finding(holds, said, {"strangers": sum(map(bool, (without, another))), "party": len(party)})


MUTANTS = (
    Mutant(
        "wait-without-end",
        "faults-end-in-errors",
        "A party waits for a peer's message for as long as it takes.",
        _waits_for_ever,
        _ends_at_the_deadline,
    ),
    Mutant(
        "rank-by-word",
        "channel-is-authenticated",
        "A party takes its peer's rank from the peer's own word.",
        _impostor_breaks,
        _impostor_caught,
    ),
    Mutant(
        "callers-without-certificates",
        "channel-is-authenticated",
        "A party's server shows its certificate, and asks its callers for none.",
        _stranger_breaks,
        _stranger_caught,
    ),
)
