"""The Flower engine: the coordinator is a ServerApp, and its messages travel over a SuperLink.

Flower is the transport. It sees sealed envelopes, shares masked to zero, and signed records; what it drops is noticed,
what it changes is refused, and what it delays costs time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flwr.serverapp import Grid

from securefl.consortium import Consortium
from securefl.engines.coordination import GRACE, Coordination, Follow, RoundWatcher
from securefl.engines.flower.directory import Directory
from securefl.engines.flower.postman import Postman
from securefl.errors import EngineError
from securefl.roles.effects import Finished
from securefl.roles.replica import Replica
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study

POLL_SECONDS = 3.0 + 12.0
"""Between two deliveries to a SuperNode, and the start of a ClientApp's process, which loads torch."""
WAIT_SECONDS = 300.0
"""For the members' SuperNodes, before the first round."""


class FlowerEngine:
    """One run over a SuperLink. Use as a context.

    Args:
        grid: Flower's, of the run that this ServerApp is.
        run: its folder, prepared.
        study, consortium: what runs, among whom.
        wait: longest wait for the members' SuperNodes, seconds.
        pause: after a loss, seconds.
    """

    def __init__(
        self,
        grid: Grid,
        run: RunFolder,
        study: Study,
        consortium: Consortium,
        *,
        wait: float = WAIT_SECONDS,
        pause: float = 5.0,
    ) -> None:
        self._grid, self._wait, self._pause = grid, wait, pause
        self._terms = Terms.of(study, consortium, run.unchecked())
        self._coordination = Coordination(run, self._terms, self._look)
        self._postman: Postman | None = None

    def __enter__(self) -> FlowerEngine:
        self._await_members()
        return self

    def __exit__(self, *_: object) -> None:
        if self._postman is not None:
            self._postman.close()

    def _look(self) -> None:
        if self._postman is not None:
            self._postman.check()

    def _await_members(self) -> None:
        """Wait until all parties, and enough hospitals, can be reached."""
        parties, hospitals = set(self._terms.parties), set(self._terms.hospitals)
        directory, end = Directory(self._grid, parties | hospitals), time.monotonic() + self._wait
        online: set[str] = set()
        while online != parties | hospitals:
            if time.monotonic() > end:
                missing = sorted((parties | hospitals) - online)
                raise EngineError(
                    f"After {self._wait:.0f} s no SuperNode speaks for {', '.join(missing)}: start theirs, "
                    "and see that their keys are registered under these names."
                )
            online = set(directory.online())
            time.sleep(0.5 if online != parties | hospitals else 0.0)

    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Follow,
        watcher: RoundWatcher,
        stopping: Callable[[], bool],
    ) -> Finished | None:
        """See ``Engine``."""
        terms = self._terms
        patience = {
            **dict.fromkeys(terms.hospitals, terms.hospital_seconds + GRACE + POLL_SECONDS),
            **dict.fromkeys(terms.parties, terms.party_seconds * 2 + GRACE + POLL_SECONDS),
        }
        self._postman = Postman(
            self._grid,
            patience,
            frozenset(terms.parties),
            self._coordination.deliver,
            watcher.exchanged,
            pause=self._pause,
        )
        self._postman.start()
        return self._coordination.drive(replica, sizes, follow, watcher, stopping, self._postman.post)
