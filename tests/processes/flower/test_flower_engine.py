"""One study over a real SuperLink, disturbed in every round, and the model of the undisturbed local engine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_supernode_that_is_not_registered_is_refused(deployment: Any) -> None:
    stranger = deployment.root / "stranger.key"
    deployment_key = deployment.root / "va" / "supernode.key"
    assert not stranger.exists()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    stranger.touch(mode=0o600)
    stranger.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    assert stranger.read_bytes() != deployment_key.read_bytes()
    deployment.supernode("va", key=stranger, name="stranger")
    deployment.ended("stranger", 90)
    assert "SuperNode ID" not in deployment.log("stranger")
    # The control: the same command with the registered key is let in.
    end = time.monotonic() + 60
    while "SuperNode ID" not in deployment.log("node-va"):
        assert time.monotonic() < end, deployment.log("node-va")
        time.sleep(0.5)


def test_killed_hospital_killed_party_and_restarted_superlink_leave_the_local_engines_model(
    deployment: Any, tmp_path: Path
) -> None:
    deployment.run()
    deployment.wait_for_rounds(1)
    deployment.kill("node-hungary")  # in round 1, which has begun
    deployment.come_back("hungary")
    deployment.wait_for_rounds(2)
    deployment.kill("party-2")  # in round 2
    deployment.party("party-2")
    deployment.kill("superlink")
    deployment.superlink()
    # Either the ServerApp finds the SuperLink again, or the run says how to go on.
    if deployment.ended("run", 400) != 0:
        assert "--resume" in deployment.log("run")
        deployment.run("--resume")
        assert deployment.ended("run", 300) == 0, deployment.log("run")

    out = tmp_path / "local"
    local = [
        sys.executable,
        "-P",
        "-m",
        "securefl",
        "run",
        str(deployment.study),
        "--out",
        str(out),
        "--quiet",
    ]
    subprocess.run(local, check=True, capture_output=True, timeout=240)
    everybody = ["cleveland", "hungary", "va"]
    assert [sorted(line["included"]) for line in deployment.history()] == [everybody] * 3
    model = (deployment.out / "model.safetensors").read_bytes()
    assert model == (out / "model.safetensors").read_bytes()
    receipts = [sys.executable, "-P", "-m", "securefl", "verify", str(deployment.out)]
    assert subprocess.run(receipts, capture_output=True, timeout=120).returncode == 0
