"""What a client insists on, whatever the server says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocols.canonical import Record
from protocols.contribution import check_signature
from protocols.errors import EncodingError, SignatureError
from protocols.pairwise.messages import Roster, StepError, Terms
from protocols.prg import ring_dtype

PUBLIC_BYTES = 32
"""Of an Ed25519 public key."""


def default_threshold(n: int) -> int:
    """⌊2n/3⌋ + 1: the paper's choice where clients collude with the server; up to ⌈n/3⌉ - 1 of them may."""
    return 2 * n // 3 + 1


@dataclass(frozen=True)
class Policy:
    """A client's conditions.

    Attributes:
        minimum: the fewest clients, itself counted, whose sum it helps to open; at least 3, since of a sum of two
            each knows the other's part.
        corrupted: c, how many clients may work with the server. 2t > n + c is required: an honest client gives shares
            of b_v or of s_v^SK, a corrupted one both, and (n - c) + 2c < 2t shares never make t of each. So is
            t >= c + 2: they take their own vectors off the sum, and what is left is over two clients at least.
        pinned: Ed25519 public keys by client, itself included; None trusts the server about the keys.

    Raises:
        EncodingError: the numbers are too small, a key is not 32 bytes, or two clients have the same.
    """

    minimum: int = 3
    corrupted: int = 0
    pinned: Mapping[str, bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.minimum < 3 or self.corrupted < 0:
            raise EncodingError("A sum has at least 3 summands, and no fewer than 0 clients are corrupted.")
        if self.pinned is not None:
            _check_keys(self.pinned)

    @property
    def least(self) -> int:
        """The fewest clients whose sum it helps to open, the corrupted ones counted."""
        return max(self.minimum, self.corrupted + 2)

    def check_terms(self, terms: Terms) -> None:
        """Raise StepError unless the terms can be kept; EncodingError for a ring that does not exist."""
        ring_dtype(terms.width)
        if terms.signed != (self.pinned is not None):
            raise StepError(
                "This client pins its peers' keys and takes part in signed exchanges only."
                if self.pinned is not None
                else "The exchange is to be signed, and this client has no pinned keys: give it some."
            )
        if terms.threshold < self.least:
            raise StepError(
                f"A threshold of {terms.threshold} is too low: this client asks for {self.least}."
            )

    def check_roster(self, roster: Roster, terms: Terms) -> None:
        """Raise StepError unless U1 is sound: distinct names and keys, t high enough, every key as pinned."""
        names, n, t = roster.names(), len(roster.members), terms.threshold
        digest = terms.digest()
        if roster.terms != digest or any(member.keys.terms != digest for member in roster.members):
            raise StepError("The keys belong to another exchange.")
        if names != sorted(set(names)):
            raise StepError("The clients are not listed once each, in order.")
        publics = [key for m in roster.members for key in (m.keys.c_public, m.keys.s_public)]
        if len(set(publics)) != 2 * n:
            raise StepError("Two of the public keys are the same.")
        if not t <= n:
            raise StepError(f"Only {n} clients take part, {t} are needed.")
        if not 2 * t > n + self.corrupted:
            raise StepError(
                f"A threshold of {t} of {n} clients is too low: twice it must be more than {n + self.corrupted}, "
                "or the server could unmask a client."
            )
        if self.pinned is not None:
            for member in roster.members:
                self.check_pinned(member.keys.name, member.keys, member.signature)

    def check_pinned(self, name: str, record: Record, signature: bytes) -> None:
        """Raise StepError unless the record is signed by the key that is pinned for ``name``."""
        public = (self.pinned or {}).get(name)
        if public is None:
            raise StepError("A client takes part whose key is not pinned.")
        try:
            check_signature(record, public, signature)
        except SignatureError as error:
            raise StepError("A signature is not by the key that is pinned for its client.") from error


def _check_keys(pinned: Mapping[str, bytes]) -> None:
    for name, public in pinned.items():
        if not (isinstance(public, bytes) and len(public) == PUBLIC_BYTES):
            raise EncodingError(
                f"The key that is pinned for {name} is not {PUBLIC_BYTES} bytes: write hexadecimal text as "
                'bytes.fromhex("...").'
            )
    if len(set(pinned.values())) != len(pinned):
        raise EncodingError("Two clients are pinned to the same key: each needs one of its own.")
