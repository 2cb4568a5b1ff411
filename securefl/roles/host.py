"""The host: it carries out a machine's effects, in order. Every engine uses it, and so does the audit's replay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from protocols.errors import EncodingError
from securefl import durable
from securefl.errors import EngineError, RefusedError
from securefl.roles.effects import (
    CommitteeFailed,
    Effect,
    Enter,
    Event,
    Finished,
    Job,
    JobDone,
    Keep,
    Machine,
    Persist,
    RoundDone,
    RoundVerified,
    RunCommittee,
    Send,
    SetTimer,
    Stop,
)
from securefl.roles.messages import Message, Part, Refusal, read_message

RunJob = Callable[[Job], JobDone | CommitteeFailed]
Notice = RoundDone | RoundVerified | Finished


class Store(Mapping[str, bytes]):
    """A role's own memory: a folder of small files, each written whole. Files are read when they are asked for.

    What a process that was killed has left unfinished in it is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = durable.private_folder(folder)
        durable.sweep(self._folder)

    def __getitem__(self, name: str) -> bytes:
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(name) from error

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.path(name).exists()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(p.name for p in self._folder.iterdir() if not p.name.startswith(".")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def path(self, name: str) -> Path:
        """Where the file of that name stands."""
        return self._folder / name

    def put(self, name: str, data: bytes) -> None:
        """Write durably; empty data erases."""
        if data:
            durable.write(self.path(name), data)
        else:
            self.path(name).unlink(missing_ok=True)

    def enter(self, name: str, data: bytes) -> None:
        """Write durably where nothing stands yet, or the same.

        Raises:
            EngineError: another process has entered something else.
        """
        durable.create(self.path(name), data)

    def keep(self, name: str, data: bytes) -> None:
        """Write whole, but not through a power failure; empty data erases."""
        if data:
            durable.replace(self.path(name), data)
        else:
            self.path(name).unlink(missing_ok=True)


def home_of(home: Path, study: bytes) -> Path:
    """The home of one study: ``{study}`` in the path stands for the first 16 digits of its digest.

    A member's folder serves study after study, and a role's memory is of one.
    """
    return Path(str(home).replace("{study}", study.hex()[:16]))


class Host:
    """Runs one machine.

    Args:
        machine: the role.
        store: its memory; ``Persist`` is durable when the next effect starts.
        post: takes ``Send``.
        run_job: takes ``RunCommittee``; only a party has one.
        set_timer: takes ``SetTimer``; only the coordinator has one.
        notify: takes ``RoundDone``, ``RoundVerified`` and ``Finished``.
        ledger: takes ``Enter``; only a party has one, the same for all studies that it serves.
    """

    def __init__(
        self,
        machine: Machine,
        store: Store,
        post: Callable[[str, Message], None],
        run_job: RunJob | None = None,
        set_timer: Callable[[str, float], None] | None = None,
        notify: Callable[[Notice], None] | None = None,
        ledger: Store | None = None,
    ) -> None:
        self._machine, self._store, self._post = machine, store, post
        self._ledger = ledger
        self._run_job, self._set_timer, self._notify = run_job, set_timer, notify

    def take(self, event: Event) -> None:
        """Give the machine an event and carry out what it says.

        Raises:
            RefusedError: the machine refuses the event; nothing has changed.
            EngineError: its disk is damaged, or an effect could not be carried out. The machine is then ahead of its
                store and must not be used again: start a new one from the store.
        """
        effects: deque[Effect] = deque(self._machine.handle(event))
        while effects:
            effect = effects.popleft()
            match effect:
                case Persist(name, data):
                    self._store.put(name, data)
                case Keep(name, data):
                    self._store.keep(name, data)
                case Enter(name, data) if self._ledger is not None:
                    self._ledger.enter(name, data)
                case Send(to, message):
                    self._post(to, message)
                case RunCommittee(job) if self._run_job:
                    effects.extend(self._machine.handle(self._run_job(job)))
                case SetTimer(name, seconds) if self._set_timer:
                    self._set_timer(name, seconds)
                case Stop(explanation):
                    raise EngineError(explanation)
                case RoundDone() | RoundVerified() | Finished() if self._notify:
                    self._notify(effect)
                case _:
                    raise TypeError(f"{self._machine.name} has no host for {type(effect).__name__}.")


class Answering:
    """A host for a role that only answers the coordinator: bytes in, the answers' bytes out."""

    def __init__(
        self, machine: Machine, store: Store, run_job: RunJob | None = None, ledger: Store | None = None
    ) -> None:
        self._machine = machine
        self._answers: list[Message] = []
        self._host = Host(
            machine, store, lambda _to, message: self._answers.append(message), run_job, ledger=ledger
        )

    def answer(self, data: bytes) -> list[bytes]:
        """The role's answers to one message. What it refuses is answered with a ``Refusal`` that says why."""
        self._answers.clear()
        about, hospital = "", ""
        try:
            message = read_message(data)
            about = type(message).kind
            hospital = message.contribution.hospital if isinstance(message, Part) else ""
            self._host.take(message)
        except RefusedError as error:
            return [self._refusal(about, hospital, error.reason, str(error))]
        except EncodingError as error:
            return [self._refusal(about, hospital, "malformed", str(error))]
        return [message.to_bytes() for message in self._answers]

    def _refusal(self, about: str, hospital: str, reason: str, explanation: str) -> bytes:
        return Refusal(
            member=self._machine.name, about=about, hospital=hospital, reason=reason, explanation=explanation
        ).to_bytes()


class Restarted:
    """A role that goes on from its store whenever an effect of it could not be carried out.

    Args:
        start: the role as its store has it.
    """

    def __init__(self, start: Callable[[], Answering]) -> None:
        self._start = start
        self._answering: Answering | None = start()

    def answer(self, data: bytes) -> list[bytes]:
        """As ``Answering.answer``; after an error, by a machine that knows only what is on the disk."""
        answering, self._answering = self._answering or self._start(), None
        answers = answering.answer(data)
        self._answering = answering
        return answers
