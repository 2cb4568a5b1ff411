"""A steward's permit for one study at one hospital, and its revocation. What holds now, ``consent`` says."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from protocols.canonical import Record
from protocols.contribution import check_signature, sign
from protocols.signing import SigningKey, verify
from securefl import durable
from securefl.errors import SecureFLError
from securefl.study.settings import MemberName

PERMIT_FILE, REVOCATION_FILE = "permit.cbor", "revocation.cbor"
NUMBER_BYTES = 16
MAX_BYTES = 64 * 1024
"""Largest file that is read; permits have a few hundred bytes."""

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
Number = Annotated[bytes, Field(min_length=NUMBER_BYTES, max_length=NUMBER_BYTES)]
Seconds = Annotated[int, Field(ge=0, lt=2**63)]
Line = Annotated[str, StringConstraints(max_length=1000)]


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
        runs: how often the study may be started, at least 1; a domain's stewards give 1.
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
        reason: one line, for the researcher and for the hospital's own log; receipts have the word `not-approved`.
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
        return cls(permit=permit, signature=sign(permit, key))

    def checked(self, steward: bytes) -> Permit:
        """The permit, if ``steward`` (32 bytes of public key) signed it.

        Raises:
            SignatureError: it did not.
        """
        check_signature(self.permit, steward, self.signature)
        return self.permit

    def save(self, folder: Path) -> None:
        """Write it into its folder."""
        durable.write(folder / PERMIT_FILE, self.to_bytes())


class EndorsedPermit(Record):
    """A permit that the hospital's own key signed too, so that whoever knows the consortium knows whose steward it was.

    Who is whose steward, a researcher's proposal only says; which key is a hospital's, the consortium pins.
    """

    kind = "endorsed-permit"
    signed: SignedPermit
    signature: bytes

    @classmethod
    def of(cls, signed: SignedPermit, hospital: SigningKey) -> EndorsedPermit:
        """Endorse a permit with the hospital's consortium key."""
        return cls(signed=signed, signature=hospital.sign(cls.kind, signed.digest()))

    def checked(self, hospital: bytes) -> Permit:
        """The permit, if the hospital whose public key this is endorsed it.

        Raises:
            SignatureError: it did not.
        """
        verify(hospital, self.kind, self.signed.digest(), self.signature)
        return self.signed.permit


class SignedRevocation(Record):
    """A revocation and the steward's signature."""

    kind = "signed-revocation"
    revocation: Revocation
    signature: bytes

    @classmethod
    def of(cls, revocation: Revocation, key: SigningKey) -> SignedRevocation:
        """Sign a revocation."""
        return cls(revocation=revocation, signature=sign(revocation, key))

    def checked(self, steward: bytes) -> Revocation:
        """The revocation, if ``steward`` signed it.

        Raises:
            SignatureError: it did not.
        """
        check_signature(self.revocation, steward, self.signature)
        return self.revocation

    def save(self, folder: Path) -> None:
        """Write it beside the permit; from then on the hospital declines."""
        durable.write(folder / REVOCATION_FILE, self.to_bytes())
