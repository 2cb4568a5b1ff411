"""Checks a whole run from its files and the members' public keys, in order, up to the first thing that does not hold.

It needs no private key, no hospital's records (unless only they tell the model's shape) and nothing of ``homes/``, and
writes nothing but a copy of the study's files in a temporary folder, from which its model is built. What ties the
folder to the real members is their pinned keys: give your own copy of the consortium, or compare the digest that is
shown. The folder's own keys prove only that it agrees with itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from protocols.errors import ChainError
from securefl.audit import figures
from securefl.audit.chain import RECEIPT_NAME, ChainWalk
from securefl.audit.founding import Founding, Receipts, read_info
from securefl.audit.model import ModelFile
from securefl.audit.verdict import BrokenError, Check, Verdict, checking
from securefl.consortium import Consortium
from securefl.data.user_module import alone
from securefl.errors import RunError
from securefl.roles.records import CLOSING
from securefl.roles.terms import UPDATE
from securefl.run_folder import RUN_FILE, RunFolder


def verify(folder: Path, pinned: Consortium | None = None) -> Verdict:
    """Check the run in a folder.

    Args:
        folder: of a run, or a copy of its ``study/``, ``receipts/``, ``run.json``, ``model.safetensors`` and, if the
            study names no file of its own, ``consortium.toml``.
        pinned: the members as the caller knows them; without it, those in the folder are taken.

    Raises:
        RunError: there is no run in the folder.
    """
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="securefl-") as workplace, alone():
        audit = _Audit(RunFolder(folder), pinned, Path(workplace))
        try:
            # One by one: what was found before a fault stays.
            for check in audit.steps():
                checks.append(check)
        except BrokenError as error:
            checks.append(Check(error.name, "fails", str(error)))
        return audit.verdict(checks)


class _Audit:
    """One audit under way."""

    def __init__(self, run: RunFolder, pinned: Consortium | None, workplace: Path) -> None:
        self._run, self._pinned, self._workplace = run, pinned, workplace
        self._receipts = Receipts(run.receipts)
        self._founding: Founding | None = None
        self._walk: ChainWalk | None = None
        if not (run.path / RUN_FILE).exists() and not self._receipts.names:
            run.info()

    def steps(self) -> Iterator[Check]:
        """Every check, in order; a BrokenError ends them."""
        run = self._run
        info = read_info(run)
        founding = self._founding = Founding.read(run, info, self._receipts)
        yield founding.study_check()
        yield founding.check_run_file()
        with checking("members"):
            yield founding.check_members(self._pinned)
        file = None
        if run.model_file.exists():
            with checking(run.model_file.name):
                file = ModelFile.read(run.model_file)
        walk = self._walk = ChainWalk(founding, self._receipts, file.round if file else None, self._workplace)
        yield from walk.check_rounds()
        yield from self._check_copies(founding)
        if CLOSING not in self._receipts.names and run.summary_file.exists():
            raise BrokenError(
                CLOSING,
                f"receipts/{CLOSING} is missing, and {run.summary_file.name} says that the run has ended.",
            )
        yield from walk.check_closing()
        with checking(run.model_file.name):
            yield from self._check_model(walk, file)
        yield from self._check_figures(founding, walk)

    def verdict(self, checks: list[Check]) -> Verdict:
        """What was found."""
        founding, walk = self._founding, self._walk
        size = walk.model.layout.size if walk and walk.model else None
        return Verdict(
            closed=walk.closed if walk else False,
            checks=checks,
            receipts=walk.seen if walk else [],
            closing=walk.closing if walk else None,
            closers=walk.closers if walk else {},
            norm_check=founding.terms.norm_check(UPDATE, size) if founding and size else None,
            insecure=founding.terms.unchecked if founding else False,
            not_signed=figures.not_signed(self._run, founding.study if founding else None),
        )

    def _check_copies(self, founding: Founding) -> Iterator[Check]:
        """The receipts that the parties kept, if they are here, are the coordinator's, byte for byte."""
        count, keepers = 0, []
        for party in founding.terms.parties:
            kept = sorted((self._run.homes / party).glob("receipt-*"))
            with checking(f"copy of {party}"):
                for path in kept:
                    self._check_copy(party, path)
            count += len(kept)
            keepers += [party] if kept else []
        if count:
            says = f"{count} receipts kept by {', '.join(keepers)} are the same, byte for byte."
            yield Check("copies", "holds", says)

    def _check_copy(self, party: str, path: Path) -> None:
        name = f"homes/{party}/{path.name}"
        if not RECEIPT_NAME.fullmatch(path.name) or path.name not in self._receipts.names:
            raise ChainError(f"{name} is of no round in receipts/.")
        if path.read_bytes() != self._receipts.read(path.name):
            raise ChainError(f"{name} differs from receipts/{path.name}.")

    def _check_model(self, walk: ChainWalk, file: ModelFile | None) -> Iterator[Check]:
        name = self._run.model_file.name
        if file is None:
            if walk.closed:
                raise RunError(f"{name} is missing.")
            return
        if walk.model is None or walk.replica is None:
            return
        if walk.weights is None or (walk.closed and file.round != walk.replica.state.round):
            raise RunError(
                f"{name} is of round {file.round}, the chain ends with {walk.replica.state.round}."
            )
        file.check(walk.model, walk.weights, name)
        yield Check(name, "holds", f"It is the model after round {file.round}, computed here, bit for bit.")

    def _check_figures(self, founding: Founding, walk: ChainWalk) -> Iterator[Check]:
        summary, history = self._run.summary_file, self._run.history_file
        if summary.exists() and walk.closing:
            with checking(summary.name):
                size = walk.model.layout.size if walk.model else None
                says = figures.check_summary(summary, founding.study, founding.terms, walk.closing, size)
                yield Check(summary.name, "holds", says)
        if history.exists():
            with checking(history.name):
                says = figures.check_history(history, walk.seen, walk.closed)
                yield Check(history.name, "holds", says)
