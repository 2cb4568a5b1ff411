"""The small files of a deployment: ``deployment.toml``, the same for all, and ``card.toml``, a member's public part.

Neither holds a secret. A member's scripts and manifests are made from them on its own computer, by its own securefl:
nobody sends anybody a script to run.
"""

from __future__ import annotations

import ipaddress
import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import Field, StringConstraints, model_validator

from securefl import durable
from securefl.consortium import ON_THE_MESH, Consortium, Member
from securefl.errors import ConsortiumError
from securefl.study.settings import MemberName, Settings
from securefl.toml_file import load_toml

CARD_FILE, DEPLOYMENT_FILE, CONSORTIUM_FILE, CA_FILE = (
    "card.toml",
    "deployment.toml",
    "consortium.toml",
    "ca.pem",
)
COORDINATOR, AUTHORITY, PUBLIC = "coordinator", "authority", "public"
RESERVED = (COORDINATOR, AUTHORITY, PUBLIC)
"""Names of folders, so that no member can have one of them."""
SUPERLINK_PORT, MESH_PORT, LOCAL_PORT = 8000, 7000, 9094
"""Usual ports. From the last on, members on one computer get one each."""
S = TypeVar("S", bound=Settings)

Address = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?:[1-9][0-9]{0,4}$")
]
"""``host:port``, the host a DNS name or an IPv4 address."""
Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$")]
"""A container image's name, with its registry, tag and digest: nothing that a manifest or shell would read."""


def host_of(address: str) -> str:
    """The host of ``host:port``."""
    return address.rpartition(":")[0]


def port_of(address: str) -> int:
    """The port of ``host:port``."""
    return int(address.rpartition(":")[2])


def ip_of(address: str) -> str | None:
    """The host of ``host:port`` if it is an IP address, else None."""
    try:
        return str(ipaddress.ip_address(host_of(address)))
    except ValueError:
        return None


def only_this_computer(address: str) -> bool:
    """Whether nobody but this computer reaches the address."""
    ip = ip_of(address)
    return host_of(address) == "localhost" if ip is None else ipaddress.ip_address(ip).is_loopback


class Deployment(Settings):
    """Where the members find one another. The same file for all."""

    superlink: Address = Field(description="host:port of the coordinator's SuperLink, as members reach it")
    mesh: dict[MemberName, Address] = Field(description="host:port of each party and of the dealer")
    image: Image = Field(f"securefl:{version('securefl')}", description="the container image")
    local_port: int = Field(
        LOCAL_PORT,
        ge=1024,
        le=60000,
        description="first port of the SuperNodes' own interfaces, which only their own computers reach",
    )

    @model_validator(mode="after")
    def _ports(self) -> Deployment:
        for address in (self.superlink, *self.mesh.values()):
            if port_of(address) > 65535:
                raise ValueError(f"{address} has no port of at most 65535")
        addresses = [self.superlink, *self.mesh.values()]
        if len(set(addresses)) != len(addresses):
            raise ValueError("two processes have the same address: give each its own")
        return self

    def same_port(self) -> list[str]:
        """Who listens on a port that somebody before them has: on one computer they cannot both run."""
        seen = {port_of(self.superlink)}
        found = []
        for name, address in self.mesh.items():
            found += [name] if port_of(address) in seen else []
            seen.add(port_of(address))
        return found

    def check(self, consortium: Consortium) -> None:
        """Raise ConsortiumError unless every member of the mesh, and nobody else, has an address."""
        wanted = {m.name for m in consortium.members if m.role in ON_THE_MESH}
        if missing := sorted(wanted - set(self.mesh)):
            raise ConsortiumError(
                f"{missing[0]} has no address: say where the parties reach it, as host:port."
            )
        if unknown := sorted(set(self.mesh) - wanted):
            raise ConsortiumError(
                f"{unknown[0]} has an address and is neither a party nor the dealer: remove the address."
            )

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Read ``deployment.toml``."""
        return _load(cls, path)

    def save(self, path: Path) -> None:
        """Write ``deployment.toml``."""
        lines = [
            f"superlink = {json.dumps(self.superlink)}",
            f"image = {json.dumps(self.image)}",
            f"local_port = {self.local_port}",
            "",
            "[mesh]",
        ]
        lines += [f"{name} = {json.dumps(address)}" for name, address in self.mesh.items()]
        durable.write(path, ("\n".join(lines) + "\n").encode(), mode=0o644)


class Card(Settings):
    """What a member sends to whoever gathers the consortium."""

    consortium: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    rank: int = Field(ge=0, le=1000, description="place on the mesh; 0 for a hospital")
    supernode: str | None = Field(
        None, description="a hospital's and a party's SuperNode key, OpenSSH, P-384"
    )
    member: Member

    @model_validator(mode="after")
    def _supernode(self) -> Card:
        if (self.supernode is None) != (self.member.role == "dealer"):
            raise ValueError("a hospital and a party have a SuperNode key, a dealer has none")
        if self.supernode is not None:
            check_supernode_key(self.supernode)
        return self

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read ``card.toml``."""
        return _load(cls, path)

    def save(self, path: Path) -> None:
        """Write ``card.toml``."""
        values: dict[str, Any] = self.model_dump(exclude_none=True)
        member = values.pop("member")
        lines = ["# Public. Send it to whoever gathers the consortium."]
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        lines += ["", "[member]", *(f"{key} = {json.dumps(value)}" for key, value in member.items())]
        durable.write(path, ("\n".join(lines) + "\n").encode(), mode=0o644)


def check_supernode_key(line: str) -> None:
    """Raise ValueError unless this is one OpenSSH line of a P-384 key, as Flower takes it."""
    try:
        key = load_ssh_public_key(line.encode()) if "\n" not in line else None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)):
        raise ValueError("the SuperNode key is not one line of an OpenSSH P-384 public key")


def _load(kind: type[S], path: Path) -> S:
    return load_toml(kind, path, f"is {path.parent} a folder of `securefl deploy`?")
