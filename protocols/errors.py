"""The typed errors of the protocols.

None derives from RuntimeError: CrypTen's A2B catches RuntimeError and silently retries.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """A protocol was not followed. The message is one sentence that a person can act on."""


class EncodingError(ProtocolError):
    """Bytes or numbers that have no valid meaning: not canonical, out of range, NaN, or of the wrong size."""


class SealError(ProtocolError):
    """An envelope does not open: another key, another context, or changed bytes."""


class SignatureError(ProtocolError):
    """A signature does not verify under the pinned key."""


class ChainError(ProtocolError):
    """An outcome does not continue the chain that came before it."""


class WrongSumError(ChainError):
    """The hospitals' answers say that an opened sum is not the sum of their updates."""


class ChannelError(ProtocolError):
    """The committee's channel failed. ``peer`` names the party it failed with (rank, or None if not known)."""

    def __init__(self, message: str, peer: int | None = None) -> None:
        super().__init__(message)
        self.peer = peer


class CommitteeError(ProtocolError):
    """The committee's program could not be run to its end."""
