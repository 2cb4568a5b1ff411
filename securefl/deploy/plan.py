"""What runs in a member's folder: its processes, what they read and write, whom they speak to.

Everything that is written for a folder (``start.sh``, ``compose.yaml``, the manifests) and its health checks come from
this one plan, so that they run the same commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from securefl import consortium as members
from securefl.consortium import SEALING_FILE, SIGNING_FILE, TLS_FILE, Consortium
from securefl.deploy.settings import (
    CA_FILE,
    CARD_FILE,
    CONSORTIUM_FILE,
    COORDINATOR,
    DEPLOYMENT_FILE,
    Card,
    Deployment,
    host_of,
    ip_of,
    only_this_computer,
    port_of,
)
from securefl.errors import StudyError
from securefl.member import MEMBER_FILE, Places
from securefl.study import Study
from securefl.study.folder import TOML as STUDY_FILE
from securefl.study.settings import FileName

SUPERNODE_KEY, SUPERLINK_KEY = "supernode.key", "superlink.pem"
REGISTER_FILE, SUPERNODES = "register.sh", "supernodes"
PARTY_SOCKET, DEALER_SOCKET = "run/party.sock", "run/dealer.sock"
ENVIRONMENT: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Nothing calls home, and nothing is installed at run time."""
_FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)


@dataclass(frozen=True)
class Process:
    """One process of a member.

    Attributes:
        name: superlink, supernode, party or dealer.
        command: its arguments; relative paths begin at the member's folder.
        port: where others reach it, if they do.
        local_port: of its own interface on this computer, if it has one.
        socket: that it serves on, relative, if it does.
        secrets: private key files that it needs, relative to ``keys``. No process sees another's.
        cpus, memory: most that it may take: processors, GiB.
    """

    name: str
    command: list[str]
    secrets: list[str]
    port: int | None = None
    local_port: int | None = None
    socket: str | None = None
    cpus: int = 2
    memory: int = 4


@dataclass(frozen=True)
class Plan:
    """A folder.

    Attributes:
        name: the member's, or ``coordinator``.
        role: hospital, party, dealer or coordinator.
        deployment: where the members find one another.
        processes: what runs.
        public: other files that the processes read.
        folders: what they write to, and must survive a restart.
        egress: addresses that they connect to.
        peers: addresses of the members that connect to them, if those are known.
        study_files: of the study that stands in the folder.
        alias: the host name under which the others know it, unless several share it.
    """

    name: str
    role: str
    deployment: Deployment
    processes: list[Process]
    public: list[str]
    folders: list[str] = field(default_factory=list)
    egress: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    study_files: list[str] = field(default_factory=list)
    alias: str | None = None

    @property
    def secrets(self) -> list[str]:
        """The private key files of all its processes, relative to ``keys``."""
        return list(dict.fromkeys(path for process in self.processes for path in process.secrets))


def plan_folder(folder: Path, with_study: bool = True, given: Path | None = None) -> Plan:
    """The plan of a member's or the coordinator's folder, from its card, ``deployment.toml`` and ``consortium.toml``.

    Args:
        folder: as ``securefl deploy`` made it.
        with_study: look at the study; a health check need not.
        given: take the ``deployment.toml`` and ``consortium.toml`` of this folder, which are not that folder's yet.

    Raises:
        ConsortiumError: one of them is missing or malformed, or they do not fit together.
        StudyError: the study in the folder is malformed.
    """
    deployment = Deployment.load((given or folder) / DEPLOYMENT_FILE)
    if not (folder / CARD_FILE).exists() and (folder / SUPERNODES).is_dir():
        return _coordinator(folder, deployment, with_study)
    card = Card.load(folder / CARD_FILE)
    consortium = members.load((given or folder) / CONSORTIUM_FILE)
    deployment.check(consortium)
    name, role = card.member.name, card.member.role
    unchecked = role != "dealer" and Places.load(folder / MEMBER_FILE).insecure_unchecked
    study = _study(folder) if with_study else None
    study_files = plain_names(study) if study else []
    mesh = [deployment.mesh[n] for n in consortium.parties]
    if consortium.dealer is not None and (role == "dealer" or _checks_norms(study, consortium, unchecked)):
        mesh.append(deployment.mesh[consortium.dealer.name])
    public = [CARD_FILE, CONSORTIUM_FILE, DEPLOYMENT_FILE, CA_FILE]
    if role == "dealer":
        others = _others(mesh, deployment.mesh[name])
        return Plan(
            name, role, deployment, [_dealer(name, mesh)], public,
            egress=others, peers=others, alias=_alias(deployment, deployment.mesh[name]),
        )  # fmt: skip
    supernode = _supernode(name, role, consortium, deployment)
    public.append(MEMBER_FILE)
    if role == "hospital":
        return Plan(
            name, role, deployment, [supernode], public,
            folders=["home", "privacy"], egress=[deployment.superlink], study_files=study_files,
        )  # fmt: skip
    others = _others(mesh, deployment.mesh[name])
    return Plan(
        name, role, deployment, [_party(name, mesh, deployment.mesh[name], unchecked), supernode], public,
        folders=["home"], egress=[deployment.superlink, *others], peers=others, study_files=study_files,
        alias=_alias(deployment, deployment.mesh[name]),
    )  # fmt: skip


def _coordinator(folder: Path, deployment: Deployment, with_study: bool) -> Plan:
    nodes = sorted(f"{SUPERNODES}/{path.name}" for path in (folder / SUPERNODES).glob("*.pub"))
    port = port_of(deployment.superlink)
    study = _study(folder) if with_study else None
    command = [
        "flower-superlink",
        "--host", _listen(deployment.superlink), "--port", str(port),
        "--ssl-certfile", f"keys/{SUPERLINK_KEY}", "--ssl-keyfile", f"keys/{SUPERLINK_KEY}",
        "--ssl-ca-certfile", CA_FILE,
        "--enable-supernode-auth", "--disable-runtime-dependency-installation",
        "--database", "home/superlink.db",
    ]  # fmt: skip
    return Plan(
        COORDINATOR, COORDINATOR, deployment, [Process("superlink", command, [SUPERLINK_KEY], port, memory=8)],
        [CONSORTIUM_FILE, DEPLOYMENT_FILE, CA_FILE, REGISTER_FILE, *nodes], folders=["home"],
        study_files=plain_names(study) if study else [], alias=_alias(deployment, deployment.superlink),
    )  # fmt: skip


def _supernode(name: str, role: str, consortium: Consortium, deployment: Deployment) -> Process:
    with_node = [*consortium.parties, *consortium.hospitals]
    local = deployment.local_port + with_node.index(name)
    command = [
        "securefl", "supernode", MEMBER_FILE,
        "--superlink", deployment.superlink, "--root-certificates", CA_FILE,
        "--auth-supernode-private-key", f"keys/{SUPERNODE_KEY}",
        "--host", "127.0.0.1", "--port", str(local),
    ]  # fmt: skip
    # A hospital's ClientApp signs and opens; a party's only carries bytes to the party's own process.
    secrets = [SUPERNODE_KEY, *(_keys(name) if role == "hospital" else [])]
    return Process("supernode", command, secrets, local_port=local, memory=8 if role == "hospital" else 4)


def _party(name: str, mesh: list[str], address: str, unchecked: bool) -> Process:
    command = [
        "securefl", "party", "serve", name,
        "--study", "study", "--consortium", CONSORTIUM_FILE, "--keys", "keys", "--home", f"home/{{study}}/{name}",
        "--ledger", f"home/{name}.ledger", "--socket", PARTY_SOCKET, *_on_mesh(address, mesh),
        *(["--insecure-unchecked"] if unchecked else []),
    ]  # fmt: skip
    return Process(
        "party", command, [*_keys(name), f"{name}/{TLS_FILE}"], port_of(address), socket=PARTY_SOCKET
    )


def _dealer(name: str, mesh: list[str]) -> Process:
    command = [
        "securefl", "dealer", "serve", name,
        "--consortium", CONSORTIUM_FILE, "--keys", "keys", "--socket", DEALER_SOCKET,
        *_on_mesh(mesh[-1], mesh),
    ]  # fmt: skip
    secrets = [*_keys(name), f"{name}/{TLS_FILE}"]
    return Process("dealer", command, secrets, port_of(mesh[-1]), socket=DEALER_SOCKET, cpus=1, memory=2)


def _keys(name: str) -> list[str]:
    return [f"{name}/{SIGNING_FILE}", f"{name}/{SEALING_FILE}"]


def _on_mesh(address: str, mesh: list[str]) -> list[str]:
    peers = [argument for peer in mesh for argument in ("--peer", peer)]
    return ["--listen", f"{_listen(address)}:{port_of(address)}", *peers]


def _listen(address: str) -> str:
    return "127.0.0.1" if only_this_computer(address) else "0.0.0.0"


def _others(mesh: list[str], own: str) -> list[str]:
    return [address for address in mesh if address != own]


def _alias(deployment: Deployment, address: str) -> str | None:
    hosts = [host_of(a) for a in (deployment.superlink, *deployment.mesh.values())]
    shared = hosts.count(host_of(address)) > 1
    return None if shared or ip_of(address) or only_this_computer(address) else host_of(address)


def plain_names(study: Study) -> list[str]:
    """The study's files, whose names go into manifests.

    Raises:
        StudyError: a name is more than letters, digits, ``_``, ``-``, ``.`` and folders.
    """
    for name in study.files:
        try:
            _FILE_NAME.validate_python(name)
        except ValidationError as error:
            raise StudyError(
                f"{name!r} cannot be a file of a deployed study: give it a name of at most 200 letters, digits, "
                "hyphens, underscores and dots."
            ) from error
    return list(study.files)


def _study(folder: Path) -> Study | None:
    return Study.load(folder / "study") if (folder / "study" / STUDY_FILE).exists() else None


def _checks_norms(study: Study | None, consortium: Consortium, unchecked: bool) -> bool:
    """Whether the dealer belongs to the mesh. Without a study yet, it does."""
    if study is None:
        return True
    # Late: the terms take NumPy.
    from securefl.roles.terms import Terms

    return Terms.of(study, consortium, unchecked).checks_norms
