"""An exchange of pairwise masks, and what a server that follows the protocol sees of it with t - 1 clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from protocols.pairwise import (
    Client,
    Masked,
    Memory,
    Policy,
    Roster,
    Server,
    Terms,
    default_threshold,
)
from protocols.pairwise import keys as shipped_keys
from protocols.pairwise import masking as shipped_masking
from protocols.pairwise.shamir import combine
from protocols.prg import RingVector, ring_dtype
from protocols.ring import from_signed

SIZE, WIDTH, N = 500, 32, 5
THRESHOLD = default_threshold(N)
NAMES = [f"client-{k}" for k in range(N)]
CORRUPT, HONEST = NAMES[: THRESHOLD - 1], NAMES[THRESHOLD - 1 :]
"""Who works with the server; one fewer than what opens a secret."""


@dataclass(frozen=True)
class Masks:
    """How masks are made: what ships, or with one thing left out.

    Attributes:
        own, pair: add a mask to a vector in place, see ``protocols.pairwise.masking``.
        seed: the key that a pair agrees on, see ``protocols.pairwise.keys.mask_seed``.
    """

    own: Callable[..., None] = field(default_factory=lambda: shipped_masking.add_own)
    pair: Callable[..., None] = field(default_factory=lambda: shipped_masking.add_pair)
    seed: Callable[..., bytes] = field(default_factory=lambda: shipped_keys.mask_seed)


class Naive(Client):
    """The shipped client with other masks."""

    masks: Masks

    def mask(self, x: RingVector) -> Masked:
        """The masked vector, as in the shipped ``Client.mask`` but for how masks are made."""
        roster, y = self.memory.roster, x.copy()
        if roster is None:
            raise ValueError("The shares come first.")
        digest = roster.digest()
        self.masks.own(y, self.memory.b, digest, self.name, 1)
        for v in self.memory.own_shares:
            if v != self.name:
                s = self.masks.seed(self.memory.s_secret, digest, roster.of(self.name), roster.of(v))
                self.masks.pair(y, s, digest, self.name, v, 1)
        super().mask(x)
        return Masked(roster=digest, y=y.tobytes())


class View:
    """One exchange, and all that the server and the corrupt clients hold of it.

    Args:
        x: everybody's vector, (D,) ring elements.
        client: makes a client of a name.
        masks: how its masks are made, as the coalition takes them off.
        late: a client whose vector comes when the server has gone on, as any network can do it.
        exchange: its number.
    """

    def __init__(
        self, x: Mapping[str, RingVector], client: Callable[[str], Client], masks: Masks, late: Sequence[str] = (),
        exchange: int = 1,
    ) -> None:  # fmt: skip
        terms = Terms(
            run="run",
            exchange=exchange,
            purpose="train",
            threshold=THRESHOLD,
            width=WIDTH,
            signed=False,
            details=b"",
        )
        self._masks, clients, server = masks, {name: client(name) for name in NAMES}, Server(terms)
        for one in clients.values():
            server.advertised(one.advertise(terms))
        self.roster: Roster = server.roster()
        for name, one in clients.items():
            server.shared(name, one.share(self.roster))
        deliveries = server.deliveries()
        for name, one in clients.items():
            one.receive(deliveries[name])
        memory = {name: clients[name].memory for name in CORRUPT}
        self._secrets = {name: held.s_secret for name, held in memory.items()}
        self._own = {name: dict(held.own_shares) for name, held in memory.items()}
        self._pair = {name: dict(held.pair_shares) for name, held in memory.items()}
        masked = {name: one.mask(x[name]) for name, one in clients.items()}
        for name in NAMES:
            if name not in late:
                server.masked(name, masked[name])
        self._y = {name: message.y for name, message in masked.items()}
        survivors, agreements = server.survivors(), server.agreements()
        for name in survivors.names:
            revealed = clients[name].unmask(survivors, agreements)
            self._own[name] = {**self._own.get(name, {}), **revealed.own}
            self._pair[name] = {**self._pair.get(name, {}), **revealed.pair}

    def _secret(self, shares: Mapping[str, Mapping[str, bytes]], of: str) -> bytes | None:
        held = {NAMES.index(name) + 1: kept[of] for name, kept in shares.items() if of in kept}
        return combine(held, THRESHOLD) if len(held) >= THRESHOLD else None

    def residual(self, u: str) -> RingVector:
        """The vector that an honest client sent, without every mask that the coalition can compute."""
        digest = self.roster.digest()
        rest = np.frombuffer(self._y[u], dtype=ring_dtype(WIDTH)).copy()
        b, ours = self._secret(self._own, u), self._secret(self._pair, u)
        if b is not None:
            self._masks.own(rest, b, digest, u, -1)
        for v in NAMES:
            known = self._secrets.get(v) or self._secret(self._pair, v) or ours
            if v != u and known:
                s = self._masks.seed(known, digest, self.roster.of(u), self.roster.of(v))
                self._masks.pair(rest, s, digest, u, v, -1)
        return rest


def view(masks: Masks | None = None, x: Mapping[str, RingVector] | None = None, **options: object) -> View:
    """An exchange of clients with these masks, or of the shipped ones; ``vectors()`` by default."""
    x = x or vectors()
    if masks is None:
        return View(x, lambda name: Client(name, Policy(), Memory()), Masks(), **options)  # type: ignore[arg-type]

    def naive(name: str) -> Client:
        client = Naive(name, Policy(), Memory())
        client.masks = masks
        return client

    return View(x, naive, masks, **options)  # type: ignore[arg-type]


def vectors() -> dict[str, RingVector]:
    """Everybody's, (D,): small numbers."""
    draw = np.random.default_rng(1)
    return {name: from_signed(draw.integers(-500, 500, SIZE), WIDTH) for name in NAMES}


VICTIM = HONEST[0]
