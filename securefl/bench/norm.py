"""What the norm check costs: P parties and a dealer as real processes with mutual TLS, real envelopes on disk.

Each party runs the job that the engine runs (``CheckNorms``): reveal the coin's parts, open K envelopes, expand and
project the shares, and run the committee's program. Floor: a party must read K D w/8 bytes or make them from seeds, and
multiply them with m rows; on the network, K m projections pass the program's gates, whatever D.
"""

from __future__ import annotations

import base64
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from protocols.certificates import make_party_certificate
from protocols.contribution import RoundContext, contribute
from protocols.envelope import SealingKey
from protocols.norm_bounds import NormCheck, passing
from protocols.prg import new_seed
from protocols.projection import commit
from protocols.ring import Encoding
from securefl.bench.process import BenchProcess, Hear, Line, Say, converse
from securefl.errors import EngineError
from securefl.roles.effects import CheckNorms, CommitteeFailed, NormsChecked, coin_context
from securefl.roles.host import Store
from securefl.roles.party import spool
from securefl.roles.terms import UPDATE
from securefl.training.determinism import single_thread

Figures = dict[str, Any]
_CONSORTIUM = "bench"
_BOUND = 0.25
_OFFENDER = 1


def measure_norm(parameters: int, hospitals: int, parties: int, width: int, repeats: int) -> Figures:
    """Measure the norm check of K updates of D parameters by P parties; one of the updates has twice the bound.

    Returns:
        Medians over ``repeats``: ``seconds`` from the start of the first party to the end of the last, the largest
        ``party_cpu_seconds``, the largest ``party_sent_bytes`` between the parties, ``party_peak_mib`` of the process.

    Raises:
        EngineError: a process failed, or the verdicts are not that the one offender is out and all others are in.
    """
    names = [f"party-{j}" for j in range(parties)]
    keys = {name: SealingKey.generate() for name in names}
    context = RoundContext(
        study=bytes(32),
        round=1,
        attempt=1,
        previous=bytes(32),
        purpose=UPDATE,
        model=bytes(32),
        parties=names,
        width=width,
        size=parameters,
    )
    bound = 600 if width == 16 else 2**24
    check = NormCheck.for_bound(parameters, width, bound)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="securefl-bench-")))
        _write_envelopes(folder, context, hospitals, keys, bound)
        team = [
            stack.enter_context(BenchProcess(name, "securefl.bench.norm", [str(rank)]))
            for rank, name in enumerate([*names, "dealer"])
        ]
        _introduce(team, folder, context, hospitals, keys, bound)
        # The first repetition forms the committee and grows buffers.
        runs = [_turn(team[:-1]) for _ in range(repeats + 1)][1:]
    return {
        "parameters": parameters,
        "hospitals": hospitals,
        "parties": parties,
        "width": width,
        "rows": check.rows,
        "passing_log2": round(passing(check, 2.0), 1),
        **{name: round(median(run[name] for run in runs), 3) for name in runs[0]},
    }


def _write_envelopes(
    folder: Path, context: RoundContext, hospitals: int, keys: dict[str, SealingKey], bound: int
) -> None:
    """Updates of norm just below the bound, and the offender's of twice the bound."""
    publics = {name: key.public for name, key in keys.items()}
    encoding = Encoding(context.width, 0, hospitals)
    direction = np.random.default_rng(1).standard_normal(context.size)
    direction /= np.linalg.norm(direction)
    room = np.sqrt(context.size) / 2
    honest = encoding.encode(direction * max(0.0, bound - room))
    offender = encoding.encode(direction * (2 * bound + 2 * room))
    for k in range(hospitals):
        hospital = _hospital(k)
        x = offender if k == _OFFENDER else honest
        _, envelopes = contribute(x, context, hospital, publics, new_seed())
        for name, envelope in zip(keys, envelopes, strict=True):
            Store(folder / name).put(spool(hospital), envelope)


def _hospital(k: int) -> str:
    return f"hospital-{k:04d}"


def _introduce(
    team: list[BenchProcess],
    folder: Path,
    context: RoundContext,
    hospitals: int,
    keys: dict[str, SealingKey],
    bound: int,
) -> None:
    made = [make_party_certificate(rank, _CONSORTIUM) for rank in range(len(team))]
    parts = [new_seed() for _ in keys]
    for rank, process in enumerate(team):
        name = [*keys, "dealer"][rank]
        private = keys[name].private_bytes() if name in keys else b""
        process.say(
            {
                "name": name,
                "certificates": [one.certificate_pem.decode() for one in made],
                "tls": made[rank].private_key_pem.decode(),
                "store": str(folder / name),
                "context": _text(context.to_bytes()),
                "sealing": _text(private),
                "parts": [_text(part) for part in parts],
                "hospitals": hospitals,
                "bound": bound,
            }
        )
    addresses = [f"127.0.0.1:{process.hear()['port']}" for process in team]
    for process in team:
        process.say({"addresses": addresses})
    for process in team:
        process.hear()


def _turn(parties: list[BenchProcess]) -> Line:
    began = time.perf_counter()
    for process in parties:
        process.say({"begin": True})
    answers = [process.hear() for process in parties]
    seconds = time.perf_counter() - began
    if not all(answer["right"] for answer in answers):
        raise EngineError("The verdicts are not those that the updates deserve.")
    largest = {name: max(answer[name] for answer in answers) for name in answers[0] if name != "right"}
    return {"seconds": seconds, **largest}


# Below: in the child.


def _work(hear: Hear, say: Say) -> None:
    from protocols.dealer import Dealer
    from protocols.mesh import GrpcMesh

    single_thread()
    rank, spec = int(sys.argv[1]), hear()
    certificates = [pem.encode() for pem in spec["certificates"]]
    with GrpcMesh(rank, _CONSORTIUM, certificates, spec["tls"].encode(), deadline=60.0) as mesh:
        say({"port": mesh.port})
        mesh.set_addresses(hear()["addresses"])
        if spec["name"] == "dealer":
            say({"ready": True})
            Dealer(mesh).serve()
        _check(rank, spec, mesh, hear, say)


def _check(rank: int, spec: Line, mesh: Any, hear: Hear, say: Say) -> None:
    from securefl.roles.committee_runner import CommitteeRunner

    context = RoundContext.from_bytes(_bytes(spec["context"]))
    hospitals = [_hospital(k) for k in range(spec["hospitals"])]
    within = frozenset(name for k, name in enumerate(hospitals) if k != _OFFENDER)
    check = NormCheck.for_bound(context.size, context.width, spec["bound"])
    runner = CommitteeRunner(spec["name"], context.parties, mesh, Store(Path(spec["store"])), dealer=True)
    parts = [_bytes(part) for part in spec["parts"]]
    say({"ready": True})
    for repeat in range(10**6):
        hear()
        frozen = context.model_copy(update={"attempt": repeat + 1}).digest()
        commitments = [
            commit(part, coin_context(frozen, name))
            for name, part in zip(context.parties, parts, strict=True)
        ]
        job = CheckNorms(
            context,
            spec["name"],
            frozen,
            {hospital: spool(hospital) for hospital in hospitals},
            check,
            SealingKey(_bytes(spec["sealing"])),
            parts[rank],
            commitments,
            1,
        )
        cpu, sent = time.process_time(), runner.sent_bytes
        done = runner.run(job)
        if isinstance(done, CommitteeFailed):
            raise EngineError(done.explanation)
        say(
            {
                "right": isinstance(done, NormsChecked) and done.within == within,
                "party_cpu_seconds": time.process_time() - cpu,
                "party_sent_bytes": runner.sent_bytes - sent,
                "party_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


if __name__ == "__main__":
    converse(_work)
