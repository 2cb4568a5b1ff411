"""The ClientApp's mod: the reply of a train or evaluate function leaves the client only masked.

It stands first in ``ClientApp(mods=[...])``, outside of all mods that look at the reply. It fails closed: a message
other than ``query`` and ``system`` that is not a step of the protocol is answered with an error (so are the types of
Flower's older API, of which one asks for the parameters), and what the function replies beside its arrays and metrics
is dropped.

What it remembers between two messages lies in the context's state. Flower keeps that at the client (in the
SuperNode's memory, or in a simulation's process) and does not send it to the SuperLink. It is erased with the last
step, or when the next exchange begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from protocols.errors import ProtocolError
from protocols.pairwise import (
    Agreements,
    Client,
    Delivery,
    Memory,
    Policy,
    Roster,
    StepError,
    Survivors,
    Terms,
)
from protocols.signing import SigningKey
from securefl.errors import SecureFLError
from securefl.secagg import mail
from securefl.secagg.claims import claim
from securefl.secagg.plan import EVALUATE, TRAIN, Plan, SecAggError
from securefl.secagg.vector import pack, told_here_only
from securefl.secagg.work import setting_of, work_of

STATE = "securefl.secagg"
PASSED = ("query", "system")
"""Types of Flower's messages whose replies are not the model's and pass as they are."""
NAME, KEY_FILE = "secagg-name", "secagg-key"
"""Of the node's configuration, for pinned keys: ``flower-supernode --node-config 'secagg-name="oslo" ...'``."""


class SecureMod:
    """The mod, with a client's own conditions.

    Args:
        minimum: the fewest clients whose sum this client helps to open, at least 3.
        corrupted: how many clients may work with the server; a sum is over two more at least. See
            ``protocols.pairwise.Policy``.
        pinned: Ed25519 public keys (32 bytes) by client's name, this one's included. Then the server is believed
            about neither keys, sums, weights nor bounds; it still says who takes part, and what all train on. The
            node's configuration names this client (``secagg-name``) and the file of its private key (``secagg-key``:
            32 bytes, mode 0600), beside which it notes what it has answered. Without pinned keys the server is
            believed about the keys.
        weight, bound, max_weight, width: as in the server's ``SecureAggregation`` (the first is its strategy's
            ``weighted_by_key``); what is given here is the only value that this client accepts. With pinned keys all
            four must be: a server that chose them could learn a client's own numbers from what it refuses, or from
            how its numbers are rounded.

    Raises:
        SecAggError: keys are pinned, and one of the four is missing.
    """

    def __init__(
        self,
        *,
        minimum: int = 3,
        corrupted: int = 0,
        pinned: Mapping[str, bytes] | None = None,
        weight: str | None = None,
        bound: float | None = None,
        max_weight: float | None = None,
        width: int | None = None,
    ) -> None:
        self._policy = Policy(
            minimum=minimum, corrupted=corrupted, pinned=dict(pinned) if pinned is not None else None
        )
        self._own = {"weight": weight, "bound": bound, "max_weight": max_weight, "width": width}
        missing = [name for name, value in self._own.items() if value is None]
        if pinned is not None and missing:
            raise SecAggError(
                f"With pinned keys a client sets its own {', '.join(missing)}: give SecureMod what the server's "
                "SecureAggregation has."
            )

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Answer a message of Flower's; see ``flwr.clientapp.typing.Mod``."""
        purpose = message.metadata.message_type
        if purpose_of(purpose) in PASSED:
            return call_next(message, context)
        try:
            return Message(self._answer(message, context, call_next), reply_to=message)
        except (ProtocolError, SecureFLError) as error:
            return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, str(error)), reply_to=message)

    def _answer(self, message: Message, context: Context, call_next: ClientAppCallable) -> RecordDict:
        purpose = message.metadata.message_type
        if purpose_of(purpose) not in (TRAIN, EVALUATE) or not purpose.replace(".", "_").isidentifier():
            raise StepError("This client answers train, evaluate and query messages only.")
        if mail.RECORD not in message.content:
            raise StepError(
                f"This client answers {purpose} under secure aggregation only: wrap the strategy in SecureAggregation."
            )
        step, parts = mail.unpacked(message.content)
        client = self._client(context, purpose)
        match step, parts:
            case mail.ADVERTISE, [terms]:
                answer = [
                    client.advertise(self._checked(Terms.from_bytes(terms), context, purpose)).to_bytes()
                ]
            case mail.SHARE, [roster]:
                answer = [client.share(Roster.from_bytes(roster)).to_bytes()]
            case mail.MASK, [delivery]:
                client.receive(Delivery.from_bytes(delivery))
                answer = self._masked(client, message, context, call_next)
            case mail.AGREE, [survivors]:
                answer = [client.agree(Survivors.from_bytes(survivors)).to_bytes()]
            case mail.UNMASK, [survivors, agreements]:
                revealed = client.unmask(Survivors.from_bytes(survivors), Agreements.from_bytes(agreements))
                answer = [revealed.to_bytes()]
            case _:
                raise StepError(
                    "This step of the secure aggregation comes with the wrong number of messages."
                )
        if self._policy.pinned is not None:
            # The context alone would not do: two messages that a hostile server sends at once find the same one.
            # Clients whose keys lie in one folder have a note each.
            note = f".secagg-{context.run_id}-{purpose}-{quote(client.name, safe='')}"
            claim(_key_file(context).parent / note, client.memory.exchange, mail.STEPS.index(step))
        context.state[_state(purpose)] = ConfigRecord({"memory": client.memory.to_bytes()})
        return RecordDict({mail.RECORD: mail.packed(step, *answer)})

    def _checked(self, terms: Terms, context: Context, purpose: str) -> Terms:
        if terms.run != str(context.run_id) or terms.purpose != purpose:
            raise StepError("The terms belong to another run, or to another kind of message.")
        plan, pinned = Plan.from_bytes(terms.details), self._policy.pinned
        asked = {**plan.body(), "width": terms.width}
        if any(own not in (None, asked[name]) for name, own in self._own.items()):
            raise StepError("The terms have another weight, bound or width than this client's.")
        if pinned is not None and plan.cohort > len(pinned):
            # The more summands the ring must hold, the coarser it is: what is rounded off tells of single numbers.
            raise StepError(
                f"The terms count {plan.cohort} clients, and only {len(pinned)} have a key that is pinned."
            )
        plan.encoding(terms.width)
        return terms

    def _check_work(self, message: Message, plan: Plan) -> None:
        """Of one sum all clients have worked on the same: else the sum may be of one client's update alone."""
        if work_of(message) != plan.work:
            raise StepError("The server sent other data to train on than was agreed on.")

    def _masked(
        self, client: Client, message: Message, context: Context, call_next: ClientAppCallable
    ) -> list[bytes]:
        terms, roster = client.memory.terms, client.memory.roster
        if terms is None or roster is None:
            raise StepError("There is no exchange under way.")
        plan = Plan.from_bytes(terms.details)
        if len(roster.members) > plan.cohort:
            raise StepError(
                f"There are {len(roster.members)} clients, more than the {plan.cohort} agreed on."
            )
        self._check_work(message, plan)
        del message.content[mail.RECORD]
        with told_here_only():
            reply = call_next(message, context)
            if reply.has_error():
                raise SecAggError(f"The ClientApp answered with an error: {reply.error.reason}")
            encoding = plan.encoding(terms.width)
            layout, vector = pack(reply.content, plan, purpose_of(terms.purpose), encoding.resolution)
            x = encoding.encode(vector)
        masked = client.mask(x)
        return [masked.to_bytes(), layout.to_bytes()]

    def _client(self, context: Context, purpose: str) -> Client:
        record = context.state.config_records.get(_state(purpose), ConfigRecord())
        data = record.get("memory")
        memory = Memory.from_bytes(data) if isinstance(data, bytes) else Memory()
        if self._policy.pinned is None:
            return Client(str(context.node_id), self._policy, memory, setting=setting_of(context))
        name = context.node_config.get(NAME)
        if not isinstance(name, str):
            raise SecAggError(f"With pinned keys the node's configuration must give {NAME}.")
        return Client(name, self._policy, memory, _read_key(_key_file(context)), setting_of(context))


def purpose_of(message_type: str) -> str:
    """``train`` or ``evaluate``, of a type such as ``train.first``."""
    return message_type.partition(".")[0]


def _state(purpose: str) -> str:
    return f"{STATE}.{purpose}"


def _key_file(context: Context) -> Path:
    path = context.node_config.get(KEY_FILE)
    if not isinstance(path, str):
        raise SecAggError(f"With pinned keys the node's configuration must give {KEY_FILE}.")
    return Path(path)


def _read_key(path: Path) -> SigningKey:
    try:
        if path.stat().st_mode & 0o077:
            raise SecAggError("The file of the signing key is open to others: chmod 600.")
        return SigningKey(path.read_bytes())
    except OSError as error:
        raise SecAggError("The file of the signing key cannot be read.") from error


mod = SecureMod()
"""With the default conditions: sums of at least 3, and a server that is believed about the keys."""
