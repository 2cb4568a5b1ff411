"""Where refused bytes go: aside, named by their digest, with a line in the audit log.

Who can write the share can write much: what is kept, and what is logged, is bounded for each sender.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from securefl import durable
from securefl.domain.log import AuditLog

LARGEST_KEPT = 2**20
"""Bytes of one refused file that are kept."""
MOST_KEPT = 200
"""Refused files that are kept, and logged, for each sender."""


class Quarantine:
    """``home/quarantine/SENDER/DIGEST.bin``: for people to look at, never read again by the program."""

    def __init__(self, home: Path, email: str, log: AuditLog) -> None:
        self._folder, self._email, self._log = home / "quarantine", email, log

    def put(self, data: bytes, sender: str, reason: str, explanation: str, where: str) -> None:
        """Keep the first MiB of ``data`` aside and log why; once a sender's place is full, neither.

        Args:
            data: the refused bytes.
            sender: under whose name they lay.
            reason: a fixed code.
            explanation: one sentence of ours.
            where: where they lay.
        """
        folder = durable.private_folder(self._folder / sender)
        kept = len(list(folder.iterdir()))
        named = hashlib.sha256(data).digest()
        path = folder / f"{named.hex()}.bin"
        if kept >= MOST_KEPT:
            return
        if not path.exists():
            durable.write(path, data[:LARGEST_KEPT])
            kept += 1
        self._log.append(
            self._email,
            "quarantined",
            named,
            explanation,
            code=reason,
            sender=sender,
            where=where,
            size=len(data),
        )
        if kept >= MOST_KEPT:
            self._log.append(
                self._email,
                "quarantine-full",
                None,
                f"more from {sender} is refused without a line here: look at it",
            )
