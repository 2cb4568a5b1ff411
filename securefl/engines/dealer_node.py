"""The dealer as a process: keys and a mesh, no study, no memory and no data."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.dealer import Dealer
from securefl import consortium as members
from securefl.engines.link import LinkServer, Reply
from securefl.engines.mesh_end import mesh_end
from securefl.errors import EngineError

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 60.0
"""Longest that a party may take to accept a message. How long a session may stand idle is another matter: days."""


@dataclass(frozen=True)
class DealerPlaces:
    """Where a dealer finds and keeps things.

    Attributes:
        consortium: the pinned keys of everybody.
        keys: folder of its private keys.
        socket: exists as soon as it serves; whoever sends a message there gets an empty answer, a sign of life.
        listen: ``host:port`` of its end of the mesh.
        peers: ``host:port`` of every party's end by rank, and its own last.
    """

    consortium: Path
    keys: Path
    socket: Path
    listen: str
    peers: Sequence[str]


def serve_dealer(name: str, places: DealerPlaces) -> LinkServer:
    """Start the dealer; it serves until the process ends, through any number of sessions of its parties.

    Raises:
        SecureFLError: keys or port are not as they must be, or the consortium has another dealer or none.
    """
    consortium = members.load(places.consortium)
    member = consortium.dealer
    if member is None or member.name != name:
        other = "it has none" if member is None else f"its dealer is {member.name}"
        raise EngineError(f"{name} is not the dealer of this consortium: {other}.")
    keys, certificates = members.load_keys(places.keys, member), consortium.certificates
    mesh = mesh_end(
        name,
        len(certificates) - 1,
        consortium,
        certificates,
        keys,
        places.listen,
        places.peers,
        DEADLINE_SECONDS,
    )
    dealer = Dealer(mesh)
    server = LinkServer(places.socket, lambda _target, _message: Reply([]))

    def serve() -> None:
        try:
            dealer.serve()
        finally:
            server.close()  # no sign of life without a dealer

    server.start()
    threading.Thread(target=serve, name="dealer", daemon=True).start()
    log.info("%s deals on mesh port %d", name, mesh.port)
    return server
