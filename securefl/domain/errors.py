"""The errors of the domain. Each message is one sentence: what is wrong and what to do."""

from __future__ import annotations

from securefl.errors import SecureFLError


class DomainError(SecureFLError):
    """Base of all errors between a hospital, a researcher and the share that lies between them."""


class AddressError(DomainError):
    """A name that cannot be a person's email, or would be unsafe as the name of a folder."""


class IdentityError(DomainError):
    """A person's own keys or card are missing, damaged, readable by others, or somebody else's."""


class UnknownPeerError(DomainError):
    """Nobody of that name is pinned here, or the person was removed."""


class ChangedKeyError(DomainError):
    """A person's keys are not the ones that were pinned."""


class CardError(DomainError):
    """A card is missing, malformed, or not signed by its own key."""


class FrameError(DomainError):
    """A frame is not a letter to this person from that one. ``reason`` is a short fixed code."""

    reason = "malformed"


class MalformedFrameError(FrameError):
    """Bytes that are no frame."""


class IncompleteFrameError(FrameError):
    """The beginning of a frame: the share has not brought the rest yet."""

    reason = "incomplete"


class FrameTooLargeError(FrameError):
    """A frame, or a body for one, that is longer than is allowed."""

    reason = "too-large"


class FrameSignatureError(FrameError):
    """A frame that its named sender did not sign."""

    reason = "bad-signature"


class FrameRecipientError(FrameError):
    """A frame that is for somebody else."""

    reason = "other-recipient"


class RelayError(DomainError):
    """The share is full, has vanished, or cannot be written. What was to be sent is kept."""


class BrokenLogError(DomainError):
    """A line of the audit log was removed, changed, moved or cut off. ``line`` counts from one."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class SyftMessageError(DomainError):
    """Syft's part of a letter asks for something that its sender may not ask for."""


class NotApprovedError(DomainError):
    """What is asked for was not approved, or something else was."""


class RevokedError(DomainError):
    """An approval, or a person, that was removed."""


class DatasetError(DomainError):
    """A dataset cannot be published, or is not the one that was."""


class ProposalError(DomainError):
    """A proposal is missing, malformed, changed since it was signed, or asks what cannot be."""


class DecidedError(DomainError):
    """A decision that was made already, or one that needs another first."""


class LaunchError(DomainError):
    """A proposal cannot be launched yet, or not here."""


class ReleaseError(DomainError):
    """A finished run is missing, does not verify, or was decided on already."""
