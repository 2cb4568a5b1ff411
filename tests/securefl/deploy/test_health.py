"""Health checks against real listeners: a SuperLink's TLS, a SuperNode's interface, a party's socket."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securefl import deploy
from securefl.deploy import authority
from securefl.deploy.plan import plan_folder
from securefl.engines.link import LinkServer, Reply
from securefl.errors import ConsortiumError, EngineError


def free_port() -> int:
    """One that is free now, and that a deployment takes."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := probe.getsockname()[1]) <= 60000:
                return port


@pytest.fixture
def here(tmp_path) -> Path:
    """A consortium on this computer."""
    mesh = {"uni": f"127.0.0.1:{free_port()}", "registry": f"127.0.0.1:{free_port()}"}
    deploy.init(
        tmp_path / "here", ["oslo", "bergen"], ["uni", "registry"], f"127.0.0.1:{free_port()}", mesh,
        local_port=free_port(),
    )  # fmt: skip
    return tmp_path / "here"


@pytest.fixture
def serve() -> Iterator[Callable[..., None]]:
    """Serve HTTP, with TLS if there is a key file."""
    servers = []

    def serve(port: int, pem: Path | None = None, status: int = 200) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/health" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem, pem)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def ports(folder: Path) -> dict[str, int]:
    return {
        process.name: process.local_port or process.port or 0 for process in plan_folder(folder).processes
    }


def test_a_superlink_is_well_under_its_certificate_only(here, serve):
    folder = here / "coordinator"
    port = ports(folder)["superlink"]
    with pytest.raises(EngineError, match="does not answer"):
        deploy.check(folder)
    serve(port, folder / "keys" / "superlink.pem")
    assert deploy.check(folder) == [f"The SuperLink answers at 127.0.0.1:{port}."]
    (folder / "ca.pem").write_bytes(authority.make_authority()[1])
    with pytest.raises(EngineError, match="certificate that is refused"):
        deploy.check(folder)
    (folder / "ca.pem").unlink()
    with pytest.raises(EngineError, match=r"ca\.pem cannot be read"):
        deploy.check(folder)


def test_an_ended_certificate_is_not_well(here, serve):
    folder = here / "coordinator"
    key, roots = (here / "authority" / "ca.key").read_bytes(), (here / "authority" / "ca.pem").read_bytes()
    (here / "ended.pem").write_bytes(authority.make_superlink("127.0.0.1", key, roots, days=0))
    serve(ports(folder)["superlink"], here / "ended.pem")
    with pytest.raises(EngineError, match="expired"):
        deploy.check(folder)


def test_a_supernode_lives_without_its_superlink_but_is_not_ready(here, serve):
    folder = here / "oslo"
    with pytest.raises(EngineError, match=r"SuperNode of oslo .* does not answer"):
        deploy.check(folder)
    serve(ports(folder)["supernode"])
    assert deploy.check(folder, "supernode") == [
        f"The SuperNode of oslo answers at 127.0.0.1:{ports(folder)['supernode']}."
    ]
    with pytest.raises(EngineError, match=r"SuperLink .* does not answer"):
        deploy.check(folder, "supernode", ready=True)
    serve(ports(here / "coordinator")["superlink"], here / "coordinator" / "keys" / "superlink.pem")
    assert len(deploy.check(folder, "supernode", ready=True)) == 2


def test_an_answer_that_is_none_is_not_well(here, serve):
    serve(ports(here / "oslo")["supernode"], status=503)
    with pytest.raises(EngineError, match="status 503"):
        deploy.check(here / "oslo")


def test_a_party_is_well_while_it_takes_messages(here):
    # A socket's path may have at most about 100 characters.
    short = Path(tempfile.mkdtemp(prefix="securefl-"))
    try:
        folder = shutil.copytree(here / "uni", short / "uni")
        with pytest.raises(EngineError, match="does not take messages"):
            deploy.check(folder, "party")
        server = LinkServer(folder / "run" / "party.sock", lambda _target, _message: Reply([]))
        server.start()
        assert len(deploy.check(folder, "party")) == 1
        with pytest.raises(EngineError, match="mesh port"):
            deploy.check(folder, "party", ready=True)
        with socket.create_server(("127.0.0.1", ports(folder)["party"])):
            assert len(deploy.check(folder, "party", ready=True)) == 2
        with pytest.raises(EngineError, match="SuperNode"):
            deploy.check(folder)  # all of its processes
        server.close()
        (folder / "run" / "party.sock").unlink()
        with pytest.raises(EngineError, match="does not take messages"):
            deploy.check(folder, "party")
    finally:
        shutil.rmtree(short)


def test_a_process_of_another_role_is_refused(here):
    with pytest.raises(ConsortiumError, match="oslo has no process party: it has supernode"):
        deploy.check(here / "oslo", "party")
