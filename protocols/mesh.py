"""The committee's transport between processes: gRPC with mutual TLS 1.3. (Inside one: :mod:`.mesh_in_process`.)

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
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc

from protocols.canonical import decode, encode
from protocols.certificates import certificate_der, check_party_certificate, party_name
from protocols.errors import ChannelError, EncodingError
from protocols.mesh_handshake import NONCE_BYTES, NotReadyError
from protocols.mesh_in_process import InProcessMesh as InProcessMesh
from protocols.mesh_in_process import in_process_meshes as in_process_meshes
from protocols.mesh_inbox import PIECE_BYTES as PIECE_BYTES
from protocols.mesh_inbox import Header
from protocols.mesh_session import Mesh

_SERVICE = "securefl.Mesh"
_HEAD = struct.Struct(">H")
_ALIGNMENT = 8
"""A piece begins at a multiple of this, so that 64-bit integers in it are added where they lie."""
_STOP_SECONDS = 0.5
_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", PIECE_BYTES + 2**16 + 16),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message stays small
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def _head(fields: list[Any]) -> bytes:
    """What precedes a piece: two bytes of length, the fields, zeros up to the alignment."""
    head = encode(fields)
    return _HEAD.pack(len(head)) + head + bytes(-(_HEAD.size + len(head)) % _ALIGNMENT)


def _said(error: Any) -> str:
    """What a peer, or gRPC, gives as the reason: at most 300 printable characters, since a peer may say anything."""
    return "".join(letter if letter.isprintable() else " " for letter in str(error.details())[:300])


class GrpcMesh(Mesh):
    """One party's server and its channels to the others.

    The server listens from construction on; ``port`` is the port it has. After :meth:`set_addresses`, ``connect()``
    forms a session; after any ChannelError (a peer was killed and came back, say) ``connect()`` forms the next, with
    the same object. A party that was itself restarted makes a new mesh, on the same port or with new addresses told
    to the others. Addresses need not be trusted.

    Args:
        rank: this party, 0 .. P-1.
        consortium: the consortium's id, as in the certificates' names.
        certificates: (P,) the pinned certificates in PEM, by rank, this party's among them; a dealer is one more rank.
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
        self._ranks: dict[bytes, int] = {}
        """The pinned certificates as gRPC writes them, once each was seen."""
        self._pinned = {certificate_der(certificates[peer]): peer for peer in self._others}
        self._addresses: dict[int, str] = {}
        self._channels: dict[int, Any] = {}
        self._channels_lock = threading.Lock()
        self._server, self.port = self._listen(host, port)

    def _listen(self, host: str, port: int) -> tuple[Any, int]:
        roots = b"".join(self._certificates[peer] for peer in self._others)
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
        for peer in self._others:
            if self._addresses.get(peer) != addresses[peer]:
                self._addresses[peer] = addresses[peer]
                self._drop([peer])

    def close(self) -> None:
        """Stop the server and leave. A message that has just arrived is still acknowledged."""
        super().close()
        self._server.stop(_STOP_SECONDS).wait()
        self._drop(self._others)

    # Client's side.

    def _drop_connections(self) -> None:
        # A connection may be dead and not know it, where the network lost it: it would hold up every later session.
        self._drop(self._others)

    def _drop(self, peers: Iterable[int]) -> None:
        with self._channels_lock:
            dropped = [self._channels.pop(peer) for peer in peers if peer in self._channels]
        for channel in dropped:
            channel.close()

    def _channel(self, peer: int) -> Any:
        if peer not in self._addresses:
            raise ChannelError(f"The address of party {peer} is not known: set the addresses first.", peer)
        with self._channels_lock:
            if self._closed:
                raise ChannelError("This mesh is closed: make a new one.")
            if peer not in self._channels:
                credentials = grpc.ssl_channel_credentials(
                    self._certificates[peer], self._private_key_pem, self._certificates[self.rank]
                )
                options = [*_OPTIONS, ("grpc.ssl_target_name_override", self._names[peer])]
                self._channels[peer] = grpc.secure_channel(self._addresses[peer], credentials, options)
            return self._channels[peer]

    def _say_hello(self, peer: int, nonce: bytes, timeout: float) -> bytes:
        call = self._channel(peer).unary_unary(f"/{_SERVICE}/hello")
        try:
            return bytes(call(encode([self.rank, nonce]), timeout=timeout))
        except grpc.RpcError as error:
            details = _said(error)
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise ChannelError(f"Party {peer} refused this party: {details}", peer) from error
            if "CERTIFICATE_VERIFY_FAILED" in details or "Verification Check failed" in details:
                raise ChannelError(
                    f"Whoever answers for party {peer} does not hold its pinned certificate: check its address.",
                    peer,
                ) from error
            raise NotReadyError(details) from error
        except ValueError as error:  # gRPC's way to say that the channel was closed meanwhile
            raise NotReadyError("its address was changed") from error

    def _transmit(self, peer: int, header: Header, payload: memoryview, timeout: float) -> None:
        # One unary call a piece: a piece is the unit of refusal, and takes a thread of the peer's only when it is
        # all there. Streams cost about a tenth less CPU time (measured with pieces of 1 to 8 MiB).
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
            message = b"".join([_head(fields), payload[offset : offset + PIECE_BYTES]])
            try:
                call(message, timeout=max(end - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    reason = f"took no message within {self.deadline:g} s"
                else:
                    reason = f"did not take a message ({_said(error)})"
                raise ChannelError(f"Party {peer} {reason}: connect anew.", peer) from error
            except ValueError as error:  # as above
                raise ChannelError(f"The channel to party {peer} was closed: connect anew.", peer) from error

    # Server's side.

    def _peer_of(self, context: Any) -> int:
        """The rank whose pinned certificate the caller holds; refuses all others."""
        authenticated = context.auth_context()
        if list(authenticated.get("ssl_tls_version", [])) != [b"TLSv1.3"]:
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "the connection is not TLS 1.3.")
        try:
            (pem,) = authenticated["x509_pem_cert"]
            if pem not in self._ranks:
                self._ranks[pem] = self._pinned[certificate_der(pem)]
            peer = self._ranks[pem]
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
        if len(nonce) != NONCE_BYTES:
            self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "the nonce has another length.")
        return self._hear_hello(peer, nonce)

    def _serve_piece(self, message: bytes, context: Any) -> bytes:
        peer = self._peer_of(context)
        end = _HEAD.size + int.from_bytes(message[: _HEAD.size], "big")
        start = end + -end % _ALIGNMENT
        types = (bytes, bytes, int, int, bytes, int)
        *fields, offset = self._parsed(context, peer, message[_HEAD.size : end], types)
        if any(message[end:start]):
            self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "the padding is not zero.")
        try:
            # The caller chooses its own patience, but not for how long it occupies a thread here.
            timeout = min(context.time_remaining() or self.deadline, self.deadline)
            self._take(peer, Header(*fields), offset, memoryview(message)[start:], timeout)
        except ChannelError as error:
            self._refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return b""
