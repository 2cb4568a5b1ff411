"""The server's step: from the opened sum to the next model. Anyone who has the outcomes can repeat it, bit for bit.

Source: FedAvg, McMahan et al. 2017, algorithm 1; FedAvgM, Hsu, Qi and Brown 2019, section 4.2
    (v <- beta v + delta, x <- x + eta v). Buffers (running means and variances) are averaged without momentum and
    with factor 1: they are measurements, not directions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocols.canonical import digest
from securefl.study.training_settings import ServerSettings

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ServerState:
    """The global model after some rounds.

    Attributes:
        model: (D,) float64, parameters first, then floating buffers; hospitals train its float32 image.
        velocity: (D,) float64, zero where there is no momentum.
        round: rounds of training that led here; 0 is the initial model.
    """

    model: Vector
    velocity: Vector
    round: int

    @classmethod
    def initial(cls, model: Vector) -> ServerState:
        """The state before the first round."""
        return cls(model, np.zeros_like(model), 0)

    def digest(self) -> bytes:
        """32 bytes that name this state: model, velocity and round."""
        parts = [hashlib.sha256(v.data.cast("B")).digest() for v in (self.model, self.velocity)]
        return digest("model", [self.round, *parts])

    def step(self, delta: Vector, trainable: int, settings: ServerSettings) -> ServerState:
        """Apply one round's weighted mean update.

        Args:
            delta: (D,) the opened sum of (n_k / N) u_k, decoded.
            trainable: how many leading coordinates are parameters; the rest are buffers.
            settings: FedAvg or FedAvgM, with its rates.
        """
        momentum = settings.momentum if settings.optimizer == "fedavgm" else 0.0
        velocity = np.zeros_like(self.velocity)
        velocity[:trainable] = momentum * self.velocity[:trainable] + delta[:trainable]
        model = self.model.copy()
        model[:trainable] += settings.learning_rate * velocity[:trainable]
        model[trainable:] += delta[trainable:]
        return ServerState(model, velocity, self.round + 1)
