"""A person's audit log: every decision and every run, one signed line each, chained by hashes.

Adversary: whoever can write the log's files, without the person's signing key: removes, changes, reorders, repeats or
    cuts off lines, or puts another log there.
Promise: ``verify`` names the first line at which the log is not what was written. A log cut off at its end is shorter
    than the signed head beside it says.
Not promised: against the person itself. Who has the key can write another log and sign it. So every letter carries
    the head of its sender's log, and its receiver keeps the newest: ``verify(..., witnessed=...)`` fails on a log that
    does not continue one of those. Whoever takes log and head back together, to an older pair, is found out so too,
    and only so.

A line is JSON with sorted keys and no spaces; its signature covers all its other fields, ``previous`` is the SHA-256
of the whole line before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocols.canonical import Record, digest
from protocols.errors import EncodingError, SignatureError
from protocols.signing import verify as verify_signature
from securefl import durable
from securefl.domain.errors import BrokenLogError
from securefl.domain.identity import Identity
from securefl.domain.lock import exclusive

LOG_FILE, HEAD_FILE = "log.jsonl", "log.head"
Fact = str | int | bool | None | list[str] | list[int]


class Head(Record):
    """The person's word that its log has this many lines and this many bytes, and ends with this hash."""

    kind = "audit-head"
    number: int
    size: int
    last: bytes


class SignedHead(Record):
    """A head and its signature by the log's owner."""

    kind = "signed-audit-head"
    head: Head
    signature: bytes


@dataclass(frozen=True)
class Entry:
    """One line: who did what when, to which bytes (SHA-256 or a record's digest), and why."""

    number: int
    time: int
    actor: str
    action: str
    digest: bytes | None
    reason: str
    facts: dict[str, Fact]


@dataclass(frozen=True)
class Verified:
    """A log that holds: its entries, and the hash of its last line."""

    entries: list[Entry]
    last: bytes


class AuditLog:
    """The log in ``home/log.jsonl``; several processes may write it.

    Args:
        home: the person's home.
        identity: whose key signs the lines.
        clock: seconds since 1970.
    """

    def __init__(self, home: Path, identity: Identity, clock: Callable[[], float]) -> None:
        self._home, self._identity, self._clock = Path(home), identity, clock
        self._path, self._head_path = self._home / LOG_FILE, self._home / HEAD_FILE

    def now(self) -> int:
        """The time that goes into lines and letters, in seconds."""
        return int(self._clock())

    def append(self, actor: str, action: str, digest: bytes | None, reason: str, **facts: Any) -> None:
        """Add a line, durably.

        Args:
            actor: who did it, as far as is proved.
            action: a fixed word, such as ``peer-accepted``.
            digest: of what it is about, or None.
            reason: in the actor's words, or a sentence of ours.
            facts: what else is worth knowing: texts, integers, truths, or lists of texts or of integers.

        Raises:
            BrokenLogError: the log is not as this person left it.
            EngineError: the disk is full.
        """
        with exclusive(self._home / "log.lock"):
            head = self._settled()
            line = self._line(head, actor, action, digest, reason, facts)
            if head.number == 0:
                durable.write(self._path, line)
            else:
                durable.append(self._path, line)
            self._write_head(head.number + 1, head.size + len(line), line)

    def entries(self) -> list[Entry]:
        """All lines, checked.

        Raises:
            BrokenLogError: the log does not hold.
        """
        with exclusive(self._home / "log.lock"):
            self._settled()
            return verify(self._home, self._identity.signing.public).entries

    def head(self) -> bytes:
        """This person's signed word on its log, for others to keep; empty before the first line."""
        try:
            return self._head_path.read_bytes()
        except FileNotFoundError:
            return b""

    def _line(
        self, head: Head, actor: str, action: str, about: bytes | None, reason: str, facts: dict[str, Any]
    ) -> bytes:
        fields = {
            "number": head.number + 1,
            "time": self.now(),
            "actor": _text(actor),
            "action": _text(action),
            "digest": None if about is None else about.hex(),
            "reason": _text(reason),
            "facts": _text(facts),
            "previous": head.last.hex(),
        }
        signature = self._identity.signing.sign("audit-line", digest("audit-line", fields))
        return _dump({**fields, "signature": signature.hex()})

    def _write_head(self, number: int, size: int, line: bytes) -> None:
        head = Head(number=number, size=size, last=hashlib.sha256(line).digest())
        signature = self._identity.signing.sign("audit-head", head.digest())
        durable.write(self._head_path, SignedHead(head=head, signature=signature).to_bytes())

    def _settled(self) -> Head:
        """The head, after a crash too: a whole line without its head counts, half a line is cut off."""
        public = self._identity.signing.public
        head = _read_head(self._head_path, public) or _genesis(public)
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == head.size:
            return head
        if size < head.size:
            raise BrokenLogError(
                f"{self._path} is shorter than when it was last written: restore it from its backup.",
                head.number,
            )
        # One line at most was written without its head.
        with self._path.open("rb") as file:
            file.seek(head.size)
            rest = file.read()
        if rest.endswith(b"\n"):
            _check_line(rest[:-1], head, public)
            self._write_head(head.number + 1, size, rest)
        else:
            with self._path.open("r+b") as file:
                file.truncate(head.size)
        return _read_head(self._head_path, public) or _genesis(public)


def verify(where: Path, public: bytes, witnessed: Iterable[bytes] = ()) -> Verified:
    """Check a whole log.

    Args:
        where: a home, or the log's file, with its head beside it.
        public: the owner's signing key, as on its pinned card.
        witnessed: heads of this log that others have kept.

    Raises:
        BrokenLogError: naming the line, counted from one.
    """
    where = Path(where)
    path = where / LOG_FILE if where.is_dir() else where
    head = _read_head(path.with_name(HEAD_FILE), public) or _genesis(public)
    data = path.read_bytes() if path.exists() else b""
    at, entries = _genesis(public), []
    passed = {at.number: at.last}
    *lines, rest = data.split(b"\n")
    for line in lines:
        entries.append(_check_line(line, at, public))
        at = Head(
            number=at.number + 1, size=at.size + len(line) + 1, last=hashlib.sha256(line + b"\n").digest()
        )
        passed[at.number] = at.last
    if rest:
        raise BrokenLogError(f"Line {at.number + 1} of the log is not whole.", at.number + 1)
    for claim in [head, *(_opened_head(data, public) for data in witnessed if data)]:
        if claim.number not in passed:
            raise BrokenLogError(
                f"The log ends after line {at.number}, and had {claim.number} lines before: its end was cut off.",
                at.number + 1,
            )
        if passed[claim.number] != claim.last:
            raise BrokenLogError(
                f"Line {claim.number} of the log is another than was signed for before.", claim.number
            )
    if at.number > head.number + 1:
        raise BrokenLogError("The log's signed head is missing or old.", at.number)
    return Verified(entries, at.last)


def _genesis(public: bytes) -> Head:
    return Head(number=0, size=0, last=digest("audit-log", public))


def _read_head(path: Path, public: bytes) -> Head | None:
    try:
        return _opened_head(path.read_bytes(), public)
    except FileNotFoundError:
        return None


def _opened_head(data: bytes, public: bytes) -> Head:
    try:
        signed = SignedHead.from_bytes(data)
        verify_signature(public, "audit-head", signed.head.digest(), signed.signature)
    except (EncodingError, SignatureError) as error:
        raise BrokenLogError("A head of the log is not signed by the log's owner.", 0) from error
    return signed.head


def _text(value: Any) -> Any:
    """Texts as UTF-8 can hold them: a file's name need not be one."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _text(entry) for name, entry in value.items()}
    return [_text(entry) for entry in value] if isinstance(value, list | tuple) else value


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _check_line(line: bytes, before: Head, public: bytes) -> Entry:
    number = before.number + 1
    try:
        fields = json.loads(line)
        if _dump(fields) != line + b"\n":
            raise ValueError("other spaces or order")
        signature = bytes.fromhex(fields.pop("signature"))
        verify_signature(public, "audit-line", digest("audit-line", fields), signature)
        previous = fields.pop("previous")
        about = fields.pop("digest")
        entry = Entry(digest=None if about is None else bytes.fromhex(about), **fields)
    except (ValueError, TypeError, KeyError, AttributeError, EncodingError, SignatureError) as error:
        raise BrokenLogError(
            f"Line {number} of the log was changed, or is not its owner's.", number
        ) from error
    if previous != before.last.hex() or entry.number != number:
        raise BrokenLogError(f"Line {number} of the log does not follow the one before it.", number)
    return entry
