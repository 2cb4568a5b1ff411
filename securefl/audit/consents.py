"""Whether the permits that lie in a folder are for what ran, and by whom.

A run that was launched through a domain has them in ``permits/``, endorsed by the hospitals' pinned keys. Whoever has a
steward's own files may lay its ``permit.cbor`` beside them, with its revocation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.chain import Outcome
from protocols.errors import EncodingError, SignatureError
from securefl.audit.verdict import BrokenError, Check, checking
from securefl.errors import RunError
from securefl.permit import (
    MAX_BYTES,
    PERMIT_FILE,
    REVOCATION_FILE,
    EndorsedPermit,
    Permit,
    SignedPermit,
    SignedRevocation,
)
from securefl.roles.terms import Terms
from securefl.run_folder import RunFolder

NAME = "approvals"


@dataclass(frozen=True)
class Consented:
    """A permit that was checked.

    Attributes:
        hospital: whose.
        known: whether a key that the reader knows signed it: the hospital's pinned one, or its steward's.
        revoked: whether a revocation lies beside it.
    """

    hospital: str
    known: bool
    revoked: bool = False


def check_permits(
    folder: Path, terms: Terms, outcomes: Sequence[Outcome], stewards: Mapping[str, bytes]
) -> list[Check]:
    """One check: each permit is for this study and for a hospital of it, by that hospital.

    Args:
        folder: of the run; ``permit.cbor`` is looked for in all of it.
        stewards: public signing keys by hospital.
    """
    found = []
    try:
        with checking(NAME):
            found = [*_endorsed(folder, terms, stewards), *_stewards_own(folder, terms, stewards)]
    except BrokenError as error:
        return [Check(NAME, "fails", str(error))]
    if not found:
        return [
            Check(NAME, "unchecked", "No permit lies in this folder: hospitals and stewards keep theirs.")
        ]
    permitted = {one.hospital for one in found}
    missing = {hospital for outcome in outcomes for hospital in outcome.included} - permitted
    unknown = permitted - {one.hospital for one in found if one.known}
    said = [f"{len(permitted)} permits are for this study"]
    if missing:
        said.append(f"none lies here for {', '.join(sorted(missing))}")
    if revoked := {one.hospital for one in found if one.revoked}:
        said.append(f"later revoked: {', '.join(sorted(revoked))}")
    if unknown:
        said.append(
            f"signatures not checked, since the steward's key is not known here: {', '.join(sorted(unknown))}"
        )
    return [Check(NAME, "unchecked" if missing or unknown else "holds", f"{'; '.join(said)}.")]


def _endorsed(folder: Path, terms: Terms, stewards: Mapping[str, bytes]) -> Iterator[Consented]:
    for path in sorted(RunFolder(folder).permits.glob("*.cbor")):
        name = path.relative_to(folder).as_posix()
        try:
            endorsed = EndorsedPermit.from_bytes(_read(path, name))
        except EncodingError as error:
            raise RunError(f"{name} is damaged.") from error
        permit = _check(endorsed.signed, name, terms, stewards)
        try:
            endorsed.checked(terms.hospitals[permit.hospital])
        except SignatureError as error:
            raise RunError(f"{name} is not endorsed by the pinned key of {permit.hospital}.") from error
        yield Consented(permit.hospital, known=True)


def _stewards_own(folder: Path, terms: Terms, stewards: Mapping[str, bytes]) -> Iterator[Consented]:
    for path in sorted(folder.rglob(PERMIT_FILE)):
        name = path.relative_to(folder).as_posix()
        try:
            signed = SignedPermit.from_bytes(_read(path, name))
        except EncodingError as error:
            raise RunError(f"{name} is damaged.") from error
        permit = _check(signed, name, terms, stewards)
        revocation = path.parent / REVOCATION_FILE
        if revoked := revocation.exists():
            _check_revocation(revocation, folder, permit, stewards)
        yield Consented(permit.hospital, permit.hospital in stewards, revoked)


def _check(signed: SignedPermit, name: str, terms: Terms, stewards: Mapping[str, bytes]) -> Permit:
    permit = signed.permit
    if permit.study != terms.study:
        raise RunError(f"{name} is a permit for another study than the one that ran.")
    if permit.hospital not in terms.hospitals:
        raise RunError(f"{name} is a permit for {permit.hospital}, which is no hospital of this study.")
    if permit.epsilon and not terms.private:
        raise RunError(
            f"{name} allows epsilon {permit.epsilon} at most, and the study has no differential privacy."
        )
    if permit.hospital in stewards:
        try:
            signed.checked(stewards[permit.hospital])
        except SignatureError as error:
            raise RunError(f"{name} is not signed by the steward of {permit.hospital}.") from error
    return permit


def _check_revocation(path: Path, folder: Path, permit: Permit, stewards: Mapping[str, bytes]) -> None:
    name = path.relative_to(folder).as_posix()
    try:
        signed = SignedRevocation.from_bytes(_read(path, name))
        if permit.hospital in stewards:
            signed.checked(stewards[permit.hospital])
    except (EncodingError, SignatureError) as error:
        raise RunError(f"{name} is damaged, or not by the steward of {permit.hospital}.") from error
    if signed.revocation.permit != permit.number:
        raise RunError(f"{name} revokes another permit than the one beside it.")


def _read(path: Path, name: str) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise RunError(f"{name} is too large for what it should be.")
    return path.read_bytes()
