"""A client's part: one answer to each step of an exchange, and never both secrets of anybody.

The steps are figure 4's: advertise keys, share keys, masked input, (consistency check,) unmasking. Each method takes a
message and returns one; a refused message leaves the memory as it was, and one that was answered is not answered
again. There is no clock, socket or file here: whoever holds the client keeps ``memory`` between two messages.
"""

from __future__ import annotations

from protocols.contribution import sign
from protocols.errors import EncodingError
from protocols.pairwise.keys import mask_seed, new_secret, open_shares, public_of, seal_shares
from protocols.pairwise.masking import add_own, add_pair, commit_own
from protocols.pairwise.messages import (
    AGREED,
    KEYS,
    MASKED,
    RECEIVED,
    SHARES,
    Agreement,
    Agreements,
    Delivery,
    Keys,
    Masked,
    Memory,
    Parcels,
    Revealed,
    Roster,
    SignedKeys,
    StepError,
    Survivors,
    Terms,
)
from protocols.pairwise.policy import Policy
from protocols.pairwise.shamir import split
from protocols.prg import RingVector, new_seed, width_of
from protocols.signing import SigningKey


class Client:
    """One client.

    Args:
        name: how it is listed; with pinned keys, the name that its key is pinned for.
        policy: what it insists on.
        memory: what it held after its last message.
        key: its signing key, for signed exchanges.
        setting: a digest of what it goes by beside the terms; it takes part only with clients that have the same.

    Raises:
        EncodingError: keys are pinned, and its own is not the one pinned for it.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        memory: Memory | None = None,
        key: SigningKey | None = None,
        setting: bytes = b"",
    ) -> None:
        self.name, self.policy, self._key, self._setting = name, policy, key, setting
        self.memory = memory or Memory()
        if policy.pinned is not None and (key is None or policy.pinned.get(name) != key.public):
            raise EncodingError("This client's signing key is not the one that is pinned for it.")

    def advertise(self, terms: Terms) -> SignedKeys:
        """Step 0: two fresh key pairs. An exchange that was under way is given up; its secrets are gone."""
        if terms.exchange <= self.memory.exchange:
            raise StepError("This exchange is not newer than the last one: each is taken part in once.")
        self.policy.check_terms(terms)
        c, s = new_secret(), new_secret()
        keys = Keys(
            terms=terms.digest(),
            name=self.name,
            c_public=public_of(c),
            s_public=public_of(s),
            setting=self._setting,
        )
        self.memory = Memory(step=KEYS, exchange=terms.exchange, terms=terms, c_secret=c, s_secret=s)
        return SignedKeys(keys=keys, signature=sign(keys, self._key) if terms.signed and self._key else b"")

    def share(self, roster: Roster) -> Parcels:
        """Step 1: b_u, and t-out-of-n shares of b_u and s_u^SK, sealed to each of U1."""
        terms = self._at(KEYS)
        self.policy.check_roster(roster, terms)
        if self.name not in roster.names():
            raise StepError("This client is not among those listed.")
        own = roster.of(self.name)
        if (own.c_public, own.s_public) != tuple(
            map(public_of, (self.memory.c_secret, self.memory.s_secret))
        ):
            raise StepError("The keys that are listed for this client are not its own.")
        self._check_setting(roster)
        b, digest, n, t = new_seed(), roster.digest(), len(roster.members), terms.threshold
        s_shares = dict(zip(roster.names(), split(self.memory.s_secret, t, n), strict=True))
        b_shares = dict(zip(roster.names(), split(b, t, n), strict=True))
        sealed = {
            v: seal_shares(self.memory.c_secret, digest, own, roster.of(v), s_shares[v], b_shares[v])
            for v in roster.names()
            if v != self.name
        }
        self._remember(
            step=SHARES,
            roster=roster,
            b=b,
            own_shares={self.name: b_shares[self.name]},
            pair_shares={self.name: s_shares[self.name]},
        )
        return Parcels(roster=digest, sealed=sealed, commitment=commit_own(b, digest, self.name))

    def receive(self, delivery: Delivery) -> None:
        """Step 2, first half: the shares of U2. A share that does not open ends the exchange for this client."""
        terms, roster = self._at(SHARES), self._roster(delivery.roster)
        if not set(delivery.sealed) <= set(roster.names()) - {self.name}:
            raise StepError("Shares come from clients that are not listed.")
        if len(delivery.sealed) + 1 < terms.threshold:
            raise StepError(
                f"Only {len(delivery.sealed) + 1} clients have shared their keys, {terms.threshold} are needed."
            )
        self._check_setting(roster)  # its own may be another by now
        me = roster.of(self.name)
        opened = {
            v: open_shares(self.memory.c_secret, delivery.roster, roster.of(v), me, sealed)
            for v, sealed in delivery.sealed.items()
        }
        self._remember(
            step=RECEIVED,
            own_shares={**self.memory.own_shares, **{v: b for v, (_, b) in opened.items()}},
            pair_shares={**self.memory.pair_shares, **{v: s for v, (s, _) in opened.items()}},
        )

    def mask(self, x: RingVector) -> Masked:
        """Step 2, second half: y_u. The secrets that made the masks are forgotten.

        Args:
            x: (D,) ring elements of the agreed width; it is not changed.
        """
        terms, roster = self._at(RECEIVED), self.memory.roster
        if roster is None or width_of(x) != terms.width:
            raise EncodingError(f"The vector is over a ring of another width than {terms.width} bits.")
        digest, y = roster.digest(), x.copy()
        add_own(y, self.memory.b, digest, self.name, 1)
        for v in self.memory.own_shares:
            if v != self.name:
                s = mask_seed(self.memory.s_secret, digest, roster.of(self.name), roster.of(v))
                add_pair(y, s, digest, self.name, v, 1)
        self._remember(step=MASKED, c_secret=b"", s_secret=b"", b=b"")
        return Masked(roster=digest, y=y.tobytes())

    def agree(self, survivors: Survivors) -> Agreement:
        """Step 3, signed exchanges only: a signature over U3, the one U3 that this client will open."""
        terms = self._at(MASKED)
        if not terms.signed or self._key is None:
            raise StepError("This exchange is not signed.")
        self._check_survivors(survivors, terms)
        self._remember(step=AGREED, survivors=survivors.names)
        return Agreement(roster=survivors.roster, signature=sign(survivors, self._key))

    def unmask(self, survivors: Survivors, agreements: Agreements) -> Revealed:
        """Step 4: for each of U2 one share, of b_v or of s_v^SK. All that was remembered is forgotten."""
        terms = self._at(AGREED if self._signed() else MASKED)
        self._check_survivors(survivors, terms)
        if terms.signed:
            self._check_agreements(survivors, agreements, terms)
        summed, own, pair = set(survivors.names), self.memory.own_shares, self.memory.pair_shares
        revealed = Revealed(
            roster=survivors.roster,
            own={v: share for v, share in own.items() if v in summed},
            pair={v: share for v, share in pair.items() if v not in summed},
        )
        self.memory = Memory(exchange=self.memory.exchange)
        return revealed

    def _check_setting(self, roster: Roster) -> None:
        if any(member.keys.setting != self._setting for member in roster.members):
            raise StepError("Not all clients go by the same settings as this one.")

    def _check_survivors(self, survivors: Survivors, terms: Terms) -> None:
        self._roster(survivors.roster)
        names = survivors.names
        if names != sorted(set(names)) or not set(names) <= set(self.memory.own_shares):
            raise StepError("The clients in the sum are not listed once each, from those that shared keys.")
        if self.name not in names:
            raise StepError("This client's vector is left out of the sum, although it was sent.")
        if len(names) < terms.threshold:
            raise StepError(f"The sum is over {len(names)} clients, {terms.threshold} are needed.")

    def _check_agreements(self, survivors: Survivors, agreements: Agreements, terms: Terms) -> None:
        self._roster(agreements.roster)
        if survivors.names != self.memory.survivors:
            raise StepError("The sum is over other clients than those that this client agreed to.")
        if not set(agreements.signatures) <= set(survivors.names):
            raise StepError("Somebody has signed who is not in the sum.")
        if len(agreements.signatures) < terms.threshold:
            raise StepError(
                f"Only {len(agreements.signatures)} clients agree on the sum, {terms.threshold} are needed."
            )
        for name, signature in agreements.signatures.items():
            self.policy.check_pinned(name, survivors, signature)

    def _signed(self) -> bool:
        return self.memory.terms is not None and self.memory.terms.signed

    def _at(self, step: str) -> Terms:
        if self.memory.step != step or self.memory.terms is None:
            raise StepError("This step is not the next one: it was answered already, or comes too early.")
        return self.memory.terms

    def _roster(self, digest: bytes) -> Roster:
        if self.memory.roster is None or self.memory.roster.digest() != digest:
            raise StepError("The message belongs to another exchange.")
        return self.memory.roster

    def _remember(self, **changes: object) -> None:
        self.memory = self.memory.model_copy(update=changes)
