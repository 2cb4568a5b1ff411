"""The folder of a run: everything that a run leaves, and the lock that keeps a second run out.

``run.json`` is written when the preparation is complete; a folder without it has not begun. What lies there then is a
run's to remove only if ``.unfinished`` says that a preparation, or an emptying, was cut off.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.chain import SignedClosing, SignedOutcome
from securefl import consortium as members
from securefl import durable
from securefl.consortium import Consortium
from securefl.errors import RunError
from securefl.roles.host import Store
from securefl.roles.messages import Settled, Verification
from securefl.roles.records import CLOSING, receipt_name, sum_name, verification_name
from securefl.run_files import Info, Line, read_table, table
from securefl.study import Study
from securefl.study.folder import RUN

RUN_FILE, UNFINISHED = RUN, ".unfinished"


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what. Paths only; nothing is read or made until a method is called."""

    path: Path

    @property
    def consortium_file(self) -> Path:
        """A simulation's made-up members."""
        return self.path / "consortium.toml"

    @property
    def keys(self) -> Path:
        """Private keys of made-up members, one folder each."""
        return self.path / "keys"

    @property
    def receipts(self) -> Path:
        """Signed outcomes, opened sums, closing record."""
        return self.path / "receipts"

    @property
    def homes(self) -> Path:
        """What hospitals and parties of this computer keep."""
        return self.path / "homes"

    @property
    def privacy(self) -> Path:
        """Privacy ledgers of a simulation's hospitals."""
        return self.path / "privacy"

    @property
    def permits(self) -> Path:
        """``HOSPITAL.cbor``: the endorsed permits that a run through the domain was launched with."""
        return self.path / "permits"

    @property
    def exhibits(self) -> Path:
        """What the roles of a simulation saw."""
        return self.path / "exhibits"

    @property
    def baselines(self) -> Path:
        """Results of the comparisons."""
        return self.path / "baselines"

    @property
    def clear(self) -> Path:
        """The hospitals' encoded updates of the last round of a simulation, in the clear."""
        return self.path / "clear"

    @property
    def attacks(self) -> Path:
        """Results of the attacks on a simulation."""
        return self.path / "attacks"

    @property
    def logs(self) -> Path:
        """Standard error of the processes; never content."""
        return self.path / "logs"

    @property
    def history_file(self) -> Path:
        """A line of JSON a round."""
        return self.path / "history.jsonl"

    @property
    def summary_file(self) -> Path:
        """The results, JSON."""
        return self.path / "summary.json"

    @property
    def model_file(self) -> Path:
        """The final model, safetensors."""
        return self.path / "model.safetensors"

    @property
    def stop_file(self) -> Path:
        """Asks a running engine to stop after the round."""
        return self.path / "stop"

    def info(self) -> dict[str, Any]:
        """What ``run.json`` says.

        Raises:
            RunError: this is not the folder of a run, or the file is damaged.
        """
        try:
            return read_table(Info, self.path / RUN_FILE, "the run must be started anew.")
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} is not the folder of a run: there is no {RUN_FILE} in it."
            ) from error

    def unchecked(self) -> bool:
        """Whether this run was begun as an insecure one; its receipts say the same."""
        return bool(self.info().get("insecure_unchecked", False))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out; raises RunError if one is in there."""
        durable.private_folder(self.path)
        with (self.path / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"Another run is using {self.path}: wait for it, or choose another --out."
                ) from error
            yield

    def running(self) -> bool:
        """Whether a process holds the lock."""
        try:
            with (self.path / ".lock").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def prepare(self, study: Study, info: dict[str, Any]) -> None:
        """Make the folder ready for a new run: the study's files, made-up members, ``run.json`` last.

        Raises:
            RunError: there is something in the folder that a preparation did not leave.
        """
        if (self.path / RUN_FILE).exists() or not (self._empty() or (self.path / UNFINISHED).exists()):
            raise RunError(f"{self.path} is not empty: choose another --out, or add --resume or --overwrite.")
        durable.write(self.path / UNFINISHED, b"")
        self._clear()
        study.copy_to(self.path / "study")
        settings = study.settings.consortium
        if settings.file is None:
            members.create(
                self.path,
                settings.hospital_names(),
                [f"party-{i}" for i in range(1, settings.parties + 1)],
                "dealer" if study.settings.checks_norms else None,
            )
        digest = study.digest(self.consortium(study).digest()).hex()
        durable.write(
            self.path / RUN_FILE, json.dumps({**info, "study": digest}, indent=2).encode(), mode=0o644
        )
        (self.path / UNFINISHED).unlink()

    def check_place(self, study: Study) -> None:
        """Raise RunError if a new run would write into the study's own folder, or empty one with the study in it."""
        if self.path.resolve().is_relative_to(study.folder.resolve()):
            raise RunError(
                f"{self.path} lies in the study's folder, which a run must not change: choose another --out, such as "
                f"{study.folder.parent / f'{study.folder.name}-run'}."
            )

        if study.folder.resolve().is_relative_to(self.path.resolve()):
            raise RunError(
                f"{self.path} holds the study, which a new run would remove: choose another --out."
            )

    def overwrite(self) -> None:
        """Empty the folder of an earlier run.

        Raises:
            RunError: the folder is not empty and not a run's.
        """
        if self._empty():
            return
        if (self.path / RUN_FILE).exists() or not (self.path / UNFINISHED).exists():
            self.info()
        durable.write(self.path / UNFINISHED, b"")
        # First the file that makes it a run, so that a half-emptied folder is not taken for one.
        (self.path / RUN_FILE).unlink(missing_ok=True)
        self._clear()
        (self.path / UNFINISHED).unlink()

    def _empty(self) -> bool:
        return all(p.name == ".lock" or durable.meant_for(p) == UNFINISHED for p in self.path.iterdir())

    def _clear(self) -> None:
        """Remove all that ``.unfinished`` gives up."""
        for path in self.path.iterdir():
            if path.name in (".lock", UNFINISHED):
                continue
            # What a link leads to is somebody else's.
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        durable.sync_folder(self.path)

    def consortium(self, study: Study) -> Consortium:
        """The members: the study's own file, or a simulation's."""
        file = study.settings.consortium.file
        return members.load(study.folder / file if file else self.consortium_file)

    def store(self) -> Store:
        """The coordinator's memory."""
        return Store(self.receipts)

    def outcomes(self) -> list[SignedOutcome]:
        """The signed outcomes so far, in order."""
        store = self.store()
        found: list[SignedOutcome] = []
        while receipt_name(len(found)) in store:
            found.append(SignedOutcome.from_bytes(store[receipt_name(len(found))]))
        return found

    def settled(self, round_: int) -> Settled:
        """A round's outcome with its sum."""
        store = self.store()
        signed = SignedOutcome.from_bytes(store[receipt_name(round_)])
        return Settled(signed=signed, total=store[sum_name(round_)])

    def verification(self, round_: int) -> Verification | None:
        """The hospitals' check of a round's sum, if it was finished."""
        store = self.store()
        name = verification_name(round_)
        return Verification.from_bytes(store[name]) if name in store else None

    def verification_digest(self, round_: int) -> bytes:
        """How the closing names that check; empty if there is none."""
        record = self.verification(round_)
        return record.digest() if record else b""

    def closing(self) -> SignedClosing | None:
        """The closing record, if the study is closed."""
        store = self.store()
        return SignedClosing.from_bytes(store[CLOSING]) if CLOSING in store else None

    def history(self) -> list[dict[str, Any]]:
        """The lines of ``history.jsonl``; a last line that was cut by a crash is left out.

        Raises:
            RunError: the file is damaged.
        """
        if not self.history_file.exists():
            return []
        try:
            return [table(Line, line) for line in self.history_file.read_bytes().split(b"\n")[:-1]]
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.history_file} cannot be read: remove it, and a run with --resume writes what it still knows."
            ) from error

    def write_history(self, lines: list[dict[str, Any]]) -> None:
        """Replace ``history.jsonl``."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        durable.write(self.history_file, text.encode(), mode=0o644)

    def append_history(self, line: dict[str, Any]) -> None:
        """Add a line, durably."""
        durable.append(self.history_file, (json.dumps(line) + "\n").encode())
