"""The committee's transports: gRPC with mutual TLS 1.3 between processes, plain calls inside one.

Adversary: whoever is on the network, and a party that claims another's rank; not a party that floods its peers.
Promise: a message is read by, and comes from, the holder of exactly the pinned certificate of that rank. A client
    trusts nothing but the one certificate of the peer it calls, and checks its name; a server trusts the pinned ones,
    requires TLS 1.3, and takes the sender's rank from the certificate before it reads anything. What a peer sends
    ends in a value or a ChannelError, never in an abort or a hang. (Gloo, CrypTen's own transport, has no TLS, and a
    message that is too long aborts the process.)
Source: TLS 1.3, RFC 8446; gRPC over HTTP/2, with raw bytes as messages.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc

from protocols.canonical import decode, encode
from protocols.certificates import certificate_der, check_party_certificate, party_name
from protocols.errors import ChannelError, EncodingError
from protocols.mesh_session import Header, Mesh, NotReadyError

_SERVICE = "securefl.Mesh"
PIECE_BYTES = 1 << 20
"""Longer messages are sent in pieces of this size."""
_HEAD = struct.Struct(">H")
_STOP_SECONDS = 0.5
_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 2 * PIECE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class InProcessMesh(Mesh):
    """Parties in threads of one process: for tests and the audit's replay. Messages are copied, never shared.

    Args:
        hub: one list for all, of P places; each mesh takes its own (see :func:`in_process_meshes`).
        rank: this party.
        deadline: seconds an operation may take.
    """

    def __init__(self, hub: list[InProcessMesh | None], rank: int, deadline: float = 30.0) -> None:
        super().__init__(rank, len(hub), deadline)
        self._hub = hub
        hub[rank] = self

    def _say_hello(self, peer: int, nonce: bytes, timeout: float) -> bytes:
        other = self._hub[peer]
        if other is None or other._closed:
            raise NotReadyError("it is not there")
        return other._hear_hello(self.rank, nonce)

    def _transmit(self, peer: int, header: Header, payload: memoryview, timeout: float) -> None:
        other = self._hub[peer]
        if other is None or other._closed:
            raise ChannelError(f"Party {peer} is not there: connect anew.", peer)
        # What is sent is copied: the sender may change its buffer afterwards.
        other._take(self.rank, header, 0, memoryview(bytes(payload)), timeout)


def in_process_meshes(world_size: int, deadline: float = 30.0) -> list[InProcessMesh]:
    """P meshes, not yet connected: each party's thread calls ``connect()`` on its own."""
    hub: list[InProcessMesh | None] = [None] * world_size
    return [InProcessMesh(hub, rank, deadline) for rank in range(world_size)]


class GrpcMesh(Mesh):
    """One party's server and its channels to the others.

    The server listens from construction on; ``port`` is the port it has. After :meth:`set_addresses`, ``connect()``
    forms a session; after any ChannelError (a peer was killed and came back, say) ``connect()`` forms the next, with
    the same object. A party that was itself restarted makes a new mesh, on the same port or with new addresses told
    to the others. Addresses need not be trusted.

    Args:
        rank: this party, 0 .. P-1.
        consortium: the consortium's id, as in the certificates' names.
        certificates: (P,) the pinned certificates in PEM, by rank, this party's among them.
        private_key_pem: the key of ``certificates[rank]``.
        host: the address to listen on.
        port: 0 lets the operating system choose.
        deadline: seconds an operation may take.

    Raises:
        EncodingError: a certificate is not one of that rank and consortium.
        SignatureError: a certificate is not signed by its own key.
        ChannelError: the port is in use, or the private key does not fit.
    """

    def __init__(
        self,
        rank: int,
        consortium: str,
        certificates: Sequence[bytes],
        private_key_pem: bytes,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        deadline: float = 60.0,
    ) -> None:
        super().__init__(rank, len(certificates), deadline)
        for of_rank, certificate in enumerate(certificates):
            check_party_certificate(certificate, of_rank, consortium)
        self._certificates = list(certificates)
        self._names = [party_name(of_rank, consortium) for of_rank in range(self.world_size)]
        self._private_key_pem = private_key_pem
        self._pinned = {certificate_der(certificates[peer]): peer for peer in self.peers}
        self._channels: dict[int, tuple[str, Any]] = {}
        self._server, self.port = self._listen(host, port)

    def _listen(self, host: str, port: int) -> tuple[Any, int]:
        roots = b"".join(self._certificates[peer] for peer in self.peers)
        credentials = grpc.ssl_server_credentials(
            [(self._private_key_pem, self._certificates[self.rank])], roots, require_client_auth=True
        )
        # so_reuseport off: a port in use must be an error, not a second listener.
        server = grpc.server(
            ThreadPoolExecutor(4 * self.world_size, f"mesh-{self.rank}-serve"),
            options=[*_OPTIONS, ("grpc.so_reuseport", 0)],
        )
        methods = {
            "hello": grpc.unary_unary_rpc_method_handler(self._serve_hello),
            "piece": grpc.unary_unary_rpc_method_handler(self._serve_piece),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        try:
            bound = server.add_secure_port(f"{host}:{port}", credentials)
        except RuntimeError as error:
            raise ChannelError(
                f"Party {self.rank} cannot listen on {host}:{port} (in use, or the key does not fit its "
                f"certificate): choose another port or check the key."
            ) from error
        server.start()
        return server, bound

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Where the parties listen: (P,) ``host:port`` by rank; the own one is not used. May be called again.

        Raises:
            ChannelError: not one address for each party.
        """
        if len(addresses) != self.world_size:
            raise ChannelError(
                f"{self.world_size} addresses are needed, one a party: here are {len(addresses)}."
            )
        for peer in self.peers:
            address, channel = self._channels.get(peer, ("", None))
            if address == addresses[peer]:
                continue
            if channel is not None:
                channel.close()
            credentials = grpc.ssl_channel_credentials(
                self._certificates[peer], self._private_key_pem, self._certificates[self.rank]
            )
            options = [*_OPTIONS, ("grpc.ssl_target_name_override", self._names[peer])]
            self._channels[peer] = (
                addresses[peer],
                grpc.secure_channel(addresses[peer], credentials, options),
            )

    def close(self) -> None:
        """Stop the server and leave. A message that has just arrived is still acknowledged."""
        super().close()
        self._server.stop(_STOP_SECONDS).wait()
        for _, channel in self._channels.values():
            channel.close()

    # Client's side.

    def _channel(self, peer: int) -> Any:
        if peer not in self._channels:
            raise ChannelError(f"The address of party {peer} is not known: set the addresses first.", peer)
        return self._channels[peer][1]

    def _say_hello(self, peer: int, nonce: bytes, timeout: float) -> bytes:
        call = self._channel(peer).unary_unary(f"/{_SERVICE}/hello")
        try:
            return bytes(call(encode([self.rank, nonce]), timeout=timeout))
        except grpc.RpcError as error:
            details = str(error.details())
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise ChannelError(f"Party {peer} refused this party: {details}", peer) from error
            if "CERTIFICATE_VERIFY_FAILED" in details or "Verification Check failed" in details:
                raise ChannelError(
                    f"Whoever answers for party {peer} does not hold its pinned certificate: check its address.",
                    peer,
                ) from error
            raise NotReadyError(details[:200]) from error

    def _transmit(self, peer: int, header: Header, payload: memoryview, timeout: float) -> None:
        # One unary call a piece: twice as fast as one stream (measured, 40 MB), and a piece is the unit of refusal.
        call = self._channel(peer).unary_unary(f"/{_SERVICE}/piece")
        end = time.monotonic() + timeout
        for offset in range(0, max(len(payload), 1), PIECE_BYTES):
            if not self._is_current(header):
                raise ChannelError(
                    "The session was given up while a message was on its way: connect anew.", peer
                )
            fields = [
                self.rank,
                header.source,
                header.target,
                header.sequence,
                header.size,
                header.tag,
                offset,
            ]
            head = encode(fields)
            piece = payload[offset : offset + PIECE_BYTES]
            try:
                call(
                    b"".join([_HEAD.pack(len(head)), head, piece]), timeout=max(end - time.monotonic(), 0.001)
                )
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    reason = f"took no message within {self.deadline:g} s"
                else:
                    reason = f"did not take a message ({str(error.details())[:300]})"
                raise ChannelError(f"Party {peer} {reason}: connect anew.", peer) from error
            except ValueError as error:  # gRPC's way to say that the channel was closed meanwhile
                raise ChannelError("This mesh is closed: make a new one.", peer) from error

    # Server's side.

    def _peer_of(self, context: Any) -> int:
        """The rank whose pinned certificate the caller holds; refuses all others."""
        authenticated = context.auth_context()
        if list(authenticated.get("ssl_tls_version", [])) != [b"TLSv1.3"]:
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "the connection is not TLS 1.3.")
        try:
            (pem,) = authenticated["x509_pem_cert"]
            peer = self._pinned[certificate_der(pem)]
        except (KeyError, ValueError, EncodingError):
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "its certificate is not pinned.")
        if list(authenticated.get("x509_subject_alternative_name", [])) != [self._names[peer].encode()]:
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "its certificate has another name.")
        return peer

    def _refuse(self, context: Any, code: grpc.StatusCode, reason: str) -> NoReturn:
        context.abort(code, reason)
        raise ChannelError(reason)  # not reached: abort raises

    def _parsed(self, context: Any, peer: int, message: bytes, types: tuple[type, ...]) -> list[Any]:
        """The fields after the first, which is the rank that the sender claims."""
        try:
            fields = decode(message)
        except EncodingError as error:
            self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if not (isinstance(fields, list) and tuple(type(value) for value in fields) == (int, *types)):
            self._refuse(
                context, grpc.StatusCode.INVALID_ARGUMENT, "the message has other fields than it should."
            )
        if fields[0] != peer:
            reason = f"it claims to be party {fields[0]} with the certificate of party {peer}."
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, reason)
        return fields[1:]

    def _serve_hello(self, message: bytes, context: Any) -> bytes:
        peer = self._peer_of(context)
        (nonce,) = self._parsed(context, peer, message, (bytes,))
        return self._hear_hello(peer, nonce)

    def _serve_piece(self, message: bytes, context: Any) -> bytes:
        peer = self._peer_of(context)
        start = _HEAD.size + int.from_bytes(message[: _HEAD.size], "big")
        types = (bytes, bytes, int, int, bytes, int)
        *fields, offset = self._parsed(context, peer, message[_HEAD.size : start], types)
        try:
            timeout = context.time_remaining() or self.deadline
            self._take(peer, Header(*fields), offset, memoryview(message)[start:], timeout)
        except ChannelError as error:
            self._refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return b""
