"""A peer in a process of its own that is stopped, goes on, and is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from protocols.certificates import make_party_certificate
from protocols.errors import ChannelError
from protocols.mesh import GrpcMesh

DEADLINE = 2.0
PEER = """
import json, sys
from protocols.errors import ChannelError
from protocols.mesh import GrpcMesh

spec = json.loads(sys.stdin.readline())
certificates = [pem.encode() for pem in spec["certificates"]]
with GrpcMesh(1, "test", certificates, spec["key"].encode(), deadline=20) as mesh:
    print(mesh.port, flush=True)
    mesh.set_addresses([spec["address"], ""])
    while True:
        try:
            mesh.connect()
            while True:
                mesh.send(0, b"pong", mesh.receive(0, b"ping", 2**26)[:1])
        except ChannelError:
            pass
"""


def failure_of(call, limit):
    began = time.monotonic()
    with pytest.raises(ChannelError) as caught:
        call()
    assert time.monotonic() - began < limit
    return caught.value


@pytest.fixture
def mesh_and_peer():
    identities = [make_party_certificate(rank, "test") for rank in range(2)]
    pinned = [identity.certificate_pem for identity in identities]
    with GrpcMesh(0, "test", pinned, identities[0].private_key_pem, deadline=DEADLINE) as mesh:
        process = subprocess.Popen(
            [sys.executable, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            spec = {
                "certificates": [pem.decode() for pem in pinned],
                "key": identities[1].private_key_pem.decode(),
                "address": f"127.0.0.1:{mesh.port}",
            }
            process.stdin.write(json.dumps(spec) + "\n")
            process.stdin.flush()
            mesh.set_addresses(["", f"127.0.0.1:{int(process.stdout.readline())}"])
            yield mesh, process
        finally:
            process.kill()
            process.communicate()


def test_a_stopped_peer_is_named_at_the_deadline_and_met_again_and_a_killed_one_is_named(mesh_and_peer):
    mesh, process = mesh_and_peer

    def echo(size):
        sending = mesh.start_send(1, b"ping", b"x" * size)
        assert mesh.receive(1, b"pong", 1) == b"x"
        sending.wait()

    for size in (1, 30 << 20):  # one that fits into the system's buffers, and one that does not
        mesh.connect(30)
        echo(size)  # the control
        os.kill(process.pid, signal.SIGSTOP)
        error = failure_of(lambda size=size: echo(size), DEADLINE + 3)
        assert error.peer == 1
        assert str(DEADLINE)[:1] in str(error)
        assert failure_of(lambda: mesh.connect(0.5), 4).peer == 1
        os.kill(process.pid, signal.SIGCONT)
    mesh.connect(30)
    echo(1)
    process.kill()
    assert failure_of(lambda: echo(1), DEADLINE + 3).peer == 1
    assert failure_of(lambda: mesh.connect(0.5), 4).peer == 1
