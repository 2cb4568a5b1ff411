"""The server's part: it carries what is sealed, adds what is masked, and takes off the masks that remain.

It learns the sum over U3. It checks what it can, so that one client's mistake costs that client and not the sum; it
is not believed by the clients in anything but, without pinned keys, the keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from protocols.errors import EncodingError
from protocols.pairwise.keys import KEY_BYTES, SEALED_BYTES, check_public, mask_seed, public_of
from protocols.pairwise.masking import add_own, add_pair, commit_own
from protocols.pairwise.messages import (
    Agreement,
    Agreements,
    Delivery,
    Masked,
    Parcels,
    Revealed,
    Roster,
    SignedKeys,
    StepError,
    Survivors,
    Terms,
    TooFewError,
)
from protocols.pairwise.policy import Policy
from protocols.pairwise.shamir import SECRET_BYTES, combine
from protocols.prg import RingVector
from protocols.ring import from_bytes


class Server:
    """One exchange. Messages of a step are taken one by one; asking for the next step's message closes the step.

    Args:
        terms: what was sent to the clients.
        pinned: their Ed25519 public keys by name, for signed exchanges. What is not by them is refused here, with the
            client that sent it: passed on, every other client would refuse it and leave.
    """

    def __init__(self, terms: Terms, pinned: Mapping[str, bytes] | None = None) -> None:
        self.terms, self._policy = terms, Policy(pinned=pinned)
        self._keys: dict[str, SignedKeys] = {}
        self._roster: Roster | None = None
        self._parcels: dict[str, Parcels] = {}
        self._U2: list[str] | None = None
        self._masked: set[str] = set()
        self._total: RingVector | None = None
        self._survivors: Survivors | None = None
        self._signatures: dict[str, bytes] = {}
        self._revealed: dict[str, Revealed] = {}

    def advertised(self, message: SignedKeys) -> str:
        """A client's keys; its name is returned.

        Raises:
            StepError, EncodingError: they are none that every other client would take. One client's keys that some
                refuse would end the exchange for those, and so for all.
        """
        keys = message.keys
        if self._roster is not None or keys.name in self._keys:
            raise StepError("These keys come twice, or too late.")
        if keys.terms != self.terms.digest() or {len(keys.c_public), len(keys.s_public)} != {KEY_BYTES}:
            raise StepError("These keys belong to another exchange, or are none.")
        others = {key for m in self._keys.values() for key in (m.keys.c_public, m.keys.s_public)}
        if keys.c_public == keys.s_public or {keys.c_public, keys.s_public} & others:
            raise StepError("Two of the public keys are the same.")
        for public in (keys.c_public, keys.s_public):
            check_public(public)
        if self.terms.signed:
            self._policy.check_pinned(keys.name, keys, message.signature)
        self._keys[keys.name] = message
        return keys.name

    def roster(self) -> Roster:
        """U1, for each of U1: the clients with the setting that most have."""
        if self._roster is None:
            common = Counter(m.keys.setting for m in self._keys.values()).most_common(1)
            self._keys = {n: m for n, m in self._keys.items() if m.keys.setting == common[0][0]}
            self._enough(self._keys, "gave their keys and go by the same settings")
            members = [self._keys[name] for name in sorted(self._keys)]
            self._roster = Roster(terms=self.terms.digest(), members=members)
        return self._roster

    def shared(self, name: str, message: Parcels) -> None:
        """A client's sealed shares: one for each other of U1."""
        names = set(self.roster().names())
        self._check(name, message.roster, names, self._parcels, closed=self._U2 is not None)
        lengths = {len(sealed) for sealed in message.sealed.values()}
        if set(message.sealed) != names - {name} or lengths != {SEALED_BYTES}:
            raise StepError("There is not one sealed share for each other client.")
        self._parcels[name] = message

    def deliveries(self) -> dict[str, Delivery]:
        """For each of U2 the shares from the others."""
        self._enough(self._parcels, "shared their keys")
        self._U2 = sorted(self._parcels)
        digest = self.roster().digest()
        return {
            v: Delivery(roster=digest, sealed={u: self._parcels[u].sealed[v] for u in self._U2 if u != v})
            for v in self._U2
        }

    def masked(self, name: str, message: Masked) -> None:
        """A client's y_u; the first one fixes the size."""
        self._check(name, message.roster, self._U2 or (), self._masked, closed=self._survivors is not None)
        width = self.terms.width
        if self._total is None:
            if not message.y:
                raise EncodingError("A masked vector is empty.")
            self._total = from_bytes(message.y, width, len(message.y) * 8 // width).copy()
        else:
            self._total += from_bytes(message.y, width, self._total.size)
        self._masked.add(name)

    def survivors(self) -> Survivors:
        """U3, for each of U3."""
        if self._survivors is None:
            self._enough(self._masked, "sent their masked vector")
            self._survivors = Survivors(roster=self.roster().digest(), names=sorted(self._masked))
        return self._survivors

    def agreed(self, name: str, message: Agreement) -> None:
        """A client's signature over U3; other clients verify it too."""
        self._check(name, message.roster, self.survivors().names, self._signatures, closed=False)
        self._policy.check_pinned(name, self.survivors(), message.signature)
        self._signatures[name] = message.signature

    def agreements(self) -> Agreements:
        """U4's signatures, for each of U4; without pinned keys none."""
        if self.terms.signed:
            self._enough(self._signatures, "agreed on the sum")
        return Agreements(roster=self.roster().digest(), signatures=dict(self._signatures))

    def revealed(self, name: str, message: Revealed) -> None:
        """A client's shares: of b_v for all of U3, of s_v^SK for all of U2 that are not in U3."""
        summed = set(self.survivors().names)
        self._check(name, message.roster, summed, self._revealed, closed=False)
        shares = (*message.own.values(), *message.pair.values())
        if set(message.own) != summed or set(message.pair) != set(self._U2 or ()) - summed:
            raise StepError("These are not one share for each client that shared its keys.")
        if {len(share) for share in shares} != {SECRET_BYTES}:
            raise StepError("A share has the wrong length.")
        self._revealed[name] = message

    def total(self) -> RingVector:
        """The sum over U3, (D,).

        Raises:
            TooFewError: fewer than t clients revealed their shares.
            StepError: the shares do not give what their owner committed to; there is no sum then.
        """
        self._enough(self._revealed, "revealed their shares")
        if self._total is None:
            raise StepError("Nothing was added.")
        roster, total = self.roster(), self._total.copy()
        digest = roster.digest()
        for u in self.survivors().names:
            b = self._combine({v: message.own[u] for v, message in self._revealed.items()})
            if commit_own(b, digest, u) != self._parcels[u].commitment:
                raise StepError("A client's own mask cannot be taken off: somebody revealed a wrong share.")
            add_own(total, b, digest, u, -1)
        for v in sorted(set(self._U2 or ()) - self._masked):
            secret = self._combine({w: message.pair[v] for w, message in self._revealed.items()})
            if public_of(secret) != roster.of(v).s_public:
                raise StepError("A lost client's masks cannot be taken off: somebody revealed a wrong share.")
            for u in self.survivors().names:
                s = mask_seed(secret, digest, roster.of(u), roster.of(v))
                add_pair(total, s, digest, u, v, -1)
        return total

    def _combine(self, shares: dict[str, bytes]) -> bytes:
        point = {name: i for i, name in enumerate(self.roster().names(), start=1)}
        return combine({point[v]: share for v, share in shares.items()}, self.terms.threshold)

    def _check(
        self, name: str, roster: bytes, allowed: Iterable[str], seen: Iterable[str], *, closed: bool
    ) -> None:
        if roster != self.roster().digest():
            raise StepError("The message belongs to another exchange.")
        if closed or name not in set(allowed) or name in set(seen):
            raise StepError("The message comes twice, too late, or from a client that has left.")

    def _enough(self, left: Iterable[str], did: str) -> None:
        count = len(set(left))
        if count < self.terms.threshold:
            raise TooFewError(
                f"Only {count} clients {did}, {self.terms.threshold} are needed: there is no sum."
            )
