"""A proposal: one study, put to the stewards of some hospitals, signed by its researcher.

The signature is over the digest of every byte that would run, the hospitals and datasets that would take part, and the
purpose. Whoever changes one of them has made another proposal, which nobody has approved.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints

from protocols.canonical import Record
from protocols.errors import EncodingError, SignatureError
from protocols.signing import SigningKey, verify
from securefl import consortium as members
from securefl import durable
from securefl.consortium import Consortium
from securefl.domain.errors import ProposalError
from securefl.domain.readable import check_readable
from securefl.errors import SecureFLError
from securefl.study import Study

STUDY, PROPOSAL, MAIN = "study", "proposal.hex", "main.py"
"""What stands in the ``code`` folder of a Syft job. Syft's jobs are text, so the record is written in hexadecimal."""

MAIN_TEXT = (
    '"""This job is a securefl study: the hospital runs it with `securefl domain serve`."""\n'
    "raise SystemExit(__doc__)\n"
)
"""What Syft's own runner would run."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds a line break or a control character")
    return text


Line = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_printable)]
"""Others' words: one line, so that nothing in them looks like a line of ours."""
FileName = Annotated[
    str,
    StringConstraints(
        max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
    ),
]
"""A plain relative path: no step upwards, nothing hidden, no control character."""
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]


class Site(Record):
    """One hospital that a proposal asks: its steward's email, its name in the consortium, one of its datasets."""

    kind = "site"
    steward: Line
    hospital: Line
    dataset: Line


class Proposal(Record):
    """What is asked.

    Attributes:
        number: 16 random bytes, so that the same study proposed twice is two proposals.
        researcher: email of who asks.
        title, purpose: in plain words.
        study: 32 bytes, the study's digest with its consortium.
        files: SHA-256 of every file that would run, by name.
        sites: whom it asks; every hospital of the study once.
        operators: emails of who runs the coordinator (the first) and the parties.
        approver: email of the steward who may release the final model.
        created: seconds since 1970, by the researcher's clock.
    """

    kind = "proposal"
    number: Annotated[bytes, Field(min_length=16, max_length=16)]
    researcher: Line
    title: Line
    purpose: Line
    study: Digest
    files: dict[FileName, Digest]
    sites: list[Site]
    operators: list[Line]
    approver: Line
    created: int

    @property
    def name(self) -> str:
        """What people and Syft call it: ``heart-disease-1a2b3c4d5e6f``."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:24].rstrip("-") or "study"
        return f"{slug}-{self.digest().hex()[:12]}"

    @property
    def coordinator(self) -> str:
        """The operator who runs the coordinator, and hands over the finished run."""
        return self.operators[0] if self.operators else ""

    def site_of(self, steward: str) -> Site:
        """The site of one steward.

        Raises:
            ProposalError: it asks nothing of this steward.
        """
        for site in self.sites:
            if site.steward == steward:
                return site
        raise ProposalError(f"{self.name} asks nothing of {steward}: its researcher must propose it anew.")


class SignedProposal(Record):
    """A proposal with its researcher's signature."""

    kind = "signed-proposal"
    proposal: Proposal
    signature: bytes

    @classmethod
    def sign(cls, proposal: Proposal, key: SigningKey) -> Self:
        """Sign it."""
        return cls(proposal=proposal, signature=key.sign(Proposal.kind, proposal.digest()))

    def check(self, researcher: str, public: bytes) -> Proposal:
        """The proposal, if this researcher signed it.

        Raises:
            ProposalError: somebody else's name or signature.
        """
        if self.proposal.researcher != researcher:
            raise ProposalError(
                f"{researcher} sent a proposal in the name of {self.proposal.researcher}: ask both about it."
            )
        try:
            verify(public, Proposal.kind, self.proposal.digest(), self.signature)
        except SignatureError as error:
            raise ProposalError(f"The proposal of {researcher} is not signed by the pinned key.") from error
        return self.proposal


def members_of(study: Study) -> Consortium:
    """The consortium that a study names.

    Raises:
        ProposalError: it is a simulation, or names no file.
    """
    if study.simulation or study.settings.consortium.file is None:
        raise ProposalError(
            f"{study.folder} is a simulation, which hospitals do not run: give it `[consortium] file`, and take out "
            "`[simulation]`."
        )
    return members.load(study.folder / study.settings.consortium.file)


def file_digests(study: Study) -> dict[str, bytes]:
    """SHA-256 of every file of a study, by name."""
    return {name: hashlib.sha256(content).digest() for name, content in study.files.items()}


def write_job(folder: Path, signed: SignedProposal, files: Mapping[str, bytes]) -> None:
    """Write the ``code`` folder of a Syft job.

    Raises:
        ProposalError: a file is no text, which Syft's jobs cannot carry.
    """
    for name, content in files.items():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise ProposalError(
                f"{name} is not text, and Syft's jobs carry text only: leave it out of the study."
            ) from error
        durable.write(folder / STUDY / name, content)
    durable.write(folder / MAIN, MAIN_TEXT.encode())
    durable.write(folder / PROPOSAL, signed.to_bytes().hex().encode())


def read_job(code: Path) -> SignedProposal:
    """The signed proposal in the ``code`` folder of a Syft job; its signature is not checked yet.

    Raises:
        ProposalError: there is none, or it is malformed.
    """
    try:
        return SignedProposal.from_bytes(bytes.fromhex((code / PROPOSAL).read_text()))
    except (OSError, ValueError, EncodingError) as error:
        raise ProposalError("A job came without a proposal that can be read.") from error


def take_study(code: Path, proposal: Proposal, target: Path) -> Study:
    """Copy the study out of a Syft job, and check every byte of the copy against the proposal.

    Args:
        code: where the job's files lie, which others may change.
        proposal: signed.
        target: a private folder that does not exist yet; on an error nothing is left of it.

    Raises:
        ProposalError: a byte, a file or the digest differs.
        StudyError: it is no study.
    """
    files: dict[str, bytes] = {}
    for name, expected in proposal.files.items():
        path = code / STUDY / name
        # Symbolic links in what a stranger wrote lead to the hospital's own files.
        if path.is_symlink() or any(p.is_symlink() for p in path.parents if p.is_relative_to(code)):
            raise ProposalError(f"{name} of {proposal.name} is a link: the researcher must send the file.")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ProposalError(f"{name} of {proposal.name} has not arrived: look again later.") from error
        if hashlib.sha256(content).digest() != expected:
            raise ProposalError(f"{name} is not the file that was proposed as {proposal.name}.")
        files[name] = content
    return write_study(files, proposal, target)


def write_study(files: Mapping[str, bytes], proposal: Proposal, target: Path) -> Study:
    """Write a study's files and check what stands there against the proposal.

    Raises:
        ProposalError, StudyError: see ``take_study``.
    """
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name, content in files.items():
            durable.write(fresh / name, content)
        check_study(fresh, proposal)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
        durable.sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return Study.load(target)


def check_study(folder: Path, proposal: Proposal) -> Study:
    """The study in a folder, if it is the proposed one, byte for byte.

    Raises:
        ProposalError: it is another, or cannot be read: by this program, or by people.
    """
    try:
        study = Study.load(folder)
        consortium = members_of(study)
        digest = study.digest(consortium.digest())
    except (SecureFLError, RecursionError, ValueError, OSError) as error:
        raise ProposalError(f"The study of {proposal.name} cannot be read. {error}") from error
    if sorted(site.hospital for site in proposal.sites) != sorted(consortium.hospitals):
        raise ProposalError(
            f"{proposal.name} does not ask every hospital of its study once: propose it to all of them."
        )
    if digest != proposal.study or file_digests(study) != proposal.files:
        raise ProposalError(
            f"The study in {folder} is not the one that was proposed as {proposal.name}: somebody changed it, or it "
            "was proposed under another version of securefl."
        )
    for name, content in study.files.items():
        check_readable(name, content)
    return study
