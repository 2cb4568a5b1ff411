"""Mutants that leave secrets behind: in a dump, in a log, in a file that others read.

Each search goes through every byte that is left (``securefl.audit.canaries``).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from protocols.contribution import contribute
from protocols.envelope import SealingKey
from protocols.errors import EncodingError
from protocols.ring import Encoding, signed
from securefl import consortium
from securefl.audit.canaries import Searched, search
from securefl.audit.images import images
from securefl.audit.mutants.bindings import CONTEXT, HOSPITAL, PARTIES, SIZE, WIDTH
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import Stage, staged
from securefl.audit.stage_cast import HOSPITALS
from securefl.audit.stage_cast import PARTIES as STAGE_PARTIES
from securefl.errors import SecureFLError
from securefl.roles.effects import Effect, Event, RunCommittee
from securefl.roles.party import PartyMachine

# -- a dump with the values of the variables -------------------------------------------------------------------------

Dump = Callable[[BaseException], str]
_COMMAND = "that-fails"


def with_locals(error: BaseException) -> str:
    """The naive dump, as many services make it: the stack with each variable's value."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def as_shipped(error: BaseException) -> str:
    """What a process of securefl prints when its command ends in this error, and when it ends in one from it."""
    return "".join(_printed(ended) for ended in (error, _unforeseen(error)))


def _unforeseen(error: BaseException) -> RuntimeError:
    """An error that nobody foresaw, with this one as its cause."""
    made = RuntimeError("Something else.")
    made.__cause__ = error
    return made.with_traceback(error.__traceback__)


def _printed(error: BaseException) -> str:
    from securefl.cli.app import app, main

    def fails() -> None:
        raise error

    said, arguments, hook = io.StringIO(), sys.argv, sys.excepthook
    commands = list(app.registered_commands)
    app.command(_COMMAND, hidden=True)(fails)
    sys.argv = ["securefl", _COMMAND]
    try:
        with contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit:
                pass
            except Exception as unforeseen:  # the process ends in it, and Python shows it
                sys.excepthook(type(unforeseen), unforeseen, unforeseen.__traceback__)
    finally:
        app.registered_commands[:] = commands
        sys.argv, sys.excepthook = arguments, hook
    return said.getvalue()


def _crash() -> tuple[BaseException, dict[str, bytes]]:
    """A hospital's contribution fails, at a party's key that is none; and the secrets that were in its hands then."""
    x = Encoding.for_bound(WIDTH, 4.0, 5).encode(np.random.default_rng(1).normal(0.0, 0.01, SIZE))
    keys = {party: SealingKey.generate().public for party in PARTIES[:-1]} | {PARTIES[-1]: b"no key"}
    try:
        contribute(x, CONTEXT, HOSPITAL, keys, bytes(32))
    except EncodingError as error:
        return error, {"the update": x.tobytes(), **_shares(error.__traceback__)}
    raise SecureFLError("A malformed key was taken.")


def _shares(trace: TracebackType | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while trace is not None:
        for number, plaintext in enumerate(trace.tb_frame.f_locals.get("shares", ())):
            found[f"share {number}"] = bytes(plaintext[:-1])
        trace = trace.tb_next
    return found


def _dumped(dump: Dump) -> Searched:
    error, secrets = _crash()
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as folder:
        (Path(folder) / "crash.txt").write_text(dump(error))
        return search(Path(folder), secrets)


def _dump_breaks() -> Finding:
    searched = _dumped(with_locals)
    names = sorted({found.secret for found in searched.found})
    return Finding(
        bool(names), f"The dump holds {' and '.join(names) or 'no secret'}.", {"secrets": len(names)}
    )


def _dump_caught() -> Finding:
    searched = _dumped(as_shipped)
    said = f"In {searched.bytes} bytes of the same failure's report stand {len(searched.found)} secrets."
    return Finding(not searched.found and searched.bytes > 0, said, {"secrets": len(searched.found)})


# -- a log of everything ---------------------------------------------------------------------------------------------


class Watched:
    """A party whose committee's jobs are told to somebody before they are done."""

    def __init__(self, machine: PartyMachine, told: Callable[[RunCommittee], None]) -> None:
        self._machine, self._told = machine, told
        self.name = machine.name

    def handle(self, event: Event) -> list[Effect]:
        """The machine's answer."""
        effects = self._machine.handle(event)
        for effect in effects:
            if isinstance(effect, RunCommittee):
                self._told(effect)
        return effects


@contextmanager
def _logging_to(file: Path) -> Iterator[logging.Logger]:
    """For the block, everything that anybody logs goes into a file."""
    root, handler = logging.getLogger(), logging.FileHandler(file)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield root
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def _study(log_of_everything: bool) -> Searched:
    """A whole study, with all logging on; then every byte that it left, but for the members' own key folders."""
    with staged() as stage, _logging_to(stage.folder / "log.txt") as log:
        secrets: dict[str, bytes] = {}

        def told(effect: RunCommittee) -> None:
            key = getattr(effect.job, "key", None)
            if isinstance(key, SealingKey):
                secrets[f"round key {len(secrets)}"] = key.private_bytes()
                if log_of_everything:
                    log.debug("doing %s with %r", type(effect.job).__name__, key.private_bytes())
            log.debug("doing %r", effect)

        for name in STAGE_PARTIES:
            stage.seat(name, Watched(stage.party(name), told))
        stage.play()
        secrets |= _lasting(stage)
        log.debug("finished: %r", stage.finished)
        log.debug("members: %r", stage.people.keys)
        return search(stage.folder, secrets, skip=["members/keys"])


def _lasting(stage: Stage) -> Mapping[str, bytes]:
    keys: dict[str, bytes] = {}
    for name, member in stage.people.keys.items():
        keys[f"{name}'s signing key"] = member.signing.private_bytes()
        keys[f"{name}'s sealing key"] = member.sealing.private_bytes()
    for name in HOSPITALS:
        update = stage.update(name)
        keys[f"{name}'s update"] = update.tobytes()
        keys |= images(f"{name}'s update in units", signed(update))
        keys |= images(f"{name}'s update", stage.terms.update.decode_sum(signed(update)))
        trainer = stage.trainers[name]
        keys |= images(f"{name}'s update as trained", trainer.update(trainer.initial_model(), 1))
    return keys


def _log_breaks() -> Finding:
    searched = _study(log_of_everything=True)
    names = {found.secret for found in searched.found}
    said = f"The log holds {len(names)} round keys of the parties."
    return Finding(bool(names), said, {"secrets": len(names)})


def _log_caught() -> Finding:
    searched = _study(log_of_everything=False)
    said = (
        f"In {searched.bytes} bytes of {searched.files} files, with all logging on, stand {len(searched.found)} of the "
        "members' keys, the round's keys and the updates."
    )
    if searched.found:
        said += f" {searched.found[0]}."
    return Finding(not searched.found and searched.files > 10, said, {"secrets": len(searched.found)})


# -- files that others read ------------------------------------------------------------------------------------------


@contextmanager
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _readable(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*.key") if stat.S_IMODE(p.stat().st_mode) & 0o077]


def _modes_break() -> Finding:
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name, _usual_umask():
        (Path(name) / "signing.key").write_bytes(SealingKey.generate().private_bytes())
        open_ = _readable(Path(name))
    return Finding(
        bool(open_), f"{len(open_)} of 1 key files can be read by everybody.", {"open": len(open_)}
    )


def _modes_caught() -> Finding:
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name, _usual_umask():
        folder = Path(name) / "party-1"
        member = consortium.make_member("party-1", "party", 0, "0123456789abcdef", folder)
        open_, count = _readable(folder), len(list(folder.rglob("*.key")))
        next(folder.rglob("*.key")).chmod(0o644)
        try:
            consortium.load_keys(folder, member)
            refused = False
        except SecureFLError:
            refused = True
    said = (
        f"{len(open_)} of {count} key files can be read by others; one that was opened to them later is "
        f"{'refused' if refused else 'used'}."
    )
    return Finding(not open_ and count > 0 and refused, said, {"open": len(open_), "files": count})


MUTANTS = (
    Mutant(
        "dump-with-variables",
        "no-secret-is-left",
        "When a member's process fails, its report shows the stack with the value of each variable.",
        _dump_breaks,
        _dump_caught,
    ),
    Mutant(
        "log-of-everything",
        "no-secret-is-left",
        "A party logs each job with all that it is done with.",
        _log_breaks,
        _log_caught,
    ),
    Mutant(
        "keys-for-everybody",
        "private-keys-stay-home",
        "Key files are written as any file is, under the usual umask.",
        _modes_break,
        _modes_caught,
    ),
)
