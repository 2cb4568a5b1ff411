"""Carries out a party's committee jobs: streams the spooled envelopes, and runs CrypTen on sums and projections.

Memory is a few vectors (the projection reads a fixed number of shares at once), whatever the number of hospitals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from protocols.canonical import encode
from protocols.committee import Committee
from protocols.contribution import RoundContext, open_share, share_context
from protocols.dealer import DealerLink
from protocols.envelope import SealingKey
from protocols.errors import CommitteeError, ProtocolError
from protocols.mesh_group import Peers
from protocols.mesh_session import Mesh
from protocols.noise import noisy
from protocols.prg import RingVector
from protocols.projection import OPENING_BYTES, coin, commit, project
from protocols.ring import from_signed
from protocols.sharing import Shape, ShareReader, add_share, zeros
from securefl.roles.effects import (
    AddShares,
    CheckNorms,
    CommitteeFailed,
    Job,
    JobDone,
    NormsChecked,
    OpenSum,
    SharesAdded,
    SumOpened,
    coin_context,
)

Exhibit = Callable[[AddShares, RingVector, str], None]


class CommitteeRunner:
    """One party's end of the committee, formed anew whenever the coordinator numbers a new session.

    Args:
        name: the party.
        parties: all parties of the study; their places are their ranks in the mesh, and the dealer's is the next.
        mesh: the party's transport.
        store: the party's memory, where envelopes and the share of the sum lie.
        dealer: whether the mesh has a dealer.
        exhibit: simulations only: takes a copy of what this party sees of one hospital, for the report.
    """

    def __init__(
        self,
        name: str,
        parties: Sequence[str],
        mesh: Mesh,
        store: Mapping[str, bytes],
        dealer: bool = False,
        exhibit: Exhibit | None = None,
    ) -> None:
        self._name, self._parties, self._mesh, self._store = name, list(parties), mesh, store
        self._dealer, self._exhibit = dealer, exhibit
        self._committee: Committee | None = None
        self._peers: Peers = mesh
        self._session: tuple[int, tuple[str, ...]] = (0, ())

    def run(self, job: Job) -> JobDone | CommitteeFailed:
        """Do one job; whatever goes wrong between the parties comes back as ``CommitteeFailed``."""
        try:
            committee = self._joined(job.session, job.context.parties)
            match job:
                case CheckNorms():
                    return self._check(committee, job)
                case AddShares():
                    return self._add(committee, job)
                case OpenSum():
                    return self._open(committee, job)
        except ProtocolError as error:
            self.leave()
            return CommitteeFailed(str(error))

    @property
    def sent_bytes(self) -> int:
        """What CrypTen's program has sent to the other parties in this session, without framing."""
        return self._committee.sent_bytes if self._committee else 0

    def _joined(self, session: int, parties: Sequence[str]) -> Committee:
        if self._committee is None or (session, tuple(parties)) != self._session:
            self.leave()
            ranks = [self._parties.index(party) for party in parties]
            dealer = [len(self._parties)] if self._dealer else []
            self._mesh.connect(peers=[rank for rank in [*ranks, *dealer] if rank != self._mesh.rank])
            self._peers = self._mesh.group(ranks)
            link = DealerLink(self._mesh.group([*ranks, *dealer]), len(ranks)) if self._dealer else None
            self._committee = Committee.join(self._peers, link)
            self._session = (session, tuple(parties))
        return self._committee

    def leave(self) -> None:
        """Give the committee up; the next job joins a new one."""
        if self._committee is not None:
            self._committee.leave()
        self._committee = None

    def _check(self, committee: Committee, job: CheckNorms) -> NormsChecked:
        public = self._coin(job)
        shares = (
            ShareReader(content, _shape(job.context), self._peers.rank, share_context(job.context, hospital))
            for hospital, content in self._contents(job.context, job.parts, job.key)
        )
        projections = project(job.check, public, shares)
        context = encode(["norms", job.context.digest(), job.frozen])
        verdicts = committee.check_norms(projections, job.check, context)
        return NormsChecked(frozenset(h for h, within in zip(job.parts, verdicts, strict=True) if within))

    def _coin(self, job: CheckNorms) -> bytes:
        return coin(job.frozen, self._coin_parts(job))

    def _coin_parts(self, job: CheckNorms) -> list[bytes]:
        """Every party's part of the coin, in the order of the ranks; nobody told its own before all had voted."""
        mine, peers = job.coin_part, self._peers
        tag = encode(["norm-coin", job.frozen])
        received = peers.exchange(tag, dict.fromkeys(peers.peers, mine), OPENING_BYTES)
        parts = [received.get(rank, mine) for rank in range(peers.world_size)]
        for party, part, commitment in zip(job.context.parties, parts, job.commitments, strict=True):
            if len(part) != OPENING_BYTES or commit(part, coin_context(job.frozen, party)) != commitment:
                raise CommitteeError(f"{party} revealed another part of the coin than it had committed to.")
        return parts

    def _contents(
        self, context: RoundContext, parts: Mapping[str, str], key: SealingKey
    ) -> Iterator[tuple[str, bytes]]:
        for hospital, name in parts.items():
            yield hospital, open_share(self._store[name], key, context, hospital, self._name)

    def _add(self, committee: Committee, job: AddShares) -> SharesAdded:
        total = zeros(_shape(job.context))
        for hospital, content in self._contents(job.context, job.parts, job.key):
            if self._exhibit:
                share = zeros(_shape(job.context))
                add_share(share, content, self._peers.rank, share_context(job.context, hospital))
                self._exhibit(job, share, hospital)
            add_share(total, content, self._peers.rank, share_context(job.context, hospital))
        if job.noise_variance:
            # Into the share, before anything of the sum leaves this process: nobody sees a sum without it.
            total = noisy(total, job.noise_variance)
        opening_share = committee.prepare(total, job.context.digest())
        return SharesAdded(opening_share.tobytes(), committee.session_id)

    def _open(self, committee: Committee, job: OpenSum) -> SumOpened:
        opening_share = np.frombuffer(self._store[job.share], dtype="<u8")
        total = committee.open(opening_share, job.context.width, job.context.digest())
        return SumOpened(from_signed(total, job.context.width).tobytes())


def _shape(context: RoundContext) -> Shape:
    return Shape(context.size, context.width)
