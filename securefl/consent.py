"""Whether one hospital may contribute to one study now: its steward's permit, asked for anew each time.

Adversary: whoever sends messages, changes a study after its approval, or brings an old permit to a new study; not
    whoever holds the steward's key or can write the hospital's own files.
Promise: a permit holds for the one study, hospital and proposal whose digests the steward signed, from ``not_before``
    until ``expires`` by the hospital's own clock, and until a revocation lies beside it. A file that is missing,
    damaged or of another permit is never taken for consent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from protocols.canonical import Record
from protocols.errors import EncodingError, SignatureError
from protocols.signing import KEY_BYTES
from securefl.permit import (
    MAX_BYTES,
    PERMIT_FILE,
    REVOCATION_FILE,
    Permit,
    PermitError,
    SignedPermit,
    SignedRevocation,
)

NOT_APPROVED = "not-approved"
"""The code under which a hospital declines, and under which receipts list it."""

R = TypeVar("R", bound=Record)


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
            raise PermitError(f"The permit is not valid before {said_time(permit.not_before)}.")
        if now >= permit.expires:
            raise PermitError(f"The permit expired at {said_time(permit.expires)}.")
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
        raise PermitError(f"The steward revoked the permit at {said_time(revocation.time)}{why}.")

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


def said_time(seconds: int) -> str:
    """Seconds since 1970 as a date, whatever number it is."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"second {seconds} since 1970"
