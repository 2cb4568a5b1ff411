"""What a sum over the committee costs on the channel, beside gloo, CrypTen's own transport, which has no TLS.

P processes hold a mesh with mutual TLS and P others a gloo group, all on the loopback address and on one thread each.
They take turns, so that both meet the same machine; whoever has not its turn waits without computing. Each repetition
begins at a barrier, sums one vector of 64-bit integers over the parties and ends when the last party has the sum.

Floor: whatever the algorithm, each of P parties must send, and receive, 2 (P-1)/P times the vector (a reduce-scatter
and an all-gather; Patarasuk and Yuan 2009, section 3). Gloo sends that and nothing else. With TLS every one of these
bytes is also encrypted once and decrypted once: about 0.5 ns each on the machine where this was written, so that for
40 MB and three parties a process's floor is gloo's 55 ms of CPU time and 50 ms more.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from protocols.certificates import make_party_certificate
from securefl.bench.process import BenchProcess, Hear, Say, converse
from securefl.errors import EngineError
from securefl.training.determinism import single_thread

Figures = dict[str, Any]
_CONSORTIUM = "bench"
_SECONDS = 120.0
_CONTEXT = b"bench channel"


def measure_channel(elements: int, parties: int, repeats: int) -> Figures:
    """Measure the sum of D int64 over P parties, ours and gloo's in turns.

    Args:
        elements: D, at least 1.
        parties: P, at least 2.
        repeats: repetitions of each, at least 1, after one that is not counted.

    Returns:
        Medians over ``repeats``: ``ours_seconds`` and ``gloo_seconds`` from the barrier to the last party's sum, and
        their ``ratio``; ``ratio_least`` and ``ratio_most`` over single repetitions, each beside gloo's next to it;
        ``ours_cpu_seconds`` and ``gloo_cpu_seconds``, of all threads of a process, the mean over the processes;
        ``ours_sent_bytes`` and ``floor_sent_bytes``, what a party sends and must send, without framing.

    Raises:
        EngineError: a process failed, or a sum is not the sum.
    """
    ours: list[Figures] = []
    gloo: list[Figures] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="securefl-bench-"))
        our_team, gloo_team = (
            [
                stack.enter_context(
                    BenchProcess(f"Process {rank} of {kind}", "securefl.bench.channel", [kind])
                )
                for rank in range(parties)
            ]
            for kind in ("ours", "gloo")
        )
        _introduce(our_team, gloo_team, elements, Path(folder) / "store")
        # The first repetition grows buffers and windows.
        for repeat in range(repeats + 1):
            for team, figures in ((our_team, ours), (gloo_team, gloo)):
                figure = _turn(team)
                if repeat:
                    figures.append(figure)
    ratios = [mine["seconds"] / its["seconds"] for mine, its in zip(ours, gloo, strict=True)]
    ours_seconds, gloo_seconds = (median(f["seconds"] for f in figures) for figures in (ours, gloo))
    return {
        "elements": elements,
        "parties": parties,
        "ours_seconds": round(ours_seconds, 4),
        "gloo_seconds": round(gloo_seconds, 4),
        "ratio": round(ours_seconds / gloo_seconds, 2),
        "ratio_least": round(min(ratios), 2),
        "ratio_most": round(max(ratios), 2),
        "ours_cpu_seconds": round(median(f["cpu_seconds"] for f in ours), 4),
        "gloo_cpu_seconds": round(median(f["cpu_seconds"] for f in gloo), 4),
        "ours_sent_bytes": int(median(f["sent_bytes"] for f in ours)),
        "floor_sent_bytes": 2 * (parties - 1) * 8 * elements // parties,
    }


def _process(kind: str, rank: int) -> BenchProcess:
    return BenchProcess(f"Process {rank} of {kind}", "securefl.bench.channel", [kind])


def _introduce(ours: list[BenchProcess], gloo: list[BenchProcess], elements: int, store: Path) -> None:
    made = [make_party_certificate(rank, _CONSORTIUM) for rank in range(len(ours))]
    certificates = [one.certificate_pem.decode() for one in made]
    for rank, process in enumerate(ours):
        key = made[rank].private_key_pem.decode()
        process.say({"rank": rank, "elements": elements, "certificates": certificates, "key": key})
    for rank, process in enumerate(gloo):
        process.say({"rank": rank, "elements": elements, "parties": len(gloo), "store": str(store)})
    addresses = [f"127.0.0.1:{process.hear()['port']}" for process in ours]
    for process in ours:
        process.say({"addresses": addresses})
    for process in [*ours, *gloo]:
        process.hear()


def _turn(team: list[BenchProcess]) -> Figures:
    for process in team:
        process.say({"begin": True})
    answers = [process.hear() for process in team]
    if not all(answer["right"] for answer in answers):
        raise EngineError("A sum over the committee is not the sum of the parties' vectors.")
    return {
        "seconds": max(answer["seconds"] for answer in answers),
        "cpu_seconds": sum(answer["cpu_seconds"] for answer in answers) / len(answers),
        "sent_bytes": max(answer["sent_bytes"] for answer in answers),
    }


# Below: in the child.


def _serve(kind: str, hear: Hear, say: Say) -> None:
    with ExitStack() as stack:
        spec = hear()
        party = _ours if kind == "ours" else _gloo
        parties, barrier, total, sent_bytes = party(spec, hear, say, stack)
        single_thread()
        vectors = [_vector(rank, spec["elements"]) for rank in range(parties)]
        mine, expected = vectors[spec["rank"]], sum(vectors[1:], start=vectors[0].clone())
        del vectors
        say({"ready": True})
        while True:
            hear()
            barrier()
            cpu, began = time.process_time(), time.perf_counter()
            result = total(mine)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            right = bool((result == expected).all())
            say({"seconds": seconds, "cpu_seconds": cpu, "sent_bytes": sent_bytes(), "right": right})


_Party = tuple[int, Callable[[], object], Callable[[Any], Any], Callable[[], int]]
"""P, a barrier, the sum over the parties, and the bytes that this party sent for the latest sum."""


def _ours(spec: Figures, hear: Hear, say: Say, stack: ExitStack) -> _Party:
    from protocols.crypten_repairs import import_crypten
    from protocols.mesh import GrpcMesh

    certificates = [pem.encode() for pem in spec["certificates"]]
    mesh = GrpcMesh(spec["rank"], _CONSORTIUM, certificates, spec["key"].encode(), deadline=_SECONDS)
    stack.enter_context(mesh)
    say({"port": mesh.port})
    import_crypten()
    from protocols.channel import MeshCommunicator

    mesh.set_addresses(hear()["addresses"])
    mesh.connect()
    communicator = MeshCommunicator(mesh)
    stack.enter_context(communicator.active(_CONTEXT))

    def total(vector: Any) -> Any:
        communicator.reset_communication_stats()
        return communicator.all_reduce(vector)

    return mesh.world_size, communicator.barrier, total, lambda: communicator.comm_bytes


def _gloo(spec: Figures, _hear: Hear, _say: Say, stack: ExitStack) -> _Party:
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    parties = spec["parties"]
    dist.init_process_group(
        "gloo",
        init_method=f"file://{spec['store']}",
        rank=spec["rank"],
        world_size=parties,
        timeout=timedelta(seconds=_SECONDS),
    )
    stack.callback(dist.destroy_process_group)

    def total(vector: Any) -> Any:
        result = vector.clone()  # as CrypTen's communicator does: the input stays as it is
        dist.all_reduce(result)
        return result

    return parties, dist.barrier, total, lambda: 0


def _vector(rank: int, elements: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(rank)
    return torch.randint(-(2**63), 2**63 - 1, (elements,), generator=generator)


if __name__ == "__main__":
    converse(partial(_serve, sys.argv[1]))
