"""Carries the coordinator's mail over Flower: each member's messages in order, one batch on its way at a time.

A ClientApp is a process for every delivery, and a SuperNode asks for mail every few seconds; so what waits for a member
goes together. Flower's reply, its error, or its silence becomes an event of the coordinator.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message as FlowerMessage
from flwr.app import RecordDict
from flwr.serverapp import Grid

from protocols.errors import EncodingError
from securefl.engines.coordination import Deliver
from securefl.engines.flower import mail
from securefl.engines.flower.directory import Directory, Reached
from securefl.engines.flower.replies import Replies
from securefl.engines.link import Reply
from securefl.errors import EngineError, SecureFLError
from securefl.plain_text import sentence
from securefl.roles.effects import Gone, Lost, Received
from securefl.roles.messages import FROM_HOSPITALS, KINDS, Announcement, Message, read_message

log = logging.getLogger(__name__)

PULL_SECONDS = 0.2
LOOK_SECONDS = 1.0
PAUSE_SECONDS = 5.0
"""After a loss, before the coordinator hears of it: what failed at once is not tried again at once."""
MAX_LOSSES = 5
"""Of one party in a row; then the coordinator goes on without it, or ends."""

SILENCE_SECONDS = 120.0
"""Without an answer of the SuperLink, after which the run ends. After a restart in time the run goes on."""

Observe = Callable[[str, str, Message, Reply, int], None]


class SuperLinkLostError(EngineError):
    """The SuperLink does not answer any more."""


@dataclass
class Box:
    """A member's mail."""

    waiting: deque[Message] = field(default_factory=deque)
    since: float = 0.0
    sent: list[Message] = field(default_factory=list)
    on_its_way: str = ""
    carrier: Reached | None = None
    expires: float = 0.0
    losses: int = 0


class Postman:
    """One thread over Flower's grid.

    Args:
        grid: Flower's; only this thread uses it after ``start``.
        patience: members, each with the longest wait for its answer in seconds.
        parties: those of them that are parties. The coordinator may go on without one that was lost some times.
        deliver: takes answers, losses and fatal errors; called from the thread.
        observe: sees every delivery, for statistics.
        pause: seconds from a loss until the coordinator hears of it.
        at_once: members that have mail on its way at one time, where they share a few actors; None: all.
    """

    def __init__(
        self,
        grid: Grid,
        patience: Mapping[str, float],
        parties: frozenset[str],
        deliver: Deliver,
        observe: Observe,
        *,
        pause: float = PAUSE_SECONDS,
        at_once: int | None = None,
    ) -> None:
        self._grid, self._patience, self._parties = grid, dict(patience), parties
        self._deliver, self._observe, self._pause = deliver, observe, pause
        self._at_once = at_once
        self._directory, self._replies = Directory(grid, patience), Replies(grid)
        self._boxes = {member: Box() for member in patience}
        self._online: dict[str, Reached] = {}
        self._delayed: list[tuple[float, Lost]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def close(self) -> None:
        """Carry no more; what is on its way is forgotten."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)  # Flower's client tries for ever to reach a SuperLink that is gone

    def check(self) -> None:
        """See that the SuperLink still answers.

        Raises:
            SuperLinkLostError: it has been silent for ``SILENCE_SECONDS``.
        """
        if self._thread.is_alive() and time.monotonic() - self._heard > SILENCE_SECONDS:
            raise _gone(f"silent for {SILENCE_SECONDS:.0f} s")

    def post(self, member: str, message: Message) -> None:
        """Put a message into a member's box. A new announcement replaces one that still lies there."""
        with self._lock:
            box = self._boxes[member]
            if isinstance(message, Announcement):
                box.waiting = deque(m for m in box.waiting if not isinstance(m, Announcement))
            if not box.waiting:
                box.since = time.monotonic()
            box.waiting.append(message)

    def _work(self) -> None:
        looked = 0.0
        try:
            while not self._closed.wait(PULL_SECONDS):
                now = time.monotonic()
                if now - looked >= LOOK_SECONDS or self._directory.asking:
                    self._online, looked = self._directory.online(), now
                self._push(now)
                self._pull()
                self._heard = time.monotonic()
                self._give_up(self._heard)
        except SecureFLError as error:
            self._deliver(error)
        except Exception as error:  # whatever Flower's client raises when the SuperLink is gone
            self._deliver(_gone(type(error).__name__))

    # -- out -----------------------------------------------------------------------------------------------------

    def _push(self, now: float) -> None:
        out: list[tuple[Box, FlowerMessage]] = []
        with self._lock:
            carried = sum(bool(box.on_its_way) for box in self._boxes.values())
            free = len(self._boxes) if self._at_once is None else self._at_once - carried
            for member, reached in self._online.items():
                box = self._boxes[member]
                if box.waiting and not box.on_its_way and len(out) < free:
                    count = min(len(box.waiting), mail.MAX_MESSAGES)
                    box.sent = [box.waiting.popleft() for _ in range(count)]
                    box.since, box.expires = now, now + self._patience[member]
                    box.carrier = reached
                    content = mail.packed([message.to_bytes() for message in box.sent], member)
                    seconds = self._patience[member]
                    message = self._grid.create_message(content, mail.MAIL, reached.node, "", seconds)
                    out.append((box, message))
        # One at a time: Flower holds a request's objects twice while it sends them.
        for box, message in out:
            (box.on_its_way,) = self._grid.push_messages([message])

    # -- in ------------------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        senders = {box.on_its_way: member for member, box in self._boxes.items() if box.on_its_way}
        for number, content in self._replies.pull(senders).items():
            self._take(senders[number], content)

    def _take(self, member: str, content: RecordDict | None) -> None:
        box = self._boxes[member]
        sent, box.sent, box.on_its_way = box.sent, [], ""
        if content is None:
            self._lose(member)
            return
        refusal = mail.refusal(content)
        if refusal is not None:
            self._refused(member, sentence(refusal))
            return
        kinds = KINDS if member in self._parties else FROM_HOSPITALS
        try:
            answers = mail.unpacked_reply(content)
            messages = [read_message(answer, kinds) for answer in answers.messages]
        except EncodingError as error:
            self._refused(member, f"it answered something that is not a message. {error}")
            return
        box.losses = 0
        self._observe(member, member, sent[-1], answers, sum(map(len, answers.messages)))
        for message in messages:
            self._deliver(Received(member, message))

    def _refused(self, member: str, why: str) -> None:
        """A party's refusal is for its operator to mend; without a hospital that refuses, the round goes on."""
        log.warning("%s refuses: %s", member, why)
        if member in self._parties:
            self._deliver(Gone(member, f"{member} refuses: {why}"))
        else:
            self._lose(member)

    # -- lost ----------------------------------------------------------------------------------------------------

    def _lose(self, member: str) -> None:
        with self._lock:
            box = self._boxes[member]
            # What waits was written for the process that is gone.
            box.waiting.clear()
            box.sent, box.on_its_way = [], ""
            box.losses += 1
        if member in self._parties and box.losses > MAX_LOSSES:
            self._deliver(Gone(member, f"{member} was lost {MAX_LOSSES} times: see its log."))
            return
        self._delayed.append((time.monotonic() + self._pause, Lost(member)))

    def _give_up(self, now: float) -> None:
        for member, box in self._boxes.items():
            # A hospital that is away may come back within the round; a party's absence stops everybody.
            unsent = box.waiting and member in self._parties and now - box.since > self._patience[member]
            silent = box.on_its_way and now > box.expires + PAUSE_SECONDS
            restarted = box.on_its_way and self._online.get(member, box.carrier) != box.carrier
            if unsent or silent or restarted:
                self._lose(member)
        due = [lost for at, lost in self._delayed if at <= now]
        self._delayed = [(at, lost) for at, lost in self._delayed if at > now]
        for lost in due:
            self._deliver(lost)


def _gone(why: str) -> SuperLinkLostError:
    return SuperLinkLostError(
        f"The SuperLink cannot be reached ({why}): start it, then run again with --resume."
    )
