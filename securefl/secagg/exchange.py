"""One exchange over a Grid: the steps of the protocol as messages, in place of one message and one reply a client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from typing import TypeVar

import numpy as np
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from protocols.errors import ProtocolError
from protocols.pairwise import (
    Agreement,
    Masked,
    Parcels,
    Revealed,
    Server,
    SignedKeys,
    StepError,
    Terms,
    TooFewError,
    default_threshold,
)
from protocols.ring import signed
from securefl.errors import SecureFLError
from securefl.plain_text import sentence
from securefl.secagg import mail
from securefl.secagg.plan import Plan, SecAggError
from securefl.secagg.vector import Layout, check_sum, unpack
from securefl.secagg.work import work_of

_log = getLogger("flwr")
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How exchanges are made; see ``SecureAggregation``."""

    weight: str
    threshold: int | None
    width: int
    bound: float
    max_weight: float
    pinned: Mapping[str, bytes] | None
    step_timeout: float | None


class Exchange:
    """One exchange with the nodes that a strategy's messages are for.

    Args:
        grid: Flower's.
        messages: what the strategy wants to send, one for each node, all of one type.
        settings: of the aggregation.
        number: of this exchange, above that of the last; clients take each number once.
        timeout: seconds for the step in which the ClientApp works.

    Raises:
        SecAggError: the messages are not one a node, not alike, or too few for secure aggregation.
        EncodingError: the bounds do not fit into the ring.
    """

    def __init__(
        self, grid: Grid, messages: Sequence[Message], settings: Settings, number: int, timeout: float | None
    ) -> None:
        self._grid, self._settings, self._timeout = grid, settings, timeout
        self._messages = {message.metadata.dst_node_id: message for message in messages}
        types = {message.metadata.message_type for message in messages}
        n, pinned = len(messages), settings.pinned
        if len(self._messages) != n or len(types) != 1:
            raise SecAggError("A strategy sends each node one message, and all of one type.")
        if pinned is not None:
            n = min(n, len(pinned))  # more cannot take part, and clients refuse terms that count more
        threshold = default_threshold(n) if settings.threshold is None else settings.threshold
        if not (n >= 3 and threshold <= n < 2 * threshold):
            raise SecAggError(
                f"Secure aggregation needs at least 3 clients and a threshold above half of them and at most all; "
                f"there are {n}, and the threshold is {threshold}: see min_train_nodes, min_evaluate_nodes, threshold."
            )
        self._plan = plan = Plan(
            weight=settings.weight,
            bound=float(settings.bound),
            max_weight=float(settings.max_weight),
            cohort=n,
            work=_work(messages),
        )
        self._encoding = plan.encoding(settings.width)
        self._server = Server(
            Terms(
                run=str(grid.run.run_id),
                exchange=number,
                purpose=types.pop(),
                threshold=threshold,
                width=settings.width,
                signed=pinned is not None,
                details=plan.to_bytes(),
            ),
            pinned,
        )
        self._names: dict[int, str] = {}

    def run(self) -> Message:
        """All steps: one reply with the averages, or one with an error whose reason is one sentence."""
        first = next(iter(self._messages.values()))
        try:
            return Message(self._run(), reply_to=first)
        except (ProtocolError, SecureFLError) as error:
            _log.error("Secure aggregation ended without a sum: %s", error)
            return Message(Error(ErrorCode.UNKNOWN, str(error)), reply_to=first)

    def _run(self) -> RecordDict:
        server, terms = self._server, self._server.terms

        def keys(node: int, parts: list[bytes]) -> None:
            message = SignedKeys.from_bytes(parts[0])
            if not terms.signed and message.keys.name != str(node):
                raise StepError("A client without a pinned key gave another name than its node's.")
            self._names[node] = server.advertised(message)

        self._step(mail.ADVERTISE, _to_all(self._messages, terms.to_bytes()), keys)
        roster = server.roster()
        self._leave_out(set(roster.names()))
        self._step(
            mail.SHARE, _to_all(self._names, roster.to_bytes()), self._take(server.shared, Parcels.from_bytes)
        )
        deliveries = server.deliveries()
        asked = {
            node: [deliveries[name].to_bytes()] for node, name in self._names.items() if name in deliveries
        }
        layout = self._add(self._step(mail.MASK, asked, lambda node, parts: None, count=2, work=True))
        survivors = server.survivors()
        left = [node for node in asked if self._names[node] in survivors.names]
        if terms.signed:
            agreed: list[int] = []

            def agree(node: int, parts: list[bytes]) -> None:
                server.agreed(self._names[node], Agreement.from_bytes(parts[0]))
                agreed.append(node)

            self._step(mail.AGREE, _to_all(left, survivors.to_bytes()), agree)
            left = agreed
        last = [survivors.to_bytes(), server.agreements().to_bytes()]
        self._step(mail.UNMASK, _to_all(left, *last), self._take(server.revealed, Revealed.from_bytes))
        total = self._encoding.decode_sum(signed(server.total()))
        check_sum(total, self._plan, len(survivors.names), self._encoding.resolution)
        _log.info(
            "Secure aggregation: a sum over %d of %d clients", len(survivors.names), len(self._messages)
        )
        return unpack(layout, total, self._settings.weight)

    def _leave_out(self, listed: Set[str]) -> None:
        """Forget the nodes whose keys are not in the list."""
        for node in [node for node, name in self._names.items() if name not in listed]:
            with _leaving(node):
                raise StepError("Its run has another configuration than that of the others.")
            del self._names[node]

    def _take(
        self, into: Callable[[str, T], None], read: Callable[[bytes], T]
    ) -> Callable[[int, list[bytes]], None]:
        return lambda node, parts: into(self._names[node], read(parts[0]))

    def _add(self, replies: Mapping[int, list[bytes]]) -> Layout:
        """Add the masked vectors of the layout that most clients have; the others leave."""
        layouts = Counter(parts[1] for parts in replies.values())
        common, count = layouts.most_common(1)[0] if layouts else (b"", 0)
        needed = self._server.terms.threshold
        if count < needed:
            # What fewer say may be what somebody made up.
            raise TooFewError(
                f"Only {count} clients sent a masked vector of one layout, {needed} are needed."
            )
        layout = Layout.from_bytes(common)
        layout.check()
        size = layout.size() * np.dtype(f"u{self._settings.width // 8}").itemsize
        for node, (data, described) in replies.items():
            with _leaving(node):
                message = Masked.from_bytes(data)
                if described != common:
                    other = layout.difference(Layout.from_bytes(described))
                    raise StepError(
                        f"Its reply has other arrays or metrics than those of the others: {sentence(other)}."
                    )
                if len(message.y) != size:
                    raise StepError("Its masked vector has not the length that its layout says.")
                self._server.masked(self._names[node], message)
        return layout

    def _step(
        self,
        step: str,
        asked: Mapping[int, list[bytes]],
        take: Callable[[int, list[bytes]], None],
        *,
        count: int = 1,
        work: bool = False,
    ) -> dict[int, list[bytes]]:
        """Ask nodes, and take what they answer; a node with no answer or a bad one leaves."""
        limits = [x for x in (self._timeout, None if work else self._settings.step_timeout) if x is not None]
        messages = [self._message(node, step, parts, work) for node, parts in asked.items()]
        taken: dict[int, list[bytes]] = {}
        for reply in self._grid.send_and_receive(messages, timeout=min(limits, default=None)):
            node = reply.metadata.src_node_id
            if node not in asked or node in taken:
                continue
            with _leaving(node):
                if reply.has_error():
                    raise SecAggError(sentence(reply.error.reason or "It answered with an error."))
                parts = mail.expect(step, reply.content, count)
                take(node, parts)
                taken[node] = parts
        return taken

    def _message(self, node: int, step: str, parts: list[bytes], work: bool) -> Message:
        original = self._messages[node]
        content = RecordDict(dict(original.content) if work else {})
        content[mail.RECORD] = mail.packed(step, *parts)
        meta = original.metadata
        return Message(content, node, meta.message_type, ttl=meta.ttl or None, group_id=meta.group_id or None)


def _work(messages: Sequence[Message]) -> bytes:
    """The digest of what all messages give to work on. Those that share their content are hashed once."""
    groups = {(id(m.content), m.metadata.group_id): m for m in messages}
    [work, *others] = {work_of(message) for message in groups.values()}
    if others:
        raise SecAggError(
            "Under secure aggregation all clients get the same model and configuration, and this strategy's messages "
            "differ: send everybody the same, and set what is a client's own on its node."
        )
    return work


def _to_all(nodes: Iterable[int], *messages: bytes) -> dict[int, list[bytes]]:
    return {node: list(messages) for node in nodes}


@contextmanager
def _leaving(node: int) -> Iterator[None]:
    """A node whose answer is refused leaves the exchange; the log says why."""
    try:
        yield
    except (ProtocolError, SecureFLError) as error:
        _log.warning("Node %d leaves this secure aggregation: %s", node, error)


def exchange(
    grid: Grid, messages: Iterable[Message], settings: Settings, number: int, timeout: float | None
) -> list[Message]:
    """What stands for ``grid.send_and_receive``: the replies of a strategy's train or evaluate messages, as one.

    The failure of an exchange is a reply with an error, as strategies know it; they then leave the model as it is.
    """
    asked = list(messages)
    if not asked:
        return []
    try:
        return [Exchange(grid, asked, settings, number, timeout).run()]
    except (ProtocolError, SecureFLError) as error:
        _log.error("Secure aggregation did not begin: %s", error)
        return [Message(Error(ErrorCode.UNKNOWN, str(error)), reply_to=asked[0])]
