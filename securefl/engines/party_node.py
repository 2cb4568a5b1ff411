"""A party as a process: keys, memory, mesh and CrypTen behind one socket."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.prg import RingVector
from securefl import consortium as members
from securefl.engines import exhibits
from securefl.engines.link import LinkServer, Reply
from securefl.engines.mesh_end import mesh_end
from securefl.errors import EngineError
from securefl.roles.committee_runner import CommitteeRunner, Exhibit
from securefl.roles.effects import AddShares
from securefl.roles.host import Answering, Restarted, Store, home_of
from securefl.roles.party import PartyMachine
from securefl.roles.terms import Terms
from securefl.study import Study

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartyPlaces:
    """Where a party finds and keeps things.

    Attributes:
        study, consortium: what it takes part in.
        keys: folder of its private keys.
        home: folder of its memory; ``{study}`` in it stands for the study.
        socket: where it takes messages.
        listen: ``host:port`` of its end of the mesh.
        peers: ``host:port`` of every party's end, by rank, its own included; then the dealer's, if the study needs one.
        ledger: folder of what it remembers over all studies.
        exhibits: folder for a simulation's exhibits.
        unchecked: an insecure run, see ``Terms``.
    """

    study: Path
    consortium: Path
    keys: Path
    home: Path
    socket: Path
    listen: str
    peers: Sequence[str]
    ledger: Path
    exhibits: Path | None = None
    unchecked: bool = False


def serve_party(name: str, places: PartyPlaces) -> LinkServer:
    """Start a party; it answers until the process ends.

    Raises:
        SecureFLError: keys, study, memory or port are not as they must be.
    """
    study, consortium = Study.load(places.study), members.load(places.consortium)
    terms = Terms.of(study, consortium, places.unchecked)
    member = consortium.member(name)
    if member.role != "party":
        raise EngineError(
            f"{name} is not a party of this consortium: its parties are {', '.join(terms.parties)}."
        )
    keys = members.load_keys(places.keys, member)
    dealer = terms.checks_norms
    certificates = consortium.certificates if dealer else consortium.certificates[: len(terms.parties)]
    rank = list(terms.parties).index(name)
    mesh = mesh_end(
        name, rank, consortium, certificates, keys, places.listen, places.peers, terms.party_seconds
    )
    store, ledger = Store(home_of(places.home, terms.study)), Store(places.ledger)
    exhibit = _exhibit(name, places.exhibits) if terms.exhibits else None
    runner = CommitteeRunner(name, list(terms.parties), mesh, store, dealer, exhibit)

    def start() -> Answering:
        runner.leave()  # what a machine before this one began is void
        return Answering(PartyMachine(name, terms, keys.signing, store, ledger), store, runner.run, ledger)

    party = Restarted(start)

    def handle(_target: str, message: bytes) -> Reply:
        return Reply(party.answer(message))

    server = LinkServer(places.socket, handle)
    server.start()
    threading.Thread(target=_warm_up, daemon=True).start()
    log.info("%s serves on %s, mesh port %d", name, places.socket, mesh.port)
    return server


def _warm_up() -> None:
    # CrypTen takes seconds to import; a party begins while the hospitals load their data.
    from protocols.crypten_repairs import import_crypten

    import_crypten()


def _exhibit(name: str, folder: Path | None) -> Exhibit:
    def exhibit(job: AddShares, share: RingVector, hospital: str) -> None:
        first = next(iter(job.parts))
        if folder is not None and job.context.round == exhibits.ROUND and hospital == first:
            exhibits.keep(folder, f"share-{name}-{hospital}", share)

    return exhibit
