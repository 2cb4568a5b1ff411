"""The coordinator's end, whatever the engine: its effects carried out, its timers, what a simulation keeps of it."""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from protocols.envelope import OVERHEAD_BYTES
from protocols.ring import from_bytes, signed
from securefl.consortium import Consortium
from securefl.engines import exhibits
from securefl.engines.link import Reply
from securefl.errors import SecureFLError
from securefl.roles.coordinator import CoordinatorMachine
from securefl.roles.effects import Event, Finished, Received, RoundDone, RoundVerified, Start, Timeout
from securefl.roles.host import Host, Notice
from securefl.roles.messages import Message, Settled, SignedContribution
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

GRACE = 30.0
"""Seconds that an engine waits for an answer beyond the time that the member itself may take."""

Follow = Callable[[Replica, Settled], Replica]
Post = Callable[[str, Message], None]
Deliver = Callable[[Event | SecureFLError], None]


class RoundWatcher(Protocol):
    """Sees a run from outside; see ``securefl.watch``."""

    def exchanged(self, worker: str, member: str, message: Message, reply: Reply, size: int) -> None: ...
    def round_done(self, done: RoundDone, replica: Replica) -> None: ...
    def round_verified(self, done: RoundVerified) -> None: ...


class Engine(Protocol):
    """What carries messages between the coordinator and the members. Its processes, if any, live inside the context."""

    def __enter__(self) -> Engine: ...
    def __exit__(self, *_: object) -> None: ...
    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Follow,
        watcher: RoundWatcher,
        stopping: Callable[[], bool],
    ) -> Finished | None:
        """Run rounds until the study is closed, or ``stopping`` says yes after a round (then None).

        Args:
            replica: the model after the outcomes in the run folder.
            sizes: elements of the statistics and of an update.
            follow: the replica after one more outcome.

        Raises:
            SecureFLError: the run cannot go on; everything settled is on disk.
        """


MakeEngine = Callable[[RunFolder, Study, Consortium], Engine]


class Coordination:
    """One run's coordinator.

    Args:
        run: its folder, which is the coordinator's memory.
        terms: the study's.
        idle: called about once a second while nothing comes in.
    """

    def __init__(self, run: RunFolder, terms: Terms, idle: Callable[[], None] = lambda: None) -> None:
        self._run, self._terms, self._idle = run, terms, idle
        self._inbox: queue.Queue[Event | SecureFLError] = queue.Queue()
        self._timers: list[tuple[float, int, str]] = []
        self._timer_count = itertools.count()

    def deliver(self, event: Event | SecureFLError) -> None:
        """Take an answer, a loss, or an error that ends the run; from any thread."""
        self._inbox.put(event)

    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Follow,
        watcher: RoundWatcher,
        stopping: Callable[[], bool],
        post: Post,
    ) -> Finished | None:
        """As ``Engine.drive``; ``post`` sends a message to a member and does not wait."""
        machine = CoordinatorMachine(
            self._terms, sizes, replica, follow, self._run.settled, self._run.verification
        )
        finished: list[Finished] = []
        done_rounds: list[RoundDone] = []

        def notify(effect: Notice) -> None:
            if isinstance(effect, Finished):
                finished.append(effect)
                return
            if isinstance(effect, RoundVerified):
                watcher.round_verified(effect)
                return
            self._keep_sum(effect)
            watcher.round_done(effect, machine.replica)
            done_rounds.append(effect)

        host = Host(machine, self._run.store(), post, set_timer=self._set_timer, notify=notify)
        host.take(Start())
        while not finished:
            if done_rounds and stopping():
                return None
            done_rounds.clear()
            event = self._next_event()
            if isinstance(event, Received):
                self._keep_envelopes(event)
            host.take(event)
        return finished[0]

    def _set_timer(self, name: str, seconds: float) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._timer_count), name))

    def _next_event(self) -> Event:
        while True:
            now = time.monotonic()
            if self._timers and self._timers[0][0] <= now:
                return Timeout(heapq.heappop(self._timers)[2])
            wait = min(1.0, self._timers[0][0] - now) if self._timers else 1.0
            try:
                event = self._inbox.get(timeout=wait)
            except queue.Empty:
                self._idle()
                continue
            if isinstance(event, SecureFLError):
                raise event
            return event

    # -- what the coordinator of a simulation saw ----------------------------------------------------------------

    def _keep_envelopes(self, event: Received) -> None:
        message, first = event.message, next(iter(self._terms.hospitals))
        if not (self._terms.exhibits and isinstance(message, SignedContribution) and event.sender == first):
            return
        if len(self._run.outcomes()) != exhibits.ROUND:
            return
        for party, envelope in zip(self._terms.parties, message.envelopes, strict=False):
            seen = np.frombuffer(envelope, dtype=np.uint8)
            count = exhibits.EXCERPT * self._terms.update.width // 8 + OVERHEAD_BYTES + 1
            exhibits.keep(self._run.exhibits, f"envelope-{party}-{first}", seen, count)

    def _keep_sum(self, done: RoundDone) -> None:
        outcome = done.settled.signed.outcome
        if self._terms.exhibits and outcome.round == exhibits.ROUND:
            width, size = outcome.context.width, outcome.context.size
            total = signed(from_bytes(done.settled.total, width, size))
            exhibits.keep(self._run.exhibits, "sum", total)
