"""The Ray engine: hospitals of a simulation are virtual Flower nodes; parties are processes, as in the local engine.

The memory that hospitals take is that of a few actors, not of the hospitals: each actor is any hospital in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from flwr.serverapp import Grid

from securefl.consortium import Consortium
from securefl.engines.coordination import GRACE, Coordination, Follow, RoundWatcher
from securefl.engines.flower.directory import ASKED_AT_ONCE
from securefl.engines.flower.postman import Postman
from securefl.engines.local.committee import LocalCommittee, start_all
from securefl.engines.local.mailboxes import Mailboxes
from securefl.errors import EngineError
from securefl.roles.effects import Finished
from securefl.roles.messages import Message
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study


class SimulatedEngine:
    """One simulation on this computer. Use as a context: the parties' processes live inside it.

    Args:
        grid: of Flower's simulation.
        run: its folder, prepared.
        study, consortium: what runs, among whom.
        broken: set when the actors are gone, which nobody here would notice.
        base_port: first port of the parties' mesh; free ones are found if None.
    """

    def __init__(
        self,
        grid: Grid,
        run: RunFolder,
        study: Study,
        consortium: Consortium,
        broken: threading.Event,
        base_port: int | None = None,
    ) -> None:
        self._grid, self._run, self._broken = grid, run, broken
        self._terms = Terms.of(study, consortium, run.unchecked())
        self._committee = LocalCommittee(run, study, consortium, self._terms, base_port)
        self._coordination = Coordination(run, self._terms, self._look)
        self._open: list[Postman | Mailboxes] = []

    def __enter__(self) -> SimulatedEngine:
        for half_written in self._run.homes.rglob(".*"):
            half_written.unlink()
        try:
            start_all(self._committee.children())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for carrier in self._open:
            carrier.close()
        for child in self._committee.children():
            child.kill()
        self._committee.close()

    def _look(self) -> None:
        if self._broken.is_set():
            raise EngineError("The hospitals' actors are gone.")
        self._committee.look_after_dealer()

    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Follow,
        watcher: RoundWatcher,
        stopping: Callable[[], bool],
    ) -> Finished | None:
        """See ``Engine``."""
        deliver = self._coordination.deliver
        parties = self._committee.boxes(deliver, watcher.exchanged)
        # All hospitals wait for the few actors: the last one's answer takes as long as all of them.
        patience = (self._terms.hospital_seconds + GRACE) * max(1, len(self._terms.hospitals))
        hospitals = Postman(
            self._grid,
            dict.fromkeys(self._terms.hospitals, patience),
            frozenset(),
            deliver,
            watcher.exchanged,
            at_once=ASKED_AT_ONCE,
        )
        self._open += [*parties.values(), hospitals]
        hospitals.start()

        def post(to: str, message: Message) -> None:
            if to in parties:
                parties[to].post(to, message)
            else:
                hospitals.post(to, message)

        return self._coordination.drive(replica, sizes, follow, watcher, stopping, post)
