"""What a message gives clients to work on, as one digest that all of an exchange go by.

A sum hides a client among the others only if they worked on the same: a server that sends all but one a model of zeros
and a learning rate of zero gets zeros from them, and that one's update alone from the sum. So the digest stands in the
terms, to which every key of the exchange is bound. The run's configuration says as much of what an app does (zero
epochs, say), and the strategy's wrapper does not know it: its digest stands with each client's own keys.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flwr.app import Array, Context, Message

from protocols.canonical import digest
from securefl.secagg import mail

KIND, SETTING = "secagg-work", "secagg-setting"


def work_of(message: Message) -> bytes:
    """SHA-256 of a message's records, in order, without that of the protocol; and of its group, often the round.

    Raises:
        EncodingError: the records have more entries than are read again.
    """
    records = [
        [name, type(record).__name__, [[key, _plain(value)] for key, value in record.items()]]
        for name, record in message.content.items()
        if name != mail.RECORD
    ]
    return digest(KIND, [message.metadata.group_id, records])


def setting_of(context: Context) -> bytes:
    """SHA-256 of the run's configuration, which comes to each client from the SuperLink and not in a message."""
    return digest(SETTING, dict(context.run_config))


def _plain(value: Any) -> Any:
    """An array's data are hashed where they lie: a model is not held twice. All else is plain already."""
    if isinstance(value, Array):
        return [value.dtype, list(value.shape), value.stype, hashlib.sha256(value.data).digest()]
    return value
