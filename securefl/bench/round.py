"""What a round costs: CPU time and bytes of a hospital and of a party, beside plaintext averaging in the same process.

The real code runs: contributions are shared, sealed and signed, parts lie on disk, each party streams them through
``CommitteeRunner`` and opens over a mesh inside this process. Floors: a hospital must send D w/8 bytes and read D
numbers once; a party must read K D w/8 bytes of shares or make them from seeds, and send its share to P - 1 others.
"""

from __future__ import annotations

import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from protocols.contribution import RoundContext, contribute, sign
from protocols.crypten_repairs import import_crypten
from protocols.envelope import SealingKey
from protocols.mesh import in_process_meshes
from protocols.prg import new_seed
from protocols.ring import Encoding, signed
from protocols.sharing import share
from protocols.signing import SigningKey
from securefl.errors import EngineError
from securefl.roles.committee_runner import CommitteeRunner
from securefl.roles.effects import AddShares, CommitteeFailed, JobDone, OpenSum, SharesAdded, SumOpened
from securefl.roles.host import Store
from securefl.roles.messages import SignedContribution
from securefl.roles.party import spool
from securefl.roles.party_memory import SHARE
from securefl.roles.terms import UPDATE
from securefl.training.determinism import single_thread

Figures = dict[str, Any]
_FLOAT32 = 4


def measure_round(parameters: int, hospitals: int, parties: int, width: int, repeats: int) -> Figures:
    """Measure one round with D parameters, K hospitals, P parties, w bits.

    Returns:
        CPU milliseconds, medians over ``repeats``: ``client_cpu_ms`` to encode, share, seal, digest and sign one update
        (``client_message_ms``, to write the message down, is not in it), ``party_cpu_ms`` to open K envelopes, expand,
        add and open the sum; bytes and their ratio to float32; the party's peak of allocated memory in MiB.

    Raises:
        EngineError: the opened sum is not the sum of the encoded integers.
    """
    single_thread()
    import_crypten()
    encoding = Encoding.for_bound(width, 1.0 if width > 16 else 0.25, hospitals)
    names = [f"hospital-{k:04d}" for k in range(hospitals)]
    keys = {f"party-{j}": SealingKey.generate() for j in range(parties)}
    context = RoundContext(
        study=bytes(32),
        round=1,
        attempt=1,
        previous=bytes(32),
        purpose=UPDATE,
        model=bytes(32),
        parties=list(keys),
        width=width,
        size=parameters,
    )
    updates = np.random.default_rng(1).uniform(-0.01, 0.01, (min(hospitals, 4), parameters))
    figures: Figures = {"parameters": parameters, "hospitals": hospitals, "parties": parties, "width": width}
    figures |= _client(updates[0], encoding, context, names[0], keys, repeats)
    figures["plaintext_cpu_ms"] = _plaintext(updates, hospitals, repeats)
    with tempfile.TemporaryDirectory(prefix="securefl-bench-") as folder:
        stores = [Store(Path(folder) / party) for party in keys]
        expected = np.zeros(parameters, dtype=np.int64)
        for k, name in enumerate(names):
            x = encoding.encode(updates[k % len(updates)])
            expected += signed(x)
            publics = {party: key.public for party, key in keys.items()}
            _, envelopes = contribute(x, context, name, publics, new_seed())
            for store, envelope in zip(stores, envelopes, strict=True):
                store.put(spool(name), envelope)
        figures |= _parties(context, names, keys, stores, expected, repeats)
    return figures


def _client(
    update: Any,
    encoding: Encoding,
    context: RoundContext,
    name: str,
    keys: dict[str, SealingKey],
    repeats: int,
) -> Figures:
    publics = {party: key.public for party, key in keys.items()}
    signing = SigningKey.generate()
    x = encoding.encode(update)

    def protect() -> SignedContribution:
        contribution, envelopes = contribute(encoding.encode(update), context, name, publics, new_seed())
        signature = sign(contribution, signing)
        return SignedContribution(contribution=contribution, signature=signature, envelopes=envelopes)

    def only_share() -> None:
        share(x, len(keys), 0, b"bench")

    total, encode = _cpu_ms(protect, repeats), _cpu_ms(lambda: encoding.encode(update), repeats)
    sharing = _cpu_ms(only_share, repeats)
    message = protect()
    upload = len(message.to_bytes())
    return {
        "client_cpu_ms": total,
        "client_encode_ms": encode,
        "client_share_ms": sharing,
        "client_seal_ms": round(max(0.0, total - encode - sharing), 3),
        "client_message_ms": _cpu_ms(message.to_bytes, repeats),
        "upload_bytes": upload,
        "upload_ratio": round(upload / (_FLOAT32 * update.size), 4),
    }


def _plaintext(updates: Any, hospitals: int, repeats: int) -> float:
    plain = updates.astype(np.float32)

    def average() -> None:
        total = np.zeros(plain.shape[1], dtype=np.float32)
        for k in range(hospitals):
            total += plain[k % len(plain)]
        total /= hospitals

    return _cpu_ms(average, repeats)


def _parties(
    context: RoundContext,
    names: list[str],
    keys: dict[str, SealingKey],
    stores: list[Store],
    expected: Any,
    repeats: int,
) -> Figures:
    meshes = in_process_meshes(len(keys))
    runners = [
        CommitteeRunner(party, list(keys), mesh, store)
        for party, mesh, store in zip(keys, meshes, stores, strict=True)
    ]
    parts = {name: spool(name) for name in names}
    adding, opening, peaks = [], [], []
    # One more than asked: the first one forms the committee, and is the one whose memory is traced.
    for repeat in range(repeats + 1):
        attempt = context.model_copy(update={"attempt": 1})
        session = repeat + 1
        jobs = [AddShares(attempt, party, parts, key, session) for party, key in keys.items()]
        if repeat == 0:
            tracemalloc.start()
        seconds = _together(runners, jobs, stores)
        if repeat == 0:
            peaks.append(tracemalloc.get_traced_memory()[1] / len(keys) / 2**20)
            tracemalloc.stop()
        opened = _together(runners, [OpenSum(attempt, SHARE, session)] * len(keys), [])
        if repeat:
            adding.append(median(s for s, _ in seconds))
            opening.append(median(s for s, _ in opened))
        for _, done in opened:
            if not np.array_equal(signed(np.frombuffer(done, dtype=f"<u{context.width // 8}")), expected):
                raise EngineError("The opened sum is not the sum of the encoded integers.")
    for mesh in meshes:
        mesh.close()
    return {
        "party_cpu_ms": round(1e3 * (median(adding) + median(opening)), 3),
        "party_add_ms": round(1e3 * median(adding), 3),
        "party_open_ms": round(1e3 * median(opening), 3),
        "party_sent_bytes": 8 * context.size * (len(keys) - 1),
        "party_peak_mib": round(peaks[0], 2),
    }


def _together(
    runners: list[CommitteeRunner], jobs: list[Any], stores: list[Store]
) -> list[tuple[float, bytes]]:
    """Run one job at each party, in threads; CPU seconds of each, and its result (kept in ``stores``, if given)."""
    results: list[tuple[float, JobDone | CommitteeFailed] | None] = [None] * len(jobs)

    def work(rank: int) -> None:
        started = time.thread_time()
        done = runners[rank].run(jobs[rank])
        results[rank] = (time.thread_time() - started, done)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finished = []
    for rank, result in enumerate(results):
        seconds, done = result or (0.0, CommitteeFailed("its thread ended."))
        match done:
            case SharesAdded(share):
                stores[rank].put(SHARE, share)
                finished.append((seconds, share))
            case SumOpened(total):
                finished.append((seconds, total))
            case CommitteeFailed(explanation):
                raise EngineError(f"A party failed: {explanation}")
            case _:
                raise EngineError("A party did another job than it was given.")
    return finished


def _cpu_ms(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return round(1e3 * median(times[1:]), 3)
