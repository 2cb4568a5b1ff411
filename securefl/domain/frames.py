"""A frame: one letter, signed by its sender's pinned key and sealed to its recipient.

Adversary: whoever writes the share, with all that was ever on it: changes, renames, repeats, withholds, forges.
Promise: what opens was written by the sender's key to the recipient's, with this number, topic, time and body. The
    topic, the time and the body are inside the seal; the share sees who writes to whom, how often and how much.
Source: HPKE (RFC 9180) as in ``protocols.envelope``, both cards and the number in its ``info``; then Ed25519 over the
    digest of the sealed bytes and the same. Nobody else can sign the sealed bytes as theirs: they would not open.

A frame begins with eight fixed bytes and its length, so that a half-written file is told from a bad one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from protocols.canonical import Record, digest
from protocols.envelope import seal
from protocols.errors import EncodingError, SealError, SignatureError
from protocols.signing import verify
from securefl.domain.cards import Card
from securefl.domain.errors import (
    FrameRecipientError,
    FrameSignatureError,
    FrameTooLargeError,
    IncompleteFrameError,
    MalformedFrameError,
)
from securefl.domain.identity import Identity

MAGIC = b"sflmail1"
HEAD_BYTES = len(MAGIC) + 8
LARGEST_BODY = 64 * 2**20
LARGEST_FRAME = LARGEST_BODY + 16384
_TOPIC = re.compile(r"[a-z0-9](?:[a-z0-9/-]|\.(?!\.)){0,62}")


class FrameBinding(Record):
    """What a letter's envelope is bound to; the keys are digests of the two cards."""

    kind = "letter-envelope"
    sender: str
    sender_keys: bytes
    recipient: str
    recipient_keys: bytes
    number: int


class Inside(Record):
    """What is sealed. ``head`` is the sender's signed word on its audit log, or empty."""

    kind = "letter-inside"
    topic: str
    time: int
    head: bytes
    content: bytes


class Frame(Record):
    """What lies on the share, after the length."""

    kind = "letter-frame"
    sender: str
    recipient: str
    number: int
    sealed: bytes
    signature: bytes


class StoredLetter(Record):
    """A letter on its recipient's own disk."""

    kind = "letter"
    sender: str
    keys: bytes
    number: int
    topic: str
    sent: int
    head: bytes
    content: bytes


@dataclass(frozen=True)
class Letter:
    """An opened frame: who wrote it (``sender``, with the card whose digest is ``keys``), and what."""

    sender: str
    keys: bytes
    number: int
    topic: str
    sent: int
    head: bytes
    body: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """As it is kept on the recipient's own disk."""
        fields = {name: value for name, value in vars(self).items() if name != "body"}
        return StoredLetter(content=self.body, **fields).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Letter:
        """What ``to_bytes`` wrote; EncodingError if it is not."""
        fields = StoredLetter.from_bytes(data).model_dump()
        return cls(body=fields.pop("content"), **fields)


def is_topic(topic: str) -> bool:
    """Whether ``topic`` can be one: lower case letters, digits, dots, hyphens and slashes, at most 63."""
    return _TOPIC.fullmatch(topic) is not None


def _signed(binding: FrameBinding, sealed: bytes) -> bytes:
    return digest("letter-frame", [binding.body(), hashlib.sha256(sealed).digest()])


def seal_frame(
    identity: Identity, recipient: Card, topic: str, number: int, time: int, body: bytes, head: bytes = b""
) -> bytes:
    """The bytes of a letter for the share.

    Raises:
        FrameTooLargeError: the body is longer than 64 MiB.
        MalformedFrameError: the topic or the number cannot be one.
    """
    if not is_topic(topic) or number < 1:
        raise MalformedFrameError(
            f"A letter needs a topic of lower case letters and a number, not {topic!r:.80}."
        )
    if len(body) > LARGEST_BODY:
        raise FrameTooLargeError(
            f"A letter of {len(body):,} bytes is too long: {LARGEST_BODY:,} is the most, send it in parts."
        )
    binding = FrameBinding(
        sender=identity.email,
        sender_keys=identity.card.digest(),
        recipient=recipient.email,
        recipient_keys=recipient.digest(),
        number=number,
    )
    inside = Inside(topic=topic, time=time, head=head, content=bytes(body)).to_bytes()
    sealed = seal(recipient.sealing, inside, binding)
    signature = identity.signing.sign("letter-frame", _signed(binding, sealed))
    frame = Frame(
        sender=identity.email, recipient=recipient.email, number=number, sealed=sealed, signature=signature
    ).to_bytes()
    return MAGIC + (HEAD_BYTES + len(frame)).to_bytes(8, "big") + frame


def check_length(head: bytes, size: int) -> None:
    """From its first bytes and its size: raise unless this can be a whole frame.

    Raises:
        IncompleteFrameError: there must be more to come.
        FrameTooLargeError, MalformedFrameError: it is none, whatever comes.
    """
    if size > LARGEST_FRAME:
        raise FrameTooLargeError(f"A frame of {size:,} bytes is too long: {LARGEST_FRAME:,} is the most.")
    if not MAGIC.startswith(head[: len(MAGIC)]):
        raise MalformedFrameError("These bytes are not a frame.")
    length = int.from_bytes(head[len(MAGIC) : HEAD_BYTES], "big")
    if size >= HEAD_BYTES and length > LARGEST_FRAME:
        raise FrameTooLargeError(f"A frame of {length:,} bytes is too long: {LARGEST_FRAME:,} is the most.")
    if size < HEAD_BYTES or size < length:
        raise IncompleteFrameError("This frame is not all there yet: look again later.")
    if size > length:
        raise MalformedFrameError("A frame is followed by further bytes.")


def open_frame(identity: Identity, sender: Card, data: bytes) -> Letter:
    """The letter in these bytes, if ``sender`` wrote it to ``identity``.

    Raises:
        FrameError: one of its kinds: incomplete, malformed, too large, not signed by the sender, for somebody else.
    """
    check_length(data[:HEAD_BYTES], len(data))
    try:
        frame = Frame.from_bytes(data[HEAD_BYTES:])
        binding = FrameBinding(
            sender=sender.email,
            sender_keys=sender.digest(),
            recipient=frame.recipient,
            recipient_keys=identity.card.digest(),
            number=frame.number,
        )
        if frame.sender != sender.email:
            raise FrameSignatureError(
                f"A frame that lies with {sender.email} says that it is somebody else's."
            )
        if frame.recipient != identity.email:
            raise FrameRecipientError(f"A frame from {sender.email} is for somebody else.")
        verify(sender.signing, "letter-frame", _signed(binding, frame.sealed), frame.signature)
        inside = Inside.from_bytes(identity.sealing.open(frame.sealed, binding))
    except SignatureError as error:
        raise FrameSignatureError(
            f"The frame is not signed by the pinned key of {sender.email} for the keys that {identity.email} has."
        ) from error
    except (EncodingError, SealError) as error:
        raise MalformedFrameError(f"A frame from {sender.email} does not open.") from error
    if not is_topic(inside.topic) or frame.number < 1 or len(inside.content) > LARGEST_BODY:
        raise MalformedFrameError(f"A frame from {sender.email} has no proper topic or number.")
    return Letter(
        sender=sender.email,
        keys=binding.sender_keys,
        number=frame.number,
        topic=inside.topic,
        sent=inside.time,
        head=inside.head,
        body=inside.content,
    )
