"""What stands on a role's disk was damaged: a typed error, or the role goes on; never another exception.

What is written durably may be taken for whole. What is only kept may be gone or torn after a power failure: a hospital
starts all the same, and is sent what it lacks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from protocols.canonical import Record, decode
from protocols.chain import SignedClosing, SignedOutcome
from protocols.errors import EncodingError, ProtocolError
from securefl.errors import SecureFLError
from securefl.roles import pledges
from securefl.roles.hospital import Answer, HospitalMachine
from securefl.roles.host import Answering
from securefl.roles.messages import Refusal, Verification, read_message
from securefl.roles.party import PartyMachine
from securefl.roles.party_memory import OpenedCohort, PartyMemory
from securefl.roles.replica import Place, Replica

from .fuzz.corpus import Corpus
from .fuzz.encodings import damaged
from .fuzz.fuzzing import fuzzed
from .fuzz.mutation import mutant
from .fuzz.points import Live, Point

RECORDS: dict[str, type[Record]] = {
    "party memory": PartyMemory,
    "ledger opened": OpenedCohort,
    "party receipt": SignedOutcome,
    "hospital answer": Answer,
    "hospital pledge": pledges.Pledge,
    "hospital revealed": pledges.Memory,
    "coordinator receipt": SignedOutcome,
    "coordinator verification": Verification,
    "coordinator closing": SignedClosing,
}
BARE = {"party share", "party spool", "hospital memory", "hospital total", "coordinator sum"}
"""No records: bytes of a ring, envelopes, and a hospital's replica."""
KEPT = ("memory", "answer", "pledge", "total")
"""What a power failure may take from a hospital."""


@pytest.fixture(scope="module")
def corpus(theatre, tmp_path_factory) -> Corpus:
    return Corpus.played(theatre, tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def files(corpus) -> dict[str, list[bytes]]:
    """What stood on disks, by owner's role and the first word of the name."""
    found: dict[str, list[bytes]] = {}
    for world in corpus.worlds:
        for (owner, name), contents in world.files.items():
            role = "ledger" if owner.endswith("-ledger") else owner if owner == "coordinator" else "hospital"
            role = "party" if owner in world.terms.parties else role
            found.setdefault(f"{role} {name.split('-')[0]}", []).extend(sorted(contents))
    found["coordinator closing"] = [closing(world).to_bytes() for world in corpus.worlds]
    return found


def closing(world) -> SignedClosing:
    (request, *_) = world.genuine.by_kind["close-request"]
    signatures = [m.signature for m in world.genuine.by_kind["closing-signature"]]
    return SignedClosing(closing=request.closing, signatures=signatures)


def test_every_file_of_a_role_is_known(files):
    assert set(files) == {*RECORDS, *BARE}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_read_as_it_was_written_or_not_at_all(corpus, files, name):
    kind = RECORDS[name]

    def check(pick):
        data = mutant(pick, pick(files[name]), files[name], corpus.pool)
        try:
            read = kind.from_bytes(data)
        except EncodingError:
            return "refused"
        assert read.to_bytes() == data
        return "read"

    found = fuzzed(check, 200)
    assert found["refused"] > 50


def test_a_replica_is_read_whole_or_not_at_all(files):
    def check(pick):
        data = damaged(pick, pick(files["hospital memory"]), pick(files["hospital memory"]))
        read = Replica.recovered(data)
        if read is None:
            return "refused"
        assert isinstance(read.place, Place)
        assert read.state.model.ndim == read.state.velocity.ndim == 1
        return "read"

    found = fuzzed(check, 400)
    assert found["refused"] > 50


# -- roles that start from it, and roles that find it -----------------------------------------------------------


def started(point: Point, live: Live):
    """The role, begun anew from these stores."""
    world = point.world
    keys = world.cast.keys[point.name]
    if point.role == "party":
        return PartyMachine(point.name, world.terms, keys.signing, live.store, live.ledger)
    old = live.machine
    trainer = type(old._trainer)(point.name)
    return HospitalMachine(
        point.name, world.terms, keys.signing, keys.sealing, trainer, old._server, old._trainable, live.store
    )


def answered(point: Point, live: Live, machine) -> str:
    answers = Answering(machine, live.store, point.done, live.ledger).answer(point.due)
    read = [read_message(answer) for answer in answers]
    return "refused" if any(isinstance(answer, Refusal) for answer in read) else "answered"


@pytest.mark.parametrize("role", ["party", "hospital"])
@pytest.mark.parametrize("anew", [True, False], ids=["at the start", "while it runs"])
def test_a_role_with_a_damaged_file_ends_typed(corpus, role, anew):
    points = [p for p in corpus.roles[role] if p._kept.store.content or p._kept.ledger.content]
    if role == "party" and not anew:  # while it runs it reads its ledger only
        points = [
            p for p in points if p._kept.ledger.content and read_message(p.due).kind in ("freeze", "release")
        ]

    def check(pick):
        point = replace(pick(points), _live=None)
        live = point.live()
        store = pick([s for s in (live.store, live.ledger) if s.content])
        name = pick(sorted(store.content))
        whole = store.content[name]
        other = (
            mutant(pick, whole, [whole], corpus.pool) if pick(range(3)) == 0 and is_record(whole) else None
        )
        store.content[name] = damaged(pick, whole, whole) if other is None else other
        try:
            return answered(point, live, started(point, live) if anew else live.machine)
        except (ProtocolError, SecureFLError):
            return "refused to start"

    found = fuzzed(check, 400)
    assert found["refused"] + found["refused to start"] > 5
    assert found["answered"] > 20


def is_record(data: bytes) -> bool:
    try:
        return isinstance(decode(data), list)
    except EncodingError:
        return False


def test_a_hospital_starts_from_what_a_power_failure_leaves(corpus):
    found = Counter()
    draw = np.random.default_rng(0)
    for point in corpus.roles["hospital"]:
        for name in sorted(point._kept.store.content):
            if not name.startswith(KEPT):
                continue
            whole = point._kept.store.content[name]
            for left in (b"", whole[: int(draw.integers(len(whole)))], bytes(len(whole))):
                fresh = replace(point, _live=None)
                live = fresh.live()
                live.store.content[name] = left
                found[name.split("-")[0], answered(fresh, live, started(fresh, live))] += 1
    assert {name for name, _ in found} == set(KEPT)
    assert all(found[name, "answered"] for name in KEPT)


def test_a_hospital_that_lost_half_its_answer_contributes_anew(corpus):
    point = next(
        p for p in corpus.roles["hospital"]
        if "answer" in p._kept.store.content and read_message(p.due).kind == "announcement"
    )  # fmt: skip
    live = replace(point, _live=None).live()
    live.store.content["answer"] = live.store.content["answer"][:100]
    assert answered(point, live, started(point, live)) == "answered"
