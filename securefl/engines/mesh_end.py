"""A process's end of the committee's mesh: a party's or the dealer's."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import ProtocolError
from protocols.mesh import GrpcMesh
from securefl import consortium as members
from securefl.errors import EngineError


def mesh_end(
    name: str,
    rank: int,
    consortium: members.Consortium,
    certificates: list[bytes],
    keys: members.MemberKeys,
    listen: str,
    peers: Sequence[str],
    seconds: float,
) -> GrpcMesh:
    """Listen for the others.

    Args:
        name, rank: whose end it is.
        certificates: of all ends, by rank.
        listen: ``host:port`` of this one.
        peers: ``host:port`` of all, by rank.
        seconds: longest wait for another end.

    Raises:
        EngineError: there is not one address for each, or nobody can listen there.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or len(peers) != len(certificates) or keys.tls is None:
        raise EngineError(
            f"{name} needs host:port to listen on, and host:port of {len(certificates)} peers, its own among them: the "
            "parties by rank, and the dealer last where norms are checked."
        )
    try:
        mesh = GrpcMesh(
            rank, consortium.id, certificates, keys.tls, host=host, port=int(port), deadline=seconds
        )
        mesh.set_addresses(peers)
    except ProtocolError as error:
        raise EngineError(f"{name} cannot listen on {listen}. {error}") from error
    return mesh
