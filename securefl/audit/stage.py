"""A small real study in one process, for attacks on it: machines, keys, stores and training as shipped.

Four hospitals train a small network on the heart records that the package brings; three parties, and a dealer if norms
are checked. Every member sits behind ``roles.host.Answering`` with a store of its own, and every message goes over as
bytes. The shipped coordinator plays (:meth:`Stage.play`), or an attack takes its place (``hostile``).
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.chain import SignedOutcome
from protocols.dealer import Dealer
from protocols.mesh import in_process_meshes
from protocols.prg import RingVector
from securefl.audit.stage_cast import (
    HOSPITALS,
    PARTIES,
    VICTIM,
    Members,
    Private,
    Seat,
    spending_of,
    trainer_of,
    write_study,
)
from securefl.audit.stage_jobs import Jobs, KilledError
from securefl.errors import SecureFLError
from securefl.roles.coordinator import CoordinatorMachine
from securefl.roles.effects import Event, Finished, Machine, Received, RoundDone, Start, Timeout
from securefl.roles.hospital import HospitalMachine
from securefl.roles.host import Answering, Host, Notice, Store
from securefl.roles.messages import KeyRequest, Message, Settled, Verification, read_message
from securefl.roles.party import PartyMachine
from securefl.roles.records import receipt_name, sum_name, verification_name
from securefl.roles.replica import Replica
from securefl.roles.terms import STATISTICS, UPDATE, Terms

if TYPE_CHECKING:
    from securefl.roles.private_terms import PrivateTerms

_DEADLINE_SECONDS = 30.0

Mail = list[tuple[str, Message]]


class Stage:
    """All members of one study, and the mail between them. Make it with :func:`staged` or :meth:`sister`.

    Args:
        folder: for the study and the stores.
        people: the members.
        name: the study's; another name is another study.
        rounds: of training.
        norm_bound: largest L2 norm of an update, which the committee then checks.
        ledgers: where the members keep their ledgers; members of two studies may share them.
        private: what makes the study private, if it is.
        code: the study's own Python files, with its model in ``model.py:build``, if it has any.

    Attributes:
        study, terms: what runs.
        data, trainers: the hospitals' records, and what computes with them.
        seats: who answers for each member; an attack may seat somebody else.
        jobs: the parties' ends of the committee.
        wire: sender, recipient and message of all that went through the coordinator's hands.
        done: what the shipped coordinator told of each round.
        finished: whether it has closed the study.
    """

    def __init__(
        self,
        folder: Path,
        people: Members,
        name: str = "A study",
        rounds: int = 1,
        norm_bound: float | None = None,
        ledgers: Path | None = None,
        private: Private | None = None,
        code: Mapping[str, str] | None = None,
    ) -> None:
        from securefl.data import load_all

        self.folder, self.people = folder, people
        self._ledgers, self._stack = ledgers or folder, ExitStack()
        self._budget = private.budget if private else None
        self.study = write_study(folder / "study", people, name, rounds, norm_bound, private, code)
        self.terms = Terms.of(self.study, people.consortium)
        settings = self.study.settings
        self.data = load_all(settings.data, self.study.folder, HOSPITALS, settings.seed)
        self.trainers = {h: trainer_of(self.study, self.terms, h, self.data[h]) for h in HOSPITALS}
        self._layout = self.trainers[VICTIM].layout
        self.sizes = {STATISTICS: self.trainers[VICTIM].statistics().size, UPDATE: self._layout.size}
        self.jobs = self._committee(norm_bound is not None)
        self.seats: dict[str, Seat] = {name: self._answering(name, self.party(name)) for name in PARTIES}
        self.seats |= {name: self._answering(name, self.hospital(name)) for name in HOSPITALS}
        self.wire: list[tuple[str, str, Message]] = []
        self.done: list[RoundDone] = []
        self.finished: Finished | None = None
        self._mail: Mail = []
        self._timers: list[str] = []
        self.coordinator = self._coordinator()
        self._host = Host(
            self.coordinator,
            self.store("coordinator"),
            lambda to, message: self._mail.append((to, message)),
            set_timer=lambda timer, _seconds: self._timers.append(timer),
            notify=self._notify,
        )
        self._give(Start())

    # -- members -------------------------------------------------------------------------------------------------

    def store(self, member: str) -> Store:
        """A member's memory."""
        return Store(self.folder_of(member))

    def folder_of(self, member: str) -> Path:
        """Where its memory lies."""
        return self.folder / "stores" / member

    def ledger(self, member: str) -> Store:
        """A party's ledger, or a hospital's of a private study."""
        return Store(self._ledgers / "ledgers" / member)

    def party(self, name: str, terms: Terms | None = None) -> PartyMachine:
        """The shipped machine, from what is on its disk; with other terms if an attack says so."""
        key = self.people.keys[name].signing
        return PartyMachine(name, terms or self.terms, key, self.store(name), self.ledger(name))

    def hospital(self, name: str) -> HospitalMachine:
        """The shipped machine, from what is on its disk."""
        keys, server = self.people.keys[name], self.study.settings.server
        return HospitalMachine(
            name, self.terms, keys.signing, keys.sealing, self.trainers[name], server, self._layout.trainable_size,
            self.store(name), spending_of(self.study, self.terms, self.ledger(name), self._budget),
        )  # fmt: skip

    def seat(self, name: str, machine: Machine) -> None:
        """Let this machine answer for a member from now on."""
        self.seats[name] = self._answering(name, machine)

    def start_again(self, name: str, machine: Machine) -> None:
        """A party's process ended and was started anew with this machine."""
        self.jobs[name].leave()
        self.jobs[name].dies_after_opening = False
        self.seat(name, machine)

    def sister(self, name: str, **changes: Any) -> Stage:
        """Another study of the same members."""
        return self._stack.enter_context(closing(Stage(self.folder / "sister", self.people, name, **changes)))

    def close(self) -> None:
        """End committee, dealer and meshes."""
        self._stack.close()

    @property
    def private(self) -> PrivateTerms:
        """The private part of the terms, of a private study."""
        if self.terms.private is None:
            raise SecureFLError("This study is not private.")
        return self.terms.private

    # -- what is true --------------------------------------------------------------------------------------------

    @property
    def replica(self) -> Replica:
        """The coordinator's: the model after the outcomes so far."""
        return self.coordinator.replica

    def update(self, hospital: str) -> RingVector:
        """What a hospital honestly contributes to round 1, once the statistics are open: (D,) ring elements."""
        trainer = self.trainers[hospital]
        return self.terms.update.encode(trainer.update(trainer.initial_model(), 1))

    def outcomes(self) -> list[SignedOutcome]:
        """The receipts so far."""
        store = self.store("coordinator")
        rounds = range(self.replica.place.round)
        return [SignedOutcome.from_bytes(store[receipt_name(round_)]) for round_ in rounds]

    # -- the mail ------------------------------------------------------------------------------------------------

    def play(self, keep: Callable[[str, Message], bool] = lambda _to, _message: False) -> Mail:
        """Let the shipped coordinator play until it has closed the study, or has nothing left to send but what is kept.

        Args:
            keep: which of its messages to keep from their way.

        Returns:
            What was kept, with the recipients.

        Raises:
            EngineError: the coordinator gave up.
        """
        kept: Mail = []
        while not self.finished:
            kept += [(to, m) for to, m in self._mail if keep(to, m)]
            mail, self._mail = [(to, m) for to, m in self._mail if not keep(to, m)], []
            if mail:
                for sender, message in self._deliver(mail):
                    self._give(Received(sender, message))
            elif kept or not self._timers:
                break
            else:
                self._give(Timeout(self._timers.pop(0)))
        return kept

    def play_to_round_1(self) -> None:
        """Let it play the statistics; it stands before the first round of training then."""
        self.play(lambda _to, message: isinstance(message, KeyRequest) and message.context.round == 1)

    def ask(self, name: str, message: Message) -> Message:
        """A member's one answer."""
        (answer,) = self.tell(name, message)
        return answer

    def tell(self, name: str, message: Message) -> list[Message]:
        """All of a member's answers."""
        return [answer for _, answer in self._deliver([(name, message)])]

    def ask_all(self, messages: Mapping[str, Message]) -> dict[str, Message]:
        """Each member's one answer to its message; parties answer at the same time. Who was killed has none."""
        return dict(self._deliver(list(messages.items())))

    def _deliver(self, mail: Mail) -> Mail:
        by_member: dict[str, list[Message]] = {}
        for to, message in mail:
            self.wire.append(("coordinator", to, message))
            by_member.setdefault(to, []).append(message)
        with ThreadPoolExecutor(len(PARTIES)) as pool:
            parties = {
                name: pool.submit(self._answers, name, by_member.pop(name))
                for name in PARTIES
                if name in by_member
            }
            answers = {name: self._answers(name, messages) for name, messages in by_member.items()}
            answers |= {name: future.result() for name, future in parties.items()}
        said = [(name, message) for name, messages in answers.items() for message in messages]
        self.wire += [(name, "coordinator", message) for name, message in said]
        return said

    def _answers(self, name: str, messages: Sequence[Message]) -> list[Message]:
        try:
            seat = self.seats[name]
            return [read_message(a) for message in messages for a in seat.answer(message.to_bytes())]
        except KilledError:
            return []

    def _give(self, event: Event) -> None:
        self._host.take(event)

    def _notify(self, notice: Notice) -> None:
        if isinstance(notice, Finished):
            self.finished = notice
        elif isinstance(notice, RoundDone):
            self.done.append(notice)

    # -- setting up ----------------------------------------------------------------------------------------------

    def _answering(self, name: str, machine: Machine) -> Answering:
        if name in HOSPITALS:
            return Answering(
                machine, self.store(name), ledger=self.ledger(name) if self.terms.private else None
            )
        return Answering(machine, self.store(name), self.jobs[name].run, self.ledger(name))

    def _committee(self, dealer: bool) -> dict[str, Jobs]:
        meshes = in_process_meshes(len(PARTIES) + dealer, _DEADLINE_SECONDS)
        for mesh in meshes:
            self._stack.callback(mesh.close)
        if dealer:
            serving = Dealer(meshes[-1])
            thread = threading.Thread(target=serving.serve, name="audit-dealer", daemon=True)
            thread.start()
            self._stack.callback(thread.join)
            self._stack.callback(serving.close)
        jobs = {
            name: Jobs(name, PARTIES, mesh, self.store(name), dealer)
            for name, mesh in zip(PARTIES, meshes[: len(PARTIES)], strict=True)
        }
        for one in jobs.values():
            self._stack.callback(one.leave)
        return jobs

    def _coordinator(self) -> CoordinatorMachine:
        replica = Replica.initial(self.terms, self.trainers[VICTIM].initial_model())
        return CoordinatorMachine(self.terms, self.sizes, replica, self.follow, self._recall, self._record)

    def follow(self, replica: Replica, settled: Settled) -> Replica:
        """The replica after one more outcome."""
        return replica.follow(settled, self.terms, self.study.settings.server, self._layout.trainable_size)

    def _recall(self, round_: int) -> Settled:
        store = self.store("coordinator")
        signed = SignedOutcome.from_bytes(store[receipt_name(round_)])
        return Settled(signed=signed, total=store[sum_name(round_)])

    def _record(self, round_: int) -> Verification | None:
        data = self.store("coordinator").get(verification_name(round_))
        return Verification.from_bytes(data) if data else None


@contextmanager
def closing(stage: Stage) -> Iterator[Stage]:
    """Close the stage at the end."""
    try:
        yield stage
    finally:
        stage.close()


@contextmanager
def staged(
    rounds: int = 1,
    norm_bound: float | None = None,
    private: Private | None = None,
    code: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """A stage of new members in a temporary folder, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        people = Members.make(Path(name) / "members", norm_bound is not None)
        made = Stage(Path(name), people, rounds=rounds, norm_bound=norm_bound, private=private, code=code)
        with closing(made) as stage:
            yield stage
