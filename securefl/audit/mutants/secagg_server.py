"""Mutants of the drop-in secure aggregation whose server says, to each client apart, what to work on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocols.signing import SigningKey
from securefl.audit.mutants.secagg import a_place_in_flower
from securefl.audit.quiet import quiet
from securefl.audit.registry import Finding, Mutant

NODES = (101, 102, 103, 104)
VICTIM = NODES[1]
SIZE, EXAMPLES = 32, 20
BOUNDS: dict[str, Any] = {"bound": 8.0, "max_weight": 1000.0, "width": 64}
Sent = Callable[[Any, Any], None]
"""What the server changes of a message on its way to a node, and in that node's context of what it says of the run."""

Epochs = Callable[[int], int]
"""What the SuperLink says of the run to a node, from the beginning."""
Examples = Callable[[int], int]
"""How many records a node has."""


def update(node: int) -> NDArray[np.float64]:
    """(SIZE,) numbers that a client's training adds to the model, at a learning rate of 1 and in one epoch."""
    return np.random.default_rng(node).uniform(-1, 1, SIZE)


class Nodes:
    """A Grid of clients with pinned keys, in this process.

    Args:
        make: the mod, of the pinned keys.
        folder: for the clients' keys.
        sent: what the server does to messages of training.
        epochs: of the run's configuration, by node.
        examples: of each node, its weight.
    """

    run = SimpleNamespace(run_id=1)

    def __init__(
        self, make: Callable[..., Any], folder: Path, sent: Sent, epochs: Epochs, examples: Examples
    ) -> None:
        from flwr.app import Context, RecordDict

        keys = {node: SigningKey.generate() for node in NODES}
        self._sent, self.contexts = sent, {}
        for node, key in keys.items():
            place = folder / f"{node}.key"
            place.write_bytes(key.private_bytes())
            place.chmod(0o600)
            config: Any = {"secagg-name": str(node), "secagg-key": str(place)}
            self.contexts[node] = Context(1, node, config, RecordDict(), {"epochs": epochs(node)})
        self.pinned = {str(node): key.public for node, key in keys.items()}
        self._app = app_with(make(pinned=self.pinned, corrupted=1, weight="num-examples", **BOUNDS), examples)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        """Each client's answer."""
        from flwr.app import Message, RecordDict

        from securefl.secagg import mail

        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            # Each has a copy, as it would have from the wire.
            content = RecordDict({name: type(r)(dict(r)) for name, r in message.content.items()})
            copy = Message(content, node, "train", group_id=message.metadata.group_id or None)
            if mail.unpacked(content)[0] == mail.MASK:
                self._sent(copy, self.contexts[node])
            replies.append(self._app(copy, self.contexts[node]))
        return replies


def app_with(mod: Any, examples: Examples) -> Any:
    """A ClientApp that trains: the model, plus learning rate and epochs times the node's update."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp(mods=[mod])

    def train(message: Any, context: Any) -> Any:
        model, rate = message.content["arrays"]["w"].numpy(), message.content["config"]["lr"]
        trained = model + rate * context.run_config["epochs"] * update(context.node_id)
        records: Any = {
            "arrays": ArrayRecord({"w": Array(trained)}),
            "metrics": MetricRecord({"num-examples": examples(context.node_id)}),
        }
        return Message(RecordDict(records), reply_to=message)

    app.train()(train)
    return app


def work(model: NDArray[np.float64], rate: float) -> Any:
    """The records of a message of training."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    records: Any = {"arrays": ArrayRecord({"w": Array(model)}), "config": ConfigRecord({"lr": rate})}
    return RecordDict(records)


def read(
    make: Callable[..., Any], agreed: Any, sent: Sent, epochs: Epochs = lambda node: 1
) -> tuple[int, str]:
    """A round in which the server agrees with all on the same and then sends what it likes.

    Returns how many coordinates of the victim's update are in the average, and the reason if there was none.
    """
    from flwr.app import Message
    from flwr.serverapp.strategy import FedAvg

    from securefl.secagg import SecureAggregation
    from securefl.secagg.strategy import SecureGrid

    with a_place_in_flower(), quiet(), tempfile.TemporaryDirectory() as folder:
        nodes: Any = Nodes(make, Path(folder), sent, epochs, lambda node: EXAMPLES)
        settings = SecureAggregation(FedAvg(), pinned=nodes.pinned, **BOUNDS).settings
        messages = [Message(agreed, node, "train") for node in NODES]
        replies: list[Any] = list(SecureGrid(nodes, settings).send_and_receive(messages))
    [reply] = replies
    if reply.has_error():
        return 0, reply.error.reason
    total = reply.content["arrays"]["w"].numpy() * len(NODES)
    return int(np.isclose(total, update(VICTIM), atol=1e-6).sum()), ""


def _replace(records: Callable[[], Any], to: Callable[[int], bool]) -> Sent:
    def sent(message: Any, context: Any) -> None:
        if to(context.node_id):
            for name, record in records().items():
                message.content[name] = record

    return sent


def nothing(message: Any, context: Any) -> None:
    """What a server sends that keeps to what was agreed on."""


def _other_work(make: Callable[..., Any]) -> Mapping[str, int]:
    """Nothing to learn for all but one; agreed on is what that one gets, or what the others get."""
    still, real = lambda: work(np.zeros(SIZE), 0.0), lambda: work(np.zeros(SIZE), 1.0)
    return {
        "agreed_with_the_victim": read(make, real(), _replace(still, lambda node: node != VICTIM))[0],
        "agreed_with_the_others": read(make, still(), _replace(real, lambda node: node == VICTIM))[0],
    }


def _other_epochs(make: Callable[..., Any]) -> Mapping[str, int]:
    """No epoch for all but one, from the beginning or only once all have agreed."""
    epochs = lambda node: int(node == VICTIM)  # noqa: E731

    def late(message: Any, context: Any) -> None:
        context.run_config["epochs"] = epochs(context.node_id)

    agreed = work(np.zeros(SIZE), 1.0)
    return {
        "from_the_beginning": read(make, agreed, nothing, epochs)[0],
        "once_agreed": read(make, agreed, late)[0],
    }


def _works(make: Callable[..., Any]) -> bool:
    """Whether an honest round has a sum."""
    return not read(make, work(np.zeros(SIZE), 1.0), nothing)[1]


def _trusting() -> Any:
    from securefl.secagg import SecureMod

    class Trusting(SecureMod):
        """Works on whatever it is sent."""

        def _check_work(self, message: Any, plan: Any) -> None:
            pass

    return Trusting


def _work_breaks() -> Finding:
    make = _trusting()
    found = _other_work(make)
    said = f"A server that gave all others nothing to learn read {min(found.values())} of {SIZE} coordinates."
    return Finding(set(found.values()) == {SIZE} and _works(make), said, found)


def _without_setting() -> Any:
    from securefl.secagg import SecureMod

    class OneSetting(SecureMod):
        """Takes every configuration of the run for the same."""

        def _client(self, context: Any, purpose: str) -> Any:
            client = super()._client(context, purpose)
            client._setting = b""
            return client

    return OneSetting


def _setting_breaks() -> Finding:
    make = _without_setting()
    found = _other_epochs(make)
    said = (
        f"A server that gave all others no epoch to train read {min(found.values())} of {SIZE} coordinates."
    )
    return Finding(set(found.values()) == {SIZE} and _works(make), said, found)


def _work_caught() -> Finding:
    from securefl.secagg import SecureMod

    return _caught(_other_work(SecureMod))


def _setting_caught() -> Finding:
    from securefl.secagg import SecureMod

    return _caught(_other_epochs(SecureMod))


def _caught(found: Mapping[str, int]) -> Finding:
    from securefl.secagg import SecureMod

    honest = _works(SecureMod)
    said = (
        f"It read {max(found.values())} of {SIZE} coordinates, and a round in which all get the same "
        f"{'has a' if honest else 'has no'} sum."
    )
    return Finding(not any(found.values()) and honest, said, found)


MUTANTS = (
    Mutant(
        "secagg-other-work",
        "secagg-same-work",
        "A client trains on whatever model and configuration it is sent, also if the others got something else.",
        _work_breaks,
        _work_caught,
    ),
    Mutant(
        "secagg-other-setting",
        "secagg-same-work",
        "A client trains with whatever configuration of the run it is told, also if the others are told another.",
        _setting_breaks,
        _setting_caught,
    ),
)
