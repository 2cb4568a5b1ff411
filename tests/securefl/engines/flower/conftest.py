"""A grid in memory: Flower's own messages, over Flower's own wire format, to functions instead of SuperNodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity


@dataclass(frozen=True)
class Spoilt:
    """An answer whose sender changes the objects of one type that Flower makes of it.

    Attributes:
        content: the answer.
        type: of the objects, as Flower writes it.
        change: of an object's bytes.
    """

    content: RecordDict
    type: str
    change: Callable[[bytes], bytes]


Node = Callable[[Message], RecordDict | Spoilt | None]
"""A node's answer; None is silence. An exception is a ClientApp that crashed."""


def inflated(answer: RecordDict | Spoilt, message: Message) -> Message:
    """A reply as Flower's client puts it together from its objects."""
    spoilt = answer if isinstance(answer, Spoilt) else Spoilt(answer, "", bytes)
    reply = Message(spoilt.content, reply_to=message)
    contents = {}
    for number, made in get_all_nested_objects(reply).items():
        data = made.deflate()
        contents[number] = spoilt.change(data) if type(made).__name__ == spoilt.type else data
    return inflate_object_from_contents(reply.object_id, contents)


class MemoryGrid(Grid):
    """Nodes answer when they are asked for their answers.

    Args:
        nodes: by number.
        names: under which they are registered.
    """

    def __init__(self, nodes: dict[int, Node], names: dict[int, str] | None = None) -> None:
        self.nodes, self.names = nodes, names or {}
        self.away: set[int] = set()
        self.starts: dict[int, int] = {}
        self.pushed: list[Message] = []
        self._waiting: dict[str, Message] = {}
        self._claimed: set[str] = set()
        self._numbers = itertools.count()

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return [node for node in self.nodes if node not in self.away]

    def get_nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(
                node_id=node, name=self.names.get(node, ""), last_activated_at=str(self.starts.get(node, 1))
            )
            for node in self.get_node_ids()
        ]

    def restart(self, node: int, behaviour: Node) -> None:
        """A node ends with the mail that it took, and another process comes in its place."""
        self._waiting = {n: m for n, m in self._waiting.items() if m.metadata.dst_node_id != node}
        self.nodes[node], self.starts[node] = behaviour, self.starts.get(node, 1) + 1

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        numbers = []
        for message in messages:
            number = f"message-{next(self._numbers)}"
            message.metadata.__dict__["_message_id"] = number
            carried = message_from_proto(message_to_proto(message))
            carried.metadata.__dict__["_message_id"] = number
            self._waiting[number] = carried
            self.pushed.append(carried)
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        # As Flower's own: the SuperLink forgets all replies that it hands out, and then they are put together.
        claimed: list[tuple[Message, RecordDict | Spoilt | Error]] = []
        for number in list(message_ids):
            message = self._waiting.get(number)
            if message is None or message.metadata.dst_node_id in self.away:
                continue
            answer = self._answer(number, message)
            if answer is not None:
                claimed.append((message, answer))
        self._claimed |= {message.metadata.message_id for message, _ in claimed}
        replies = [
            Message(answer, reply_to=message) if isinstance(answer, Error) else inflated(answer, message)
            for message, answer in claimed
        ]
        for message, _ in claimed:
            del self._waiting[message.metadata.message_id]
        return replies

    def _answer(self, number: str, message: Message) -> RecordDict | Spoilt | Error | None:
        if number in self._claimed:
            return Error(code=1, reason="unavailable")
        try:
            return self.nodes[message.metadata.dst_node_id](message)
        except Exception:
            return Error(code=8, reason="crashed")

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError


@pytest.fixture
def memory_grid(monkeypatch: pytest.MonkeyPatch) -> type[MemoryGrid]:
    """Makes grids. Flower's messages ask the process for its place in a run."""
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    return MemoryGrid
