"""The coordinator's ServerApp: a run of a study, whose messages travel over this SuperLink.

Study and folder are paths on the coordinator's computer. How the run ended stands in ``OUT.flower.json`` beside the
folder: an error before the run began must not touch what is in there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from securefl import durable
from securefl.engines.flower.postman import SuperLinkLostError
from securefl.errors import RunError, SecureFLError
from securefl.flower.bundle import state_file
from securefl.flower.submit import distributed

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study that the run's configuration names."""
    out = _path(context, "out")
    try:
        coordinate(grid, context, out)
    except SecureFLError as error:
        _say(out, context, "failed", str(error))
        if isinstance(error, SuperLinkLostError):
            # Flower's process would wait for ever to report to a SuperLink that is gone.
            os._exit(1)
        raise


def coordinate(grid: Grid, context: Context, out: Path) -> None:
    """Run, or resume.

    Raises:
        SecureFLError: see ``securefl.running.run``.
    """
    # Late: it loads torch.
    from securefl import running
    from securefl.engines.flower.engine import FlowerEngine

    config = context.run_config
    wait = float(config.get("wait-seconds", 300))
    _say(out, context, "running")
    result = running.run(
        distributed(_path(context, "study")),
        out,
        resume=bool(config.get("resume", False)),
        overwrite=bool(config.get("overwrite", False)),
        progress=False,
        insecure_unchecked=bool(config.get("insecure-unchecked", False)),
        engine=running.EngineKind(
            "flower", lambda run, study, consortium: FlowerEngine(grid, run, study, consortium, wait=wait)
        ),
    )
    _say(out, context, "finished" if result.finished else "stopped")


def _path(context: Context, name: str) -> Path:
    value = str(context.run_config.get(name, ""))
    if not Path(value).is_absolute():
        raise RunError(
            f"The run's configuration gives no absolute path for {name}: use `securefl run --engine flower`."
        )
    return Path(value)


def _say(out: Path, context: Context, state: str, error: str = "") -> None:
    if not out.parent.is_dir():
        return
    said: dict[str, Any] = {"run": str(context.run_id), "state": state, "error": error}
    durable.write(state_file(out), json.dumps(said).encode(), mode=0o600)
