"""Messages of the round as Flower's records, and back.

Flower carries a record's arrays in pieces of its own, so that each message is one array of bytes: a large one is never
held in an encoding beside itself. What is in a message is signed or sealed by its sender; nothing here is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from protocols.errors import EncodingError
from securefl.engines.link import Reply, checked_seconds

HELLO, MAIL = "query.hello", "query.mail"
"""Types of Flower messages: who are you; and mail for a member."""

_MESSAGES, _NOTES, _ABOUT = "messages", "notes", "about"
_SECONDS = "training-seconds"
_RAW = "securefl.bytes"
MAX_MESSAGES = 64


def packed(messages: Sequence[bytes], member: str) -> RecordDict:
    """Mail for a member, in order."""
    return RecordDict({_MESSAGES: _arrays(messages), _ABOUT: ConfigRecord({"member": member})})


def packed_reply(reply: Reply) -> RecordDict:
    """A member's answers, and how long it trained for them."""
    notes = ConfigRecord({_SECONDS: reply.training_seconds})
    return RecordDict({_MESSAGES: _arrays(reply.messages), _NOTES: notes})


def refused(sentence: str) -> RecordDict:
    """A member's refusal: one sentence in place of answers."""
    return RecordDict({_ABOUT: ConfigRecord({"refused": sentence})})


def refusal(content: RecordDict) -> str | None:
    """The sentence of a refusal; None if it is none."""
    return _text(content, _ABOUT, "refused")


def addressee(content: RecordDict) -> str | None:
    """For whom mail is, or who says hello."""
    return _text(content, _ABOUT, "member")


def unpacked(content: RecordDict) -> list[bytes]:
    """The messages, in order.

    Raises:
        EncodingError: the records are not what ``packed`` makes.
    """
    record = content.array_records.get(_MESSAGES)
    if record is None or len(record) > MAX_MESSAGES or set(record) != set(map(str, range(len(record)))):
        raise EncodingError("Flower carried something that is not mail.")
    messages = [record[str(i)] for i in range(len(record))]
    if any(a.stype != _RAW or a.dtype != "uint8" or list(a.shape) != [len(a.data)] for a in messages):
        raise EncodingError("Flower carried an array that is not a message.")
    return [array.data for array in messages]


def unpacked_reply(content: RecordDict) -> Reply:
    """A member's answers, and how long it trained for them.

    Raises:
        EncodingError: the records are not what ``packed_reply`` makes.
    """
    notes = content.config_records.get(_NOTES)
    seconds = checked_seconds(notes.get(_SECONDS) if notes is not None else None)
    return Reply(unpacked(content), seconds)


def greeting(member: str) -> RecordDict:
    """What a node answers to ``HELLO``: the member that it says it is. Only what it signs is believed."""
    return RecordDict({_ABOUT: ConfigRecord({"member": member})})


def _arrays(messages: Sequence[bytes]) -> ArrayRecord:
    if len(messages) > MAX_MESSAGES:
        raise EncodingError(f"There are more than {MAX_MESSAGES} messages in one mail.")
    arrays = {
        str(i): Array(dtype="uint8", shape=(len(m),), stype=_RAW, data=m) for i, m in enumerate(messages)
    }
    return ArrayRecord(arrays)


def _text(content: RecordDict, record: str, key: str) -> str | None:
    values = content.config_records.get(record)
    value = values.get(key) if values is not None else None
    return value if isinstance(value, str) else None
