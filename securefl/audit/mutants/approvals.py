"""Mutants whose approvals are good for another study than the approved one, or for other bytes."""

from __future__ import annotations

import time
from pathlib import Path

from protocols.signing import SigningKey
from securefl.audit.mutants.consortium_folders import APPROVED, CODE, OTHER, Folders, deployed, permit_of
from securefl.audit.registry import Finding, Mutant
from securefl.domain import child
from securefl.domain.errors import NotApprovedError, ProposalError
from securefl.permit import (
    SignedPermit,
)

HOSPITAL = "north"


def _approved(folders: Folders, steward: SigningKey, digest: bytes) -> Path:
    """The folder of the steward's permit for a digest."""
    permit = folders.root / "permit"
    SignedPermit.of(permit_of(digest, HOSPITAL, int(time.time()) - 60), steward).save(permit)
    return permit


def _started(folders: Folders, steward: SigningKey, permit: Path, digest: bytes) -> type[Exception] | None:
    """Start the hospital's node with the study as it stands, and end it; the error if there is no node."""
    try:
        node = child.start(
            study=folders.study, digest=digest, permit=permit, steward=steward.public, hospital=folders.of(HOSPITAL),
            data=folders.of(HOSPITAL) / "data", run=folders.root / "run",
        )  # fmt: skip
    except (NotApprovedError, ProposalError) as error:
        return type(error)
    node.stop()
    return None


def _copies(folders: Folders, digest: bytes) -> bool:
    """Whether the study as it stands is the one of that digest, and what would run is what was approved."""
    copy = folders.root / "copy"
    try:
        child.copy_study(folders.study, digest, folders.of(HOSPITAL) / "consortium.toml", copy)
    except ProposalError:
        return False
    return (copy / CODE).read_bytes() == APPROVED


# -- by the name -----------------------------------------------------------------------------------------------------


def by_name(approved: set[str], study: Path, name: str) -> bytes | None:
    """The naive service: the code that it runs, if a study of this name was approved."""
    return (study / CODE).read_bytes() if name in approved else None


def _name_breaks() -> Finding:
    with deployed() as folders:
        approved = {"Heart disease"}
        folders.change()
        ran = by_name(approved, folders.study, "Heart disease")
    said = f"Proposed anew under the approved name, other code {'ran' if ran == OTHER else 'did not run'}."
    return Finding(ran == OTHER, said, {"ran": int(ran == OTHER)})


def _name_caught() -> Finding:
    steward = SigningKey.generate()
    with deployed() as folders:
        honest = folders.digest()
        permit = _approved(folders, steward, honest)
        good = _copies(folders, honest)
        folders.change()
        refused = _started(folders, steward, permit, folders.digest())
    ran = refused is None
    said = f"Beside the approval of another study of this name the node {'was started' if ran else 'was not started'}."
    return Finding(refused is NotApprovedError and good, said, {"ran": int(ran)})


# -- compared once ---------------------------------------------------------------------------------------------------


class ComparedOnce:
    """The naive service: the digest is compared when the steward approves; later the folder is what was approved."""

    def __init__(self, folders: Folders, digest: bytes) -> None:
        self._folders, self._good = folders, folders.digest() == digest

    def runs(self) -> bytes | None:
        """The code that it runs."""
        return (self._folders.study / CODE).read_bytes() if self._good else None


def _once_breaks() -> Finding:
    with deployed() as folders:
        service = ComparedOnce(folders, folders.digest())
        folders.change()
        ran = service.runs()
    said = f"Changed between approval and start, other code {'ran' if ran == OTHER else 'did not run'}."
    return Finding(ran == OTHER, said, {"ran": int(ran == OTHER)})


def _once_caught() -> Finding:
    steward = SigningKey.generate()
    with deployed() as folders:
        honest = folders.digest()
        permit = _approved(folders, steward, honest)
        good, refused = _copies(folders, honest), []
        for change in (lambda: folders.change(), lambda: _one_more_file(folders)):
            change()
            refused.append(_started(folders, steward, permit, honest))
    ran = sum(error is None for error in refused)
    said = f"{ran} of {len(refused)} changed studies were started: one byte, and one Python file more."
    return Finding(set(refused) == {ProposalError} and good, said, {"ran": ran, "tries": len(refused)})


def _one_more_file(folders: Folders) -> None:
    (folders.study / CODE).write_bytes(APPROVED)
    (folders.study / "parts" / "sitecustomize.py").write_bytes(OTHER)


MUTANTS = (
    Mutant(
        "approval-by-name",
        "only-approved-digests-run",
        "An approval is looked up by the study's name.",
        _name_breaks,
        _name_caught,
    ),
    Mutant(
        "digest-at-approval-only",
        "only-approved-digests-run",
        "A study's digest is compared when it is approved, and not when it starts.",
        _once_breaks,
        _once_caught,
    ),
)
