"""Threads between the coordinator and the children: each member's messages in order, one at a time.

A party has its own process. Hospitals share a few processes: whichever is idle takes the next hospital that has mail.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from protocols.errors import EncodingError
from securefl.engines.link import LinkFaultError, LinkLostError, Reply
from securefl.engines.local.children import Child
from securefl.errors import EngineError, SecureFLError
from securefl.roles.effects import Gone, Lost, Received
from securefl.roles.messages import Message, read_message

MAX_STARTS = 5
"""Of one process in a row, without an answer between them."""

Deliver = Callable[[Gone | Lost | Received | SecureFLError], None]
Observe = Callable[[str, str, Message, Reply, int], None]
"""Called with the worker's name, the member's name, the message, the reply, and the bytes of the reply."""


class Mailboxes:
    """Mail for some members, handled by some children.

    Args:
        members: who may get mail.
        children: running processes; each handles one message at a time.
        seconds: longest wait for an answer.
        deliver: takes answers, losses and fatal errors; called from other threads.
        observe: sees every exchange, for statistics and exhibits.
        spared: whether the coordinator may be told that a member is gone for good; else that is the end.
    """

    def __init__(
        self,
        members: Iterable[str],
        children: list[Child],
        seconds: float,
        deliver: Deliver,
        observe: Observe,
        spared: bool = False,
    ) -> None:
        self._spared = spared
        self._mail: dict[str, deque[Message]] = {member: deque() for member in members}
        self._busy: set[str] = set()
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds, self._deliver, self._observe = seconds, deliver, observe
        self._threads = [
            threading.Thread(target=self._work, args=(child,), daemon=True) for child in children
        ]
        for thread in self._threads:
            thread.start()

    def post(self, member: str, message: Message) -> None:
        """Put a message into a member's box."""
        with self._changed:
            self._mail[member].append(message)
            if member not in self._busy and member not in self._waiting:
                self._waiting.append(member)
            self._changed.notify()

    def close(self) -> None:
        """Take no more mail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self, child: Child) -> None:
        starts = 1
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                member = self._waiting.popleft()
                self._busy.add(member)
                message = self._mail[member].popleft()
            try:
                self._exchange(child, member, message)
                starts = 1
            except LinkLostError:
                if self._closed:
                    return
                starts += 1
                if not self._brought_back(child, member, starts):
                    return
            except (SecureFLError, LinkFaultError) as error:
                self._deliver(error if isinstance(error, SecureFLError) else EngineError(str(error)))
            finally:
                with self._changed:
                    self._busy.discard(member)
                    if self._mail[member] and member not in self._waiting:
                        self._waiting.append(member)
                        self._changed.notify()

    def _exchange(self, child: Child, member: str, message: Message) -> None:
        reply = child.link.exchange(message.to_bytes(), self._seconds, member)
        self._observe(child.name, member, message, reply, sum(map(len, reply.messages)))
        for answer in reply.messages:
            try:
                self._deliver(Received(member, read_message(answer)))
            except EncodingError as error:
                self._deliver(EngineError(f"{member} answered something that is not a message. {error}"))

    def _brought_back(self, child: Child, member: str, starts: int) -> bool:
        with self._changed:
            # What waits was written for the process that is gone.
            self._mail[member].clear()
        try:
            if starts > MAX_STARTS:
                raise EngineError(
                    f"{child.name} ended {MAX_STARTS} times: see its log, and run again with --resume."
                )
            child.replace()
        except SecureFLError as error:
            self._deliver(Gone(member, str(error)) if self._spared else error)
            return False
        self._deliver(Lost(member))
        return True
