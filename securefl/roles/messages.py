"""Everything that one member says to another. Each message is one record with one canonical encoding.

The order below is the order of a round. Contexts are named by their digest; whatever is signed stands in
``protocols`` (``RoundKey``, ``Contribution``, ``Vote``, ``Outcome``, ``Closing`` ...), messages only carry it.
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import field_validator

from protocols.canonical import Record, decode
from protocols.chain import Closing, Outcome, SignedOutcome
from protocols.contribution import Contribution, FrozenList, RoundContext, RoundKey, Vote
from protocols.errors import EncodingError
from protocols.integrity import Answer

MAX_COUNT = 2**32
"""Rounds of a study, attempts of a round: a party that was told a larger number could never be told the next one."""
FEW_ITEMS = 2**10
"""In what a hospital says, which names at most the parties: a contribution has one envelope for each."""
MAX_BYTES = 2**24
"""Of a message without a vector: the check of ten thousand hospitals' sum is shorter."""


class StatusRequest(Record):
    """Coordinator to party: where are you?"""

    kind = "status-request"
    study: bytes


class SignedPrepared(Record):
    """A party's word that its share of the sum over a frozen list is on its disk.

    Attributes:
        frozen: digest of the frozen list.
        excluded: hospitals on the list whose contributions are not in the share, and why, as a fixed word each.
        session: names the mesh session whose zero sharing is in the share.
    """

    kind = "signed-prepared"
    party: str
    frozen: bytes
    excluded: dict[str, str]
    session: bytes
    signature: bytes


class PartyStatus(Record):
    """Party to coordinator: the round it waits for, the highest attempt it has seen, and what it has on disk."""

    kind = "party-status"
    party: str
    round: int
    attempt: int
    previous: bytes
    released: bool
    context: RoundContext | None
    frozen: FrozenList | None
    prepared: SignedPrepared | None

    @field_validator("round", "attempt")
    @classmethod
    def _counted(cls, value: int) -> int:
        if not 0 <= value <= MAX_COUNT:
            raise ValueError(f"it is from 0 to {MAX_COUNT}")
        return value


class KeyRequest(Record):
    """Coordinator to party: begin an attempt. ``session`` numbers the parties' mesh; a new number is a new mesh."""

    kind = "key-request"
    context: RoundContext
    cohort: list[str]
    session: int


class SignedRoundKey(Record):
    """Party to coordinator, and on to the hospitals: its sealing key for this attempt."""

    kind = "signed-round-key"
    key: RoundKey
    signature: bytes


class Announcement(Record):
    """Coordinator to hospital: contribute. The context's model is what the hospital must have computed by itself."""

    kind = "announcement"
    context: RoundContext
    cohort: list[str]
    keys: list[SignedRoundKey]


class Behind(Record):
    """Hospital to coordinator: I have the outcomes before this round only, send the rest."""

    kind = "behind"
    hospital: str
    round: int


class SignedContribution(Record):
    """Hospital to coordinator: the envelopes, in the parties' order, and the signature over their digests."""

    kind = "signed-contribution"
    contribution: Contribution
    signature: bytes
    envelopes: list[bytes]


class Declined(Record):
    """Hospital to coordinator: no contribution to this attempt, and why (a fixed code, and a sentence)."""

    kind = "declined"
    context: bytes
    hospital: str
    reason: str
    explanation: str


class Part(Record):
    """Coordinator to party: one hospital's envelope for this party."""

    kind = "part"
    contribution: Contribution
    signature: bytes
    envelope: bytes


class Held(Record):
    """Party to coordinator: this hospital's part is checked and on disk."""

    kind = "held"
    party: str
    context: bytes
    hospital: str
    contribution: bytes


class Freeze(Record):
    """Coordinator to party: these contributions and no others."""

    kind = "freeze"
    frozen: FrozenList


class SignedVote(Record):
    """Party to coordinator: agreed, these."""

    kind = "signed-vote"
    party: str
    vote: Vote
    signature: bytes


class Prepare(Record):
    """Coordinator to party: all agree on the list, here are the votes; check norms, add, put your share on disk."""

    kind = "prepare"
    frozen: FrozenList
    votes: list[SignedVote]


class Release(Record):
    """Coordinator to party: every party's share is on its disk, here is the proof; open the sum."""

    kind = "release"
    frozen: FrozenList
    prepared: list[SignedPrepared]
    session: int


class Opened(Record):
    """Party to coordinator: the sum, and this party's signature over the outcome."""

    kind = "opened"
    party: str
    outcome: Outcome
    signature: bytes
    total: bytes


class Settled(Record):
    """Coordinator to everyone: the outcome that all parties signed, and the sum it names."""

    kind = "settled"
    signed: SignedOutcome
    total: bytes


class Accepted(Record):
    """Party or hospital to coordinator: the outcome of this round continues my chain."""

    kind = "accepted"
    member: str
    round: int


class CoinRevealed(Record):
    """Hospital to coordinator: the coin that my contribution to this outcome committed me to."""

    kind = "coin-revealed"
    hospital: str
    outcome: bytes
    contribution: Contribution
    coin: bytes


class Challenge(Record):
    """Coordinator to hospital: everybody's coin for an outcome; check them, and answer for your own update."""

    kind = "challenge"
    outcome: bytes
    coins: list[CoinRevealed]


class SignedAnswer(Record):
    """Hospital to coordinator: the inner product of challenge and update, masked."""

    kind = "signed-answer"
    answer: Answer
    signature: bytes


class Verification(Record):
    """The hospitals' check of one sum, complete; on disk beside the receipts, and sent to the hospitals."""

    kind = "verification"
    round: int
    outcome: bytes
    coins: list[CoinRevealed]
    answers: list[SignedAnswer]


class CloseRequest(Record):
    """Coordinator to party: the study is done."""

    kind = "close-request"
    closing: Closing


class ClosingSignature(Record):
    """Party to coordinator: agreed, closed."""

    kind = "closing-signature"
    party: str
    closing: bytes
    signature: bytes


class Refusal(Record):
    """Anyone to coordinator: not that. ``about`` is the kind of the refused message, ``hospital`` whom it concerned."""

    kind = "refusal"
    member: str
    about: str
    hospital: str
    reason: str
    explanation: str


Message = Record
FROM_HOSPITALS: frozenset[type[Record]] = frozenset(
    {Behind, SignedContribution, Declined, Accepted, CoinRevealed, SignedAnswer, Refusal}
)
KINDS: frozenset[type[Record]] = FROM_HOSPITALS | {
    StatusRequest, PartyStatus, KeyRequest, SignedRoundKey, Announcement, Part, Held, Freeze, SignedVote, Prepare,
    SignedPrepared, Release, Opened, Settled, Challenge, Verification, CloseRequest, ClosingSignature,
}  # fmt: skip
_WITH_VECTORS: set[type[Record]] = {SignedContribution, Part, Opened, Settled}
_BY_PREFIX: dict[bytes, type[Record]] = {kind.prefix(): kind for kind in KINDS}


def read_message(data: bytes, kinds: Collection[type[Record]] = KINDS) -> Message:
    """The message in these bytes. What it costs to refuse them is bounded by their kind.

    Args:
        data: from anybody.
        kinds: that the sender may send.

    Raises:
        EncodingError: not canonical, of none of these kinds, too large for its kind, or malformed.
    """
    kind = next((kind for prefix, kind in _BY_PREFIX.items() if data.startswith(prefix)), None)
    if kind is None or kind not in kinds:
        raise EncodingError("These bytes are not a message of a known kind.")
    if len(data) > MAX_BYTES and kind not in _WITH_VECTORS:
        raise EncodingError(f"This {kind.kind} is longer than {MAX_BYTES:,} bytes.")
    value = decode(data, FEW_ITEMS) if kind in FROM_HOSPITALS else decode(data)
    return kind.from_value(value)
