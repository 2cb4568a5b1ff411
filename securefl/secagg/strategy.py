"""The strategy's wrapper: the strategy that is wrapped sees one reply a round, the average.

It runs unchanged, over a Grid whose ``send_and_receive`` makes an exchange of every train and evaluate step.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import FedAvg, Result, Strategy

from protocols.pairwise import Policy
from securefl.secagg.exchange import Settings, exchange
from securefl.secagg.plan import EVALUATE, TRAIN, Plan, SecAggError

_NEED_EACH = ("Bulyan", "FedMedian", "FedTrimmedAvg", "FedXgbBagging", "FedXgbCyclic", "MultiKrum", "QFedAvg")
"""Strategies of Flower's that compare or keep single replies."""


class SecureAggregation(Strategy):
    """Secure aggregation for a FedAvg-like strategy (FedAvg, FedProx, FedAvgM, FedAdam, FedAdagrad, FedYogi, ...).

    ``start`` is Flower's. The strategy's ``aggregate_train`` and ``aggregate_evaluate`` get one reply: the weighted
    averages of arrays and metrics, and the sum of the weights. No client's weight or metric is seen.

    Args:
        strategy: what is wrapped.
        threshold: t, the fewest clients that must answer to the end; default ⌊2K/3⌋ + 1. More than K / 2; K are
            asked, or have pinned keys if these are fewer.
        width: bits of an entry on the wire, 64 or 32 (for small bounds).
        bound: largest absolute value of an entry of arrays and metrics; what is larger is refused, not clipped.
        max_weight: largest weight (number of examples) of a client.
        pinned: the clients' Ed25519 public keys by name, as in ``SecureMod(pinned=...)``, if they have any; one more
            step in each exchange. A client whose signature is not by its key leaves, and the others go on.
        step_timeout: seconds for each step in which the ClientApp does not work; default: the timeout of ``start``.

    Raises:
        SecAggError: the strategy needs single replies, or is not FedAvg-like; threshold or width is no whole number,
            or the threshold below 3.
        EncodingError: the bounds do not fit into the ring even for 3 clients; a pinned key is none.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        threshold: int | None = None,
        width: int = 64,
        bound: float = 2.0**16,
        max_weight: float = 2.0**20,
        pinned: Mapping[str, bytes] | None = None,
        step_timeout: float | None = None,
    ) -> None:
        needs_each = tuple(getattr(strategies, name) for name in _NEED_EACH if hasattr(strategies, name))
        if not isinstance(strategy, FedAvg) or isinstance(strategy, needs_each):
            raise SecAggError(
                f"{type(strategy).__name__} needs each client's reply, and under secure aggregation there is only "
                "their average: take FedAvg or a strategy that works on the average."
            )
        Policy(pinned=pinned)
        threshold = None if threshold is None else _whole("threshold", threshold)
        if threshold is not None and threshold < 3:
            raise SecAggError("The threshold must be at least 3: clients help to open no sum over fewer.")
        width = _whole("width", width)
        self.strategy = strategy
        self.settings = Settings(
            weight=strategy.weighted_by_key,
            threshold=threshold,
            width=width,
            bound=bound,
            max_weight=max_weight,
            pinned=dict(pinned) if pinned is not None else None,
            step_timeout=step_timeout,
        )
        Plan(weight="", bound=float(bound), max_weight=float(max_weight), cohort=3, work=b"").encoding(width)

    def start(self, grid: Grid, *args: Any, **options: Any) -> Result:
        """As the wrapped strategy's ``start``, with the same arguments."""
        return self.strategy.start(SecureGrid(grid, self.settings), *args, **options)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's."""
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The wrapped strategy's, of the one averaged reply."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The wrapped strategy's, of the one averaged reply."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The wrapped strategy's."""
        self.strategy.summary()


def _whole(name: str, value: Any) -> int:
    """NumPy's integers are taken, other numbers are not."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise SecAggError(f"The {name} must be a whole number, and {value!r} is none.") from error


class SecureGrid(Grid):
    """A Grid on which train and evaluate messages are exchanges; all else passes through."""

    def __init__(self, grid: Grid, settings: Settings) -> None:
        self._grid, self._settings, self._last = grid, settings, 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Train and evaluate messages: one reply with the averages, or with an error."""
        asked = list(messages)
        if any(m.metadata.message_type.partition(".")[0] in (TRAIN, EVALUATE) for m in asked):
            # Of the clock, so that numbers go on increasing after a second start or a ServerApp's restart.
            self._last = max(self._last + 1, time.time_ns())
            return exchange(self._grid, asked, self._settings, self._last, timeout)
        return self._grid.send_and_receive(asked, timeout=timeout)

    def set_run(self, run: Any) -> None:
        """The grid's."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """The grid's."""
        return self._grid.run

    def create_message(self, *args: Any, **options: Any) -> Message:
        """The grid's."""
        return self._grid.create_message(*args, **options)

    def get_node_ids(self) -> Iterable[int]:
        """The grid's."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Any:
        """The grid's."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """The grid's: a train message that is sent by hand is refused by the clients."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The grid's."""
        return self._grid.pull_messages(message_ids)
