"""What a steward has decided, on its own disk: one file a proposal, and one folder a permit."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.errors import DecidedError
from securefl.domain.letters import Decision
from securefl.domain.proposal import Proposal, SignedProposal
from securefl.permit import SignedPermit

R = TypeVar("R", Decision, SignedPermit, SignedProposal)


class Decisions:
    """Kept under ``home/decisions``; read again at every question, since other sessions write there too."""

    def __init__(self, home: Path) -> None:
        self._folder = durable.private_folder(home / "decisions")

    def keep(self, signed: SignedProposal, decision: Decision) -> None:
        """Write a decision down, in place of the last one on this proposal."""
        name = signed.proposal.digest().hex()
        durable.write(self._folder / f"{name}.proposal", signed.to_bytes())
        if decision.permit is not None:
            durable.write(self._folder / f"{name}.permit", decision.permit.signed.to_bytes())
        durable.write(self._folder / f"{name}.decision", decision.to_bytes())

    def of(self, proposal: Proposal) -> Decision | None:
        """The last decision on a proposal."""
        data = self._read(proposal, "decision")
        return None if data is None else self._parsed(Decision, data)

    def permit_of(self, proposal: Proposal) -> SignedPermit | None:
        """The permit that was given for a proposal, whether or not it still holds."""
        data = self._read(proposal, "permit")
        return None if data is None else self._parsed(SignedPermit, data)

    def proposals(self) -> list[SignedProposal]:
        """Every proposal that was decided on, the oldest first."""
        paths = sorted(self._folder.glob("*.proposal"))
        found = [self._parsed(SignedProposal, path.read_bytes()) for path in paths]
        return sorted(found, key=lambda signed: (signed.proposal.created, signed.proposal.number))

    def _read(self, proposal: Proposal, kind: str) -> bytes | None:
        try:
            return (self._folder / f"{proposal.digest().hex()}.{kind}").read_bytes()
        except FileNotFoundError:
            return None

    def _parsed(self, kind: type[R], data: bytes) -> R:
        try:
            return kind.from_bytes(data)
        except EncodingError as error:
            raise DecidedError(f"A file in {self._folder} is damaged: restore it from its backup.") from error
