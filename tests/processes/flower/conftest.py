"""A consortium on one computer: a SuperLink with TLS and node authentication, and a SuperNode for each member."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from securefl import consortium as members
from securefl.flower.bundle import flower_environment
from securefl.member import Places

HOSPITALS = ["cleveland", "hungary", "va"]
PARTIES = ["party-1", "party-2"]
STUDY = """\
name = "Three hospitals over Flower"
seed = 3

[consortium]
file = "consortium.toml"

[cohort]
minimum_hospitals = 2
colluding_hospitals = 0
deadline_seconds = 240

[committee]
deadline_seconds = 120

[data]
source = "npz"
root = "../data/{hospital}.npz"

[model]
kind = "logistic"

[training]
rounds = 2
learning_rate = 0.1
batch_size = 16

[server]
optimizer = "fedavgm"
"""


class Deployment:
    """The processes. Each has its own session, so that killing it takes its children along."""

    def __init__(self, root: Path) -> None:
        self.root, self.study = root, root / "study"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.port, *self._ports = _free_ports(3 + len(HOSPITALS) + len(PARTIES))
        self.environment = {**flower_environment(), "FLWR_HOME": str(root / "operator")}
        self._make()

    def _make(self) -> None:
        self.study.mkdir()
        (self.study / "study.toml").write_text(STUDY)
        members.create(self.study, HOSPITALS, PARTIES, None)
        (self.root / "data").mkdir()
        random = np.random.default_rng(0)
        for hospital in HOSPITALS:
            x = random.normal(size=(40, 5)).astype(np.float32)
            np.savez(self.root / "data" / f"{hospital}.npz", x=x, y=(x[:, 0] + x[:, 1] > 0).astype(np.int64))
        for member in [*HOSPITALS, *PARTIES]:
            folder = self.root / member
            (folder / "run").mkdir(mode=0o700, parents=True)
            Places(
                name=member,
                role="hospital" if member in HOSPITALS else "party",
                study=self.study,
                consortium=self.study / "consortium.toml",
                keys=self.study / "keys",
            ).save(folder / "member.toml")
            node_key(folder / "supernode.key")
        _certificate(self.root)
        (self.root / "operator").mkdir()
        (self.root / "operator" / "config.toml").write_text(
            f'[superlink]\ndefault = "consortium"\n[superlink.consortium]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{self.root / "ca.pem"}"\n'
        )

    def start(self, name: str, *command: str, home: Path | None = None) -> None:
        """Start a process under a name; what it says goes to its log."""
        environment = {**self.environment, "FLWR_HOME": str(home or self.root / "operator")}
        with (self.root / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """kill -9 of a process and all that it started."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def ended(self, name: str, seconds: float) -> int:
        """The exit status of a process that ends by itself."""
        return self._running[name].wait(timeout=seconds)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.root / f"{name}.log").read_text(errors="replace")

    def superlink(self) -> None:
        """Start the SuperLink, or start it again with the same database."""
        self.start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-ca-certfile", str(self.root / "ca.pem"), "--ssl-certfile", str(self.root / "server.pem"),
            "--ssl-keyfile", str(self.root / "server.key"), "--enable-supernode-auth",
            "--database", str(self.root / "superlink.db"), "--disable-runtime-dependency-installation",
        )  # fmt: skip
        _await_port(self.port, self)

    def supernode(self, member: str, key: Path | None = None, name: str = "") -> None:
        """Start a member's SuperNode."""
        port = self._ports[[*HOSPITALS, *PARTIES].index(member) + 2] if not name else _free_ports(1)[0]
        self.start(
            name or f"node-{member}", sys.executable, "-P", "-m", "securefl", "supernode",
            str(self.root / member / "member.toml"), "--superlink", f"127.0.0.1:{self.port}",
            "--root-certificates", str(self.root / "ca.pem"), "--port", str(port),
            "--auth-supernode-private-key", str(key or self.root / member / "supernode.key"),
            home=self.root / member / "flwr",
        )  # fmt: skip

    def come_back(self, member: str, seconds: float = 150.0) -> None:
        """Start a killed SuperNode until it is let in, as a container's restart policy does.

        The SuperLink refuses a second node of the same key until it has missed the first one's heartbeats, for 60 s.
        """
        name, end = f"node-{member}", time.monotonic() + seconds
        before = self.log(name).count("SuperNode ID")
        self.supernode(member)
        while self.log(name).count("SuperNode ID") == before:
            assert time.monotonic() < end, self.log(name)
            if self._running[name].poll() is not None:
                self.supernode(member)
            time.sleep(1.0)

    def party(self, member: str) -> None:
        """Start a party's process."""
        places = Places.load(self.root / member / "member.toml")
        addresses = [f"127.0.0.1:{port}" for port in self._ports[:2]]
        self.start(
            member, sys.executable, "-P", "-m", "securefl", "party", "serve", member,
            "--study", str(places.study), "--consortium", str(places.consortium), "--keys", str(places.keys),
            "--home", str(places.home), "--socket", str(places.socket),
            "--listen", addresses[PARTIES.index(member)], "--peer", addresses[0], "--peer", addresses[1],
        )  # fmt: skip

    def register(self, member: str) -> None:
        """The operator registers a member's SuperNode under its name."""
        self.flwr("supernode", "register", str(self.root / member / "supernode.pub"), "--name", member)

    def flwr(self, *arguments: str) -> str:
        """Flower's command line, as the operator."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "flwr.cli.app", *arguments],
            capture_output=True, text=True, env=self.environment, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str) -> None:
        """Start ``securefl run`` over Flower, as the operator."""
        self.start(
            "run", sys.executable, "-P", "-m", "securefl", "run", str(self.study), "--out", str(self.out),
            "--engine", "flower", *arguments,
        )  # fmt: skip

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.root / "out"

    def history(self) -> list[dict[str, object]]:
        """A line for each settled round."""
        file = self.out / "history.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for_rounds(self, count: int, seconds: float = 300.0) -> None:
        """Wait until so many rounds are settled."""
        end = time.monotonic() + seconds
        while len(self.history()) < count:
            process = self._running["run"]
            assert process.poll() is None, self.log("run")
            assert time.monotonic() < end, f"{len(self.history())} rounds; {self.log('run')}"
            time.sleep(0.1)

    def close(self) -> None:
        """Kill all."""
        for name in list(self._running):
            self.kill(name) if self._running[name].poll() is None else self._running.pop(name)


def node_key(file: Path) -> None:
    """A SuperNode's key pair, as Flower takes it."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    file.touch(mode=0o600)
    file.write_bytes(private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    file.with_suffix(".pub").write_bytes(public)


def _certificate(root: Path) -> None:
    """A certificate authority, and the SuperLink's certificate for this computer."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "consortium")])
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    top = builder(name, authority.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    server = builder(subject, key.public_key()).add_extension(x509.SubjectAlternativeName(addresses), False)
    for file, certificate in (("ca.pem", top), ("server.pem", server)):
        signed = certificate.sign(authority, hashes.SHA256())
        (root / file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (root / "server.key").touch(mode=0o600)
    (root / "server.key").write_bytes(private)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()


def _await_port(port: int, deployment: Deployment, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(deployment.log("superlink"))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The SuperLink and the parties run; the members' SuperNodes are registered and run."""
    made = Deployment(tmp_path_factory.mktemp("flower"))
    try:
        made.superlink()
        for party in PARTIES:
            made.party(party)
        for member in [*HOSPITALS, *PARTIES]:
            made.register(member)
            made.supernode(member)
        yield made
    finally:
        made.close()
