"""A grid in memory: Flower's own messages, over Flower's own wire format, to functions instead of SuperNodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

Node = Callable[[Message], RecordDict | None]
"""A node's answer; None is silence. An exception is a ClientApp that crashed."""


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
        replies = []
        for number in list(message_ids):
            message = self._waiting.get(number)
            if message is None or message.metadata.dst_node_id in self.away:
                continue
            try:
                answer = self.nodes[message.metadata.dst_node_id](message)
            except Exception:
                reply = Message(Error(code=8, reason="crashed"), reply_to=message)
            else:
                if answer is None:
                    continue
                reply = Message(answer, reply_to=message)
            del self._waiting[number]
            replies.append(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError


@pytest.fixture
def memory_grid(monkeypatch: pytest.MonkeyPatch) -> type[MemoryGrid]:
    """Makes grids. Flower's messages ask the process for its place in a run."""
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    return MemoryGrid
