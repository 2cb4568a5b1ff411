"""A party's committee jobs on the audit's stage: what ships does them, over in-process meshes, a thread a party.

It keeps what left the party, and can be killed once it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.mesh import InProcessMesh
from protocols.ring import from_bytes, signed
from securefl.roles.committee_runner import CommitteeRunner
from securefl.roles.effects import CheckNorms, CommitteeFailed, Job, JobDone, OpenSum, SumOpened


class KilledError(Exception):
    """The party's process ends here; what is not on its disk is lost."""


class _Telling(CommitteeRunner):
    """What ships, and the coins that it saw."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.coins: list[tuple[bytes, list[bytes]]] = []
        self._parts: list[bytes] = []

    def _coin_parts(self, job: CheckNorms) -> list[bytes]:
        self._parts = super()._coin_parts(job)
        return self._parts

    def _coin(self, job: CheckNorms) -> bytes:
        public = super()._coin(job)
        self.coins.append((public, self._parts))
        return public


class Jobs:
    """One party's end of the committee.

    Args:
        name: the party.
        parties: all parties, by rank; a dealer has the rank after them.
        mesh: the party's transport.
        store: its memory.
        dealer: whether the mesh has a dealer.

    Attributes:
        sent: every opening share that left, with its round.
        opened: every sum that this party has seen, signed integers; it may tell them to anyone.
        coins: of the norm checks that were done, and all parties' parts of each; every party knows them.
        changed: what the party does in place of a job, if it does not follow the program.
        dies_after_opening: kill the party as soon as its opening share has left.
    """

    def __init__(
        self, name: str, parties: Sequence[str], mesh: InProcessMesh, store: Mapping[str, bytes], dealer: bool
    ) -> None:
        self._name, self._store = name, store
        self._runner = _Telling(name, parties, mesh, store, dealer)
        self.sent: list[tuple[int, bytes]] = []
        self.opened: list[NDArray[np.int64]] = []
        self.coins = self._runner.coins
        self.changed: Callable[[Job], Job] = lambda job: job
        self.dies_after_opening = False

    def run(self, job: Job) -> JobDone | CommitteeFailed:
        """Do one job; what goes wrong between the parties comes back as ``CommitteeFailed``.

        Raises:
            KilledError: the party was to die now.
        """
        done = self._runner.run(self.changed(job))
        if isinstance(job, OpenSum) and isinstance(done, SumOpened):
            context = job.context
            self.sent.append((context.round, self._store[job.share]))
            self.opened.append(signed(from_bytes(done.total, context.width, context.size)))
            if self.dies_after_opening:
                raise KilledError(self._name)
        return done

    def leave(self) -> None:
        """Give the committee up; the next job joins a new one."""
        self._runner.leave()
