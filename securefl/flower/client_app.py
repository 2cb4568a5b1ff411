"""A member's ClientApp: one delivery of mail, one step, and the process ends.

A hospital's loads its state, takes a step for each message, persists and exits. A party is a process that stays; its
ClientApp only carries bytes to its socket. Which member, and which study, stands in the member's own ``member.toml``,
whose path the SuperNode's operator gave; nothing in a message can change it. What is wrong here is said in full in the
SuperNode's log, and over the network in one general sentence.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from protocols.errors import ProtocolError
from securefl.engines.flower import mail
from securefl.engines.link import Link, LinkFaultError, LinkLostError, Reply
from securefl.errors import ConsortiumError, SecureFLError
from securefl.member import Places

NODE_CONFIG = "securefl-member"
"""Key of the SuperNode's node configuration: the path of ``member.toml``."""

SOCKET_SECONDS = 60.0
"""A party's process may be starting."""

log = logging.getLogger(__name__)
app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say whose SuperNode this is."""
    return Message(mail.greeting(_places(context).name), reply_to=message)


@app.query("mail")
def deliver(message: Message, context: Context) -> Message:
    """Take mail, and answer it."""
    try:
        places = _places(context)
        if mail.addressee(message.content) != places.name:
            raise ConsortiumError(f"{places.name} was given another member's mail.")
        letters = mail.unpacked(message.content)
        reply = handled(places, letters, message.metadata.ttl)
    except (SecureFLError, ProtocolError, LinkFaultError, OSError) as error:
        log.error("Refused: %s", error)
        return Message(mail.refused("see the log of its SuperNode."), reply_to=message)
    return Message(mail.packed_reply(reply), reply_to=message)


def handled(places: Places, letters: list[bytes], seconds: float) -> Reply:
    """A member's answers to its letters, in order.

    Raises:
        SecureFLError: the member cannot take part.
        LinkFaultError, LinkLostError: a party's process reports a fault, or is gone.
    """
    if places.role == "party":
        return joined([_forwarded(places, letter, seconds) for letter in letters])
    node = _hospital(places)
    return joined([node.handle(places.name, letter) for letter in letters])  # type: ignore[attr-defined]


def _places(context: Context) -> Places:
    path = context.node_config.get(NODE_CONFIG)
    if not isinstance(path, str):
        raise ConsortiumError(
            "This SuperNode has no member.toml: start it with `securefl supernode MEMBER.TOML`."
        )
    return Places.load(Path(path))


def _forwarded(places: Places, letter: bytes, seconds: float) -> Reply:
    end = time.monotonic() + min(seconds, SOCKET_SECONDS)
    while not places.socket.exists():
        if time.monotonic() > end:
            raise LinkLostError(f"Nobody serves {places.socket}: start `securefl party serve`.")
        time.sleep(0.1)
    link = Link(places.socket)
    try:
        return link.exchange(letter, seconds, places.name)
    finally:
        link.close()


@cache
def _hospital(places: Places) -> object:
    """Kept for a process that serves several deliveries, as those of a simulation do."""
    # Late: a party's ClientApp carries bytes and needs none of it.
    from securefl.engines.hospital_node import HospitalNode, HospitalPlaces

    return HospitalNode(
        HospitalPlaces(
            study=places.study,
            consortium=places.consortium,
            keys=places.keys,
            home=places.home,
            socket=places.socket,
            unchecked=places.insecure_unchecked,
            privacy=places.privacy,
            permit=places.permit,
            steward=bytes.fromhex(places.steward),
        )
    )


def joined(replies: list[Reply]) -> Reply:
    """Answers in order; times added up."""
    answers = [answer for reply in replies for answer in reply.messages]
    return Reply(answers, sum((reply.training_seconds for reply in replies), 0.0))
