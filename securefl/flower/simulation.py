"""``securefl run --engine ray``: a simulation of many hospitals over Flower's Ray backend.

The actors are few and stay; each is any hospital in turn, and keeps nothing of one but what is on disk and a cache.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from securefl import running
from securefl.engines.hospital_node import HospitalNode, HospitalPlaces
from securefl.errors import EngineError, StudyError
from securefl.run_folder import RunFolder
from securefl.study import Study
from securefl.training.determinism import ENVIRONMENT

BYTES_OF_STORE = 256 << 20
"""Of Ray's object store; a message is in it only on its way."""
ENCLOSED = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux as well: Ray listens on 127.0.0.1 alone
    "RAY_AUTH_MODE": "token",
}
"""Ray unpickles what its ports are sent: only processes of this computer reach them, and need a token."""


def simulate(
    study_path: Path, out: Path, *, actors: int | None = None, base_port: int | None = None, **options: Any
) -> running.Result:
    """Run a simulation's hospitals in Ray's actors.

    Args:
        study_path: a study with ``[simulation]``.
        out: as ``securefl.running.run``, as are the ``options``.
        actors: processes for the hospitals (default: one a processor). The model does not depend on it.
        base_port: first port of the parties' mesh (default: free ones are found).

    Raises:
        EngineError: Ray is not installed, does not start, or its processes were ended.
        StudyError: the study is not a simulation.
        SecureFLError: see ``securefl.running.run``.
    """
    if importlib.util.find_spec("ray") is None:
        raise EngineError("Ray is not installed: pip install 'securefl[simulation]'.")
    study = Study.load(study_path)
    if not study.simulation:
        raise StudyError(f"{study_path} is not a simulation: run it with --engine local or --engine flower.")
    os.environ.update({**ENVIRONMENT, "FLWR_TELEMETRY_ENABLED": "0", **ENCLOSED})
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # a process's Ray reads it once
    # Late: an extra, and seconds to load.
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from securefl.engines.flower.simulated import SimulatedEngine

    results: list[running.Result] = []
    failures: list[BaseException] = []
    broken = threading.Event()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        kind = running.EngineKind(
            "ray", lambda run, s, c: SimulatedEngine(grid, run, s, c, broken, base_port)
        )
        try:
            results.append(running.run(study, out, engine=kind, base_port=base_port, **options))
        except BaseException as error:
            failures.append(error)

    names = study.settings.consortium.hospital_names()
    count = min(actors or os.cpu_count() or 1, len(names))
    backend: Any = {
        "init_args": {
            "address": "local",  # never a cluster that runs already, whatever RAY_ADDRESS says
            "num_cpus": count,
            "object_store_memory": BYTES_OF_STORE,
            "include_dashboard": False,
            "log_to_driver": False,
        },
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # of what goes wrong, one sentence is said below
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            client = _client_app(names, places_of(study, out))
            run_simulation(server, client, len(names), backend_config=backend)
        except RuntimeError as error:
            # The ServerApp's thread would wait for its hospitals for ever.
            broken.set()
            raise EngineError(f"Ray ended the simulation, go on with --resume: {_root(error)}") from error
    if failures:
        raise failures[0]
    return results[0]


def _root(error: BaseException) -> str:
    """What went wrong first, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."


def places_of(study: Study, out: Path) -> HospitalPlaces:
    """Where a simulation's hospitals find and keep things: in its run, as under the local engine."""
    run, file = RunFolder(out.absolute()), study.settings.consortium.file
    beside = (study.folder / file).parent if file else None
    return HospitalPlaces(
        study=study.folder.absolute(),
        consortium=study.folder.absolute() / file if file else run.consortium_file,
        keys=beside / "keys" if beside else run.keys,
        home=run.homes,
        socket=run.path / "none.sock",
        exhibits=run.exhibits,
        clear=run.clear,
        privacy=beside / "privacy" if beside else run.privacy,
    )


@cache
def _node(places: HospitalPlaces) -> HospitalNode:
    """One for an actor, made when the first message comes: the run's folder is then prepared."""
    from securefl.training.determinism import settle

    settle()
    return HospitalNode(places)


def _client_app(names: list[str], places: HospitalPlaces) -> Any:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

    from protocols.errors import ProtocolError
    from securefl.engines.flower import mail
    from securefl.errors import SecureFLError
    from securefl.flower.client_app import joined

    app = ClientApp()

    def name_of(context: Context) -> str:
        return names[int(context.node_config["partition-id"])]

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return Message(mail.greeting(name_of(context)), reply_to=message)

    @app.query("mail")
    def deliver(message: Message, context: Context) -> Message:
        try:
            node, hospital = _node(places), name_of(context)
            reply = joined([node.handle(hospital, letter) for letter in mail.unpacked(message.content)])
        except (SecureFLError, ProtocolError) as error:
            # A simulation has one operator, who may read it all.
            return Message(mail.refused(str(error)), reply_to=message)
        return Message(mail.packed_reply(reply), reply_to=message)

    return app
