"""The engines that a study may run on, and a run that stays with its engine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import grpc
import psutil
import pytest
from torch import nn
from typer.testing import CliRunner

from securefl import consortium as members
from securefl import running
from securefl.cli.app import app
from securefl.errors import EngineError, RunError, StudyError
from securefl.flower import simulation as simulations
from securefl.flower.simulation import simulate
from securefl.run_folder import RUN_FILE, RunFolder
from securefl.study import Study

SIMULATION = """\
name = "Six hospitals"
seed = 7
[simulation]
baselines = []
[consortium]
hospitals = ["cleveland", "hungary", "switzerland", "va"]
parties = 2
[data]
source = "fed-heart"
standardise = "features"
[model]
kind = "logistic"
[training]
rounds = 2
learning_rate = 0.05
batch_size = 16
[server]
optimizer = "fedavgm"
"""


@pytest.fixture
def simulation(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_text(SIMULATION)
    return folder


def test_a_run_is_not_resumed_by_another_engine(simulation: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    with folder.locked():
        folder.prepare(Study.load(simulation), {"engine": "flower", "folder": str(simulation)})
    with pytest.raises(RunError, match="--engine flower"):
        running.run(simulation, folder.path, resume=True, progress=False)


def test_ray_is_for_simulations(simulation: Path, tmp_path: Path) -> None:
    text = SIMULATION.replace("[simulation]\nbaselines = []\n", "")
    text = text.replace(
        'hospitals = ["cleveland", "hungary", "switzerland", "va"]\nparties = 2', 'file = "consortium.toml"'
    )
    text = text.replace('source = "fed-heart"', 'source = "npz"\nroot = "{hospital}.npz"')
    (simulation / "study.toml").write_text(text)
    members.create(simulation, ["north", "south", "east"], ["party-1", "party-2"], None)
    with pytest.raises(StudyError, match="not a simulation"):
        simulate(simulation, tmp_path / "out")


def test_an_unknown_engine_is_a_usage_error(simulation: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    result = CliRunner().invoke(app, ["run", str(simulation), "--out", out, "--engine", "carrier-pigeon"])
    assert result.exit_code == 2
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("engine", "option", "value"),
    [
        ("local", "--connection", "consortium"),
        ("ray", "--connection", "consortium"),
        ("flower", "--workers", "2"),
        ("flower", "--base-port", "21000"),
    ],
)
def test_an_option_that_says_nothing_to_the_engine_is_refused(
    simulation: Path, tmp_path: Path, engine: str, option: str, value: str
) -> None:
    out = str(tmp_path / "out")
    command = ["run", str(simulation), "--out", out, "--engine", engine, option, value]
    with pytest.raises(EngineError, match=f"{option} says nothing to --engine {engine}"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("engine", "module"), [("local", running), ("ray", simulations)], ids=["local", "ray"]
)
def test_a_stopped_run_says_how_it_goes_on(
    simulation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, module: ModuleType
) -> None:
    given: dict[str, object] = {}

    def stopped(study: Path, out: Path, **options: object) -> running.Result:
        given.update(options)
        return running.Result(out, False, [], {}, nn.Identity())

    monkeypatch.setattr(module, "run" if engine == "local" else "simulate", stopped)
    out = tmp_path / "out"
    command = ["run", str(simulation), "--out", str(out), "--engine", engine, "--base-port", "21000"]
    said = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    named = "" if engine == "local" else f" --engine {engine}"
    assert f"go on with: securefl run {simulation} --out {out}{named} --resume\n" in said
    assert given["base_port"] == 21000


@pytest.mark.slow
def test_ray_and_the_local_engine_give_the_same_bytes(simulation: Path, tmp_path: Path) -> None:
    """However many actors there are."""
    local = running.run(simulation, tmp_path / "local", progress=False)
    for actors in (1, 2):
        out = tmp_path / f"ray-{actors}"
        result = simulate(simulation, out, actors=actors, progress=False)
        assert result.finished
        assert json.loads((out / RUN_FILE).read_text())["engine"] == "ray"
        assert (out / "model.safetensors").read_bytes() == (local.path / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_ray_that_does_not_start_ends_the_run_with_a_sentence(simulation: Path, tmp_path: Path) -> None:
    """Ray refuses so small a store of objects; the coordinator, which waits for hospitals, must not stay behind."""
    code = (
        "import sys; from pathlib import Path; from securefl.cli import main; from securefl.flower import simulation; "
        "simulation.BYTES_OF_STORE = 1; sys.argv[0] = 'securefl'; main()"
    )
    command = [sys.executable, "-c", code, "run", str(simulation), "--out", str(tmp_path / "out"), "--quiet"]
    ended = subprocess.run([*command, "--engine", "ray"], capture_output=True, text=True, timeout=250)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Error: Ray ended the simulation, go on with --resume: ")
    assert "Traceback" not in ended.stderr
    assert len(running_processes(tmp_path / "out")) == 0


@pytest.mark.slow
def test_nobody_elsewhere_reaches_a_simulations_ray_and_nobody_here_without_its_token(
    simulation: Path, tmp_path: Path
) -> None:
    """Ray unpickles what it is sent, so that whoever may talk to it may do everything."""
    command = [sys.executable, "-m", "securefl", "run", str(simulation), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "RAY_ADDRESS": "192.0.2.1:6379"}  # nobody's
    with subprocess.Popen([*command, "--quiet", "--engine", "ray"], env=environment) as process:
        listening: set[tuple[str, int]] = set()
        answers: dict[bool, grpc.StatusCode] = {}
        while not ended(process):
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    ports = listening_ports(child)
                    listening |= ports
                    if ports and child.name() == "gcs_server" and not answers:
                        port, token = max(ports)[1], child.environ()["RAY_AUTH_TOKEN"]
                        answers = {given: asked(port, token if given else "") for given in (False, True)}
    assert process.returncode == 0
    assert len(listening) > 3
    assert {address.removeprefix("::ffff:") for address, _ in listening} == {"127.0.0.1"}
    assert answers == {False: grpc.StatusCode.UNAUTHENTICATED, True: grpc.StatusCode.OK}


def ended(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    return process.returncode is not None


def listening_ports(process: psutil.Process) -> set[tuple[str, int]]:
    return {c.laddr[:2] for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def asked(port: int, token: str) -> grpc.StatusCode:
    """What Ray's control service says to whoever asks for its cluster's number."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            _, done = call.with_call(b"", metadata=metadata, wait_for_ready=True, timeout=30)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        said: grpc.StatusCode = done.code()
        return said


def running_processes(out: Path) -> list[int]:
    """Processes that have the run's folder in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(out).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
