"""A SuperNode, by the words of its ``start.sh``, tells nothing to who is not its deployment's SuperLink.

Flower's own parser and client read these words and speak over TLS to a server that notes every request that it hears.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from flwr.common.args import try_obtain_root_certificates
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode, _try_setup_client_authentication
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from securefl import deploy
from securefl.deploy import authority
from securefl.deploy.plan import SUPERLINK_KEY, plan_folder
from securefl.deploy.settings import CA_FILE, COORDINATOR

ACTIVATION, MEMBER = "/v1/fleet/activate-node", "oslo"
MESH = {"uni": "127.0.0.1:7000", "registry": "127.0.0.1:7001"}


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A port at which anybody may answer; nobody does yet."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        yield server


@pytest.fixture
def folders(server: ThreadingHTTPServer, tmp_path: Path) -> Path:
    """A deployment whose SuperLink belongs at that port."""
    made = tmp_path / "made"
    deploy.init(made, [MEMBER, "bergen"], list(MESH), f"127.0.0.1:{server.server_port}", MESH)
    return made


@contextmanager
def answering(server: ThreadingHTTPServer, identity: Path) -> Iterator[list[str]]:
    """For the block, somebody answers there with a key and certificate; the requests that he hears."""
    heard: list[str] = []

    class Noting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    server.RequestHandlerClass = Noting
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()


def speak(folder: Path) -> None:
    """Ask for admission, as the SuperNode of a member's folder does first of all."""
    (command,) = [p.command for p in plan_folder(folder).processes if p.name == "supernode"]
    words = [str(folder / word) if (folder / word).is_file() else word for word in command[3:]]
    args = _parse_args_run_supernode().parse_args(words)
    keys = _try_setup_client_authentication(args)
    assert keys is not None
    with FleetHttpClient.from_server_address(
        args.superlink,
        args.insecure,
        try_obtain_root_certificates(args, args.superlink),
        interceptors=[NodeAuthHttpInterceptor(*keys)],
    ) as client:
        client.ActivateNode(
            ActivateNodeRequest(public_key=public_key_to_bytes(keys[1]), heartbeat_interval=60)
        )


def test_a_supernode_says_nothing_to_a_superlink_of_another_authority(
    server: ThreadingHTTPServer, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = authority.make_authority()
    (tmp_path / "ca.pem").write_bytes(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # not even if the whole computer trusts it
    (tmp_path / "impostor.pem").write_bytes(authority.make_superlink("127.0.0.1", key, certificate))
    with answering(server, tmp_path / "impostor.pem") as heard:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            speak(folders / MEMBER)
        assert not heard
        # The control: who asks the impostor whom to trust speaks to him.
        (folders / MEMBER / CA_FILE).write_bytes(certificate)
        with pytest.raises(httpx.HTTPStatusError):
            speak(folders / MEMBER)
        assert heard == [ACTIVATION]


def test_a_supernode_speaks_to_the_superlink_of_its_deployment(
    server: ThreadingHTTPServer, folders: Path
) -> None:
    with answering(server, folders / COORDINATOR / "keys" / SUPERLINK_KEY) as heard:
        with pytest.raises(httpx.HTTPStatusError):
            speak(folders / MEMBER)
        assert heard == [ACTIVATION]
