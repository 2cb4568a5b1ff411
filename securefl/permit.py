"""A steward's permit for one study at one hospital, its revocation, and whether a hospital may contribute now.

Adversary: whoever sends messages, changes a study after its approval, or brings an old permit to a new study; not
    whoever holds the steward's key or can write the hospital's own files.
Promise: a permit holds for the one study, hospital and proposal whose digests the steward signed, from ``not_before``
    until ``expires`` by the hospital's own clock, and until a revocation lies beside it. A file that is missing,
    damaged or of another permit is never taken for consent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from protocols.canonical import Record
from protocols.errors import EncodingError, SignatureError
from protocols.signing import KEY_BYTES, SigningKey, verify
from securefl import durable
from securefl.errors import SecureFLError
from securefl.study.schema import MemberName

PERMIT_FILE, REVOCATION_FILE = "permit.cbor", "revocation.cbor"
NUMBER_BYTES = 16
MAX_BYTES = 64 * 1024
"""Largest file that is read; permits have a few hundred bytes."""
NOT_APPROVED = "not-approved"
"""The code under which a hospital declines, and under which receipts list it."""

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Number = Annotated[bytes, Field(min_length=NUMBER_BYTES, max_length=NUMBER_BYTES)]
Seconds = Annotated[int, Field(ge=0, lt=2**63)]
Line = Annotated[str, StringConstraints(max_length=1000)]
R = TypeVar("R", bound=Record)


class PermitError(SecureFLError):
    """A permit or revocation is missing, malformed, not the steward's, or asks for something that cannot be."""


class Permit(Record):
    """What a steward allows.

    Attributes:
        number: 16 random bytes that name it.
        study: digest of the study with its consortium, as ``Study.digest`` gives it.
        proposal: digest of the one signed proposal that it answers, so that it never fits a later one.
        hospital: whose contribution it allows.
        dataset: the records that it is about, by the hospital's name for them.
        purpose: what the researcher said it is for.
        runs: how often the study may be started, at least 1.
        epsilon, delta: most that all runs of the study together may tell about one ``unit``, as decimals; with ""
            there is no such limit but the study's own and the hospital's budget.
        unit: "patient" or "hospital"; "" without epsilon.
        not_before, expires: seconds since 1970, UTC; it holds from the first and no longer at the second.
        steward, researcher: who allows, and whom.
        reason: the steward's remark.
    """

    kind = "permit"
    number: Number
    study: Digest
    proposal: Digest
    hospital: MemberName
    dataset: Line
    purpose: Line
    runs: Annotated[int, Field(ge=1, le=10**6)]
    epsilon: Line
    delta: Line
    unit: Literal["patient", "hospital", ""]
    not_before: Seconds
    expires: Seconds
    steward: Line
    researcher: Line
    reason: Line

    @field_validator("epsilon", "delta")
    @classmethod
    def _number(cls, value: str, info: ValidationInfo) -> str:
        if value:
            _between(value, Decimal(10**6 if info.field_name == "epsilon" else 1))
        return value

    @field_validator("unit")
    @classmethod
    def _together(cls, value: str, info: ValidationInfo) -> str:
        if {bool(info.data.get("epsilon")), bool(info.data.get("delta")), bool(value)} == {True, False}:
            raise ValueError("epsilon, delta and unit go together")
        return value

    @field_validator("expires")
    @classmethod
    def _later(cls, value: int, info: ValidationInfo) -> int:
        if value <= info.data.get("not_before", -1):
            raise ValueError("it must expire after it begins")
        return value

    def limit(self) -> tuple[float, float, Literal["patient", "hospital"]] | None:
        """Epsilon, delta and unit; None without a limit."""
        if self.unit == "":
            return None
        return float(self.epsilon), float(self.delta), self.unit


def _between(text: str, most: Decimal) -> None:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError("a decimal number is wanted") from error
    if not value.is_finite() or not 0 < value < most or float(value) == 0:
        raise ValueError(f"a number above 0 and below {most} is wanted")


class Revocation(Record):
    """A steward's word that a permit holds no longer.

    Attributes:
        permit: number of the permit.
        time: seconds since 1970, UTC, by the steward's clock.
        reason: one line, which the run's receipts repeat.
    """

    kind = "revocation"
    permit: Number
    time: Seconds
    reason: Line


class SignedPermit(Record):
    """A permit and the steward's signature."""

    kind = "signed-permit"
    permit: Permit
    signature: bytes

    @classmethod
    def of(cls, permit: Permit, key: SigningKey) -> SignedPermit:
        """Sign a permit."""
        return cls(permit=permit, signature=key.sign(Permit.kind, permit.digest()))

    def checked(self, steward: bytes) -> Permit:
        """The permit, if ``steward`` (32 bytes of public key) signed it.

        Raises:
            SignatureError: it did not.
        """
        verify(steward, Permit.kind, self.permit.digest(), self.signature)
        return self.permit

    def save(self, folder: Path) -> None:
        """Write it into its folder."""
        durable.write(folder / PERMIT_FILE, self.to_bytes())


class SignedRevocation(Record):
    """A revocation and the steward's signature."""

    kind = "signed-revocation"
    revocation: Revocation
    signature: bytes

    @classmethod
    def of(cls, revocation: Revocation, key: SigningKey) -> SignedRevocation:
        """Sign a revocation."""
        return cls(revocation=revocation, signature=key.sign(Revocation.kind, revocation.digest()))

    def checked(self, steward: bytes) -> Revocation:
        """The revocation, if ``steward`` signed it.

        Raises:
            SignatureError: it did not.
        """
        verify(steward, Revocation.kind, self.revocation.digest(), self.signature)
        return self.revocation

    def save(self, folder: Path) -> None:
        """Write it beside the permit; from then on the hospital declines."""
        durable.write(folder / REVOCATION_FILE, self.to_bytes())


class Consent:
    """Whether one hospital may contribute to one study now. Files are read at every question.

    Args:
        folder: holds ``permit.cbor``, and ``revocation.cbor`` once it is revoked.
        steward: the steward's public signing key, 32 bytes.
        study: digest of the study that runs.
        hospital: whose contribution it is.
        clock: seconds since 1970.
        private: whether the study adds noise. To one that does not, a permit with an epsilon allows nothing.
    """

    def __init__(
        self,
        folder: Path,
        steward: bytes,
        study: bytes,
        hospital: str,
        clock: Callable[[], float] = time.time,
        private: bool = True,
    ) -> None:
        if len(steward) != KEY_BYTES:
            raise PermitError(f"A steward's public key has {KEY_BYTES} bytes, this one has {len(steward)}.")
        self._folder, self._steward, self._study = folder, steward, study
        self._hospital, self._clock, self._private = hospital, clock, private

    def permit(self) -> Permit:
        """The permit that holds now.

        Raises:
            PermitError: none does; one sentence says why.
        """
        signed = self._read(SignedPermit, PERMIT_FILE)
        if signed is None:
            raise PermitError("The hospital's steward has not approved this study.")
        try:
            permit = signed.checked(self._steward)
        except SignatureError as error:
            raise PermitError("The permit is not signed by this hospital's steward.") from error
        if permit.study != self._study:
            raise PermitError("The permit is for another study than the one that runs.")
        if permit.hospital != self._hospital:
            raise PermitError(f"The permit is for {permit.hospital} and not for {self._hospital}.")
        self._check_not_revoked(permit)
        now = self._clock()
        if now < permit.not_before:
            raise PermitError(f"The permit is not valid before {_said(permit.not_before)}.")
        if now >= permit.expires:
            raise PermitError(f"The permit expired at {_said(permit.expires)}.")
        if permit.epsilon and not self._private:
            raise PermitError(
                f"The permit allows epsilon {permit.epsilon} at most, and this study has no differential privacy."
            )
        return permit

    def refusal(self) -> str | None:
        """Why the hospital may not contribute, as one sentence; None if it may."""
        try:
            self.permit()
        except PermitError as error:
            return str(error)
        return None

    def _check_not_revoked(self, permit: Permit) -> None:
        signed = self._read(SignedRevocation, REVOCATION_FILE)
        if signed is None:
            return
        try:
            revocation = signed.checked(self._steward)
        except SignatureError as error:
            raise PermitError(
                "A revocation lies beside the permit that its steward did not sign: find out whose it is."
            ) from error
        if revocation.permit != permit.number:
            raise PermitError("The revocation beside the permit is of another permit: find out whose it is.")
        why = f": {revocation.reason.rstrip('.')}" if revocation.reason else ""
        raise PermitError(f"The steward revoked the permit at {_said(revocation.time)}{why}.")

    def _read(self, kind: type[R], name: str) -> R | None:
        try:
            with (self._folder / name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise PermitError(f"{name} cannot be read: check its permissions.") from error
        if len(data) > MAX_BYTES:
            raise PermitError(f"{name} is too large to be a {kind.kind}: write it anew.")
        try:
            return kind.from_bytes(data)
        except EncodingError as error:
            raise PermitError(f"{name} is damaged: write it anew.") from error


def _said(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"second {seconds} since 1970"
