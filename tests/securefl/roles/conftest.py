"""A small real study on one stage: coordinator, parties and hospitals under the shipped hosts, every message as bytes.

The stage decides what is delivered next (in order, or drawn by a seed), kills a role at a given effect and starts it
again from its store. Trainers are small linear functions. The committee is, by default, an oracle in plain integers:
shares of zero from a hash, sums modulo 2^w; it blocks where the real one blocks and fails where that one would fail.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.chain import SignedOutcome
from protocols.contribution import open_share, share_context
from protocols.projection import commit
from protocols.sharing import add_share
from securefl import consortium as members
from securefl.consortium import Consortium, MemberKeys
from securefl.roles.committee_runner import CommitteeRunner
from securefl.roles.coordinator import CoordinatorMachine
from securefl.roles.effects import (
    AddShares,
    CheckNorms,
    CommitteeFailed,
    Event,
    Finished,
    Gone,
    Job,
    JobDone,
    Lost,
    NormsChecked,
    Received,
    RoundDone,
    RoundVerified,
    SharesAdded,
    Start,
    SumOpened,
    Timeout,
    coin_context,
)
from securefl.roles.hospital import HospitalMachine
from securefl.roles.host import Answering, Host, Notice, Store
from securefl.roles.messages import (
    Freeze,
    KeyRequest,
    Message,
    Opened,
    Part,
    Prepare,
    Release,
    Settled,
    Verification,
    read_message,
)
from securefl.roles.party import PartyMachine
from securefl.roles.records import receipt_name, sum_name, verification_name
from securefl.roles.replica import Replica
from securefl.roles.terms import STATISTICS, UPDATE, Terms
from securefl.study import Study

SIZE, TRAINABLE, STATISTICS_SIZE = 24, 20, 3
# Names of different lengths: the order of names is not the order of their encodings.
NAMES = ("st-anna", "va", "charite", "mayo-clinic-rochester", "b")


class Crash(BaseException):
    """A role's process is killed here."""


def initial_model() -> np.ndarray:
    return np.linspace(-1.0, 1.0, SIZE)


class LinearTrainer:
    """A hospital whose update is a linear function of the model; ``faults`` replaces updates by round."""

    def __init__(self, name: str, faults: dict[int, np.ndarray] | None = None) -> None:
        self.count = 5 + sum(name.encode()) % 11
        self._slope = -0.125 * (1 + len(name) % 3)
        self._shift = np.sin(np.arange(SIZE) + len(name))
        self._faults = faults or {}
        self._total: float | None = None
        self.calls = 0

    def initial_model(self) -> np.ndarray:
        return initial_model()

    def statistics(self) -> np.ndarray:
        return np.array([self.count, 2.5 * self.count, 7.25])

    def use_statistics(self, total: np.ndarray) -> None:
        self._total = float(total[0])

    def update(self, model: np.ndarray, round_: int) -> np.ndarray:
        self.calls += 1
        if round_ in self._faults:
            return self._faults[round_]
        assert self._total is not None
        return (self._slope * model + self._shift / round_) * (self.count / self._total)


def finest(names: int, width: int) -> int:
    """The oracle's bits after the point, for entries of at most 4 in absolute value."""
    bits = 0
    summands = names * (8 if width == 64 else 1)  # three bits stay free for the check of the sum
    while summands * -(-4 * 2 ** (bits + 1) // 1) <= 2 ** (width - 1) - 1 and bits < 62:
        bits += 1
    return bits


def averaged(names: list[str], rounds: list[set[str]], bits: int, momentum: float, rate: float) -> np.ndarray:
    """The oracle: plain integers, written from the description of FedAvgM and not from the shipped code.

    rounds: who is in the sum, a set a round of training. A momentum of 0 is FedAvg.
    """
    trainers = {name: LinearTrainer(name) for name in names}
    total = sum(trainer.count for trainer in trainers.values())
    x, v = initial_model(), np.zeros(SIZE)
    for number, included in enumerate(rounds, start=1):
        whole = [0] * SIZE
        for name in sorted(included):
            trainers[name].use_statistics(np.array([total]))
            scaled = np.rint(trainers[name].update(x, number) * 2.0**bits)
            whole = [a + int(b) for a, b in zip(whole, scaled, strict=True)]
        delta = np.array([float(value) / 2.0**bits for value in whole])
        v = momentum * v + delta
        x = np.concatenate([(x + rate * v)[:TRAINABLE], (x + delta)[TRAINABLE:]])
    return x


@dataclass(frozen=True)
class Cast:
    """Members, keys and terms of one study."""

    study: Study
    consortium: Consortium
    terms: Terms
    keys: dict[str, MemberKeys]


_STUDY = """
name = "Stage"
seed = 1
[consortium]
file = "consortium.toml"
[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
[committee]
{committee}
[data]
source = "fed-heart"
[model]
kind = "logistic"
[training]
rounds = {rounds}
learning_rate = 0.1
[server]
optimizer = "fedavgm"
learning_rate = 0.5
momentum = 0.75
[aggregation]
width = {width}
{aggregation}
"""


def make_cast(
    folder: Path,
    hospitals: int,
    parties: int,
    rounds: int,
    width: int,
    norm_bound: float | None,
    minimum_parties: int | None,
) -> Cast:
    dealer = "dealer" if norm_bound else None
    names = [f"party-{i}" for i in range(1, parties + 1)]
    consortium = members.create(folder, NAMES[:hospitals], names, dealer)
    committee = f"collusion_bound = 1\nminimum_parties = {minimum_parties}" if minimum_parties else ""
    aggregation = f"norm_bound = {norm_bound}" if norm_bound else ""
    (folder / "study.toml").write_text(
        _STUDY.format(rounds=rounds, width=width, committee=committee, aggregation=aggregation)
    )
    study = Study.load(folder)
    keys = {m.name: members.load_keys(folder / "keys" / m.name, m) for m in consortium.members}
    return Cast(study, consortium, Terms.of(study, consortium), keys)


class Task:
    """One message's handling, in a thread that runs only while the stage waits for it."""

    def __init__(self, work: Callable[[Task], Any]) -> None:
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._work, self._killed = work, False
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.wants: tuple[str, Any] | None = None
        self.committee: list[str] = []
        self.answer: Any = None
        threading.Thread(target=self._run, daemon=True).start()
        self.resume()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self.result = self._work(self)
        except BaseException as error:
            self.error = error
        self.done = True
        self._stopped.release()

    def resume(self, answer: Any = None) -> None:
        self.wants, self.answer = None, answer
        self._go.release()
        self._stopped.acquire()

    def kill(self) -> None:
        self._killed = True
        self.resume()

    def meet(self, what: str, committee: list[str], brought: Any = None) -> Any:
        """Called in the thread: wait for the committee; None if it does not come."""
        self.wants, self.committee = (what, brought), committee
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise Crash
        return self.answer

    def outside(self, function: Callable[[], Any], ready: Callable[[Task], None]) -> Any:
        """Called in the thread: compute while the stage goes on."""
        self.wants, self.committee = ("outside", None), []
        self._stopped.release()
        result = function()
        ready(self)
        self._go.acquire()
        return result


class IntegerCommittee:
    """One party's end of a committee in plain integers."""

    def __init__(self, stage: Stage, name: str, store: Store) -> None:
        self._stage, self._name, self._store = stage, name, store
        self._rank = list(stage.cast.terms.parties).index(name)
        self._session, self._number = b"", 0

    def run(self, job: Job, task: Task) -> JobDone | CommitteeFailed:
        self._rank = job.context.parties.index(self._name)
        if job.session != self._number or not self._session:
            met = task.meet("join", job.context.parties)
            if met is None:
                self._session = b""
                return CommitteeFailed("Nobody joined.")
            self._session, self._number = met, job.session
        if isinstance(job, AddShares):
            return self._add(job)
        if isinstance(job, CheckNorms):
            return self._check(job, task)
        mine = self._store[job.share]
        self._stage.emitted[self._name, job.context.round].add(mine)
        others = task.meet("open", job.context.parties, mine)
        if others is None:
            self._session = b""
            return CommitteeFailed("Nobody opened.")
        width, shift = job.context.width, 64 - job.context.width
        total = sum(np.frombuffer(share, dtype="<u8").astype(object) for share in others) % 2**64
        assert not any(value % 2**shift for value in total), (
            "shares of different sessions were opened together"
        )
        return SumOpened(np.array([int(v) >> shift for v in total], dtype=f"<u{width // 8}").tobytes())

    def _check(self, job: CheckNorms, task: Task) -> NormsChecked | CommitteeFailed:
        shares = {hospital: self._share(job, hospital, name) for hospital, name in job.parts.items()}
        brought = task.meet("norms", job.context.parties, (job, shares))
        if brought is None:
            self._session = b""
            return CommitteeFailed("Nobody checked.")
        for party, commitment, (other, _) in zip(job.context.parties, job.commitments, brought, strict=True):
            if commit(other.coin_part, coin_context(job.frozen, party)) != commitment:
                self._session = b""
                return CommitteeFailed(f"{party} revealed another part of the coin.")
        width, within = job.context.width, set()
        for hospital in job.parts:
            total = sum(share[hospital].astype(object) for _, share in brought) % 2**width
            integers = [int(v) - 2**width * (int(v) >= 2 ** (width - 1)) for v in total]
            if sum(v * v for v in integers) <= job.check.bound**2:
                within.add(hospital)
        return NormsChecked(frozenset(within))

    def _share(self, job: AddShares | CheckNorms, hospital: str, name: str) -> np.ndarray:
        share = np.zeros(job.context.size, dtype=f"<u{job.context.width // 8}")
        content = open_share(self._store[name], job.key, job.context, hospital, job.party)
        add_share(share, content, self._rank, share_context(job.context, hospital))
        return share

    def _add(self, job: AddShares) -> SharesAdded:
        total = np.zeros(job.context.size, dtype=f"<u{job.context.width // 8}")
        for hospital, name in job.parts.items():
            total += self._share(job, hospital, name)
        parties = len(job.context.parties)
        mask = self._mask(job, self._rank) - self._mask(job, (self._rank + 1) % parties)
        lifted = total.astype(np.uint64) << np.uint64(64 - job.context.width)
        return SharesAdded((lifted + mask).astype("<u8").tobytes(), self._session)

    def _mask(self, job: AddShares, rank: int) -> np.ndarray:
        seed = self._session + job.context.digest() + bytes([rank])
        return np.frombuffer(hashlib.shake_256(seed).digest(8 * job.context.size), dtype="<u8")


@dataclass
class Fuse:
    """Kills one role when it comes to its ``at``-th step; counts every role's steps."""

    role: str = ""
    at: int = -1
    steps: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    writes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def step(self, role: str, write: bool = False) -> None:
        now = self.steps[role]
        if write:
            self.writes[role].append(now)
        self.steps[role] += 1
        if (role, now) == (self.role, self.at):
            raise Crash


class WatchedStore(Store):
    """A store that can be killed before a write and remembers every byte that was ever written."""

    def __init__(self, folder: Path, step: Callable[[], None], written: list[bytes]) -> None:
        super().__init__(folder)
        self._step, self._written = step, written

    def put(self, name: str, data: bytes) -> None:
        self._step()
        super().put(name, data)
        self._written.append(data)

    def enter(self, name: str, data: bytes) -> None:
        self._step()
        super().enter(name, data)
        self._written.append(data)

    def keep(self, name: str, data: bytes) -> None:
        self._step()
        super().keep(name, data)
        self._written.append(data)


class Stage:
    """All roles of a study, and the mail between them.

    Tests change who is there (``muted``, ``gone``), who is ``slow`` (its messages come last) or ``late`` (they wait for
    a deadline), what is on its way (``tamper``), and are called ``before`` each delivery.

    Args:
        cast: members and terms.
        folder: for the roles' stores.
        seed: draws what is delivered next; None delivers in a fixed order.
        faults: updates to send instead, by hospital and round.
        fuses: kill roles.
        meshes: run the shipped committee over them, in threads.
        together: whether everyone ends with the coordinator, as in the local engine.
    """

    def __init__(
        self,
        cast: Cast,
        folder: Path,
        seed: int | None = None,
        faults: dict[str, dict[int, np.ndarray]] | None = None,
        fuses: list[Fuse] | None = None,
        meshes: list[Any] | None = None,
        together: bool = True,
    ) -> None:
        self.cast, self.folder, self.together = cast, folder, together
        self._random = random.Random(seed) if seed is not None else None
        self._faults, self.fuses = faults or {}, fuses if fuses is not None else [Fuse()]
        self._meshes = meshes
        self.trainers = {h: LinearTrainer(h, self._faults.get(h)) for h in cast.terms.hospitals}
        self.emitted: dict[tuple[str, int], set[bytes]] = defaultdict(set)
        self.sums: dict[int, set[bytes]] = defaultdict(set)
        self.done: list[RoundDone] = []
        self.verified: list[RoundVerified] = []
        self.gone: set[str] = set()
        self.slow: set[str] = set()
        self.late: set[str] = set()
        self.jobs: list[tuple[str, Job]] = []
        self.before: Callable[[str, Event | bytes], None] = lambda _to, _what: None
        self.finished: Finished | None = None
        self.written: dict[str, list[bytes]] = defaultdict(list)
        self.wire: list[bytes] = []
        self.muted: set[str] = set()
        self.tamper: Callable[[str, str, Message], Message | None] = lambda _from, _to, message: message
        self.crashes = 0
        self._joins = 0
        self._back: deque[Task] = deque()
        self._returned = threading.Semaphore(0)
        self.hosts: dict[str, Answering] = {}
        self._tasks: dict[str, Task] = {}
        self._runners: dict[str, Any] = {}
        self._restart_all()

    # -- who is there --------------------------------------------------------------------------------------------

    def store(self, place: str, role: str = "") -> WatchedStore:
        step = lambda: self._step(role or place, write=True)  # noqa: E731
        return WatchedStore(self.folder / place, step, self.written[place])

    def _step(self, role: str, write: bool = False) -> None:
        for fuse in self.fuses:
            fuse.step(role, write)

    def _restart_all(self) -> None:
        self.mail: dict[str, deque[bytes]] = {name: deque() for name in self.members}
        self.inbox: dict[str, deque[Event]] = {name: deque() for name in self.members}
        self.timers: list[tuple[str, float]] = []
        for name in self.members:
            self._restart(name)
        self._start_coordinator()

    @property
    def members(self) -> list[str]:
        return [*self.cast.terms.parties, *self.cast.terms.hospitals]

    def _restart(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None and not task.done:
            task.kill()
        store = self.store(name)
        if name in self.cast.terms.hospitals:
            self.hosts[name] = Answering(self.hospital(name), store)
            return
        ledger = self.store(f"{name}-ledger", name)
        machine = PartyMachine(name, self.cast.terms, self.cast.keys[name].signing, store, ledger)
        runner: Any
        if self._meshes is None:
            runner = IntegerCommittee(self, name, store)
        else:
            parties = list(self.cast.terms.parties)
            dealer = self.cast.terms.norm_bound is not None
            runner = CommitteeRunner(name, parties, self._meshes[parties.index(name)], store, dealer)
        self._runners[name] = runner
        self.hosts[name] = Answering(machine, store, lambda job: self._run_job(name, job), ledger)

    def hospital(self, name: str) -> HospitalMachine:
        trainer = LinearTrainer(name, self._faults.get(name))
        self.trainers[name] = trainer
        terms, server = self.cast.terms, self.cast.study.settings.server
        return HospitalMachine(
            name,
            terms,
            self.cast.keys[name].signing,
            self.cast.keys[name].sealing,
            trainer,
            server,
            TRAINABLE,
            self.store(name),
        )

    def follow(self, replica: Replica, settled: Settled) -> Replica:
        return replica.follow(settled, self.cast.terms, self.cast.study.settings.server, TRAINABLE)

    def recall(self, round_: int) -> Settled:
        store = Store(self.folder / "coordinator")
        return Settled(
            signed=SignedOutcome.from_bytes(store[receipt_name(round_)]), total=store[sum_name(round_)]
        )

    def outcomes(self) -> list[SignedOutcome]:
        store, found = Store(self.folder / "coordinator"), []
        while receipt_name(len(found)) in store:
            found.append(SignedOutcome.from_bytes(store[receipt_name(len(found))]))
        return found

    def verification(self, round_: int) -> Verification | None:
        store, name = Store(self.folder / "coordinator"), verification_name(round_)
        return Verification.from_bytes(store[name]) if name in store else None

    def _start_coordinator(self) -> None:
        replica = Replica.initial(self.cast.terms, initial_model())
        for round_ in range(len(self.outcomes())):
            replica = self.follow(replica, self.recall(round_))
        sizes = {STATISTICS: STATISTICS_SIZE, UPDATE: SIZE}
        self.coordinator = CoordinatorMachine(
            self.cast.terms, sizes, replica, self.follow, self.recall, self.verification
        )
        self._host = Host(
            self.coordinator,
            self.store("coordinator"),
            self._post,
            set_timer=self._set_timer,
            notify=self._notify,
        )
        for name in self.gone:
            self.bury(name)
        self._give(Start())

    # -- what the coordinator's host does ------------------------------------------------------------------------

    def _post(self, to: str, message: Message) -> None:
        self._step("coordinator")
        changed = self.tamper("coordinator", to, message)
        if changed is not None:
            self.wire.append(changed.to_bytes())
            self.mail[to].append(changed.to_bytes())

    def _set_timer(self, name: str, seconds: float) -> None:
        self._step("coordinator")
        self.timers.append((name, seconds))

    def _notify(self, effect: Notice) -> None:
        self._step("coordinator")
        if isinstance(effect, Finished):
            self.finished = effect
        elif isinstance(effect, RoundVerified):
            self.verified.append(effect)
        else:
            self.done.append(effect)

    def _give(self, event: Event) -> None:
        self.before("coordinator", event)
        try:
            self._host.take(event)
            self._step("coordinator")
        except Crash:
            self.crashes += 1
            if self.together:
                self._restart_all()
                return
            for name in self.members:
                self.mail[name].clear()
                self.inbox[name].clear()
            self._start_coordinator()

    # -- what a member does --------------------------------------------------------------------------------------

    def lose(self, name: str) -> None:
        """Kill a member, start it again, and tell the coordinator."""
        self.crashes += 1
        self.mail[name].clear()
        self._restart(name)
        self.inbox[name].append(Lost(name))

    def bury(self, name: str) -> None:
        """Kill a party for good."""
        self.mail[name].clear()
        task = self._tasks.pop(name, None)
        if task is not None and not task.done:
            task.kill()
        self.gone.add(name)
        self.inbox[name].clear()
        self.inbox[name].append(Gone(name, f"{name} does not start."))

    def leave(self) -> None:
        """Everybody's process ends; nothing more is delivered."""
        for task in self._tasks.values():
            if not task.done:
                task.kill()

    def _deliver(self, name: str) -> None:
        data = self.mail[name].popleft()
        self.before(name, data)
        if name in self.muted or name in self.gone:
            return
        if name in self.late:
            self.mail[name].appendleft(data)
            return

        def work(_task: Task) -> list[bytes]:
            self._step(name)
            return self.hosts[name].answer(data)

        if name in self.cast.terms.parties:
            self._tasks[name] = task = _Shell.start(self, name, work)
            self._collect(name, task)
            return
        try:
            answers = work(None)  # type: ignore[arg-type]
            self._answered(name, answers)
            self._step(name)
        except Crash:
            self.lose(name)

    def _collect(self, name: str, task: Task) -> None:
        if not task.done:
            return
        del self._tasks[name]
        if isinstance(task.error, Crash):
            self.lose(name)
            return
        if task.error is not None:
            raise task.error
        try:
            self._answered(name, task.result)
            self._step(name)
        except Crash:
            self.lose(name)

    def _answered(self, name: str, answers: list[bytes]) -> None:
        self.wire += answers
        for data in answers:
            message = read_message(data)
            if isinstance(message, Opened):
                self.sums[message.outcome.round].add(message.total)
            changed = self.tamper(name, "coordinator", message)
            if changed is not None:
                self.inbox[name].append(Received(name, read_message(changed.to_bytes())))

    def _run_job(self, name: str, job: Job) -> JobDone | CommitteeFailed:
        self._step(name)
        self.jobs.append((name, job))
        task = self._tasks[name]
        if self._meshes is None:
            done = self._runners[name].run(job, task)
        else:
            done = task.outside(lambda: self._runners[name].run(job), self._ready)
        self._step(name)
        return done

    def _ready(self, task: Task) -> None:
        self._back.append(task)
        self._returned.release()

    # -- what comes next -----------------------------------------------------------------------------------------

    def moves(self) -> list[Callable[[], None]]:
        """Everything that may happen now."""
        found: list[tuple[bool, Callable[[], None]]] = []
        for name in self.members:
            if self.inbox[name]:
                slow = bool({name, "coordinator"} & self.slow)
                found.append((slow, lambda n=name: self._give(self.inbox[n].popleft())))
        for name in self.members:
            if self.mail[name] and name not in self._tasks and name not in self.late:
                found.append((name in self.slow, lambda n=name: self._deliver(n)))
        present = len(self.cast.terms.parties) - len(self.gone)
        if len(self._tasks) == present and all(t.wants for t in self._tasks.values()):
            found.append((False, self._meet))
        return [move for _, move in sorted(found, key=lambda slow_and_move: slow_and_move[0])]

    def _meet(self) -> None:
        tasks = {name: self._tasks[name] for name in self.cast.terms.parties if name in self._tasks}
        what = {task.wants[0] for task in tasks.values() if task.wants}
        answer: Any = None
        if any(task.committee not in ([], list(tasks)) for task in tasks.values()):
            what = set()  # somebody waits for a party that is gone
        if what == {"join"}:
            self._joins += 1
            answer = hashlib.sha256(b"session" + self._joins.to_bytes(4, "big")).digest()
        elif what in ({"open"}, {"norms"}):
            answer = [task.wants[1] for task in tasks.values() if task.wants]
        elif "outside" in what:
            self._wait()
            return
        self._resume(tasks, answer)

    def _resume(self, tasks: dict[str, Task], answer: Any) -> None:
        for name, task in tasks.items():
            if self._tasks.get(name) is task:
                task.resume(answer)
                self._collect(name, task)

    def _wait(self) -> None:
        self._returned.acquire()
        task = self._back.popleft()
        name = next(n for n, t in self._tasks.items() if t is task)
        task.resume()
        self._collect(name, task)

    def run(self, until: Callable[[], bool] = lambda: False, limit: int = 20_000) -> Stage:
        """Play until the study is closed or ``until`` says so."""
        for _ in range(limit):
            if self.finished or until():
                return self
            moves = self.moves()
            if moves:
                (self._random.choice(moves) if self._random else moves[0])()
            elif any(t.wants and t.wants[0] == "outside" for t in self._tasks.values()):
                self._wait()
            elif self._tasks:
                self._resume(
                    dict(self._tasks), None
                )  # the deadline of those who wait for a party that is not coming
            elif self.timers:
                self._deadline()
            else:
                raise AssertionError("The study has come to a standstill.")
        raise AssertionError("The study goes round in circles.")

    def _deadline(self) -> None:
        happened = len(self.wire) + len(self.verified)
        self._give(Timeout(self.timers.pop(0)[0]))
        if len(self.wire) + len(self.verified) > happened:
            self.late.clear()

    @property
    def model(self) -> np.ndarray:
        return self.coordinator.replica.state.model

    def capture(self, kind: type[Message], round_: int, to: str = "") -> dict[str, Any]:
        """Play on until the coordinator has written all messages of a kind in a round, and keep them from their way.

        Returns the messages by recipient; with ``to``, only that member's is kept back.
        """
        found: dict[str, Any] = {}
        before = self.tamper
        expected = {to} if to else set(self.members)

        def keep(sender: str, recipient: str, message: Message) -> Message | None:
            changed = before(sender, recipient, message)
            wanted = isinstance(message, kind) and recipient in expected
            if sender != "coordinator" or not wanted or self.coordinator.replica.place.round != round_:
                return changed
            if not isinstance(message, Part) or recipient not in found:
                found[recipient] = message
            return None

        self.tamper = keep
        in_party = kind in (KeyRequest, Part, Freeze, Prepare, Release)
        wanted = 1 if to else len(self.cast.terms.parties if in_party else self.cast.terms.hospitals)
        self.run(until=lambda: len(found) >= wanted)
        self.tamper = before
        if kind is KeyRequest:
            self.run(until=lambda: not self.moves())  # the outcome that was sent just before
        return found

    def ask(self, name: str, message: Message) -> Message:
        """A member's one answer to a message, given to it past the stage."""
        (answer,) = self.hosts[name].answer(message.to_bytes())
        return read_message(answer)


class _Shell(Task):
    """A task that its own job can find: the stage knows it before it runs."""

    @classmethod
    def start(cls, stage: Stage, name: str, work: Callable[[Task], Any]) -> Task:
        shell = cls.__new__(cls)
        stage._tasks[name] = shell
        Task.__init__(shell, work)
        return shell


@dataclass(frozen=True)
class Theatre:
    """What the tests of the roles use."""

    folder: Path
    cast: Callable[..., Cast]

    stage = Stage
    fuse = Fuse
    crash = Crash
    trainer = LinearTrainer
    averaged = staticmethod(averaged)
    initial_model = staticmethod(initial_model)
    size, trainable, statistics_size = SIZE, TRAINABLE, STATISTICS_SIZE

    def expected(self, cast: Cast, rounds: list[set[str]]) -> np.ndarray:
        """The oracle's model for the stage's study."""
        names, update = list(cast.terms.hospitals), cast.terms.update
        # Under a norm bound the encoding is another; here it is only used.
        bits = update.fraction_bits if cast.terms.norm_bound else finest(len(names), update.width)
        return averaged(names, rounds, bits, 0.75, 0.5)


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that is killed inside this process loses nothing that it wrote, synced or not."""
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


@pytest.fixture(scope="session")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Theatre:
    root = tmp_path_factory.mktemp("casts")

    @cache
    def made(*asked: Any) -> Cast:
        folder = root / "-".join(map(str, asked))
        folder.mkdir()
        return make_cast(folder, *asked)

    def cast(
        hospitals: int = 4,
        parties: int = 3,
        rounds: int = 2,
        width: int = 32,
        norm_bound: float | None = None,
        minimum_parties: int | None = None,
    ) -> Cast:
        return made(hospitals, parties, rounds, width, norm_bound, minimum_parties)

    return Theatre(root, cast)
