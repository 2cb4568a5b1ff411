"""Whole runs without processes, for what reads run folders: ``securefl.run`` with another engine than the local one.

Members are the shipped machines with their real keys, stores and trainers, under the shipped host where they need no
committee. The committee adds plain integers. A ``Script`` says what goes wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocols.contribution import open_share, share_context
from protocols.envelope import OVERHEAD_BYTES
from protocols.noise import noisy
from protocols.sharing import add_share
from securefl import consortium as members
from securefl import running
from securefl.consortium import Consortium
from securefl.data import load_all
from securefl.engines import exhibits
from securefl.engines.link import Reply
from securefl.errors import EngineError
from securefl.privacy import PrivacyLedger, dataset_name, read_budgets
from securefl.roles.coordinator import CoordinatorMachine
from securefl.roles.effects import (
    AddShares,
    CheckNorms,
    Enter,
    Event,
    Finished,
    Gone,
    Job,
    JobDone,
    Keep,
    NormsChecked,
    OpenSum,
    Persist,
    Received,
    RoundDone,
    RoundVerified,
    RunCommittee,
    Send,
    SharesAdded,
    Start,
    SumOpened,
    Timeout,
)
from securefl.roles.hospital import HospitalMachine
from securefl.roles.host import Answering, Host, Notice, Store
from securefl.roles.messages import (
    Announcement,
    CoinRevealed,
    Message,
    SignedAnswer,
    SignedContribution,
    read_message,
)
from securefl.roles.party import PartyMachine
from securefl.roles.replica import Replica
from securefl.roles.spending import Spending
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.private import PrivateTrainer
from securefl.training.trainer import Trainer
from tests.securefl.small_study import small_study_in

Hospitals = Mapping[int, set[str]]


@dataclass(frozen=True)
class Script:
    """What goes wrong in a run, by round.

    Attributes:
        silent: hospitals that do not answer the announcement.
        secretive: hospitals that take no part in the check of the sum.
        long: hospitals whose update is three times as long as the norm bound.
        gone: parties whose process does not start any more, from this round on.
        lies: all parties agree on another sum than the one they hold.
        stubborn: the coordinator goes on after the hospitals found a sum wrong.
        stop_after: the run is stopped after this round.
    """

    silent: Hospitals = field(default_factory=dict)
    secretive: Hospitals = field(default_factory=dict)
    long: Hospitals = field(default_factory=dict)
    gone: Mapping[int, str] = field(default_factory=dict)
    lies: Mapping[int, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    stubborn: bool = False
    stop_after: int | None = None


class ScriptedTrainer(Trainer):
    """A trainer that follows the script, and shows the first update of a simulation."""

    def __init__(self, script: Script, run: RunFolder, terms: Terms, *args: Any) -> None:
        super().__init__(*args)
        self._script, self._run, self._terms, self._name = script, run, terms, args[2]

    def update(self, model: np.ndarray, round_: int) -> np.ndarray:
        found = super().update(model, round_)
        if self._name in self._script.long.get(round_, ()):
            found = found * (3 * self._terms.norm_bound / np.linalg.norm(found))
        if (
            self._terms.exhibits
            and round_ == exhibits.ROUND
            and self._name == next(iter(self._terms.hospitals))
        ):
            encoded = self._terms.update.encode(found).view("<i4").astype(np.int64)
            exhibits.keep(self._run.exhibits, f"update-{self._name}", encoded)
        return found


class Recorded:
    """A private trainer that leaves its updates in the folder ``updates``, for the test to look at.."""

    def __init__(self, trainer: PrivateTrainer, run: RunFolder, name: str) -> None:
        self._trainer, self._run, self._name = trainer, run, name
        self.layout = trainer.layout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

    def update(self, model: np.ndarray, round_: int) -> np.ndarray:
        found = self._trainer.update(model, round_)
        folder = self._run.path / "updates"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{self._name}-{round_}.npy", found, allow_pickle=False)
        return found


class InOneProcess:
    """The local engine's place: see the module."""

    def __init__(
        self, script: Script, run: RunFolder, study: Study, consortium: Consortium, *_: object
    ) -> None:
        self._script, self._run = script, run
        self._terms = terms = Terms.of(study, consortium, run.unchecked())
        keys = {m.name: members.load_keys(run.keys / m.name, m) for m in consortium.members}
        settings, names = study.settings, list(terms.hospitals)
        data = load_all(settings.data, study.folder, names, settings.seed)
        self._hospitals: dict[str, Answering] = {}
        for name in names:
            trainer: Any
            spending, ledger = None, None
            if terms.private is None:
                trainer = ScriptedTrainer(script, run, terms, settings, study.folder, name, data[name])
            else:
                ledger = Store(run.privacy / name / "ledger")
                bits = terms.private.encoding.fraction_bits
                trainer = Recorded(PrivateTrainer(settings, study.folder, name, data[name], bits), run, name)
                budgets = read_budgets(run.privacy / name / "budget.toml")
                account = dataset_name(settings.data, None)
                budget = budgets.of(account) if budgets else None
                spending = Spending(PrivacyLedger(account, ledger, budget), terms.private)
            store = Store(run.homes / name)
            machine = HospitalMachine(
                name, terms, keys[name].signing, keys[name].sealing, trainer, settings.server,
                trainer.layout.trainable_size, store, spending,
            )  # fmt: skip
            self._hospitals[name] = Answering(machine, store, ledger=ledger)
        self._stores = {name: Store(run.homes / name) for name in terms.parties}
        self._ledgers = {name: Store(run.homes / name / "ledger") for name in terms.parties}
        self._parties = {
            name: PartyMachine(name, terms, keys[name].signing, self._stores[name], self._ledgers[name])
            for name in terms.parties
        }
        self._jobs: dict[str, Job] = {}
        self._mail: deque[tuple[str, bytes]] = deque()
        self._events: deque[Event] = deque()
        self._timers: list[str] = []
        self._gone: set[str] = set()

    def __enter__(self) -> InOneProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def drive(
        self,
        replica: Replica,
        sizes: dict[str, int],
        follow: Callable[..., Replica],
        watcher: Any,
        stopping: Callable[[], bool],
    ) -> Finished | None:
        run = self._run
        machine = CoordinatorMachine(self._terms, sizes, replica, follow, run.settled, run.verification)
        ended: list[Finished] = []
        self._round = replica.place.round

        def notify(notice: Notice) -> None:
            if isinstance(notice, Finished):
                ended.append(notice)
            elif isinstance(notice, RoundVerified):
                watcher.round_verified(notice)
            else:
                self._round_done(notice)
                watcher.round_done(notice, machine.replica)

        host = Host(
            machine,
            run.store(),
            lambda to, message: self._mail.append((to, message.to_bytes())),
            set_timer=lambda name, _seconds: self._timers.append(name),
            notify=notify,
        )
        self._events.append(Start())
        while not ended:
            if self._script.stop_after is not None and self._round > self._script.stop_after:
                return None
            if self._events:
                self._take(host, self._events.popleft())
            elif self._mail:
                self._deliver(watcher, *self._mail.popleft())
            elif self._jobs:
                self._work()
            else:
                host.take(Timeout(self._timers.pop(0)))
        return ended[0]

    def _take(self, host: Host, event: Event) -> None:
        try:
            host.take(event)
        except EngineError as error:
            if not (self._script.stubborn and "not that of the hospitals" in str(error)):
                raise

    def _round_done(self, done: RoundDone) -> None:
        outcome = done.settled.signed.outcome
        self._round = outcome.round + 1
        if self._terms.exhibits and outcome.round == exhibits.ROUND:
            total = np.frombuffer(done.settled.total, dtype=f"<i{outcome.context.width // 8}")
            exhibits.keep(self._run.exhibits, "sum", total.astype(np.int64))
        if self._round in self._script.gone:
            party = self._script.gone[self._round]
            self._gone.add(party)
            self._jobs.pop(party, None)
            self._events.append(Gone(party, f"{party} does not start."))

    def _deliver(self, watcher: Any, to: str, data: bytes) -> None:
        message = read_message(data)
        if to in self._parties:
            if to not in self._gone:
                self._carry_out(to, self._parties[to].handle(message))
            return
        if isinstance(message, Announcement) and to in self._script.silent.get(message.context.round, ()):
            return
        answers = self._hospitals[to].answer(data)
        size = sum(map(len, answers))
        watcher.exchanged("hospitals-1", to, message, Reply(answers, 0.001), size)
        for answer in answers:
            self._received(to, read_message(answer))

    def _received(self, hospital: str, answer: Message) -> None:
        secretive = hospital in self._script.secretive.get(self._asked_round(answer), ())
        if isinstance(answer, CoinRevealed | SignedAnswer) and secretive:
            return
        shown = self._terms.exhibits and hospital == next(iter(self._terms.hospitals))
        if isinstance(answer, SignedContribution) and shown and self._round == exhibits.ROUND:
            for party, envelope in zip(self._committee(), answer.envelopes, strict=True):
                seen = np.frombuffer(envelope, dtype=np.uint8)
                count = exhibits.EXCERPT * self._terms.update.width // 8 + OVERHEAD_BYTES + 1
                exhibits.keep(self._run.exhibits, f"envelope-{party}-{hospital}", seen, count)
        self._events.append(Received(hospital, answer))

    def _asked_round(self, answer: Message) -> int:
        outcome = (
            answer.answer.outcome if isinstance(answer, SignedAnswer) else getattr(answer, "outcome", b"")
        )
        found = (s.outcome.round for s in self._run.outcomes() if s.outcome.digest() == outcome)
        return next(found, -1)

    def _committee(self) -> list[str]:
        return [party for party in self._parties if party not in self._gone]

    # -- the committee: plain integers -----------------------------------------------------------------------------

    def _carry_out(self, party: str, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Persist(name, content) | Keep(name, content):
                    self._stores[party].put(name, content)
                case Enter(name, content):
                    self._ledgers[party].enter(name, content)
                case Send(_, message):
                    self._events.append(Received(party, read_message(message.to_bytes())))
                case RunCommittee(job):
                    self._jobs[party] = job

    def _work(self) -> None:
        jobs, self._jobs = self._jobs, {}
        assert list(jobs) == list(next(iter(jobs.values())).context.parties)
        for party, result in self._results(jobs).items():
            self._carry_out(party, self._parties[party].handle(result))

    def _results(self, jobs: dict[str, Any]) -> dict[str, JobDone]:
        first = next(iter(jobs.values()))
        width, modulus = first.context.width, 2**first.context.width
        if isinstance(first, AddShares):
            return {
                party: SharesAdded(self._sum(party, job).astype("<u8").tobytes(), b"one session")
                for party, job in jobs.items()
            }
        if isinstance(first, CheckNorms):
            within = set()
            for hospital in first.parts:
                shares = [self._share(party, job, hospital).astype(object) for party, job in jobs.items()]
                integers = [int(v) - modulus * (int(v) >= modulus // 2) for v in sum(shares) % modulus]
                if sum(v * v for v in integers) <= first.check.bound**2:
                    within.add(hospital)
            return dict.fromkeys(jobs, NormsChecked(frozenset(within)))
        assert isinstance(first, OpenSum)
        shares = [np.frombuffer(self._stores[party][first.share], dtype="<u8") for party in jobs]
        total = np.sum(shares, axis=0, dtype=np.uint64).astype(f"<u{width // 8}")
        lie = self._script.lies.get(first.context.round, lambda honest: honest)
        return dict.fromkeys(jobs, SumOpened(lie(total).astype(total.dtype).tobytes()))

    def _sum(self, party: str, job: AddShares) -> np.ndarray:
        total = np.sum([self._share(party, job, hospital) for hospital in job.parts], axis=0)
        return (
            noisy(total.astype(f"<u{job.context.width // 8}"), job.noise_variance)
            if job.noise_variance
            else total
        )

    def _share(self, party: str, job: AddShares | CheckNorms, hospital: str) -> np.ndarray:
        context = job.context
        share = np.zeros(context.size, dtype=f"<u{context.width // 8}")
        content = open_share(self._stores[party][job.parts[hospital]], job.key, context, hospital, party)
        add_share(share, content, context.parties.index(party), share_context(context, hospital))
        shown = self._terms.exhibits and hospital == next(iter(self._terms.hospitals))
        if shown and context.round == exhibits.ROUND and isinstance(job, AddShares):
            exhibits.keep(self._run.exhibits, f"share-{party}-{hospital}", share)
        return share


Play = Callable[..., RunFolder]


def _play(
    study: Path, out: Path, insecure: bool = False, resume: bool = False, page: bool = False, **script: Any
) -> RunFolder:
    """Run a study; what a run leaves is in the folder that is returned, ``report.html`` only with ``page``.

    Raises:
        EngineError: as ``securefl.run``, for what the script brings about.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "LocalEngine", partial(InOneProcess, Script(**script)))
        patch.setattr("os.fsync", lambda _descriptor: None)
        if not page:
            patch.setattr(running, "write_report", lambda folder: folder.path)
        running.run(study, out, resume=resume, progress=False, insecure_unchecked=insecure)
    return RunFolder(out)


@pytest.fixture(scope="session")
def play() -> Play:
    """``play(study folder, run folder, silent=..., ...)``: a whole run, as ``Script`` says."""
    return _play


@pytest.fixture
def small_study(tmp_path: Path) -> Study:
    """A study with its records beside it, in the folder ``study``."""
    return small_study_in(tmp_path / "study")
