"""Examines an installation: what is there, does it fit together, does it do what securefl builds on."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "securefl",
    "torch",
    "torchvision",
    "crypten",
    "numpy",
    "cryptography",
    "grpcio",
    "safetensors",
    "cbor2",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was examined: its name, whether it is as it must be, and what was seen."""

    name: str
    ok: bool
    seen: str


def examine() -> list[Finding]:
    """All findings, in order. Nothing is changed, nothing is fetched."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("torch and torchvision", _torchvision),
        ("CrypTen repairs", _crypten),
        ("HPKE", _hpke),
        ("TLS mesh", _tls),
        ("determinism", _determinism),
    ]
    return [_finding(name, check) for name, check in checks]


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except Exception as error:  # whatever is wrong with a foreign package is a finding, not a crash
        return Finding(name, False, f"{type(error).__name__}: {error}".splitlines()[0])


def _python() -> str:
    tested = "tested" if platform.python_version_tuple()[:2] == ("3", "11") else "resolved, not tested"
    return f"{platform.python_version()} on {platform.system()} {platform.machine()} ({tested})"


def _packages() -> str:
    missing = []
    for package in PACKAGES:
        try:
            version(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        raise ImportError(f"{', '.join(missing)} missing: run make install")
    return ", ".join(f"{package} {version(package)}" for package in PACKAGES)


def _torchvision() -> str:
    import torch
    import torchvision

    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0])
    torchvision.ops.nms(boxes, scores, 0.5)  # fails if the two were not built for each other
    return f"matched ({torch.__version__}, {torchvision.__version__})"


def _crypten() -> str:
    from protocols.crypten_repairs import import_crypten

    return f"CrypTen {import_crypten().__version__} imports; its generators are replaced in a committee"


def _hpke() -> str:
    from protocols.envelope import Binding, SealingKey, seal

    key = SealingKey.generate()
    binding = Binding(
        study=bytes(32), round=0, attempt=1, previous=bytes(32), sender="a", recipient="b", content="doctor", width=32,
        size=1,
    )  # fmt: skip
    if key.open(seal(key.public, b"doctor", binding), binding) != b"doctor":
        raise ValueError("an envelope does not open")
    return "ML-KEM-768 + X25519, HKDF-SHA256, AES-256-GCM: sealed and opened"


def _tls() -> str:
    import threading

    from protocols.certificates import make_party_certificate
    from protocols.mesh import GrpcMesh

    consortium = "0" * 16
    made = [make_party_certificate(rank, consortium) for rank in range(2)]
    pems = [certificate.certificate_pem for certificate in made]
    meshes = [
        GrpcMesh(rank, consortium, pems, made[rank].private_key_pem, deadline=20.0) for rank in range(2)
    ]
    try:
        addresses = [f"127.0.0.1:{mesh.port}" for mesh in meshes]
        for mesh in meshes:
            mesh.set_addresses(addresses)
        other = threading.Thread(target=meshes[1].connect)
        other.start()
        meshes[0].connect()
        other.join()
    finally:
        for mesh in meshes:
            mesh.close()
    return "two parties met over mutual TLS 1.3 on the loopback address"


def _determinism() -> str:
    from securefl.training.determinism import fingerprint, single_thread

    single_thread()
    return fingerprint()


def show(findings: list[Finding], as_json: bool) -> None:
    """Print the findings, as JSON or a line each."""
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.name}: {finding.seen}")
