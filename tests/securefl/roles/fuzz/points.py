"""Whole runs, stopped at every message: who is about to get it, in which state, and what has happened so far.

A ``Point`` is a machine with its stores, copied in the moment before a message is handed to it, beside the facts.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from protocols.canonical import Record
from protocols.chain import SignedOutcome
from protocols.envelope import SealingKey
from protocols.signing import SigningKey
from securefl.errors import EngineError
from securefl.roles.effects import (
    COORDINATOR,
    CommitteeFailed,
    Finished,
    Job,
    JobDone,
    Received,
    RoundVerified,
)
from securefl.roles.host import Store
from securefl.roles.messages import Message, Settled, Verification, read_message
from securefl.roles.records import receipt_name, sum_name, verification_name
from securefl.roles.terms import Terms

from .facts import CoordinatorFacts, Facts, Genuine, HospitalFacts, PartyFacts


class MemoryStore(Mapping[str, bytes]):
    """A role's own memory, in memory; it takes what a host writes."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self.content = dict(content)

    def __getitem__(self, name: str) -> bytes:
        return self.content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.content))

    def __len__(self) -> int:
        return len(self.content)

    def put(self, name: str, data: bytes) -> None:
        if data:
            self.content[name] = data
        else:
            self.content.pop(name, None)

    keep = put

    def enter(self, name: str, data: bytes) -> None:
        if self.content.setdefault(name, data) != data:
            raise EngineError("Something else stands there.")


# -- a machine's state ---------------------------------------------------------------------------------------


def state_of(thing: Any) -> Any:
    """Everything that a machine is, as nested tuples: two are equal if and only if nothing has changed.

    Raises:
        TypeError: there is something in it that cannot be compared.
    """
    if thing is None or isinstance(thing, bool | int | float | str | bytes):
        return thing
    if isinstance(thing, Record):
        return type(thing).__name__, thing.to_bytes()
    if isinstance(thing, BaseModel):
        return type(thing).__name__, thing.model_dump_json()
    if isinstance(thing, SigningKey | SealingKey):
        return type(thing).__name__, thing.private_bytes()
    if isinstance(thing, Terms):
        return Terms, id(thing)  # frozen, shared by all
    if isinstance(thing, np.ndarray):
        return thing.dtype.str, thing.shape, thing.tobytes()
    if isinstance(thing, MemoryStore):
        return state_of(thing.content)
    if isinstance(thing, dict):
        return dict, tuple((state_of(key), state_of(entry)) for key, entry in thing.items())
    if isinstance(thing, list | tuple):
        return type(thing), tuple(map(state_of, thing))
    if isinstance(thing, set | frozenset):
        return type(thing), tuple(sorted(map(state_of, thing)))
    if is_dataclass(thing):
        return type(thing), tuple(state_of(getattr(thing, f.name)) for f in fields(thing))
    if callable(thing):
        return callable, id(thing)
    if type(thing).__module__.startswith(("securefl.", "tests.", "conftest")):
        # How often a trainer was called is what tests count, and no state of the role's.
        entries = sorted((name, entry) for name, entry in vars(thing).items() if name != "calls")
        return type(thing), tuple((name, state_of(entry)) for name, entry in entries)
    raise TypeError(f"{type(thing).__module__}.{type(thing).__name__} cannot be compared.")


# -- points --------------------------------------------------------------------------------------------------


@dataclass
class Live:
    """A machine that can be used, and what it writes to."""

    machine: Any
    store: MemoryStore
    ledger: MemoryStore

    def state(self) -> Any:
        return state_of((vars(self.machine), self.store, self.ledger))


@dataclass(eq=False)
class Point:
    """The moment before a message is handed to a machine.

    Attributes:
        name, role: whose machine it is.
        sender, due: who wrote the message, and its bytes.
        facts: what has happened.
        world: the run.
    """

    name: str
    role: str
    sender: str
    due: bytes
    facts: Facts
    world: World
    _kept: Live
    _live: Live | None = None
    _state: Any = None

    def live(self) -> Live:
        """The machine as it was in that moment."""
        if self._live is None:
            self._live = self.world.copied(self._kept)
            self._state = self._live.state()
        return self._live

    def unchanged(self) -> bool:
        """Whether it still is."""
        return self._live is None or self._live.state() == self._state

    def spoilt(self) -> None:
        """It has gone on: take another copy next time."""
        self._live = None

    def done(self, job: Job) -> JobDone | CommitteeFailed:
        """What the committee found in the run when it did this job."""
        results = self.world.results
        return results.get(
            (self.name, job.context.digest(), type(job)), CommitteeFailed("There is no such job.")
        )

    def __repr__(self) -> str:
        known = {
            name: getattr(self.facts, name)
            for name in ("phase", "round", "attempt", "released")
            if hasattr(self.facts, name)
        }
        known |= {name: True for name in ("voted", "prepared", "closed") if getattr(self.facts, name, None)}
        where = ", ".join(f"{name} {value}" for name, value in known.items())
        return f"<{self.name} of the {self.world.name} run before {read_message(self.due).kind}: {where}>"


@dataclass(eq=False)
class World:
    """One run, with its points.

    Attributes:
        wire: every message of the run, as bytes, with sender and recipient.
        files: every record that a member had on its disk, by member and name.
    """

    name: str
    cast: Any
    points: list[Point] = field(default_factory=list)
    wire: list[tuple[str, str, bytes]] = field(default_factory=list)
    files: dict[tuple[str, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    results: dict[Any, Any] = field(default_factory=dict)
    genuine: Genuine = field(default_factory=Genuine)
    shared: list[Any] = field(default_factory=list)

    @property
    def terms(self) -> Terms:
        return self.cast.terms

    def copied(self, live: Live) -> Live:
        """Another machine in the same state, with stores of its own; keys and terms are shared."""
        memo: dict[int, Any] = {id(thing): thing for thing in self.shared}
        store, ledger = MemoryStore(live.store.content), MemoryStore(live.ledger.content)
        memo |= {id(live.store): store, id(live.ledger): ledger}
        for key in _keys_in(live.machine):
            memo[id(key)] = key
        return Live(_copied(live.machine, memo, store, self), store, ledger)


def _keys_in(machine: Any) -> list[Any]:
    attempt = getattr(machine, "_attempt", None)
    return [key for key in (getattr(attempt, "key", None),) if key is not None]


def _copied(machine: Any, memo: dict[int, Any], store: MemoryStore, world: World) -> Any:
    """A copy of a machine; a coordinator's copy reads settled rounds from the copied store."""
    reads = {"_recall": partial(_recall, store), "_record": partial(_record, store)}
    for part in (machine, getattr(machine, "_verifying", machine)):
        for name, value in vars(part).items():
            if name in ("_recall", "_record", "_follow"):
                memo[id(value)] = reads.get(name, value)
    return copy.deepcopy(machine, memo)


def _recall(store: MemoryStore, round_: int) -> Settled:
    return Settled(
        signed=SignedOutcome.from_bytes(store[receipt_name(round_)]), total=store[sum_name(round_)]
    )


def _record(store: MemoryStore, round_: int) -> Verification | None:
    name = verification_name(round_)
    return Verification.from_bytes(store[name]) if name in store else None


def _stores_in(machine: Any) -> list[Store]:
    """The stores that a machine reads by itself."""
    found = []
    for part in (machine, getattr(machine, "_ledger", None), getattr(machine, "_pledges", None)):
        found += (
            [thing for thing in vars(part).values() if isinstance(thing, Store)] if part is not None else []
        )
    return found


def recorder(stage_class: type) -> type:
    """A stage that copies each machine before each of its messages."""

    class Recorder(stage_class):  # type: ignore[misc, valid-type]
        def __init__(self, world: World, folder: Path, opened: Mapping[str, Any], **rest: Any) -> None:
            self.world = world
            terms = world.cast.terms
            self.facts: dict[str, Facts] = {COORDINATOR: CoordinatorFacts()}
            for name in terms.parties:
                self.facts[name] = PartyFacts(0, terms.beginning, opened=opened.get(name, ()))
            for name in terms.hospitals:
                self.facts[name] = HospitalFacts(0, terms.beginning)
            world.shared = [terms, *world.cast.keys.values()]
            for keys in world.cast.keys.values():
                world.shared += [key for key in (keys.signing, keys.sealing) if key is not None]
            self._under_way: dict[str, Message] = {}
            super().__init__(world.cast, folder, **rest)

        def _keep(self, name: str, machine: Any, sender: str, due: bytes) -> None:
            store = MemoryStore(dict(self.store(name)))
            ledger = MemoryStore(dict(self.store(f"{name}-ledger", name)))
            memo: dict[int, Any] = {id(thing): thing for thing in [*self.world.shared, self]}
            memo |= {id(key): key for key in _keys_in(machine)}
            for read in _stores_in(machine):
                memo[id(read)] = ledger if read.path("").name.endswith("-ledger") else store
            role = "party" if name in self.cast.terms.parties else "hospital"
            role = COORDINATOR if name == COORDINATOR else role
            kept = Live(_copied(machine, memo, store, self.world), store, ledger)
            self.world.points.append(Point(name, role, sender, due, self.facts[name], self.world, kept))
            for file, data in store.items():
                self.world.files[name, file].add(data)
            for file, data in ledger.items():
                self.world.files[f"{name}-ledger", file].add(data)

        def _deliver(self, name: str) -> None:
            data = self.mail[name][0]
            if name not in self.muted and name not in self.gone:
                self._keep(name, self.hosts[name]._machine, COORDINATOR, data)
                self._under_way[name] = read_message(data)
            super()._deliver(name)

        def _answered(self, name: str, answers: list[bytes]) -> None:
            read = [read_message(data) for data in answers]
            self.facts[name] = self.facts[name].told(self._under_way[name], read)
            for message, data in zip(read, answers, strict=True):
                self.world.wire.append((name, COORDINATOR, data))
                self.world.genuine.add(message)
            super()._answered(name, answers)

        def _restart(self, name: str) -> None:
            if isinstance(self.facts[name], PartyFacts):
                self.facts[name] = self.facts[name].restarted()
            super()._restart(name)

        def _post(self, to: str, message: Message) -> None:
            self.facts[COORDINATOR] = self.facts[COORDINATOR].posted(to, message)
            self.world.wire.append((COORDINATOR, to, message.to_bytes()))
            self.world.genuine.add(message)
            super()._post(to, message)

        def _notify(self, effect: Any) -> None:
            if isinstance(effect, RoundVerified):
                self.facts[COORDINATOR] = self.facts[COORDINATOR].verified(effect.round)
            if isinstance(effect, Finished):
                self.facts[COORDINATOR] = replace(self.facts[COORDINATOR], phase="done")
            super()._notify(effect)

        def _give(self, event: Any) -> None:
            if isinstance(event, Received):
                self._keep(COORDINATOR, self.coordinator, event.sender, event.message.to_bytes())
                self.facts[COORDINATOR] = self.facts[COORDINATOR].told(event.sender, event.message)
            super()._give(event)
            facts = self.facts[COORDINATOR]
            if facts.phase == "status" and facts.answered >= facts.asked:
                # All rounds are settled: it waits for their checks before it asks anything.
                self.facts[COORDINATOR] = replace(facts, phase="checks")

        def _run_job(self, name: str, job: Job) -> Any:
            done = super()._run_job(name, job)
            self.world.results[name, job.context.digest(), type(job)] = done
            return done

    return Recorder
