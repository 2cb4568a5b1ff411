"""Protocol messages in Flower's records: one array of bytes a message, under a name of ours.

Flower carries arrays in pieces, so a masked vector is not held in an encoding beside itself.
"""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, RecordDict

from protocols.errors import EncodingError

RECORD = "securefl.secagg"
_RAW = "securefl.bytes"

ADVERTISE, SHARE, MASK, AGREE, UNMASK = "advertise", "share", "mask", "agree", "unmask"
STEPS = (ADVERTISE, SHARE, MASK, AGREE, UNMASK)


def packed(step: str, *messages: bytes) -> ArrayRecord:
    """A step's messages, for ``RecordDict({RECORD: ...})``."""
    arrays = {
        f"{step}.{i}": Array(dtype="uint8", shape=(len(m),), stype=_RAW, data=m)
        for i, m in enumerate(messages)
    }
    return ArrayRecord(arrays)


def unpacked(content: RecordDict) -> tuple[str, list[bytes]]:
    """The step, and its messages in order.

    Raises:
        EncodingError: the records are not what ``packed`` makes.
    """
    record = content.array_records.get(RECORD)
    step = next(iter(record), "").partition(".")[0] if record is not None else ""
    if record is None or step not in STEPS or set(record) != {f"{step}.{i}" for i in range(len(record))}:
        raise EncodingError("This message carries no step of the secure aggregation.")
    arrays = [record[f"{step}.{i}"] for i in range(len(record))]
    if any(a.stype != _RAW or a.dtype != "uint8" or list(a.shape) != [len(a.data)] for a in arrays):
        raise EncodingError("This message carries an array that is not a message of the secure aggregation.")
    return step, [array.data for array in arrays]


def expect(step: str, content: RecordDict, count: int) -> list[bytes]:
    """The ``count`` messages of a step.

    Raises:
        EncodingError: another step, or another number of messages.
    """
    found, messages = unpacked(content)
    if found != step or len(messages) != count:
        raise EncodingError("This is the answer to another step of the secure aggregation.")
    return messages
