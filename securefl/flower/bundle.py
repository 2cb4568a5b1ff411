"""What Flower ships, and where a run says how it ended. Imports nothing heavy: every process here needs it."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

APP_FILES = ("pyproject.toml", "securefl_client.py", "securefl_server.py")


def app_folder() -> Path:
    """Where the app stands; ``flwr run`` takes it as it is."""
    return Path(str(resources.files("securefl.flower"))) / "app"


def app_files() -> dict[str, bytes]:
    """The Flower app that starts the installed securefl."""
    return {name: (app_folder() / name).read_bytes() for name in APP_FILES}


def flower_environment() -> dict[str, str]:
    """For Flower's processes: they find one another by name on the path, and send no telemetry."""
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "FLWR_TELEMETRY_ENABLED": "0"}


def state_file(out: Path) -> Path:
    """Where the ServerApp says how its run ended: beside its folder, which may hold another run."""
    return out.with_name(f"{out.name}.flower.json")
