"""Mutants that a crash costs something: memories written over in their place, answers sent before they are kept."""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from securefl import durable
from securefl.audit.registry import Finding, Mutant, Number
from securefl.audit.stage import staged
from securefl.audit.stage_cast import VICTIM
from securefl.audit.stage_jobs import KilledError
from securefl.errors import EngineError, SecureFLError
from securefl.roles.effects import Effect, Event, Machine, Send
from securefl.roles.host import Answering, Host, Store
from securefl.roles.messages import Message, read_message

# -- half a file -----------------------------------------------------------------------------------------------------

OLD, NEW = b"old " * 1000, b"new " * 1000


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """For the block, the system ends every write of this process beyond so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_place(path: Path, data: bytes) -> None:
    """The naive write."""
    with path.open("wb", buffering=0) as file:
        file.write(data)
        file.write(data[:0])


def _interrupted(write: Callable[[Path, bytes], None]) -> tuple[int, int]:
    """A write that the system ends after every so many bytes: how often neither the old nor the new file is left."""
    cuts = range(0, len(NEW), 500)
    broken = 0
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        path = Path(name) / "memory"
        for cut in cuts:
            path.write_bytes(OLD)
            with _room_for(cut), contextlib.suppress(OSError, SecureFLError):
                write(path, NEW)
            broken += path.read_bytes() not in (OLD, NEW)
    return broken, len(cuts)


def _half_breaks() -> Finding:
    broken, cuts = _interrupted(in_place)
    said = f"Of {cuts} writes that were ended on the way, {broken} leave neither the old memory nor the new."
    return Finding(broken == cuts, said, {"broken": broken, "writes": cuts})


def _half_caught() -> Finding:
    broken, cuts = _interrupted(durable.write)
    said = f"Of {cuts} writes that were ended on the way, {broken} leave neither the old memory nor the new."
    return Finding(broken == 0, said, {"broken": broken, "writes": cuts})


# -- sent before it is kept ------------------------------------------------------------------------------------------


class SendsFirst:
    """A hospital that sends its answers first, and keeps afterwards what it must not forget."""

    def __init__(self, machine: Machine) -> None:
        self.name, self._machine = machine.name, machine

    def handle(self, event: Event) -> list[Effect]:
        """The shipped hospital's effects, what it sends first."""
        return sorted(self._machine.handle(event), key=lambda effect: not isinstance(effect, Send))


class Fuse:
    """Kills a process when it has lived to take so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        """One more step; raises KilledError in its place if it has taken all."""
        if not self._left:
            raise KilledError
        self._left -= 1


class FusedStore(Store):
    """A memory each write to which is a step."""

    def __init__(self, folder: Path, fuse: Fuse) -> None:
        super().__init__(folder)
        self._fuse = fuse

    def put(self, name: str, data: bytes) -> None:
        """Write, if the process lives."""
        self._fuse.step()
        super().put(name, data)

    def keep(self, name: str, data: bytes) -> None:
        """Write, if the process lives."""
        self._fuse.step()
        super().keep(name, data)


class Killed:
    """A hospital on the shipped host whose process is killed at each message: before its first step, then before the
    second, and so on to after its last; each time it is started again from its store, and asked again.
    """

    def __init__(self, folder: Path, start: Callable[[], Machine]) -> None:
        self._folder, self._start = folder, start
        self.kills = 0

    def answer(self, data: bytes) -> list[bytes]:
        """All that it sent in all its lives: what has left is not taken back."""
        message, sent = read_message(data), list[Message]()
        for steps in count():
            fuse = Fuse(steps)

            def post(_to: str, answer: Message, fuse: Fuse = fuse) -> None:
                fuse.step()
                sent.append(answer)

            try:
                Host(self._start(), FusedStore(self._folder, fuse), post).take(message)
            except KilledError:
                self.kills += 1
            else:
                break
        self.kills += 1
        again = Answering(self._start(), Store(self._folder)).answer(data)
        return [*(answer.to_bytes() for answer in sent), *again]


@dataclass(frozen=True)
class Ended:
    """How a study ended in which one hospital was killed at every step.

    Attributes:
        kills: how often.
        changed: coordinates of the model, of ``size``, that are others than without the kills.
        unchecked: sums that the hospitals did not check.
        error: why it did not come to its end, if it did not.
    """

    kills: int
    changed: int
    size: int
    unchecked: int
    error: str = ""

    @property
    def numbers(self) -> dict[str, Number]:
        """What was counted."""
        return {"kills": self.kills, "changed": self.changed, "unchecked": self.unchecked}

    def __str__(self) -> str:
        ended = (
            f"the study ended ({self.error.rpartition(': ')[0]})"
            if self.error
            else "the study came to its end"
        )
        return (
            f"One hospital was killed {self.kills} times: {ended}, {self.changed} of {self.size} coordinates of the "
            f"model are others, and {self.unchecked} sums are unchecked."
        )


def _killed(order: Callable[[Machine], Machine]) -> Ended:
    with staged() as stage:
        killed, error = Killed(stage.folder_of(VICTIM), lambda: order(stage.hospital(VICTIM))), ""
        stage.seats[VICTIM] = killed
        try:
            stage.play()
        except EngineError as ended:
            error = str(ended)
        undisturbed = stage.sister("A study")
        undisturbed.play()
        model, other = stage.replica.state.model, undisturbed.replica.state.model
        sums = stage.terms.rounds + 1
        unchecked = len(stage.finished.closing.closing.unverified) if stage.finished else sums
    return Ended(killed.kills, int(np.count_nonzero(model != other)), model.size, unchecked, error)


def _sent_first_breaks() -> Finding:
    ended = _killed(SendsFirst)
    return Finding(ended.changed > 0, f"{ended}", ended.numbers)


def _sent_first_caught() -> Finding:
    ended = _killed(lambda machine: machine)
    holds = ended.kills > 0 and not (ended.changed or ended.unchecked or ended.error)
    return Finding(holds, f"{ended}", ended.numbers)


MUTANTS = (
    Mutant(
        "written-in-place",
        "crashes-cost-nothing",
        "A member's memory is written over in its place.",
        _half_breaks,
        _half_caught,
    ),
    Mutant(
        "sent-before-kept",
        "crashes-cost-nothing",
        "A hospital's answers leave before what it must remember of them is on its disk.",
        _sent_first_breaks,
        _sent_first_caught,
    ),
)
