"""What a domain's people write to one another, beside Syft's jobs. Who sent a letter, the mail has proved already.

Every record names the proposal by its digest, so that no letter about one speaks for another.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from protocols.canonical import Record
from securefl.domain.proposal import SignedProposal
from securefl.permit import EndorsedPermit

State = Literal["pending", "approved", "running", "done", "denied", "revoked", "expired", "failed"]
"""How one hospital stands to one proposal."""

ENDED = ("done", "denied", "revoked", "expired", "failed")


class Body(Record):
    """What a letter says; each kind travels under a topic of its own."""

    topic: ClassVar[str] = ""


class Decision(Body):
    """A steward tells the researcher how things stand at its hospital.

    Attributes:
        proposal: digest of the proposal.
        hospital: the steward's, as the proposal names it.
        state: see ``State``.
        reason: what the steward, or the program that acts for it, gives as the reason.
        time: seconds since 1970, by the steward's clock.
        permit: the permit, once approved.
    """

    kind = "decision"
    topic = "decision"
    proposal: bytes
    hospital: str
    state: State
    reason: str
    time: int
    permit: EndorsedPermit | None = None


class LogCopy(Body):
    """What a hospital's node said while it ran, handed out by its steward."""

    kind = "log-copy"
    topic = "log"
    proposal: bytes
    hospital: str
    log: bytes


class LaunchOrder(Body):
    """The researcher asks an operator to run a proposal that all have approved."""

    kind = "launch-order"
    topic = "launch"
    proposal: SignedProposal
    files: dict[str, bytes]
    permits: list[EndorsedPermit]


class Notice(Body):
    """An operator tells how a launch stands.

    Attributes:
        state: ``refused``, ``ready`` (a party is), ``running`` or ``finished`` (the coordinator's run), ``failed``.
        reason: one sentence.
    """

    kind = "notice"
    topic = "notice"
    proposal: bytes
    member: str
    state: Literal["refused", "ready", "running", "finished", "failed"]
    reason: str
    time: int
