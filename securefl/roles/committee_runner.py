"""Carries out a party's committee jobs: streams the spooled envelopes into one sum, and runs CrypTen on it.

Memory is one sum, one envelope and its content, whatever the number of hospitals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protocols.committee import Committee
from protocols.contribution import open_share, share_context
from protocols.errors import ProtocolError
from protocols.mesh_session import Mesh
from protocols.prg import RingVector
from protocols.ring import from_signed
from protocols.sharing import Shape, add_share, zeros
from securefl.roles.effects import AddShares, CommitteeDone, CommitteeFailed, OpenSum
from securefl.roles.host import Store

Exhibit = Callable[[AddShares, RingVector, str], None]


class CommitteeRunner:
    """One party's end of the committee, formed anew whenever the coordinator numbers a new session.

    Args:
        mesh: the party's transport; its rank is the party's.
        store: the party's memory, where envelopes and the share of the sum lie.
        exhibit: simulations only: takes a copy of what this party sees of one hospital, for the report.
    """

    def __init__(self, mesh: Mesh, store: Store, exhibit: Exhibit | None = None) -> None:
        self._mesh, self._store, self._exhibit = mesh, store, exhibit
        self._committee: Committee | None = None
        self._session = 0

    def run(self, job: AddShares | OpenSum) -> CommitteeDone | CommitteeFailed:
        """Do one job; whatever goes wrong between the parties comes back as ``CommitteeFailed``."""
        try:
            committee = self._joined(job.session)
            return self._add(committee, job) if isinstance(job, AddShares) else self._open(committee, job)
        except ProtocolError as error:
            self._leave()
            return CommitteeFailed(str(error))

    def _joined(self, session: int) -> Committee:
        if self._committee is None or session != self._session:
            self._leave()
            self._mesh.connect()
            self._committee, self._session = Committee.join(self._mesh), session
        return self._committee

    def _leave(self) -> None:
        if self._committee is not None:
            self._committee.leave()
        self._committee = None

    def _add(self, committee: Committee, job: AddShares) -> CommitteeDone:
        total = zeros(Shape(job.context.size, job.context.width))
        for hospital, name in job.parts.items():
            content = open_share(self._store[name], job.key, job.context, hospital, job.party)
            if self._exhibit:
                share = zeros(Shape(job.context.size, job.context.width))
                add_share(share, content, self._mesh.rank, share_context(job.context, hospital))
                self._exhibit(job, share, hospital)
            add_share(total, content, self._mesh.rank, share_context(job.context, hospital))
        opening_share = committee.prepare(total, job.context.digest())
        return CommitteeDone(opening_share.tobytes(), committee.session_id)

    def _open(self, committee: Committee, job: OpenSum) -> CommitteeDone:
        opening_share = np.frombuffer(self._store[job.share], dtype="<u8")
        total = committee.open(opening_share, job.context.width, job.context.digest())
        return CommitteeDone(from_signed(total, job.context.width).tobytes())
