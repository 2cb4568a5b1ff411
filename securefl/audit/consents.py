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
from securefl.audit.budgets import spent_in_study
from securefl.audit.verdict import BrokenError, Check, checking
from securefl.consent import said_time
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
from securefl.run_folder import RUN_FILE, RunFolder

NAME = "approvals"


@dataclass(frozen=True)
class Consented:
    """A permit that was checked.

    Attributes:
        name: its file, relative to the run's folder.
        known: whether a key that the reader knows signed it: the hospital's pinned one, or its steward's.
        revoked: when, by the revocation beside it; None if there is none.
    """

    name: str
    permit: Permit
    known: bool
    revoked: int | None = None

    @property
    def hospital(self) -> str:
        """Whose contributions it allows."""
        return self.permit.hospital

    def holds_at(self, time: int) -> bool:
        """Whether it holds at a time, in seconds since 1970."""
        within = self.permit.not_before <= time < self.permit.expires
        return within and (self.revoked is None or time < self.revoked)


def check_permits(
    folder: Path,
    terms: Terms,
    outcomes: Sequence[Outcome],
    stewards: Mapping[str, bytes],
    began: int | None = None,
    charged: Sequence[tuple[str, Path]] = (),
) -> list[Check]:
    """One check: each permit is for this study and for a hospital of it, by that hospital, and was not exceeded.

    Args:
        folder: of the run; ``permit.cbor`` is looked for in all of it.
        stewards: public signing keys by hospital.
        began: when the run began, in seconds since 1970, by ``run.json``; None if it does not say. Receipts have no
            time.
        charged: ledgers that are whole, each with its hospital.
    """
    found = []
    try:
        with checking(NAME):
            found = [*_endorsed(folder, terms, stewards), *_stewards_own(folder, terms, stewards)]
            for one in found:
                _check_spent(one, terms, charged)
    except BrokenError as error:
        return [Check(NAME, "fails", str(error))]
    if not found:
        return [
            Check(NAME, "unchecked", "No permit lies in this folder: hospitals and stewards keep theirs.")
        ]
    permitted = {one.hospital for one in found}
    missing = {hospital for outcome in outcomes for hospital in outcome.included} - permitted
    unknown = permitted - {one.hospital for one in found if one.known}
    said = [f"{len(permitted)} permits are for this study", _windows(found)]
    late = sorted(permitted - {one.hospital for one in found if began is None or one.holds_at(began)})
    if late:
        said.append(
            f"by {RUN_FILE} the run began at {said_time(began or 0)}, when none held for {', '.join(late)}"
        )
    if missing:
        said.append(f"none lies here for {', '.join(sorted(missing))}")
    if revoked := {one.hospital: one.revoked for one in found if one.revoked is not None}:
        when = [f"{hospital} ({said_time(time)})" for hospital, time in sorted(revoked.items())]
        said.append(f"revoked: {', '.join(when)}")
    if unknown:
        said.append(
            f"signatures not checked, since the steward's key is not known here: {', '.join(sorted(unknown))}"
        )
    return [Check(NAME, "unchecked" if missing or unknown or late else "holds", f"{'; '.join(said)}.")]


def _windows(found: Sequence[Consented]) -> str:
    """From when to when they hold together, a hospital's permits one after another."""
    hospitals = {one.hospital for one in found}
    windows = [[one.permit for one in found if one.hospital == hospital] for hospital in hospitals]
    begins = max(min(permit.not_before for permit in permits) for permits in windows)
    ends = min(max(permit.expires for permit in permits) for permits in windows)
    if begins >= ends:
        return f"at no time do all hold: one begins at {said_time(begins)}, one ended at {said_time(ends)}"
    return f"they hold from {said_time(begins)} to {said_time(ends)}"


def _check_spent(one: Consented, terms: Terms, charged: Sequence[tuple[str, Path]]) -> None:
    limit = one.permit.limit()
    if limit is None:
        return
    epsilon, delta, unit = limit
    for hospital, path in charged:
        if hospital != one.hospital:
            continue
        spent = spent_in_study(hospital, path, terms.study, delta, unit)
        if spent > epsilon:
            raise RunError(
                f"{hospital} has spent epsilon {spent:.4g} for a {unit} in this study; {one.name} allows {epsilon:g}."
            )


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
        yield Consented(name, permit, known=True)


def _stewards_own(folder: Path, terms: Terms, stewards: Mapping[str, bytes]) -> Iterator[Consented]:
    for path in sorted(folder.rglob(PERMIT_FILE)):
        name = path.relative_to(folder).as_posix()
        try:
            signed = SignedPermit.from_bytes(_read(path, name))
        except EncodingError as error:
            raise RunError(f"{name} is damaged.") from error
        permit = _check(signed, name, terms, stewards)
        revocation, revoked = path.parent / REVOCATION_FILE, None
        if revocation.exists():
            revoked = _revoked(revocation, folder, permit, stewards)
        yield Consented(name, permit, permit.hospital in stewards, revoked)


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


def _revoked(path: Path, folder: Path, permit: Permit, stewards: Mapping[str, bytes]) -> int:
    """When the permit was revoked."""
    name = path.relative_to(folder).as_posix()
    try:
        signed = SignedRevocation.from_bytes(_read(path, name))
        if permit.hospital in stewards:
            signed.checked(stewards[permit.hospital])
    except (EncodingError, SignatureError) as error:
        raise RunError(f"{name} is damaged, or not by the steward of {permit.hospital}.") from error
    if signed.revocation.permit != permit.number:
        raise RunError(f"{name} revokes another permit than the one beside it.")
    return signed.revocation.time


def _read(path: Path, name: str) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise RunError(f"{name} is too large for what it should be.")
    return path.read_bytes()
