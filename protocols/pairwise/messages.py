"""What is sent, and what a client remembers between two steps.

Everything after the first step names the digest of the roster, and with it the terms and all public keys: a message of
another exchange, or of a server that shows another client another roster, is refused.
"""

from __future__ import annotations

from pydantic import Field

from protocols.canonical import Record
from protocols.errors import ProtocolError


class StepError(ProtocolError):
    """A message is refused: it is not what this step of this exchange allows. The state is unchanged."""


class TooFewError(ProtocolError):
    """Fewer than t clients are left: the exchange ends without a sum."""


class Terms(Record):
    """What everybody in an exchange goes by.

    Attributes:
        run: the run that the exchange belongs to.
        exchange: increases from one exchange to the next; a client takes each number once.
        purpose: what is added, a fixed word.
        threshold: t.
        width: w, bits of the ring.
        signed: whether keys are signed by pinned keys and U3 is agreed on before it is opened (the active server).
        details: the application's own settings, bound as they are.
    """

    kind = "pairwise-terms"
    run: str
    exchange: int
    purpose: str
    threshold: int
    width: int
    signed: bool
    details: bytes


class Keys(Record):
    """A client's two public keys of one exchange: c_u^PK to seal shares, s_u^PK to agree on masks.

    ``setting`` is what the client goes by and the server did not give it in this exchange; all of U1 have the same.
    """

    kind = "pairwise-keys"
    terms: bytes
    name: str
    c_public: bytes
    s_public: bytes
    setting: bytes


class SignedKeys(Record):
    """Keys with their signature; empty where keys are not pinned."""

    kind = "pairwise-signed-keys"
    keys: Keys
    signature: bytes


class Roster(Record):
    """U1: the keys of all, in the order of the names. A client's place in it, from 1, is its point in the sharing."""

    kind = "pairwise-roster"
    terms: bytes
    members: list[SignedKeys]

    def names(self) -> list[str]:
        """U1, in order."""
        return [member.keys.name for member in self.members]

    def of(self, name: str) -> Keys:
        """A member's keys."""
        return next(member.keys for member in self.members if member.keys.name == name)


class Parcels(Record):
    """A client's sealed shares by recipient, and its commitment to b_u."""

    kind = "pairwise-parcels"
    roster: bytes
    sealed: dict[str, bytes]
    commitment: bytes


class Delivery(Record):
    """The sealed shares for one client by sender: with the client itself, U2."""

    kind = "pairwise-delivery"
    roster: bytes
    sealed: dict[str, bytes]


class Masked(Record):
    """y_u, ring bytes."""

    kind = "pairwise-masked"
    roster: bytes
    y: bytes = Field(repr=False)


class Survivors(Record):
    """U3, in order: the clients whose vectors are in the sum."""

    kind = "pairwise-survivors"
    roster: bytes
    names: list[str]


class Agreement(Record):
    """A client's signature over U3."""

    kind = "pairwise-agreement"
    roster: bytes
    signature: bytes


class Agreements(Record):
    """The signatures over U3 by client (U4); empty where keys are not pinned."""

    kind = "pairwise-agreements"
    roster: bytes
    signatures: dict[str, bytes]


class Revealed(Record):
    """A client's shares: of b_v for v in U3, of s_v^SK for v in U2 without U3. Never both of one."""

    kind = "pairwise-revealed"
    roster: bytes
    own: dict[str, bytes] = Field(repr=False)
    pair: dict[str, bytes] = Field(repr=False)


IDLE, KEYS, SHARES, RECEIVED, MASKED, AGREED = "idle", "keys", "shares", "received", "masked", "agreed"
"""The last step that a client has taken."""


class Memory(Record):
    """What a client keeps between two messages. It holds secrets: it stays with the client.

    ``IDLE`` holds none, only the last exchange's number.
    """

    kind = "pairwise-memory"
    step: str = IDLE
    exchange: int = 0
    terms: Terms | None = None
    roster: Roster | None = None
    c_secret: bytes = Field(default=b"", repr=False)
    s_secret: bytes = Field(default=b"", repr=False)
    b: bytes = Field(default=b"", repr=False)
    own_shares: dict[str, bytes] = Field(default_factory=dict, repr=False)
    pair_shares: dict[str, bytes] = Field(default_factory=dict, repr=False)
    survivors: list[str] = Field(default_factory=list)
