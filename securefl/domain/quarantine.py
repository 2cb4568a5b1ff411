"""Where refused bytes go: aside, named by their digest, with a line in the audit log.

Who can write the share can write much: what is kept, and what is logged, is bounded for each sender. Every line has a
file, so that the files count the lines.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from securefl import durable
from securefl.domain.log import AuditLog

LARGEST_KEPT = 2**20
"""Bytes of one refused file that are kept."""
MOST_KEPT = 200
"""Refused files that are kept, and logged, for each sender."""


class Quarantine:
    """``home/quarantine/SENDER/DIGEST-PLACE.bin``: for people to look at, never read again by the program."""

    def __init__(self, home: Path, email: str, log: AuditLog) -> None:
        self._folder, self._email, self._log = home / "quarantine", email, log

    def is_full(self, sender: str) -> bool:
        """Whether nothing more of this sender's is kept or logged."""
        try:
            return len(os.listdir(self._folder / sender)) >= MOST_KEPT
        except FileNotFoundError:
            return False

    def put(self, data: bytes, sender: str, reason: str, explanation: str, where: str) -> None:
        """Keep the first MiB of ``data`` aside and log why, once; when a sender's place is full, neither.

        Args:
            data: the refused bytes.
            sender: under whose name they lay.
            reason: a fixed code.
            explanation: one sentence of ours.
            where: where they lay.
        """
        named, place = hashlib.sha256(data).digest(), hashlib.sha256(ascii(where).encode()).hexdigest()[:16]
        folder = durable.private_folder(self._folder / sender)
        path = folder / f"{named.hex()}-{place}.bin"
        kept = len(os.listdir(folder))
        if kept >= MOST_KEPT or path.exists():
            return
        durable.write(path, data[:LARGEST_KEPT])
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
        if kept + 1 >= MOST_KEPT:
            self._log.append(
                self._email,
                "quarantine-full",
                None,
                f"more from {sender} is refused without a line here: look at it",
            )
