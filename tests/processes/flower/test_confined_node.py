"""A confined SuperNode at a real SuperLink: it takes part while its permit holds, and the receipts say when not."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocols.signing import SigningKey
from securefl import consortium as members
from securefl.deploy import authority
from securefl.domain import child, sandbox
from securefl.domain.child import Child
from securefl.permit import Permit, Revocation, SignedPermit, SignedRevocation
from securefl.roles.refusals import told
from securefl.study import Study
from tests.processes.flower.conftest import HOSPITALS, PARTIES, Deployed, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CONFINED = "cleveland"
STEWARD = SigningKey.generate()


def approved(deployed: Deployed, home: Path) -> tuple[Permit, Path]:
    """A permit for the deployed study, and its folder."""
    consortium = members.load(deployed.study / "consortium.toml")
    permit = Permit(
        number=secrets.token_bytes(16), study=Study.load(deployed.study).digest(consortium.digest()),
        proposal=b"p" * 32, hospital=CONFINED, dataset="records", purpose="", runs=1, epsilon="", delta="", unit="",
        not_before=0, expires=int(time.time()) + 3600, steward="s", researcher="r", reason="",
    )  # fmt: skip
    SignedPermit.of(permit, STEWARD).save(home / "permit")
    return permit, home / "permit"


def start(deployed: Deployed, folder: Path, home: Path) -> Child:
    permit, place = approved(deployed, home)
    return child.start(
        study=deployed.study, digest=permit.study, permit=place, steward=STEWARD.public, hospital=folder,
        data=deployed.folders / CONFINED / "data", run=home / "run",
    )  # fmt: skip


def test_a_superlink_of_another_authority_is_not_spoken_to(deployed: Deployed, tmp_path: Path) -> None:
    # Inside, every SuperLink is 127.0.0.1: the certificate alone tells the right one.
    folder = shutil.copytree(deployed.folders / CONFINED, tmp_path / CONFINED)
    (folder / "ca.pem").write_bytes(authority.make_authority()[1])
    node = start(deployed, folder, tmp_path)
    try:
        wait_for("it does not trust the SuperLink", lambda: "certificate" in node.logs.read_text().lower())
        assert "SuperNode ID" not in node.logs.read_text()
    finally:
        node.stop()


def test_a_confined_node_takes_part_until_its_permit_is_revoked(deployed: Deployed, tmp_path: Path) -> None:
    node = start(deployed, deployed.folders / CONFINED, tmp_path)
    try:
        assert node.confinement.complete or node.confinement.reason == sandbox.hindrance()
        wait_for("it is let in", lambda: "SuperNode ID" in node.logs.read_text())
        for name in [*HOSPITALS, *PARTIES]:
            if name != CONFINED:
                deployed.start(name)
        deployed.run()
        deployed.wait_for_rounds(2, 600)
        permit, place = (
            SignedPermit.from_bytes((tmp_path / "permit" / "permit.cbor").read_bytes()).permit,
            tmp_path,
        )
        revocation = Revocation(permit=permit.number, time=int(time.time()), reason="the patients objected")
        SignedRevocation.of(revocation, STEWARD).save(place / "permit")
        assert deployed.ended("run", 600) == 0, deployed.log("run") + node.logs.read_text()

        *before, after = deployed.history()
        assert [sorted(line["included"]) for line in before] == [HOSPITALS] * 2  # type: ignore[call-overload]
        assert after["included"] == [name for name in HOSPITALS if name != CONFINED]
        said = after["absent"][CONFINED]  # type: ignore[index]
        assert (said["reason"], said["explanation"]) == ("not-approved", told("not-approved"))
        # Why, only its own log says, which its steward reads.
        assert "the patients objected" in node.logs.read_text()
        verified = subprocess.run(
            [sys.executable, "-P", "-m", "securefl", "verify", str(deployed.out)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stderr
        # The node went on to the end, with a memory of its own, and without a word to the hospital's usual one.
        assert node.state() == "running"
        assert (node.run / "home" / CONFINED / "memory").exists()
        assert not any((deployed.folders / CONFINED / "home").rglob("memory"))
    finally:
        node.stop()
    assert node.state() == "It was stopped."
