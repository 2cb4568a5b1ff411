"""Whether the permits that lie in a folder are for what ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from protocols.chain import Outcome
from protocols.errors import EncodingError, SignatureError
from securefl.audit.verdict import BrokenError, Check, checking
from securefl.errors import RunError
from securefl.permit import MAX_BYTES, PERMIT_FILE, REVOCATION_FILE, Permit, SignedPermit, SignedRevocation
from securefl.roles.terms import Terms

NAME = "approvals"


def check_permits(
    folder: Path, terms: Terms, outcomes: Sequence[Outcome], stewards: Mapping[str, bytes]
) -> list[Check]:
    """One check: each permit is for this study and for a hospital of it, by its steward if his key is known.

    Args:
        folder: of the run; permits are looked for in all of it.
        stewards: public signing keys by hospital.
    """
    paths = sorted(folder.rglob(PERMIT_FILE))
    if not paths:
        return [
            Check(NAME, "unchecked", "No permit lies in this folder: hospitals and stewards keep theirs.")
        ]
    included = {hospital for outcome in outcomes for hospital in outcome.included}
    permitted, revoked, unknown = set(), set(), set()
    try:
        for path in paths:
            with checking(NAME):
                permit = _check(path, folder, terms, stewards)
                permitted.add(permit.hospital)
                if (path.parent / REVOCATION_FILE).exists():
                    _check_revocation(path.parent / REVOCATION_FILE, folder, permit, stewards)
                    revoked.add(permit.hospital)
                if permit.hospital not in stewards:
                    unknown.add(permit.hospital)
    except BrokenError as error:
        return [Check(NAME, "fails", str(error))]
    said = [f"{len(permitted)} permits are for this study"]
    if missing := included - permitted:
        said.append(f"none lies here for {', '.join(sorted(missing))}")
    if revoked:
        said.append(f"later revoked: {', '.join(sorted(revoked))}")
    if unknown:
        said.append(
            f"signatures not checked, since the steward's key is not known here: {', '.join(sorted(unknown))}"
        )
    return [Check(NAME, "unchecked" if missing or unknown else "holds", f"{'; '.join(said)}.")]


def _check(path: Path, folder: Path, terms: Terms, stewards: Mapping[str, bytes]) -> Permit:
    name = path.relative_to(folder).as_posix()
    try:
        signed = SignedPermit.from_bytes(_read(path, name))
    except EncodingError as error:
        raise RunError(f"{name} is damaged.") from error
    permit = signed.permit
    if permit.study != terms.study:
        raise RunError(f"{name} is a permit for another study than the one that ran.")
    if permit.hospital not in terms.hospitals:
        raise RunError(f"{name} is a permit for {permit.hospital}, which is no hospital of this study.")
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
