"""A hospital's trainer, made when a message first needs its records or its model.

Of a round's four messages to a hospital only the announcement does. Where each is a process of its own, as over Flower,
the other three start without torch, without the study's code and without the records.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from securefl.roles.host import Store
from securefl.training.server import Vector

if TYPE_CHECKING:
    from securefl.training.private import PrivateTrainer
    from securefl.training.trainer import Trainer

LAYOUT = "layout"
"""In the hospital's store: how many leading coordinates of the model are parameters."""


class LateTrainer:
    """As the trainer that ``make`` makes, which is kept.

    Attributes:
        seconds: how long the last step trained; the rest of a step is encoding, sharing and sealing.
        last: the update that the last step computed, if any.
    """

    def __init__(self, make: Callable[[], Trainer | PrivateTrainer]) -> None:
        self._make = make
        self._trainer: Trainer | PrivateTrainer | None = None
        self._statistics: Vector | None = None
        self.begin_step()

    def begin_step(self) -> None:
        """Forget what the step before took."""
        self.seconds = 0.0
        self.last: Vector | None = None

    def trainable_size(self, store: Store) -> int:
        """Parameters among the model's coordinates: of the store, or else of the model, and then stored."""
        if not (kept := store.get(LAYOUT, b"")).isdigit():
            kept = b"%d" % self._made().layout.trainable_size
            store.keep(LAYOUT, kept)
        return int(kept)

    def initial_model(self) -> Vector:
        """As the trainer."""
        return self._made().initial_model()

    def statistics(self) -> Vector:
        """As the trainer."""
        return self._made().statistics()

    def use_statistics(self, total: Vector) -> None:
        """As the trainer, which is not made for it."""
        self._statistics = total

    def update(self, model: Vector, round_: int) -> Vector:
        """As the trainer, timed."""
        trainer = self._made()
        if self._statistics is not None:
            trainer.use_statistics(self._statistics)
        started = time.perf_counter()
        self.last = trainer.update(model, round_)
        self.seconds += time.perf_counter() - started
        return self.last

    def _made(self) -> Trainer | PrivateTrainer:
        if self._trainer is None:
            self._trainer = self._make()
        return self._trainer
