"""Mutants whose audit log can be shortened unseen: lines that are not chained, and a chain that may end anywhere."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from protocols.canonical import digest
from protocols.errors import SignatureError
from protocols.signing import SigningKey
from protocols.signing import verify as verify_signature
from securefl.audit.mutants.share import NOW, STEWARD
from securefl.audit.registry import Finding, Mutant
from securefl.domain import log as audit_log
from securefl.domain.errors import BrokenLogError
from securefl.domain.identity import Identity
from securefl.domain.log import HEAD_FILE, LOG_FILE, AuditLog

LINES = ("published", "denied", "approved", "node-started", "revoked", "peer-removed")
Lines = list[bytes]
Change = Callable[[Lines], Lines]


def _swapped(lines: Lines) -> Lines:
    lines[1:3] = lines[2:0:-1]
    return lines


CHANGES: dict[str, tuple[Change, int]] = {
    "the denial taken out": (lambda lines: lines[:1] + lines[2:], 2),
    "two lines exchanged": (_swapped, 2),
    "a line repeated": (lambda lines: lines[:2] + lines[1:], 3),
    "the beginning cut off": (lambda lines: lines[1:], 1),
    "the revocation cut off the end": (lambda lines: lines[:4], 5),
    "a reason changed": (lambda lines: [lines[0].replace(b"because", b"although"), *lines[1:]], 1),
}
"""What whoever can write the file does to it, and the first line that is wrong then."""

# -- each line by itself ---------------------------------------------------------------------------------------------


def signed_line(key: SigningKey, action: str) -> bytes:
    """The naive line: who did what, signed."""
    fields = {"action": action, "time": NOW, "reason": "because"}
    return json.dumps({**fields, "signature": key.sign("line", digest("line", fields)).hex()}).encode()


def each_line_is_signed(lines: Lines, public: bytes) -> bool:
    """The naive check: every line is the owner's."""
    for line in lines:
        fields = json.loads(line)
        signature = bytes.fromhex(fields.pop("signature"))
        try:
            verify_signature(public, "line", digest("line", fields), signature)
        except SignatureError:
            return False
    return True


def _unchained_breaks() -> Finding:
    key = SigningKey.generate()
    lines = [signed_line(key, action) for action in LINES]
    passed = [
        name for name, (change, _) in CHANGES.items() if each_line_is_signed(change(lines[:]), key.public)
    ]
    said = f"{len(passed)} of {len(CHANGES)} changed logs verify: {', '.join(passed)}."
    return Finding(len(passed) == len(CHANGES) - 1, said, {"believed": len(passed)})


def _log(folder: Path) -> Identity:
    identity = Identity.open(folder, STEWARD)
    log = AuditLog(folder, identity, lambda: NOW)
    for action in LINES:
        log.append(STEWARD, action, None, "because")
    return identity


def _unchained_caught() -> Finding:
    believed, named = [], 0
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        folder = Path(name)
        identity = _log(folder)
        whole = (folder / LOG_FILE).read_bytes()
        for what, (change, line) in CHANGES.items():
            changed = change(whole.splitlines(keepends=True))
            (folder / LOG_FILE).write_bytes(b"".join(changed))
            try:
                audit_log.verify(folder, identity.signing.public)
                believed.append(what)
            except BrokenLogError as error:
                named += error.line == line
        (folder / LOG_FILE).write_bytes(whole)
        good = len(audit_log.verify(folder, identity.signing.public).entries)
    said = (
        f"{len(believed)} of {len(CHANGES)} changed logs verify, and {named} times the line that is named is the first "
        f"wrong one; the whole one has its {good} lines."
    )
    right = not believed and named == len(CHANGES) and good == len(LINES)
    return Finding(right, said, {"believed": len(believed), "named": named})


# -- a chain without a witness ---------------------------------------------------------------------------------------


def chained(lines: Lines) -> bytes:
    """The naive chain: the hash of the last line, over the hash of the one before it."""
    at = b""
    for line in lines:
        at = hashlib.sha256(at + line).digest()
    return at


def _rewritten_breaks() -> Finding:
    key = SigningKey.generate()
    lines = [signed_line(key, action) for action in LINES]
    older = lines[:4], chained(lines[:4])
    believed = chained(older[0]) == older[1] and each_line_is_signed(older[0], key.public)
    said = f"An older copy of log and hash, put back together, verifies without the {LINES[4]} line."
    return Finding(believed, said, {"believed": int(believed)})


def _rewritten_caught() -> Finding:
    caught = []
    with tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        folder = Path(name)
        identity = _log(folder)
        log = AuditLog(folder, identity, lambda: NOW)
        older = {file: (folder / file).read_bytes() for file in (LOG_FILE, HEAD_FILE)}
        log.append(STEWARD, "denied", None, "because")
        witnessed = log.head()  # as every letter carries it to the peers
        good = len(audit_log.verify(folder, identity.signing.public, [witnessed]).entries)
        for rewritten in (False, True):
            for file, data in older.items():
                (folder / file).write_bytes(data)
            if rewritten:  # the owner himself writes on, with his own key
                log.append(STEWARD, "approved", None, "because")
            try:
                audit_log.verify(folder, identity.signing.public, [witnessed])
            except BrokenLogError as error:
                caught.append(error.line)
    last = len(LINES) + 1
    said = (
        f"Put back, and put back and written on by its owner: peers who kept a head saw {len(caught)} of 2."
    )
    return Finding(caught == [last, last] and good == last, said, {"seen": len(caught)})


MUTANTS = (
    Mutant(
        "unchained-log",
        "log-is-chained",
        "Each line of the audit log is signed by itself.",
        _unchained_breaks,
        _unchained_caught,
    ),
    Mutant(
        "log-without-witnesses",
        "log-is-chained",
        "The log is chained, and nobody else keeps where it ended.",
        _rewritten_breaks,
        _rewritten_caught,
    ),
)
