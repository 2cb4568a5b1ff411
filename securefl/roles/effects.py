"""What goes into a role's machine, and what comes out.

Events are messages and the small records here. Effects are carried out by a host, in order; a ``Persist`` is durable
before the next effect starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocols.canonical import encode
from protocols.chain import SignedClosing
from protocols.contribution import RoundContext
from protocols.envelope import SealingKey
from protocols.norm_bounds import NormCheck
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
class Enter:
    """Write these bytes durably into the role's ledger, which is one for all studies that it serves.

    If other bytes stand there, which another process has entered since the ledger was read, nothing follows.
    """

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class SetTimer:
    """Deliver ``Timeout(name)`` after some seconds; a later timer of the same name replaces it."""

    name: str
    seconds: float


@dataclass(frozen=True)
class CheckNorms:
    """Committee job: reveal the coin's parts, project the vectors, and open one bit for each hospital.

    Attributes:
        frozen: digest of the list, which the coin is bound to.
        parts: spool name by hospital, in the order of the hospitals' names.
        coin_part: this party's 32 bytes of the coin.
        commitments: every party's commitment to its part, in the order of the ranks.
    """

    context: RoundContext
    party: str
    frozen: bytes
    parts: Mapping[str, str]
    check: NormCheck
    key: SealingKey = field(repr=False)
    coin_part: bytes = field(repr=False)
    commitments: list[bytes]
    session: int


@dataclass(frozen=True)
class AddShares:
    """Committee job: open the spooled envelopes one by one, add the shares, mask the sum with a share of zero."""

    context: RoundContext
    party: str
    parts: Mapping[str, str]
    """Spool name by hospital, in the order of the hospitals' names."""
    key: SealingKey = field(repr=False)
    session: int
    noise_variance: int = 0
    """Variance of the discrete Gaussian that the party adds to each coordinate, in units squared; 0 adds none."""


@dataclass(frozen=True)
class OpenSum:
    """Committee job: all parties send their share of the sum and learn it."""

    context: RoundContext
    share: str
    session: int


def coin_context(frozen: bytes, party: str) -> bytes:
    """What a party's commitment to its part of the coin is bound to: the list, and its own name."""
    return encode([frozen, party])


Job = CheckNorms | AddShares | OpenSum


@dataclass(frozen=True)
class RunCommittee:
    """Run a job of the committee; ``NormsChecked``, ``SharesAdded``, ``SumOpened`` or ``CommitteeFailed`` follows."""

    job: Job


@dataclass(frozen=True)
class RoundDone:
    """Tell the engine that a round is settled, and which hospitals were not in it and why (a code and a sentence)."""

    settled: Settled
    absent: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class RoundVerified:
    """Tell the engine that the hospitals have checked the sum of a round, or (``missing``) who did not answer."""

    round: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """End the run with this error; what came before it in the list is carried out."""

    explanation: str


@dataclass(frozen=True)
class Finished:
    """Tell the engine that the study is closed."""

    closing: SignedClosing


Effect = Send | Persist | Keep | Enter | SetTimer | RunCommittee | RoundDone | RoundVerified | Stop | Finished


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
class Gone:
    """A party's process cannot be brought back, for this reason: go on without it, if the study allows that."""

    member: str
    explanation: str


@dataclass(frozen=True)
class Start:
    """The host is ready."""


@dataclass(frozen=True)
class NormsChecked:
    """``CheckNorms``'s result: the hospitals whose update is within the bound; the same at every party."""

    within: frozenset[str]


@dataclass(frozen=True)
class SharesAdded:
    """``AddShares``'s result: this party's masked share of the sum, and the session that the mask belongs to."""

    share: bytes = field(repr=False)
    session: bytes


@dataclass(frozen=True)
class SumOpened:
    """``OpenSum``'s result: the sum, ring bytes."""

    total: bytes = field(repr=False)


@dataclass(frozen=True)
class CommitteeFailed:
    """A job could not be done: a peer was silent, broke the protocol, or went away."""

    explanation: str


JobDone = NormsChecked | SharesAdded | SumOpened
Event = Message | Received | Timeout | Lost | Gone | Start | JobDone | CommitteeFailed


class Machine(Protocol):
    """A role. ``handle`` changes its state and says what to do; a RefusedError leaves the state as it was."""

    name: str

    def handle(self, event: Event) -> list[Effect]:
        """Take one event."""
        ...
