"""The dealer as a process of its own, with parties in this one."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from protocols.committee import Committee
from protocols.dealer import DealerLink
from protocols.errors import ChannelError
from protocols.mesh import GrpcMesh
from protocols.norm_bounds import NormCheck
from securefl import consortium as members
from securefl.engines.dealer_node import DealerPlaces, serve_dealer
from securefl.engines.link import Link
from securefl.engines.local.children import free_ports
from securefl.errors import ConsortiumError, EngineError

PARTIES = ["anna", "berta"]
PROGRAM = """
import sys, threading
from pathlib import Path
from securefl.engines.dealer_node import DealerPlaces, serve_dealer
consortium, keys, socket, listen, *peers = sys.argv[1:]
serve_dealer("dora", DealerPlaces(Path(consortium), Path(keys), Path(socket), listen, peers))
if "torch" in sys.modules:
    sys.exit("a dealer needs no torch")
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dealer")
    members.create(folder, ["north", "south"], PARTIES, "dora")
    return folder


def places_of(home, ports):
    peers = [f"127.0.0.1:{port}" for port in ports]
    return DealerPlaces(home / "consortium.toml", home / "keys" / "dora", home / "s", peers[-1], peers)


@contextmanager
def dealer_process(places):
    places.socket.unlink(missing_ok=True)
    arguments = [places.consortium, places.keys, places.socket, places.listen, *places.peers]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)])
    try:
        end = time.monotonic() + 60
        while not places.socket.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        places.socket.unlink(missing_ok=True)


def mesh_of(home, rank, ports):
    consortium = members.load(home / "consortium.toml")
    keys = members.load_keys(home / "keys" / PARTIES[rank], consortium.member(PARTIES[rank]))
    mesh = GrpcMesh(rank, consortium.id, consortium.certificates, keys.tls, port=ports[rank], deadline=20)
    mesh.set_addresses([f"127.0.0.1:{port}" for port in ports])
    return mesh


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def checked(meshes, context):
    """Both parties' verdicts, of a new session."""
    check = NormCheck(size=500, width=32, bound=1, rows=2, row_bits=10, threshold=25, direct=False)
    shares = [np.array([[7, 9], [1, 1]], np.uint32), np.array([[2**32 - 4, 2**32 - 5], [5, 0]], np.uint32)]

    def party(rank):
        meshes[rank].connect()
        with Committee.join(meshes[rank].group([0, 1]), DealerLink(meshes[rank], 2)) as committee:
            return committee.check_norms(shares[rank], check, context)

    return together([lambda rank=rank: party(rank) for rank in (0, 1)])


def test_a_dealer_serves_session_after_session_and_comes_back_after_a_kill(home):
    ports = free_ports(3)
    places = places_of(home, ports)
    meshes = [mesh_of(home, rank, ports) for rank in (0, 1)]
    with dealer_process(places) as process:
        for context in (b"1", b"2"):
            assert checked(meshes, context) == [[True, False]] * 2
        assert oct(places.socket.stat().st_mode & 0o777) == "0o600"
        assert Link(places.socket).exchange(b"", 10).messages == []
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with dealer_process(places):
        assert checked(meshes, b"3") == [[True, False]] * 2
    for mesh in meshes:
        mesh.close()


def test_without_the_dealer_s_process_the_parties_name_it(home):
    ports = free_ports(3)
    meshes = [mesh_of(home, rank, ports) for rank in (0, 1)]

    def party(mesh):
        with pytest.raises(ChannelError) as caught:
            mesh.connect(deadline=1.0)
        return caught.value.peer

    assert together([lambda mesh=mesh: party(mesh) for mesh in meshes]) == [2, 2]
    for mesh in meshes:
        mesh.close()


@pytest.mark.parametrize("name", ["anna", "north", "emil"])
def test_only_the_consortium_s_dealer_may_be_served(home, name):
    with pytest.raises(EngineError, match="its dealer is dora"):
        serve_dealer(name, places_of(home, [1, 2, 3]))
    assert not (home / "s").exists()


def test_a_consortium_without_a_dealer_has_none_to_serve(tmp_path):
    members.create(tmp_path, ["north", "south"], PARTIES)
    with pytest.raises(EngineError, match="it has none"):
        serve_dealer("dora", places_of(tmp_path, [1, 2, 3]))


def test_a_wrong_place_is_refused(home, tmp_path):
    with pytest.raises(EngineError, match="of 3 peers, its own among them"):
        serve_dealer("dora", places_of(home, [20001, 20002]))
    places = places_of(home, [20001, 20002, 20003])
    other_keys = DealerPlaces(**{**vars(places), "keys": home / "keys" / "anna"})
    with pytest.raises(ConsortiumError, match="not the ones pinned"):
        serve_dealer("dora", other_keys)
    no_port = DealerPlaces(**{**vars(places), "listen": "127.0.0.1"})
    with pytest.raises(EngineError, match="host:port"):
        serve_dealer("dora", no_port)
