"""One study over a real SuperLink, disturbed in every round, and the model of the undisturbed local engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from securefl import deploy
from securefl.deploy import authority
from securefl.deploy.settings import AUTHORITY, COORDINATOR
from tests.processes.flower.conftest import HOSPITALS, PARTIES, Deployed, wait_for

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.slow
def test_supernodes_without_a_registered_key_are_refused(deployed: Deployed) -> None:
    folder = deployed.folders / "va"
    stranger = shutil.copytree(folder, deployed.root / "stranger")
    (stranger / "keys" / "supernode.key").write_bytes(authority.make_supernode_key()[0])
    deployed.start("stranger", stranger)
    # The control: the same script with the registered key. It has the same port, so that the stranger ends first.
    refused = "Failed to activate SuperNode"
    wait_for("a strange key is turned away", lambda: refused in deployed.log("stranger"))
    deployed.stop("stranger")
    words = _supernode(folder)
    key = words.index("--auth-supernode-private-key")
    deployed.spawn("keyless", *words[:key], *words[key + 2 :], cwd=folder)
    deployed.ended("keyless", 300)
    for name in ("stranger", "keyless"):
        assert "SuperNode ID" not in deployed.log(name), deployed.log(name)

    deployed.start("va")
    wait_for("va is let in", lambda: "SuperNode ID" in deployed.log("va"))
    wait_for("va is ready", lambda: deployed.well("va", ready=True))


@pytest.mark.slow
def test_killed_hospital_killed_party_and_restarted_superlink_leave_the_local_engines_model(
    deployed: Deployed, tmp_path: Path
) -> None:
    for name in [*HOSPITALS, *PARTIES]:
        if not deployed.runs(name):
            deployed.start(name)
    deployed.run()
    home = deployed.folders / "party-2" / "home"
    spooled = "*/party-2/spool-cleveland"
    wait_for("a contribution lies with party-2", lambda: any(home.glob(spooled)), 400, pause=0.1)
    assert not any(home.glob("*/party-2/receipt-000000"))
    deployed.kill("party-2", "securefl", "party", "serve")  # in round 0
    deployed.wait_for_rounds(1)
    home = deployed.folders / "hungary" / "home"
    wait_for("hungary takes part in round 1", lambda: any(home.glob("*/hungary/pledge-1")), 300, pause=0.1)
    deployed.kill("hungary", "securefl", "supernode")  # in round 1
    deployed.wait_for_rounds(2)
    deployed.kill(COORDINATOR, "flower-superlink")  # between rounds 1 and 2
    # It comes back with a new certificate, which the members trust without doing anything.
    deploy.renew(deployed.folders / AUTHORITY, deployed.folders / COORDINATOR)
    assert deployed.ended("run", 600) == 1
    assert "--resume" in deployed.log("run")
    wait_for("the SuperLink answers again", lambda: deployed.well(COORDINATOR))
    # Flower's own command works too.
    config = {"study": str(deployed.folders / COORDINATOR / "study"), "out": str(deployed.out)}
    number = str(deployed.flwr_run(**config, resume=True)["run-id"])
    wait_for("the resumed run ends", lambda: deployed.state(number) in ("finished", "failed"), 600)
    assert deployed.state(number) == "finished", deployed.log(COORDINATOR)
    again = deployed.register()
    assert (again.returncode, again.stdout.count("was registered before.")) == (0, 5), again.stderr

    assert [sorted(line["included"]) for line in deployed.history()] == [HOSPITALS] * 3
    local = _by_the_local_engine(deployed, tmp_path)
    assert (deployed.out / "model.safetensors").read_bytes() == (local / "model.safetensors").read_bytes()
    for command in ("verify", "audit"):
        look = [sys.executable, "-P", "-m", "securefl", command, str(deployed.out)]
        done = subprocess.run(look, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


def _supernode(folder: Path) -> list[str]:
    """The SuperNode's command in a folder's ``start.sh``."""
    lines = (folder / "start.sh").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("keep securefl supernode ")]
    return line.removeprefix("keep ").removesuffix(" &").split()


def _by_the_local_engine(deployed: Deployed, folder: Path) -> Path:
    """The same study with the same members on the local engine, which wants all keys and data in one place."""
    study = shutil.copytree(deployed.study, folder / "study")
    for name in [*HOSPITALS, *PARTIES]:
        shutil.copytree(deployed.folders / name / "keys" / name, study / "keys" / name)
    (folder / "data").mkdir()
    for name in HOSPITALS:
        shutil.copy(deployed.folders / name / "data" / f"{name}.npz", folder / "data")
    out = folder / "run"
    command = [sys.executable, "-P", "-m", "securefl", "run", str(study), "--out", str(out), "--quiet"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return out
