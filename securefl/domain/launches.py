"""What an operator has launched, on its own disk: how the last launch stands, and each one's proposal and permits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from securefl import durable
from securefl.domain.errors import LaunchError
from securefl.domain.proposal import Proposal, SignedProposal
from securefl.permit import EndorsedPermit

LAUNCH = "launch.json"


class Launches:
    """Kept in ``home/launch.json`` and ``home/studies``; read again at every question."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def current(self) -> dict[str, str]:
        """The last launch: ``proposal`` (its digest in hexadecimal), ``name`` and ``state``; empty without one.

        Raises:
            LaunchError: the file is damaged.
        """
        try:
            said: dict[str, str] = json.loads((self._home / LAUNCH).read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LaunchError(f"{self._home / LAUNCH} is damaged: remove it, and launch again.") from error
        return said

    def note(self, proposal: Proposal, state: str) -> None:
        """Keep how the last launch stands."""
        said = {"proposal": proposal.digest().hex(), "name": proposal.name, "state": state}
        durable.write(self._home / LAUNCH, json.dumps(said).encode())

    def folder(self, proposal: Proposal) -> Path:
        """Of one launch: ``study``, ``proposal.cbor``, ``permits``."""
        return self._home / "studies" / proposal.digest().hex()

    def proposal(self, digest: str) -> Proposal:
        """One that was launched, by its digest in hexadecimal; its signature was checked then."""
        path = self._home / "studies" / digest / "proposal.cbor"
        return SignedProposal.from_bytes(path.read_bytes()).proposal

    def keep(self, signed: SignedProposal, permits: Iterable[EndorsedPermit]) -> None:
        """Keep what was checked, once its study lies there."""
        folder = self.folder(signed.proposal)
        durable.write(folder / "proposal.cbor", signed.to_bytes())
        for endorsed in permits:
            durable.write(folder / "permits" / f"{endorsed.signed.permit.hospital}.cbor", endorsed.to_bytes())

    def permits(self, proposal: Proposal) -> dict[str, bytes]:
        """What a launch was ordered with, by file name."""
        return {path.name: path.read_bytes() for path in sorted(self.folder(proposal).glob("permits/*.cbor"))}
