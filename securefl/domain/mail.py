"""Letters between people over the shared folder: sealed, signed, numbered, each delivered once.

What is sent is first sealed into ``home/outbox/`` and leaves it when it lies on the share: a full or vanished share
delays letters and loses none. What comes is checked, put into ``home/inbox/``, and then marked in ``home/seen/``, in
this order and under one lock; a letter leaves the inbox after it was handled.

Promise: a letter is from who signed it, whom this person has pinned and not removed; a repeated one is refused. A file
    that is no such letter goes to ``home/quarantine/`` and into the log, and never keeps the next from coming.
Not promised: the share can withhold or delay letters; then the log has the numbers that are missing. A late one
    is delivered late. Who needs the sender's order compares ``number``, never times: clocks may be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from protocols.errors import EncodingError
from securefl import durable
from securefl.domain.address import checked
from securefl.domain.cards import Card, read_card
from securefl.domain.errors import (
    CardError,
    ChangedKeyError,
    FrameError,
    IncompleteFrameError,
    MalformedFrameError,
    RelayError,
    UnknownPeerError,
)
from securefl.domain.frames import HEAD_BYTES, LARGEST_FRAME, Letter, check_length, open_frame, seal_frame
from securefl.domain.identity import Identity
from securefl.domain.lock import exclusive
from securefl.domain.log import AuditLog
from securefl.domain.outbox import FRAME, LAST, Outbox
from securefl.domain.peers import Peers
from securefl.domain.quarantine import Quarantine
from securefl.domain.relay import Carrier, Entry, Relay
from securefl.domain.remembered import Stamp, stamp_of
from securefl.domain.seen import Cursor, read_seen, seen_path, write_seen

SKEW = 24 * 3600
"""Seconds by which a letter's time may be off before the log says so."""
FRAME_NAME = re.compile(r"(\d{12})-[0-9a-f]{16}\.frame")


class Mail:
    """One person's letters.

    Args:
        identity: whose.
        peers: whom this person has pinned.
        relay: the shared folder, or another carrier.
        log: what is refused, missing or skewed is written there.
        clock: seconds since 1970; the log's if none is given.
    """

    def __init__(
        self,
        identity: Identity,
        peers: Peers,
        relay: Carrier | Path,
        log: AuditLog,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.identity, self.peers, self.log = identity, peers, log
        self.relay: Carrier = Relay(relay) if isinstance(relay, Path) else relay
        self.home = identity.home
        self.quarantine = Quarantine(self.home, identity.email, log)
        self._outbox = Outbox(self.home, identity.email, peers, self.relay)
        self._idle: dict[Path, tuple[Stamp | None, list[Entry]]] = {}
        self._now = log.now if clock is None else lambda: int(clock())

    # ---- cards ----

    def introduce(self, anew: bool = False) -> None:
        """Put the own card on the share, unless it lies there.

        Args:
            anew: also if the share is empty although the card was put there before.

        Raises:
            ChangedKeyError: another card of this name lies there.
            RelayError: the share is full, not there, or unexpectedly empty.
        """
        before = self.home / "introduced"
        lies = self.relay.card(self.identity.email)
        if lies is not None:
            with suppress(CardError):
                other = read_card(lies)
                if other == self.identity.card:
                    durable.write(before, b"")
                    return
                raise ChangedKeyError(
                    f"Somebody else is {self.identity.email} on this share, with the fingerprint {other.fingerprint}; "
                    f"this one has {self.identity.fingerprint}. Choose another name; if that card is a forgery, "
                    "remove it from the share first."
                )
        if before.exists() and self.relay.is_empty() and not anew:
            raise RelayError(
                "The share is empty, and was not before: is it connected? If it is a new one, remove "
                f"{before} and try again."
            )
        self.relay.put_card(self.identity.email, self.identity.signed_card)
        durable.write(before, b"")

    def card_of(self, email: str) -> Card:
        """The card that lies on the share for somebody, not pinned: its fingerprint must be compared first.

        Raises:
            CardError: none lies there, or it is none of that name's.
            ChangedKeyError: that person is pinned with another one.
            RevokedError: one of its keys was removed here.
        """
        data = self.relay.card(checked(email))
        if data is None:
            raise CardError(
                f"There is no card of {email} on the share yet: {email} must open a session first."
            )
        card = read_card(data)
        if card.email != email:
            raise CardError(f"What lies on the share as the card of {email} is {card.email}'s.")
        self.peers.check(card)
        return card

    # ---- sending ----

    def send(self, recipient: str, topic: str, body: bytes) -> int:
        """Seal a letter to a pinned person and put it on the share; its number.

        Raises:
            UnknownPeerError: the recipient is not pinned.
            FrameTooLargeError: the body is longer than 64 MiB; nothing is sent then.
            RelayError: the share is full or gone: the letter is kept, and goes out with the next one.
        """
        with self._alone():
            number = self._queue(recipient, topic, body, FRAME)
            if (error := self._outbox.flush().get(recipient)) is not None:
                raise error
        return number

    def queue(self, recipient: str, topic: str, body: bytes) -> None:
        """As ``send``, but it only waits in the outbox, for ``flush`` or the next letter. It needs no share."""
        with self._alone():
            self._queue(recipient, topic, body, FRAME)

    def queue_last(self, recipient: str, topic: str, body: bytes) -> None:
        """As ``queue``, for a letter that goes out although its recipient is removed before it does."""
        with self._alone():
            self._queue(recipient, topic, body, LAST)

    def _queue(self, recipient: str, topic: str, body: bytes, ending: str) -> int:
        card = self.peers.get(recipient)
        number = self._outbox.next_number(card)
        frame = seal_frame(self.identity, card, topic, number, self._now(), body, self.log.head())
        self._outbox.put(card, number, frame, ending)
        return number

    def flush(self) -> None:
        """Put on the share what waits in the outbox; RelayError if that fails for anybody, nothing is lost then."""
        with self._alone():
            for error in self._outbox.flush().values():
                raise error

    def _alone(self) -> AbstractContextManager[None]:
        return exclusive(self.home / "mail.lock")

    # ---- receiving ----

    def receive(self, topics: str | Sequence[str] = "") -> list[Letter]:
        """The letters whose topic begins with one of ``topics``, each once; others wait.

        They count as handled when this returns. Who must not lose one in a crash takes ``each`` instead.

        Raises:
            RelayError: the share is not there.
        """
        return list(self.each(topics))

    def each(self, topics: str | Sequence[str] = "") -> Iterator[Letter]:
        """As ``receive``, one by one: a letter counts as handled when the next is asked for.

        After a crash, or an error in between, it comes again.
        """
        wanted = (topics,) if isinstance(topics, str) else tuple(topics)
        with self._alone():
            self._outbox.flush()  # what fails there waits: a full share can still be read
            # Under the same lock, so that no letter is handled before it is marked as taken.
            self._fetch()
            waiting = sorted(self.home.glob("inbox/*/*.letter"))
        for path in waiting:
            # The topic stands in the name, so that other letters are not read.
            if not path.stem.split("-", 1)[1].replace("~", "/").startswith(wanted):
                continue
            letter = self._from_inbox(path)
            if letter is not None:
                yield letter
                path.unlink(missing_ok=True)

    def _from_inbox(self, path: Path) -> Letter | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None  # another session of this person took it
        try:
            letter = Letter.from_bytes(data)
            if self.peers.get(letter.sender).digest() == letter.keys:
                return letter
            raise UnknownPeerError(f"{letter.sender} has other keys by now.")
        except (EncodingError, UnknownPeerError) as error:
            self.quarantine.put(data, path.parent.name, "removed-sender", str(error), path.name)
            path.unlink(missing_ok=True)
            return None

    def fetch(self) -> int:
        """Take what is new on the share into the inbox; how many letters.

        A sender whose folder cannot be read keeps no other's letters from coming; it is logged once.

        Raises:
            RelayError: the share is not there, or nobody's folder can be read.
        """
        with self._alone():
            return self._fetch()

    def _fetch(self) -> int:
        self.relay.check()
        came, senders = 0, self.peers.all()
        failed: dict[str, RelayError] = {}
        for sender in senders:
            try:
                came += self._fetch_from(sender)
            except RelayError as error:
                failed[sender.email] = error
        if failed and len(failed) == len(senders):
            raise next(iter(failed.values()))  # the share itself, as far as this person can tell
        for email, why in failed.items():
            where = f"{email}/to/{self.identity.email}"
            self.quarantine.put(b"", email, "unreadable-folder", str(why), where)
        return came

    def _fetch_from(self, sender: Card) -> int:
        entries = self.relay.frames(sender.email, self.identity.email)
        path = seen_path(self.home, sender)
        look = stamp_of(path), entries
        if self._idle.get(path) == look:
            return 0  # as it was when there was no news: nothing is read
        before = read_seen(self.home, sender)
        cursor, came = Cursor(before), 0
        new = [entry for entry in entries if cursor.is_news(entry.name, entry.size, entry.stamp)]
        if not new:
            self._idle[path] = look
            return 0
        try:
            for entry in new:
                came += self._take(sender, entry, cursor)
        finally:
            # Also when the share or the disk fails in between: what is in the inbox must not come again.
            after = cursor.kept([entry.name for entry in entries])
            if after != before:
                write_seen(self.home, sender, after)
        if missing := cursor.new_gaps():
            self.log.append(
                sender.email,
                "letters-missing",
                None,
                "the share has later letters of this sender, and not these",
                numbers=missing[:100],
                count=len(missing),
            )
        return came

    def _take(self, sender: Card, entry: Entry, cursor: Cursor) -> bool:
        """Put the letter in a file into the inbox, or the file aside; whether a letter came."""
        try:
            letter = self._open(sender, entry)
            if letter is None:
                return False
            cursor.check(letter.number)
        except FrameError as error:
            self._refuse(sender, entry, error)
            cursor.refused(entry.name, entry.size, entry.stamp)
            return False
        self._into_inbox(letter)
        cursor.taken(entry.name, letter.number, letter.head)
        return True

    def _open(self, sender: Card, entry: Entry) -> Letter | None:
        """The letter in a file; None if it is not all there yet, or gone again."""
        try:
            if not entry.plain or not FRAME_NAME.fullmatch(entry.name):
                raise MalformedFrameError("This is not a frame's file.")
            head = self.relay.head(entry, HEAD_BYTES)
            if head is not None:
                check_length(head, entry.size)
            return open_frame(self.identity, sender, self.relay.read(entry, LARGEST_FRAME))
        except (IncompleteFrameError, OSError):
            return None

    def _into_inbox(self, letter: Letter) -> None:
        folder = durable.private_folder(self.home / "inbox" / letter.sender)
        name = f"{letter.number:012d}-{letter.topic.replace('/', '~')}.letter"
        durable.write(folder / name, letter.to_bytes())
        if abs(letter.sent - self._now()) > SKEW:
            self.log.append(
                letter.sender,
                "clock-skew",
                None,
                "a letter's time is more than a day from this clock; it was taken all the same",
                number=letter.number,
                sent=letter.sent,
            )

    def _refuse(self, sender: Card, entry: Entry, error: FrameError) -> None:
        if self.quarantine.is_full(sender.email):
            return
        where = f"{sender.email}/to/{self.identity.email}/{entry.name[:200]!a}"
        data = b""
        if entry.plain:
            with suppress(OSError, FrameError):
                data = self.relay.read(entry, LARGEST_FRAME)
        self.quarantine.put(data, sender.email, error.reason, str(error), where)

    def witnessed(self, email: str) -> bytes:
        """The newest signed head of a pinned person's audit log that came with its letters; empty if none."""
        return read_seen(self.home, self.peers.get(email)).head


__all__ = ["FRAME_NAME", "SKEW", "Letter", "Mail"]
