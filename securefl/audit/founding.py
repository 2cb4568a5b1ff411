"""What ran and among whom: the study's files, the members, the version; and which of it somebody signed for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from protocols.canonical import Record
from protocols.chain import SignedOutcome
from protocols.contribution import RoundContext
from protocols.errors import ChainError, EncodingError, ProtocolError
from securefl import consortium as members
from securefl.audit.verdict import BrokenError, Check
from securefl.consortium import Consortium
from securefl.errors import SecureFLError
from securefl.roles.records import receipt_name
from securefl.roles.terms import INSECURE, Terms
from securefl.run_folder import RUN_FILE, RunFolder
from securefl.study import Study

R = TypeVar("R", bound=Record)


class Receipts:
    """The files in ``receipts/``: read, never written.

    Attributes:
        names: of the files; hidden ones, which an interrupted write leaves, do not count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            found = list(folder.iterdir())
        except OSError:
            found = []
        self.names = frozenset(path.name for path in found if not path.name.startswith("."))

    def read(self, name: str) -> bytes:
        """The bytes of a file; ChainError if it is not there or cannot be read."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise ChainError(f"receipts/{name} is missing.") from error
        except OSError as error:
            why = (error.strerror or "unknown").lower()
            raise ChainError(f"receipts/{name} cannot be read: {why}.") from error

    def record(self, kind: type[R], name: str) -> R:
        """The record in a file; ChainError if it is not there or not such a record."""
        try:
            return kind.from_bytes(self.read(name))
        except EncodingError as error:
            raise ChainError(f"receipts/{name} is damaged. {error}") from error


@dataclass(frozen=True)
class Founding:
    """A study as it stands in a run folder.

    Attributes:
        info: ``run.json``.
        members_file: where the members' public keys stand, relative to the run folder.
    """

    run: RunFolder
    info: Mapping[str, Any]
    study: Study
    consortium: Consortium
    terms: Terms
    members_file: str

    @classmethod
    def read(cls, run: RunFolder, info: Mapping[str, Any], receipts: Receipts) -> Founding:
        """Read the study and its members, and compare their digest with what the receipts and ``run.json`` say.

        Raises:
            BrokenError: they cannot be read, or are of another study or version.
        """
        made_by, here = info.get("securefl"), version("securefl")
        signed = _first_context(receipts)
        insecure = signed.purpose.startswith(INSECURE) if signed else bool(info.get("insecure_unchecked"))
        try:
            founding = cls._load(run, info, insecure)
            if founding.terms.study.hex() not in (info.get("study"), signed.study.hex() if signed else None):
                raise BrokenError(
                    "study",
                    f"{_listed(founding.study)}, the members ({founding.members_file}) and securefl {here} are not the "
                    "study that the receipts are of: one of these files was changed.",
                )
        except BrokenError as error:
            if made_by in (None, here):
                raise
            raise BrokenError(
                "study",
                f"This run was made by securefl {made_by} and this is securefl {here}: the study's digest covers the "
                f"version, so that only securefl {made_by} can verify it.",
            ) from error
        return founding

    @classmethod
    def _load(cls, run: RunFolder, info: Mapping[str, Any], insecure: bool) -> Founding:
        files = "study/study.toml"
        try:
            study = Study.load(run.path / "study")
            file = study.settings.consortium.file
            members_file = f"study/{file}" if file else run.consortium_file.name
            files = f"{_listed(study)}, {members_file}"
            consortium = run.consortium(study)
            terms = Terms.of(study, consortium, insecure)
        except SecureFLError as error:
            raise BrokenError("study", f"{error} (Read from {files}.)") from error
        return cls(run, info, study, consortium, terms, members_file)

    def study_check(self) -> Check:
        """The line about the study, which ``read`` has checked."""
        says = f"{_listed(self.study)} and securefl {version('securefl')} are study {self.terms.study.hex()}."
        return Check("study", "holds", says)

    def check_members(self, pinned: Consortium | None) -> Check:
        """The members are those of the study, and the caller's.

        Raises:
            BrokenError: they are others, or their file was touched.
        """
        if self.study.settings.consortium.file is None:
            self._check_bytes()
        if pinned is not None and pinned.digest() != self.consortium.digest():
            raise BrokenError(
                "members",
                f"{self.members_file} has other members or keys than the ones that you have pinned.",
            )
        whose = "as pinned by you" if pinned is not None else "taken from this folder"
        says = (
            f"{len(self.terms.hospitals)} hospitals and {len(self.terms.parties)} parties, their keys {whose}: "
            f"{self.members_file} has the digest {self.consortium.digest().hex()}."
        )
        return Check("members", "holds", says)

    def _check_bytes(self) -> None:
        # The study's digest covers what this file says; that it says it in the bytes that were written is checked here.
        with tempfile.TemporaryDirectory(prefix="securefl-") as folder:
            written = Path(folder) / self.members_file
            members.save(self.consortium, written)
            if written.read_bytes() != self.run.consortium_file.read_bytes():
                raise BrokenError("members", f"{self.members_file} is not as it was written.")

    def check_run_file(self) -> Check:
        """``run.json`` names this study and this version.

        Raises:
            BrokenError: it names others.
        """
        if self.info.get("study") != self.terms.study.hex():
            raise BrokenError(RUN_FILE, f"{RUN_FILE} names another study than the receipts.")
        if self.info.get("securefl") != version("securefl"):
            raise BrokenError(RUN_FILE, f"{RUN_FILE} names another version of securefl than the receipts.")
        if bool(self.info.get("insecure_unchecked")) != self.terms.unchecked:
            raise BrokenError(
                RUN_FILE, f"{RUN_FILE} and the receipts differ on whether the run is an insecure one."
            )
        return Check(RUN_FILE, "holds", "It names this study and this version.")


def read_info(run: RunFolder) -> Mapping[str, Any]:
    """``run.json``; BrokenError if it is missing or damaged."""
    try:
        info: Any = run.info()
    except SecureFLError as error:
        raise BrokenError(RUN_FILE, str(error)) from error
    except RecursionError:
        info = None
    if not isinstance(info, dict):
        raise BrokenError(RUN_FILE, f"{RUN_FILE} is not a table.")
    return info


def _first_context(receipts: Receipts) -> RoundContext | None:
    """The context of the first receipt, which nobody has checked yet."""
    try:
        return receipts.record(SignedOutcome, receipt_name(0)).outcome.context
    except ProtocolError:
        return None


def _listed(study: Study) -> str:
    return ", ".join(f"study/{name}" for name in study.files)
