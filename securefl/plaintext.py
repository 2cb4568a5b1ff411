"""The same encoded integers, added in the clear: simulations only.

Each hospital of a simulation leaves the integers that it encoded, before they are shared, in the run folder. After
every round they are added here by plain NumPy, without ring, shares, envelopes or committee, and a second model takes
the same steps. If secure aggregation is exact, the two models are the same, bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from securefl import durable
from securefl.roles.terms import UPDATE
from securefl.run_folder import RunFolder
from securefl.training.server import ServerState, Vector
from securefl.world import World


def leave(folder: Path, hospital: str, round_: int, encoded: NDArray[np.int64]) -> None:
    """Leave a hospital's encoded update of a round; the one before is replaced.

    Args:
        encoded: (D,) the integers that enter the ring.
    """
    durable.replace(_place(folder, hospital, round_), save({"encoded": encoded}))
    _place(folder, hospital, round_ - 1).unlink(missing_ok=True)


@dataclass(frozen=True)
class Twin:
    """The model that grows from the integers in the clear.

    Attributes:
        state: after the rounds so far.
        accuracy: after each of them.
    """

    state: ServerState
    accuracy: list[float]

    @classmethod
    def recall(cls, run: RunFolder, world: World) -> Twin:
        """As it was kept, or the beginning."""
        path = run.baselines / "plaintext.safetensors"
        if not path.exists():
            return cls(ServerState.initial(world.initial), [])
        tensors = load(path.read_bytes())
        state = ServerState(tensors["model"], tensors["velocity"], len(tensors["accuracy"]))
        return cls(state, tensors["accuracy"].tolist())

    def follow(self, run: RunFolder, world: World, included: list[str], round_: int, statistics: Any) -> Twin:
        """After one more round; this twin again if a hospital's integers of that round are not there."""
        found = [_place(run.clear, hospital, round_) for hospital in included]
        if self.state.round != round_ - 1 or not all(path.exists() for path in found):
            return self
        known = [load(path.read_bytes())["encoded"] for path in found]
        total: NDArray[np.int64] = np.sum(known, axis=0, dtype=np.int64)
        delta: Vector = total.astype(np.float64) / 2.0 ** world.terms.encoding(UPDATE).fraction_bits
        state = self.state.step(delta, world.layout.trainable_size, world.study.settings.server)
        score = world.score(state.model, statistics)
        return Twin(state, [*self.accuracy, score.accuracy if score else float("nan")])

    def keep(self, run: RunFolder) -> None:
        """Keep it for a resume, and its results for the comparison."""
        tensors = {
            "model": self.state.model,
            "velocity": self.state.velocity,
            "accuracy": np.array(self.accuracy),
        }
        durable.replace(run.baselines / "plaintext.safetensors", save(tensors))
        result = {"accuracy": self.accuracy, "model": self.state.digest().hex(), "hospitals": None}
        durable.replace(run.baselines / "plaintext.json", json.dumps(result).encode(), mode=0o644)


def _place(folder: Path, hospital: str, round_: int) -> Path:
    return folder / f"{hospital}-{round_}.safetensors"
