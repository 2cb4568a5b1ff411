"""What pairwise masks cost: one exchange, all clients and the server in this process, each timed by itself.

Floor: each client expands one mask of D entries for every other client and one of its own, K D w/8 bytes; the server
does so for each client in the sum, and for each client that was lost once more for every one in the sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from protocols.canonical import Record
from protocols.pairwise import Client, Policy, Server, Terms, default_threshold
from protocols.prg import RingVector, ring_dtype
from securefl.errors import EngineError

T = TypeVar("T")


def measure_secagg(parameters: int, clients: int, lost: int = 0, width: int = 64) -> dict[str, Any]:
    """Time one exchange.

    Args:
        parameters: D.
        clients: K, at least 3.
        lost: clients that share their keys and then send no vector; at most K - t.
        width: of the ring.

    Returns:
        The settings; ``client_cpu_seconds`` (the largest of a client that stayed) and ``server_cpu_seconds``, without
        training, encoding or the network; the bytes that such a client sends and receives; and the sent bytes as a
        multiple of the parameters in float32.

    Raises:
        EngineError: the sum is not the sum of the clients' vectors.
        ProtocolError: too many are lost.
    """
    clock = _Clock()
    names = [f"client-{k:04d}" for k in range(clients)]
    terms = Terms(
        run="bench",
        exchange=1,
        purpose="train",
        threshold=default_threshold(clients),
        width=width,
        signed=False,
        details=b"",
    )
    everyone = {name: Client(name, Policy()) for name in names}
    server, stays = Server(terms), names[lost:]
    for name, client in everyone.items():
        keys = clock.client(name, client.advertise, terms)
        clock.server(server.advertised, keys)
    roster = clock.server(server.roster)
    for name, client in everyone.items():
        parcels = clock.client(name, client.share, roster)
        clock.server(server.shared, name, parcels)
    deliveries = clock.server(server.deliveries)
    expected = np.zeros(parameters, dtype=ring_dtype(width))
    for k, name in enumerate(names):
        clock.client(name, everyone[name].receive, deliveries[name])
        if name in stays:
            x = np.arange(parameters, dtype=np.uint64).astype(ring_dtype(width)) * ring_dtype(width).type(
                k + 1
            )
            expected += x
            masked = clock.client(name, everyone[name].mask, x)
            clock.server(server.masked, name, masked)
    survivors, agreements = clock.server(server.survivors), clock.server(server.agreements)
    for name in stays:
        revealed = clock.client(name, everyone[name].unmask, survivors, agreements)
        clock.server(server.revealed, name, revealed)
    total: RingVector = clock.server(server.total)
    if not np.array_equal(total, expected):
        raise EngineError("The sum is not the sum of the clients' vectors.")
    return {
        "parameters": parameters,
        "clients": clients,
        "threshold": terms.threshold,
        "lost": lost,
        "width": width,
        "client_cpu_seconds": round(max(clock.seconds[name] for name in stays), 4),
        "server_cpu_seconds": round(clock.seconds["server"], 3),
        "client_sent_bytes": clock.sent[stays[0]],
        "client_received_bytes": clock.received[stays[0]],
        "sent_over_float32": round(clock.sent[stays[0]] / (4 * parameters), 3),
    }


class _Clock:
    """CPU time by role, and bytes by client."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.sent: dict[str, int] = {}
        self.received: dict[str, int] = {}

    def client(self, name: str, step: Callable[..., T], *messages: Any) -> T:
        for message in messages:
            if isinstance(message, Record):
                self.received[name] = self.received.get(name, 0) + len(message.to_bytes())
        answer = self._timed(name, step, *messages)
        if isinstance(answer, Record):
            self.sent[name] = self.sent.get(name, 0) + len(answer.to_bytes())
        return answer

    def server(self, step: Callable[..., T], *messages: Any) -> T:
        return self._timed("server", step, *messages)

    def _timed(self, who: str, step: Callable[..., T], *messages: Any) -> T:
        began = time.process_time()
        answer = step(*messages)
        self.seconds[who] = self.seconds.get(who, 0.0) + time.process_time() - began
        return answer
