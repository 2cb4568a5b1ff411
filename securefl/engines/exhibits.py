"""What each role really saw in round 1 of a simulation, kept for the report: a few thousand numbers of each kind.

Real updates are among them, hence only studies marked ``[simulation]`` keep any.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from securefl import durable

ROUND = 1
EXCERPT = 4096
"""Leading coordinates that are kept."""


def keep(folder: Path, name: str, values: NDArray[Any], count: int = EXCERPT) -> None:
    """Keep the first ``count`` entries of a vector under a name."""
    durable.write(folder / f"{name}.safetensors", save({"values": np.ascontiguousarray(values[:count])}))


def recall(folder: Path) -> dict[str, NDArray[Any]]:
    """All that was kept, by name."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return {path.stem: load(path.read_bytes())["values"] for path in files}
