"""Mutants of the links that Flower makes: a SuperLink for everybody, a SuperNode that trusts anybody, an open socket.

What ships is the folders and command lines of ``securefl deploy``. They are read by Flower's own parsers, and carried
out by Flower's own server and client, in this process and over TLS.
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from securefl.audit.quiet import quiet
from securefl.audit.registry import Finding, Mutant
from securefl.deploy import authority, init
from securefl.deploy.plan import SUPERLINK_KEY, SUPERNODES, plan_folder
from securefl.deploy.settings import CA_FILE, COORDINATOR
from securefl.durable import private_folder, write
from securefl.engines.link import LinkServer, Reply
from securefl.errors import SecureFLError

MEMBER = "hungary"
START_SECONDS = 20.0

# -- a deployment ----------------------------------------------------------------------------------------------------


@contextmanager
def _deployment() -> Iterator[Path]:
    """The folders of a deployment on this computer, with the SuperLink at a free port."""
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name, socket.socket() as free, quiet():
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mesh = {"party-1": "127.0.0.1:7001", "party-2": "127.0.0.1:7002"}
        init(Path(name) / "all", [MEMBER, "cleveland"], list(mesh), f"127.0.0.1:{port}", mesh)
        yield Path(name) / "all"


def _words(folder: Path, process: str) -> list[str]:
    """The words that follow a process's own, with the folder's files where they are."""
    (command,) = [p.command for p in plan_folder(folder).processes if p.name == process]
    start = next(i for i, word in enumerate(command) if word.startswith("--"))
    return [str(folder / word) if (folder / word).is_file() else word for word in command[start:]]


@contextmanager
def _superlink(folders: Path, changed: Callable[[list[str]], list[str]] = list) -> Iterator[None]:
    """The coordinator's SuperLink, in this process, with the members' keys registered; and some words changed."""
    import uvicorn
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key
    from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink
    from flwr.superlink.main import create_app

    coordinator = folders / COORDINATOR
    args = _parse_args_run_superlink().parse_args(changed(_words(coordinator, "superlink")))
    app = create_app()
    app.state.enable_supernode_auth = args.enable_supernode_auth
    for path in sorted((coordinator / SUPERNODES).glob("*.pub")):
        public: Any = load_ssh_public_key(path.read_bytes())
        app.state.linkstate_factory.state().create_node(
            NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(public), 0
        )
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=args.port, ssl_keyfile=args.ssl_keyfile, ssl_certfile=args.ssl_certfile,
            log_config=None, log_level="critical",
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, name="audit-superlink", daemon=True)
    thread.start()
    end = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < end:
        time.sleep(0.02)
    try:
        if not server.started:
            raise SecureFLError("The SuperLink did not start.")
        yield
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)


def _let_in(words: Sequence[str], key: bytes | None = None, registers: bool = False) -> str:
    """Connect as a SuperNode with these words does.

    Args:
        key: another one than the words name, in OpenSSH's form.
        registers: ask to be registered first, as a SuperNode without a key does.

    Returns:
        How it was turned away; empty if it was let in.
    """
    import httpx
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.common.args import try_obtain_root_certificates
    from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
    from flwr.supercore.error import FlowerError
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.cli.flower_supernode import (
        _parse_args_run_supernode,
        _try_setup_client_authentication,
    )
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    args = _parse_args_run_supernode().parse_args(list(words))
    keys: Any = _try_setup_client_authentication(args)
    if key is not None:
        private: Any = load_ssh_private_key(key, None)
        keys = private, private.public_key()
    public = public_key_to_bytes(keys[1])
    client: Any
    try:
        with FleetHttpClient.from_server_address(
            args.superlink, args.insecure, try_obtain_root_certificates(args, args.superlink),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(*keys)],
        ) as client:  # fmt: skip
            if registers:
                client.RegisterNode(RegisterNodeFleetRequest(public_key=public))
            client.ActivateNode(ActivateNodeRequest(public_key=public, heartbeat_interval=60))
    except (httpx.HTTPError, FlowerError) as error:
        return str(error) or type(error).__name__
    return ""


# -- a SuperLink for everybody ---------------------------------------------------------------------------------------


def _strangers(folders: Path) -> list[str]:
    """How strangers fare: with a key of their own, once as it is and once after asking to be registered."""
    words = _words(folders / MEMBER, "supernode")
    return [_let_in(words, authority.make_supernode_key()[0], registers) for registers in (False, True)]


def _without_keys(words: list[str]) -> list[str]:
    """As Flower's SuperLink is when nothing is said."""
    return [word for word in words if word != "--enable-supernode-auth"]


def _everybody_breaks() -> Finding:
    with _deployment() as folders, _superlink(folders, _without_keys):
        _, registered = _strangers(folders)
    said = f"A stranger who makes a key and asks to be registered {'is not' if registered else 'is'} let in."
    return Finding(not registered, said, {"strangers": int(not registered)})


def _everybody_caught() -> Finding:
    with _deployment() as folders, _superlink(folders):
        strangers = _strangers(folders)
        member = _let_in(_words(folders / MEMBER, "supernode"))
    inside = strangers.count("")
    said = (
        f"{inside} of {len(strangers)} strangers are let in, one with a key of its own and one that asks to be "
        f"registered; {MEMBER} {'is not' if member else 'is'}."
    )
    return Finding(not inside and not member, said, {"strangers": inside, "members": int(not member)})


# -- a SuperNode that trusts anybody ---------------------------------------------------------------------------------


def _impostor(folders: Path) -> bytes:
    """Somebody else answers where the SuperLink does, with a certificate for that address of an authority of his own.

    Returns:
        That authority's certificate.
    """
    key, certificate = authority.make_authority()
    write(
        folders / COORDINATOR / "keys" / SUPERLINK_KEY,
        authority.make_superlink("127.0.0.1", key, certificate),
    )
    return certificate


def _anybody_breaks() -> Finding:
    with _deployment() as folders:
        # The naive SuperNode asks whoever answers whom it is to trust.
        write(folders / MEMBER / CA_FILE, _impostor(folders))
        with _superlink(folders):
            said = _let_in(_words(folders / MEMBER, "supernode"))
    told = f"A SuperNode that is told by the impostor whom to trust {'does not speak' if said else 'speaks'} to him."
    return Finding(not said, told, {"impostors": int(not said)})


def _anybody_caught() -> Finding:
    with _deployment() as folders:
        words = _words(folders / MEMBER, "supernode")
        with _superlink(folders):
            real = _let_in(words)
        _impostor(folders)
        with _superlink(folders):
            said = _let_in(words)
    refused = "CERTIFICATE_VERIFY_FAILED" in said
    told = (
        f"With its deployment's authority alone it {'does not speak' if refused else 'speaks'} to the impostor"
        f"{'' if real else ', and it does to the SuperLink'}."
    )
    return Finding(refused and not real, told, {"impostors": int(not refused), "superlinks": int(not real)})


# -- a socket for everybody ------------------------------------------------------------------------------------------


def _open_to_others(path: Path) -> bool:
    """Whether another user of the computer may connect: that takes the right to write."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o066)


@contextmanager
def _open_umask() -> Iterator[None]:
    """A service that was started with no umask at all."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def _party_socket() -> tuple[int, list[str]]:
    """The mode of a party's socket, and which of it and its folder are open to other users."""
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        folder = private_folder(Path(name) / "home")
        server = LinkServer(folder / "party", lambda _target, _message: Reply([]))
        try:
            server.start()
            mode = stat.S_IMODE((folder / "party").stat().st_mode)
            return mode, [path.name for path in (folder, folder / "party") if _open_to_others(path)]
        finally:
            server.close()


def _told_of_socket(mode: int, open_: list[str]) -> str:
    return f"The party's socket has the mode {mode:04o}; {len(open_)} of socket and folder are open to other users."


def _umask_as_it_is() -> AbstractContextManager[object]:
    """For the block, the shipped link makes its socket under the service's umask."""
    return mock.patch.object(os, "umask", return_value=0)


def _socket_breaks() -> Finding:
    with _open_umask(), _umask_as_it_is():
        mode, open_ = _party_socket()
    return Finding("party" in open_, _told_of_socket(mode, open_), {"open": len(open_)})


def _socket_caught() -> Finding:
    with _open_umask():
        mode, open_ = _party_socket()
    return Finding(not open_ and mode == 0o600, _told_of_socket(mode, open_), {"open": len(open_)})


MUTANTS = (
    Mutant(
        "superlink-for-everybody",
        "superlink-and-members-are-known",
        "The SuperLink registers whoever asks, as Flower's does when nothing is said.",
        _everybody_breaks,
        _everybody_caught,
    ),
    Mutant(
        "authority-by-whoever-answers",
        "superlink-and-members-are-known",
        "A SuperNode takes the authority's certificate from whoever answers for the SuperLink.",
        _anybody_breaks,
        _anybody_caught,
    ),
    Mutant(
        "socket-for-everybody",
        "local-socket-is-private",
        "The party's local socket is made as any file is, under the service's umask.",
        _socket_breaks,
        _socket_caught,
    ),
)
