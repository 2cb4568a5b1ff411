"""A mutant whose dealer computes too: who makes the correlated randomness and sees openings reads what they hide."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

import numpy as np

from protocols.committee import Committee
from protocols.dealer import CORRECTED_RANK, Dealer, DealerLink, TupleRequest, shares_of
from protocols.mesh import InProcessMesh
from protocols.norm_bounds import NormCheck
from protocols.prg import RingVector, new_seed
from protocols.projection import Projections, project
from protocols.ring import Encoding
from protocols.sharing import Shape, ShareReader, share
from securefl import consortium as members
from securefl.audit.hostile import same
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage_cast import HOSPITALS, PARTIES
from securefl.errors import ConsortiumError

SIZE, WIDTH = 1000, 64
CHECK = NormCheck.for_bound(SIZE, WIDTH, 10**6)
SESSION, COIN = bytes(32), bytes(range(32))


def an_update() -> RingVector:
    """An update of half the norm that is allowed."""
    return Encoding(WIDTH, 0, 1).encode(np.random.default_rng(1).normal(0, 10**6 / 2 / SIZE**0.5, SIZE))


def projections_of(x: RingVector) -> list[Projections]:
    """Each party's share of the projections of x: (1, m)."""
    parts = share(x, len(PARTIES), 0, b"")
    readers = [ShareReader(part, Shape(SIZE, WIDTH), rank, b"") for rank, part in enumerate(parts)]
    return [project(CHECK, COIN, [reader]) for reader in readers]


def _party_deals() -> Finding:
    """CrypTen's default: rank 0 makes up the tuples, and takes part in the computation as well."""
    shares = projections_of(an_update())
    request = TupleRequest(number=1, of="square", size=CHECK.rows)
    seeds = [new_seed() for _ in PARTIES]  # made by party 0
    masks = [shares_of(seed, SESSION, request, rank == CORRECTED_RANK)[0] for rank, seed in enumerate(seeds)]
    # To square a shared y with the tuple (r, r^2), all parties open y - r.
    opened = reduce(np.add, [y[0] - r for y, r in zip(shares, masks, strict=True)])
    read = opened + reduce(np.add, masks)
    found = same(read, reduce(np.add, shares)[0])
    said = f"The party that deals read {found} of {CHECK.rows} projections of a hospital's update, with nobody's help."
    return Finding(found == CHECK.rows, said, {"recovered": found, "projections": CHECK.rows})


class Listening(InProcessMesh):
    """The dealer's end of the mesh, which keeps all that it was sent."""

    def __init__(self, hub: list[InProcessMesh | None], rank: int) -> None:
        super().__init__(hub, rank)
        self.heard: list[bytes] = []

    def receive(self, peer: int, tag: bytes, max_bytes: int, seconds: float | None = None) -> bytes:
        """As the mesh gives it."""
        message = super().receive(peer, tag, max_bytes, seconds)
        self.heard.append(message)
        return message


def _dealers_view(x: RingVector) -> tuple[list[bytes], list[bool]]:
    """What the shipped dealer receives while the shipped committee checks x, and the verdict."""
    hub: list[InProcessMesh | None] = [None] * (len(PARTIES) + 1)
    meshes: list[InProcessMesh] = [InProcessMesh(hub, rank) for rank in range(len(PARTIES))]
    listening = Listening(hub, len(PARTIES))
    dealer = Dealer(listening)
    thread = threading.Thread(target=dealer.serve, daemon=True)
    thread.start()

    def party(mesh: InProcessMesh, projections: Projections) -> tuple[bytes, list[bool]]:
        mesh.connect()
        link = DealerLink(mesh.group(range(len(PARTIES) + 1)), len(PARTIES))
        with Committee.join(mesh.group(range(len(PARTIES))), link) as committee:
            return committee.session_id, committee.check_norms(projections, CHECK, b"audit")

    try:
        with ThreadPoolExecutor(len(PARTIES)) as pool:
            results = list(pool.map(party, meshes, projections_of(x)))
    finally:
        for mesh in meshes:
            mesh.close()
        dealer.close()
        thread.join()
    session, verdict = results[0]
    return [b"the session's name" if message == session else message for message in listening.heard], verdict


def _dealer_apart() -> Finding:
    update, nothing = _dealers_view(an_update()), _dealers_view(np.zeros_like(an_update()))
    alike = update[0] == nothing[0]
    told, combined = sum(map(len, update[0])), _may_be_dealer(PARTIES[0])
    same_or_not = "the same" if alike else "not the same"
    said = (
        f"The dealer's {len(update[0])} messages ({told} bytes) are {same_or_not} for an update as "
        f"for zeros, and a consortium whose dealer is a party is {'made' if combined else 'refused'}."
    )
    holds = alike and not combined and update[1] == nothing[1] == [True] and told > 0
    return Finding(holds, said, {"messages": len(update[0]), "bytes": told})


def _may_be_dealer(name: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as folder:
        try:
            members.create(Path(folder), HOSPITALS, PARTIES, name)
        except ConsortiumError:
            return False
    return True


MUTANTS = (
    Mutant(
        "a-party-deals",
        "dealer-sees-no-data",
        "One of the parties makes up the randomness with which all of them multiply and compare.",
        _party_deals,
        _dealer_apart,
    ),
)
