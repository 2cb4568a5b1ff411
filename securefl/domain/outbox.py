"""What a person has sealed and not yet brought to the share; each letter leaves it when it lies there.

What waits for somebody who was removed goes nowhere, but for one kind: the word that an approval was taken back.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from securefl import durable
from securefl.domain.cards import Card
from securefl.domain.errors import RelayError, UnknownPeerError
from securefl.domain.peers import Peers
from securefl.domain.relay import Carrier
from securefl.domain.seen import read_sent, write_sent

FRAME, LAST = ".frame", ".last"
"""How a letter's name ends here: ``LAST`` if it goes out although its recipient was removed meanwhile."""


class Outbox:
    """``home/outbox/RECIPIENT/NUMBER-DIGEST.frame`` or ``.last``; to be used by one process at a time."""

    def __init__(self, home: Path, email: str, peers: Peers, relay: Carrier) -> None:
        self._home, self._email, self._peers, self._relay = home, email, peers, relay

    def next_number(self, recipient: Card) -> int:
        """Of the next letter to these keys."""
        return read_sent(self._home, recipient) + 1

    def put(self, recipient: Card, number: int, frame: bytes, ending: str = FRAME) -> None:
        """Keep a sealed letter durably, and count it."""
        folder = durable.private_folder(self._home / "outbox" / recipient.email)
        # A crash between the two leaves a letter whose number is taken again: remove what was not counted.
        for left in folder.glob(f"{number:012d}-*"):
            left.unlink()
        durable.write(folder / f"{number:012d}-{hashlib.sha256(frame).hexdigest()[:16]}{ending}", frame)
        write_sent(self._home, recipient, number)

    def flush(self) -> dict[str, RelayError]:
        """Bring to the share what waits; for whom that failed. Nothing is lost then.

        One recipient's folder that somebody has spoilt keeps no letter from the others.
        """
        failed: dict[str, RelayError] = {}
        for frame in sorted(self._home.glob("outbox/*/[0-9]*")):
            recipient = frame.parent.name
            if recipient in failed:
                continue  # letters leave in the order of their numbers
            try:
                counted = int(frame.name[:12]) <= read_sent(self._home, self._peers.get(recipient))
            except UnknownPeerError:
                counted = frame.suffix == LAST  # removed since
            try:
                if counted:
                    self._relay.put(self._email, recipient, f"{frame.stem}{FRAME}", frame.read_bytes())
            except RelayError as error:
                failed[recipient] = error
                continue
            frame.unlink()
        return failed
