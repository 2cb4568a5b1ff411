"""The small app of examples/, plain and with the difference that docs/secagg.md shows, side by side."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file

from securefl.secagg.client_mod import _read_key

ROOT = Path(__file__).parents[3]
APP = ROOT / "examples" / "flower_app"
DOCS = ROOT / "docs" / "secagg.md"
TOLERANCE = 1e-6
"""Of a parameter after two rounds: the averages are rounded to float32 in another order."""


def the_diff():
    [diff] = re.findall(r"```diff\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return diff


def apply(diff, folder):
    """A strict reader of unified differences: every line of context must be where it says."""
    for part in re.split(r"(?m)^--- a/", diff)[1:]:
        path = folder / part.splitlines()[0]
        old, new, at = path.read_text().splitlines(), [], 0
        for start, hunk in re.findall(r"(?ms)^@@ -(\d+)[^\n]*@@\n(.*?)(?=^@@|\Z)", part):
            new += old[at : int(start) - 1]
            at = int(start) - 1
            for line in hunk.splitlines():
                kind, text = line[:1], line[1:]
                if kind in (" ", "-", ""):
                    assert old[at] == text, f"{path.name} differs from the documentation at line {at + 1}"
                    at += 1
                if kind in (" ", "+", ""):
                    new.append(text)
        path.write_text("\n".join(new + old[at:]) + "\n")


@pytest.fixture
def apps(tmp_path):
    """Two folders: the plain app, and the app with the difference applied."""
    for name in ("plain", "secure"):
        shutil.copytree(APP, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    apply(the_diff(), tmp_path / "secure")
    return {name: tmp_path / name for name in ("plain", "secure")}


def changed(diff):
    return [line for line in diff.splitlines() if re.match(r"[+-](?!\+\+ b/|-- a/)", line)]


def test_the_difference_is_at_most_five_lines_even_counted_twice():
    """A replaced line counts once as removed and once as added."""
    assert len(changed(the_diff())) == 5


def test_the_count_sees_every_changed_line():
    assert len(changed("--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-a\n+b\n+c\n d\n")) == 3


def test_a_difference_that_does_not_fit_is_noticed(apps):
    with pytest.raises(AssertionError, match="differs from the documentation"):
        apply(the_diff().replace(" strategy = FedAvg()", " strategy = FedProx()"), apps["plain"])


def config():
    return tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]


def load(folder, monkeypatch):
    """The app's ServerApp and ClientApp, from this folder."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "flower_app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder))
    return [importlib.import_module(f"flower_app.{half}_app").app for half in ("server", "client")]


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_in_process(folder, loop_grid, monkeypatch, tmp_path, fails=lambda message, node: False):
    server, client = load(folder, monkeypatch)
    settings = {**config(), "out": str(tmp_path / f"{folder.name}.safetensors")}
    grid = loop_grid(client, 4, run_config=settings)

    def hook(message, node):
        if fails(message, node):
            raise OSError("out of memory")
        return message

    grid.hook = hook
    server(grid, Context(1, 1, {}, RecordDict(), settings))
    return load_file(settings["out"]), grid


def largest_difference(first, second):
    assert set(first) == set(second)
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def in_round_two(message, node):
    """A client's training fails in round 2: where the app is secure, after it has shared its keys."""
    config = message.content.config_records.get("config")
    return (
        node == 102
        and message.metadata.message_type == "train"
        and config is not None
        and config["server-round"] == 2
    )


def test_both_apps_make_the_same_model(apps, loop_grid, monkeypatch, tmp_path):
    plain, _ = run_in_process(apps["plain"], loop_grid, monkeypatch, tmp_path)
    secure, grid = run_in_process(apps["secure"], loop_grid, monkeypatch, tmp_path)
    assert largest_difference(plain, secure) < TOLERANCE
    assert any("securefl.secagg" in m.content for m in grid.seen if not m.has_error())
    assert not any(message.has_error() for message in grid.seen)


def test_both_apps_make_the_same_model_when_a_client_fails_in_a_round(apps, loop_grid, monkeypatch, tmp_path):
    whole, _ = run_in_process(apps["plain"], loop_grid, monkeypatch, tmp_path)
    plain, _ = run_in_process(apps["plain"], loop_grid, monkeypatch, tmp_path, in_round_two)
    secure, _ = run_in_process(apps["secure"], loop_grid, monkeypatch, tmp_path, in_round_two)
    assert largest_difference(plain, secure) < TOLERANCE
    # The control: without the client the model is another one.
    assert largest_difference(whole, secure) > 100 * TOLERANCE


@pytest.mark.parametrize("half", ["client_app.py", "server_app.py"])
def test_half_of_the_difference_does_not_send_an_update_in_the_open(
    apps, loop_grid, monkeypatch, tmp_path, half
):
    """With the mod alone clients refuse; with the wrapper alone the plain ClientApp has nothing to answer."""
    other = "server_app.py" if half == "client_app.py" else "client_app.py"
    shutil.copy(apps["plain"] / "flower_app" / other, apps["secure"] / "flower_app" / other)
    server, client = load(apps["secure"], monkeypatch)
    settings = {**config(), "out": str(tmp_path / "none.safetensors")}
    grid = loop_grid(client, 4, run_config=settings)
    server(grid, Context(1, 1, {}, RecordDict(), settings))
    assert load_file(settings["out"]) == {}
    replies = [message for message in grid.seen if message.metadata.reply_to_message_id]
    assert replies
    assert all(message.has_error() for message in replies)


def test_the_documentations_commands_make_a_key_that_a_node_takes(tmp_path):
    [commands] = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    [place] = set(re.findall(r"/var/lib/\S+\.key", commands))
    script = commands.replace(place, str(tmp_path / "oslo.key")).replace("python ", f"{sys.executable} ")
    done = subprocess.run(
        ["/bin/sh", "-euc", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert _read_key(tmp_path / "oslo.key").public == bytes.fromhex(done.stdout)


SIMULATION = """
import sys
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from flower_app.client_app import app as client
from flower_app.server_app import app as server

settings = {settings!r}

def configured(context):
    # run_simulation has no run_config of its own.
    return Context(context.run_id, context.node_id, context.node_config, context.state, settings)

class Configured(ClientApp):
    def __call__(self, message, context):
        context = configured(context)
        config = message.content.config_records.get("config")
        if message.metadata.message_type == "train" and config and config["server-round"] == 2:
            if context.node_config["partition-id"] == 2:
                raise OSError("out of memory")
        return client(message, context)

outer = ServerApp()

@outer.main()
def main(grid, context):
    server(grid, configured(context))

run_simulation(outer, Configured(), 4, backend_config={{
    "init_args": {{"num_cpus": 2, "include_dashboard": False, "object_store_memory": 128 << 20}},
    "client_resources": {{"num_cpus": 1, "num_gpus": 0.0}},
}})
"""


@pytest.mark.slow
def test_both_apps_run_in_flowers_simulation_and_make_the_same_model(apps, tmp_path):
    """Four clients in Ray's processes, two rounds; one of them fails in the second."""
    models = {}
    for name, folder in apps.items():
        out = tmp_path / f"{name}.safetensors"
        script = tmp_path / f"{name}.py"
        script.write_text(SIMULATION.format(settings={**config(), "out": str(out)}))
        done = subprocess.run(
            [sys.executable, str(script)],
            env={
                **os.environ,
                "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
                "FLWR_TELEMETRY_ENABLED": "0",
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_agent_register_timeout_ms": "120000",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert out.exists(), done.stdout[-2000:] + done.stderr[-2000:]
        models[name] = load_file(out)
        said = done.stdout + done.stderr
        assert ("Secure aggregation: a sum over 3 of 4 clients" in said) == (name == "secure")
    assert largest_difference(models["plain"], models["secure"]) < TOLERANCE
