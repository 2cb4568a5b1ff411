"""The final model's release: a step of its own, by the steward whom the proposal names.

The coordinator's operator sends the finished run. The approver's own computer checks every receipt, and computes the
model anew from the sums; only then can it be released. It then goes to the researcher, and Syft's job is done.

Adversary: an operator that sends another model; a researcher who takes it before its release.
Promise: what is released is the run of the approved study, whose record verifies under the members' pinned keys.
Not promised: against the study's own code, which builds the model in the process that checks it. It was reviewed;
    whoever does not trust it asks for a study without code.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from securefl import consortium as members
from securefl import durable
from securefl.domain.errors import (
    ChangedKeyError,
    DecidedError,
    ProposalError,
    RelayError,
    ReleaseError,
    UnknownPeerError,
)
from securefl.domain.parcel import Piece, pieces, take
from securefl.domain.proposal import Proposal, SignedProposal, check_study
from securefl.domain.verifying import Record, verify_confined

if TYPE_CHECKING:
    from securefl.domain.owner_session import Owner

RESULT, STATE, SUMMARY = "result", "state", "summary.json"


def take_piece(owner: Owner, operator: str, piece: Piece) -> None:
    """Keep a piece of a finished run, which awaits this steward's decision once it is complete.

    Raises:
        ReleaseError: it is not this steward's to release, or see ``parcel.take``.
    """
    signed = _decided(owner, piece.proposal)
    if operator != signed.proposal.coordinator:
        raise ReleaseError(
            f"{operator} sent a run of {signed.proposal.name}, whose coordinator it does not operate."
        )
    if signed.proposal.approver != owner.email:
        raise ReleaseError(f"{signed.proposal.name} is released by {signed.proposal.approver}, not here.")
    folder = _folder(owner, signed.proposal)
    state = folder / STATE
    # Until it is decided on, a later parcel replaces an earlier one.
    if (not state.exists() or state.read_bytes() == b"waiting") and take(piece, folder / RESULT):
        owner.log.append(operator, "run-received", signed.proposal.study, "", proposal=signed.proposal.name)
        durable.write(folder / STATE, b"waiting")


def check_operator(owner: Owner, operator: str, proposal: bytes) -> Proposal:
    """The proposal of that digest; ReleaseError unless it was decided on here and names this operator."""
    signed = _decided(owner, proposal)
    if operator not in signed.proposal.operators:
        raise ReleaseError(f"{operator} is not an operator of {signed.proposal.name}.")
    return signed.proposal


def releases_of(owner: Owner) -> list[Release]:
    """All that a steward was sent, decided or not, the newest proposal first."""
    found = [Release(owner, signed) for signed in owner.decisions.proposals()]
    return [release for release in reversed(found) if (release.folder / STATE).exists()]


class Release:
    """One finished run, and whether its model may go to the researcher."""

    def __init__(self, owner: Owner, signed: SignedProposal) -> None:
        self._owner, self.proposal = owner, signed.proposal
        self.folder = _folder(owner, signed.proposal)

    @property
    def name(self) -> str:
        """The proposal's."""
        return self.proposal.name

    @property
    def state(self) -> Literal["waiting", "released", "withheld"]:
        """How it stands."""
        state: Literal["waiting", "released", "withheld"] = (self.folder / STATE).read_text()  # type: ignore[assignment]
        return state

    def verify(self) -> Record:
        """Check the whole record, offline and confined, against the members that this hospital has joined.

        Raises:
            ReleaseError: the run is of another study, or cannot be checked.
        """
        return self._verified(self.folder / RESULT)

    def approve(self, reason: str) -> Record:
        """Release the model, with its receipts; what was found in its record.

        Raises:
            DecidedError: it was decided on before.
            EngineError: the disk is full: approve it again.
            ReleaseError: the record does not hold to its end.
        """
        owner = self._owner
        self._check_open("released")
        request = owner.request(self.name)
        # What is checked and what is sent are one copy: the coordinator may send another run in the meantime.
        with tempfile.TemporaryDirectory(prefix="securefl-") as name:
            copy = Path(name) / RESULT
            with owner.alone():
                shutil.copytree(self.folder / RESULT, copy)
            record = self._verified(copy)
            if not record.accepted:
                raise ReleaseError(
                    f"The record of {self.name} does not hold, so nothing is released. {record.sentence}"
                )
            with owner.alone():
                self._decide("released", reason, record.confinement)
                # All of it waits in the outbox before it counts as released: what fails until then can be repeated.
                parcel = pieces(self.proposal.digest(), copy)
                owner.post(self.proposal.researcher, Piece.topic, (piece.to_bytes() for piece in parcel))
                durable.write(self.folder / STATE, b"released")
                owner.send_waiting()
                # What the share does not take now, Syft tells at its next sync.
                with contextlib.suppress(RelayError, ChangedKeyError), owner.syft() as client:
                    # Syft's result is the figures; the files may be larger than its jobs can carry.
                    request.job.accept_by_depositing_result(str(copy / SUMMARY))
                    request.job.share_outputs([self.proposal.researcher])
                    client.sync()
            return record

    def _verified(self, run: Path) -> Record:
        try:
            check_study(run / "study", self.proposal)
        except ProposalError as error:
            raise ReleaseError(f"The run that was sent is not of {self.name}. {error}") from error
        return verify_confined(run, self._owner.hospital / members.FILE)

    def withhold(self, reason: str) -> None:
        """Keep the model from the researcher.

        Raises:
            DecidedError: it was decided on before.
        """
        with self._owner.alone():
            self._decide("withheld", reason)
            durable.write(self.folder / STATE, b"withheld")

    def _decide(self, state: Literal["released", "withheld"], reason: str, confinement: str = "") -> None:
        """Write down what follows.

        Args:
            confinement: of the process that checked the record.
        """
        self._check_open(state)
        owner, facts = self._owner, {"confinement": confinement} if confinement else {}
        owner.log.append(owner.email, state, self.proposal.study, reason, proposal=self.name, **facts)

    def _check_open(self, state: Literal["released", "withheld"]) -> None:
        if self.state != "waiting":
            raise DecidedError(f"{self.name} was {self.state} already.")
        try:
            self._owner.fingerprint_of(self.proposal.researcher)
        except UnknownPeerError as error:
            if state == "released":
                raise ReleaseError(
                    f"{self.proposal.researcher} was removed here: nothing goes there."
                ) from error

    def __repr__(self) -> str:
        return f"{self.name}: {self.state}"


def _folder(owner: Owner, proposal: Proposal) -> Path:
    return owner.home / "releases" / proposal.digest().hex()


def _decided(owner: Owner, proposal: bytes) -> SignedProposal:
    for signed in owner.decisions.proposals():
        if signed.proposal.digest() == proposal:
            return signed
    raise ReleaseError("A finished run came of a proposal that was not decided on here: it was not kept.")
