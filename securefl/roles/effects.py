"""What goes into a role's machine, and what comes out.

Events are messages and the small records here. Effects are carried out by a host, in order; a ``Persist`` is durable
before the next effect starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocols.chain import SignedClosing
from protocols.contribution import RoundContext
from protocols.envelope import SealingKey
from securefl.roles.messages import Message, Settled

COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Send:
    """Hand a message to a member (or to the coordinator)."""

    to: str
    message: Message


@dataclass(frozen=True)
class Persist:
    """Write these bytes durably under a name in the role's own memory; empty bytes erase what stands there."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Keep:
    """Write these bytes whole under a name, for what a power failure may take: it is made, or sent, again.

    It survives the death of the process. Empty bytes erase what stands there.
    """

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class SetTimer:
    """Deliver ``Timeout(name)`` after some seconds; a later timer of the same name replaces it."""

    name: str
    seconds: float


@dataclass(frozen=True)
class AddShares:
    """Committee job: open the spooled envelopes one by one, add the shares, mask the sum with a share of zero."""

    context: RoundContext
    party: str
    parts: Mapping[str, str]
    """Spool name by hospital, in the order of the hospitals' names."""
    key: SealingKey = field(repr=False)
    session: int


@dataclass(frozen=True)
class OpenSum:
    """Committee job: all parties send their share of the sum and learn it."""

    context: RoundContext
    share: str
    session: int


@dataclass(frozen=True)
class RunCommittee:
    """Run a job of the committee; ``CommitteeDone`` or ``CommitteeFailed`` follows."""

    job: AddShares | OpenSum


@dataclass(frozen=True)
class RoundDone:
    """Tell the engine that a round is settled, and which hospitals were not in it and why (a code and a sentence)."""

    settled: Settled
    absent: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Finished:
    """Tell the engine that the study is closed."""

    closing: SignedClosing


Effect = Send | Persist | Keep | SetTimer | RunCommittee | RoundDone | Finished


@dataclass(frozen=True)
class Received:
    """A message, and the member whose link it came over."""

    sender: str
    message: Message


@dataclass(frozen=True)
class Timeout:
    """A timer ran out."""

    name: str


@dataclass(frozen=True)
class Lost:
    """A member's process or link failed; the host has started it anew, without what it held in memory."""

    member: str


@dataclass(frozen=True)
class Start:
    """The host is ready."""


@dataclass(frozen=True)
class CommitteeDone:
    """A job's result: the share of the sum and its session, or the opened sum (ring bytes)."""

    result: bytes = field(repr=False)
    session: bytes = b""


@dataclass(frozen=True)
class CommitteeFailed:
    """A job could not be done: a peer was silent, broke the protocol, or went away."""

    explanation: str


Event = Message | Received | Timeout | Lost | Start | CommitteeDone | CommitteeFailed


class Machine(Protocol):
    """A role. ``handle`` changes its state and says what to do; a RefusedError leaves the state as it was."""

    name: str

    def handle(self, event: Event) -> list[Effect]:
        """Take one event."""
        ...
