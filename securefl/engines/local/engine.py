"""The local engine: it starts the parties and the hospitals' processes, and carries the coordinator's effects out."""

from __future__ import annotations

import heapq
import itertools
import queue
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from protocols.envelope import OVERHEAD_BYTES
from protocols.ring import from_bytes, signed
from securefl import durable
from securefl.consortium import Consortium
from securefl.engines import exhibits
from securefl.engines.link import Reply
from securefl.engines.local.children import Child, free_ports
from securefl.engines.local.mailboxes import MAX_STARTS, Mailboxes
from securefl.errors import EngineError, SecureFLError
from securefl.roles.coordinator import CoordinatorMachine
from securefl.roles.effects import Event, Finished, Received, RoundDone, RoundVerified, Start, Timeout
from securefl.roles.host import Host, Notice
from securefl.roles.messages import Message, Settled, SignedContribution
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

_LINK_GRACE = 30.0


class RoundWatcher(Protocol):
    """Sees a run from outside; see ``securefl.watch``."""

    def exchanged(self, worker: str, member: str, message: Message, reply: Reply, size: int) -> None: ...
    def round_done(self, done: RoundDone, replica: Replica) -> None: ...
    def round_verified(self, done: RoundVerified) -> None: ...


class LocalEngine:
    """One run on this computer. Use as a context: the processes live inside it.

    Args:
        run: its folder, prepared.
        study, consortium: what runs, among whom.
        workers: processes for the hospitals.
        base_port: first port of the parties' mesh; free ones are found if None.
    """

    def __init__(
        self, run: RunFolder, study: Study, consortium: Consortium, workers: int, base_port: int | None = None
    ) -> None:
        self._run, self._study, self._consortium = run, study, consortium
        self._terms = Terms.of(study, consortium, run.unchecked())
        self._inbox: queue.Queue[Event | SecureFLError] = queue.Queue()
        self._timers: list[tuple[float, int, str]] = []
        self._timer_count = itertools.count()
        self._finished: Finished | None = None
        durable.private_folder(run.logs)
        deals = self._terms.checks_norms
        ports = free_ports(len(self._terms.parties) + deals, base_port)
        self._sockets = Path(tempfile.mkdtemp(prefix="securefl-"))
        addresses = [f"127.0.0.1:{port}" for port in ports]
        self._parties = {
            name: self._party(name, address, addresses)
            for name, address in zip(self._terms.parties, addresses, strict=False)
        }
        self._dealer = self._make_dealer(addresses) if deals else None
        self._dealer_starts = 1
        self._workers = [self._worker(i) for i in range(min(workers, len(self._terms.hospitals)))]
        self._boxes: list[Mailboxes] = []

    def _consortium_file(self) -> Path:
        file = self._study.settings.consortium.file
        return self._study.folder / file if file else self._run.consortium_file

    def _common(self, home: Path, socket: Path) -> list[str]:
        run, study = self._run, self._study
        return [
            "--study", str(study.folder),
            "--consortium", str(self._consortium_file()),
            "--keys", str(self.keys_folder()),
            "--home", str(home),
            "--socket", str(socket),
            "--exhibits", str(run.exhibits),
            "--leashed",
            *(["--insecure-unchecked"] if self._terms.unchecked else []),
        ]  # fmt: skip

    def keys_folder(self) -> Path:
        """Where the members' private keys lie: beside the consortium file."""
        file = self._study.settings.consortium.file
        return (self._study.folder / file).parent / "keys" if file else self._run.keys

    def privacy_folder(self) -> Path:
        """What hospitals keep over all studies: beside the consortium file; a simulation's in its run."""
        file = self._study.settings.consortium.file
        return (self._study.folder / file).parent / "privacy" if file else self._run.privacy

    def _party(self, name: str, address: str, addresses: list[str]) -> Child:
        socket = self._sockets / f"{name}.sock"
        arguments = [
            "party",
            "serve",
            name,
            *self._common(self._run.homes / name, socket),
            "--listen",
            address,
        ]
        for peer in addresses:
            arguments += ["--peer", peer]
        return Child(name, arguments, socket, self._run.logs / f"{name}.log")

    def _make_dealer(self, addresses: list[str]) -> Child:
        dealer = self._consortium.dealer
        name = dealer.name if dealer else ""  # the terms have seen to it that there is one
        socket = self._sockets / f"{name}.sock"
        arguments = [
            "dealer", "serve", name,
            "--consortium", str(self._consortium_file()),
            "--keys", str(self.keys_folder()),
            "--socket", str(socket),
            "--listen", addresses[-1],
            "--leashed",
        ]  # fmt: skip
        for peer in addresses:
            arguments += ["--peer", peer]
        return Child(name, arguments, socket, self._run.logs / f"{name}.log")

    def _worker(self, index: int) -> Child:
        name = f"hospitals-{index + 1}"
        socket = self._sockets / f"{name}.sock"
        arguments = [
            "hospital",
            "serve",
            *self._common(self._run.homes, socket),
            "--clear",
            str(self._run.clear),
            "--privacy",
            str(self.privacy_folder()),
        ]
        return Child(name, arguments, socket, self._run.logs / f"{name}.log")

    def __enter__(self) -> LocalEngine:
        children = self._children()
        for half_written in self._run.homes.rglob(".*"):
            half_written.unlink()
        try:
            for child in children:
                child.start()
            for child in children:
                child.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for box in self._boxes:
            box.close()
        for child in self._children():
            child.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _children(self) -> list[Child]:
        return [*self._parties.values(), *([self._dealer] if self._dealer else []), *self._workers]

    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Callable[[Replica, Settled], Replica],
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
        settled, verified = self._run.settled, self._run.verification
        machine = CoordinatorMachine(self._terms, sizes, replica, follow, settled, verified)
        done_rounds: list[RoundDone] = []

        def notify(effect: Notice) -> None:
            if isinstance(effect, Finished):
                self._finished = effect
                return
            if isinstance(effect, RoundVerified):
                watcher.round_verified(effect)
                return
            self._keep_sum(effect)
            watcher.round_done(effect, machine.replica)
            done_rounds.append(effect)

        observe = watcher.exchanged
        seconds = self._terms.party_seconds * 2 + _LINK_GRACE
        for party, child in self._parties.items():
            self._boxes.append(Mailboxes([party], [child], seconds, self._inbox.put, observe, spared=True))
        hospitals = Mailboxes(
            self._terms.hospitals,
            self._workers,
            self._terms.hospital_seconds + _LINK_GRACE,
            self._inbox.put,
            observe,
        )
        self._boxes.append(hospitals)
        boxes = dict(zip(self._parties, self._boxes, strict=False))

        def post(to: str, message: Message) -> None:
            boxes.get(to, hospitals).post(to, message)

        host = Host(machine, self._run.store(), post, set_timer=self._set_timer, notify=notify)
        host.take(Start())
        while self._finished is None:
            if done_rounds and stopping():
                return None
            done_rounds.clear()
            event = self._next_event()
            if isinstance(event, Received):
                self._keep_envelopes(event)
            host.take(event)
        return self._finished

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
                self._look_after_dealer()
                continue
            if isinstance(event, SecureFLError):
                raise event
            return event

    def _look_after_dealer(self) -> None:
        # Nobody sends it messages, so that nobody would notice; the parties' session ends with it, and is formed anew.
        if self._dealer is None or self._dealer.is_alive():
            return
        self._dealer_starts += 1
        if self._dealer_starts > MAX_STARTS:
            raise EngineError(
                f"{self._dealer.name} ended {MAX_STARTS} times: see its log, and run again with --resume."
            )
        self._dealer.replace()

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
