"""Mutants of the drop-in secure aggregation that believe the server: about everybody's keys, or that it asks at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from protocols.errors import ProtocolError
from protocols.pairwise import Client, Delivery, Memory, Parcels, Policy, Roster, Terms
from protocols.pairwise.keys import mask_seed, open_shares
from protocols.pairwise.masking import add_own, add_pair
from protocols.pairwise.messages import SignedKeys
from protocols.pairwise.shamir import combine
from protocols.prg import RingVector, ring_dtype
from protocols.signing import SigningKey
from securefl.audit.hostile import same
from securefl.audit.mutants.pairwise_view import NAMES, SIZE, THRESHOLD, VICTIM, WIDTH, vectors
from securefl.audit.registry import Finding, Mutant

# -- keys from the server --------------------------------------------------------------------------------------------


def _exchange(signed: bool) -> Terms:
    return Terms(
        run="run", exchange=1, purpose="train", threshold=THRESHOLD, width=WIDTH, signed=signed, details=b""
    )


def _alone_with(victim: Client, terms: Terms) -> RingVector:
    """The server plays all clients but one, with keys of its own, and takes every mask off that one's vector."""
    unsigned = terms.model_copy(update={"signed": False})
    played = {name: Client(name, Policy(), Memory()) for name in NAMES if name != VICTIM}
    keys = [victim.advertise(terms)]
    for one in played.values():
        made = one.advertise(unsigned).keys.model_copy(update={"terms": terms.digest()})
        keys.append(SignedKeys(keys=made, signature=SigningKey.generate().sign("x", bytes(32))))
        one.memory = one.memory.model_copy(update={"terms": terms})
    roster = Roster(terms=terms.digest(), members=sorted(keys, key=lambda signed: signed.keys.name))
    parcels = victim.share(roster)
    digest = roster.digest()
    sealed = {name: one.share(roster).sealed[VICTIM] for name, one in played.items()}
    victim.receive(Delivery(roster=digest, sealed=sealed))
    rest = np.frombuffer(victim.mask(vectors()[VICTIM]).y, dtype=ring_dtype(WIDTH)).copy()
    for name, one in played.items():
        s = mask_seed(one.memory.s_secret, digest, roster.of(name), roster.of(VICTIM))
        add_pair(rest, s, digest, VICTIM, name, -1)
    return _without_own(rest, played, parcels, roster)


def _without_own(rest: RingVector, played: dict[str, Client], parcels: Parcels, roster: Roster) -> RingVector:
    digest, victim = roster.digest(), roster.of(VICTIM)
    shares = {}
    for name, one in played.items():
        _, b = open_shares(one.memory.c_secret, digest, victim, roster.of(name), parcels.sealed[name])
        shares[roster.names().index(name) + 1] = b
    add_own(rest, combine(shares, THRESHOLD), digest, VICTIM, -1)
    return rest


def _keys_breaks() -> Finding:
    found = same(_alone_with(Client(VICTIM, Policy(), Memory()), _exchange(False)), vectors()[VICTIM])
    said = f"A server that played all other clients read {found} of {SIZE} coordinates of {VICTIM}'s vector."
    return Finding(found == SIZE, said, {"recovered": found, "coordinates": SIZE})


def _keys_caught() -> Finding:
    signing = {name: SigningKey.generate() for name in NAMES}
    policy = Policy(pinned={name: key.public for name, key in signing.items()})
    found, refused = 0, []
    for signed in (True, False):
        try:
            victim = Client(VICTIM, policy, Memory(), signing[VICTIM])
            found = max(found, same(_alone_with(victim, _exchange(signed)), vectors()[VICTIM]))
        except ProtocolError as error:
            refused.append(str(error))
    honest = _shares(policy, signing)
    said = (
        f"With pinned keys it read {found} of {SIZE} coordinates: {len(refused)} of 2 such exchanges were refused, and "
        f"one with everybody's own keys was {'not' if honest else 'too'}."
    )
    return Finding(
        len(refused) == 2 and not found and honest, said, {"recovered": found, "refused": len(refused)}
    )


def _shares(policy: Policy, signing: dict[str, SigningKey]) -> bool:
    """Whether the victim shares its secrets in an exchange with everybody's own keys."""
    terms = _exchange(True)
    clients = {name: Client(name, policy, Memory(), key) for name, key in signing.items()}
    members = [clients[name].advertise(terms) for name in NAMES]
    try:
        return (
            len(clients[VICTIM].share(Roster(terms=terms.digest(), members=members)).sealed) == len(NAMES) - 1
        )
    except ProtocolError:
        return False


# -- an answer in the open -------------------------------------------------------------------------------------------

UPDATE = np.arange(1.0, 33.0)


def only_if_asked(message: Any, context: Any, call_next: Callable[..., Any]) -> Any:
    """The naive mod: it masks when the server's message is a step of the protocol, and else lets it through."""
    from securefl.secagg import mail, mod

    return mod(message, context, call_next) if mail.RECORD in message.content else call_next(message, context)


@contextmanager
def a_place_in_flower() -> Iterator[None]:
    """Flower's messages ask the process for its place in a run."""
    from flwr.supercore.task_identity import TaskIdentity

    names = ("_run_id", "_node_id", "_task_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    try:
        for name in names:
            setattr(TaskIdentity, name, 1)
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


def _asked(mod: Any) -> tuple[int, int, bool]:
    """A server without its half asks a ClientApp in several ways.

    Returns how many replies have the update in the open, of how many; and whether the app takes a step's first message.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    from securefl.secagg import mail
    from securefl.secagg.plan import Plan

    app = ClientApp(mods=[mod])

    def update(message: Message, context: Context) -> Message:
        content = {"arrays": ArrayRecord({"w": Array(UPDATE)}), "metrics": MetricRecord({"num-examples": 10})}
        return Message(RecordDict(content), reply_to=message)  # type: ignore[arg-type]

    app.train()(update)
    app.evaluate()(update)
    app.train("again")(update)
    asked = [
        ("train", {}),
        ("evaluate", {}),
        ("train.again", {}),
        ("train", {"config": ConfigRecord({"server-round": 1})}),
    ]
    opened = 0
    with a_place_in_flower():
        for kind, records in asked:
            reply = app(Message(RecordDict(dict(records)), 100, kind), Context(1, 100, {}, RecordDict(), {}))
            opened += not reply.has_error() and _holds_update(reply.content)
        plan = Plan(weight="num-examples", bound=65536.0, max_weight=2.0**20, cohort=4, work=bytes(32))
        terms = _exchange(False).model_copy(
            update={"run": "1", "threshold": 3, "width": 64, "details": plan.to_bytes()}
        )
        first = RecordDict({mail.RECORD: mail.packed(mail.ADVERTISE, terms.to_bytes())})
        honest = app(Message(first, 100, "train"), Context(1, 100, {}, RecordDict(), {}))
    return opened, len(asked), not honest.has_error()


def _holds_update(content: Any) -> bool:
    return any(
        np.array_equal(array.numpy(), UPDATE)
        for record in content.array_records.values()
        for array in record.values()
        if array.stype == "numpy.ndarray"
    )


def _mod_breaks() -> Finding:
    opened, asked, honest = _asked(only_if_asked)
    said = f"Asked without a word of the protocol, the app sent its update in the open {opened} of {asked} times."
    return Finding(opened == asked and honest, said, {"in_the_open": opened, "asked": asked})


def _mod_caught() -> Finding:
    from securefl.secagg import mod

    opened, asked, honest = _asked(mod)
    said = (
        f"It sent its update in the open {opened} of {asked} times, and {'answers' if honest else 'does not answer'} "
        "the protocol's first step."
    )
    return Finding(not opened and honest, said, {"in_the_open": opened, "asked": asked})


MUTANTS = (
    Mutant(
        "pairwise-keys-from-the-server",
        "pairwise-pinned",
        "A client believes the public keys that the server hands out for the others.",
        _keys_breaks,
        _keys_caught,
    ),
    Mutant(
        "secagg-without-mod",
        "secagg-fails-closed",
        "A ClientApp masks its reply when it is asked to, and else replies as before.",
        _mod_breaks,
        _mod_caught,
    ),
)
