"""Flower without processes: a Grid that calls ClientApps, over Flower's own wire format."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN = 1


def carried(message: Message) -> Message:
    """The message as another process reads it."""
    number = message.metadata.message_id
    copy = message_from_proto(message_to_proto(message))
    copy.metadata.__dict__["_message_id"] = number
    return copy


class LoopGrid(Grid):
    """Nodes that answer at once.

    Args:
        app: of all nodes.
        nodes: how many.
        config: of each node, by its place; and of the run.

    ``hook(message, node)`` may change a message on its way to a node, raise (the app crashed) or return None (it is
    lost). ``seen`` has every message and reply that passed.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: int,
        config: Callable[[int], dict[str, Any]] = lambda k: {},
        run_config: dict[str, Any] | None = None,
    ) -> None:
        self.app = app
        self.contexts = {}
        for k in range(nodes):
            node = {"partition-id": k, "num-partitions": nodes, **config(k)}
            self.contexts[100 + k] = Context(RUN, 100 + k, node, RecordDict(), run_config or {})
        self.hook: Callable[[Message, int], Message | None] = lambda message, node: message
        self.seen: list[Message] = []
        self._numbers = itertools.count()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        replies = []
        for message in list(messages):
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"message-{next(self._numbers)}"
            sent = carried(message)
            self.seen.append(carried(message))
            try:
                arrived = self.hook(sent, node)
                if arrived is None:
                    continue
                reply = self.app(arrived, self.contexts[node])
            except Exception as error:
                reply = Message(Error(code=2, reason=str(error)), reply_to=sent)
            replies.append(carried(reply))
            self.seen.append(carried(reply))
        return replies

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(RUN)

    def create_message(self, *args: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's messages ask the process for its place in a run."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def loop_grid() -> type[LoopGrid]:
    return LoopGrid


def client_values(node: int) -> tuple[int, dict[str, np.ndarray], float]:
    """Weight, arrays and a metric of a node of ``simple_app``."""
    rng = np.random.default_rng(node)
    arrays = {
        "w": rng.normal(size=(3, 4)).astype(np.float32),
        "count": np.array(node, dtype=np.int64),
        "double": rng.normal(size=5),
    }
    return node - 50, arrays, float(rng.random())


@pytest.fixture
def values() -> Callable[[int], tuple[int, dict[str, np.ndarray], float]]:
    return client_values


@pytest.fixture
def simple_app() -> Callable[..., ClientApp]:
    """Makes ClientApps whose reply depends on the node alone."""

    def make(*mods: Any, change: Callable[[RecordDict, int], None] = lambda content, node: None) -> ClientApp:
        app = ClientApp(mods=list(mods))

        @app.train()
        def train(message: Message, context: Context) -> Message:
            n, arrays, loss = client_values(context.node_id)
            content = RecordDict(
                {
                    "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
                    "metrics": MetricRecord({"loss": loss, "per-class": [loss, 2.0], "num-examples": n}),
                }
            )
            change(content, context.node_id)
            return Message(content, reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            n, _, loss = client_values(context.node_id)
            return Message(
                RecordDict({"metrics": MetricRecord({"accuracy": loss, "num-examples": n})}), reply_to=message
            )

        @app.query()
        def query(message: Message, context: Context) -> Message:
            return Message(RecordDict({"metrics": MetricRecord({"node": context.node_id})}), reply_to=message)

        return app

    return make
