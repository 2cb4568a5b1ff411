"""Writes what starts a member: ``start.sh``, ``compose.yaml``, the Kubernetes manifests, the ``Dockerfile``."""

from __future__ import annotations

import json
import shlex
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from jinja2 import Environment, PackageLoader, StrictUndefined

from securefl import durable
from securefl.deploy.plan import ENVIRONMENT, REGISTER_FILE, SUPERNODES, Plan, Process
from securefl.deploy.settings import host_of, ip_of, port_of

DOCKERFILE, IGNORE_FILE = "Dockerfile", "Dockerfile.dockerignore"
USER_ID = 10001
"""Of the processes in a Kubernetes pod, and of the image when nothing else is said."""


def render(folder: Path, plan: Plan) -> None:
    """Write the files of a member's or the coordinator's folder, replacing older ones.

    Raises:
        EngineError: a file cannot be written.
    """
    context: dict[str, object] = {"plan": plan, "nodes": _node_names(plan), "install": _install(plan)}
    _write(folder, "start.sh", context, 0o755)
    if plan.role == "coordinator":
        _write(folder, REGISTER_FILE, context, 0o755)
    _write(folder, "compose.yaml", context)
    _write(folder, "kustomization.yaml", context)
    _write(folder, "kubernetes/workload.yaml", context)
    _write(folder, "kubernetes/network.yaml", context)
    write_dockerfile(folder)


def render_whole(folder: Path, names: list[str], on_one_computer: bool) -> None:
    """Write the files that start all members on one computer or cluster, to try a consortium out.

    Args:
        on_one_computer: whether they can all run there; a cluster gives each an address of its own.
    """
    if on_one_computer:
        _write(folder, "whole-compose.yaml", {"names": names}, to="compose.yaml")
    _write(folder, "whole-kustomization.yaml", {"names": names}, to="kustomization.yaml")


def write_dockerfile(folder: Path) -> None:
    """Write ``Dockerfile`` and the file that keeps all but the sources out of its context."""
    _write(folder, DOCKERFILE, {})
    _write(folder, IGNORE_FILE, {})


def health_command(process: Process, ready: bool = False) -> list[str]:
    """The command that says whether a process of this folder is well."""
    return ["securefl", "deploy", "health", ".", process.name, *(["--ready"] if ready else [])]


def _write(
    folder: Path, name: str, context: dict[str, object], mode: int = 0o644, to: str | None = None
) -> None:
    text = _environment().get_template(f"{name}.j2").render(context)
    durable.replace(folder / (to or name), text.encode(), mode=mode)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("securefl.deploy"),
        autoescape=False,  # shell and YAML: what is not a plain name goes through `shell` or `yaml`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "shell": shlex.join,
        "yaml": json.dumps,  # JSON is YAML, and a JSON string is quoted
        "cidr": _cidr,
        "port": port_of,
        "secret": secret_name,
        "health": health_command,
    }
    environment.globals |= {
        "environment": ENVIRONMENT,
        "user": USER_ID,
        "version": version("securefl"),
        "supernodes": SUPERNODES,
    }
    return environment


def secret_name(path: str) -> str:
    """A private key file's name among a member's secrets: ``oslo/signing.key`` is ``signing.key``."""
    return PurePosixPath(path).name


def _install(plan: Plan) -> str:
    """A shell line that copies what Kubernetes mounts as links, or open to the group, into plain files."""
    keys = [("0400", f"/secrets/{path}", f"/member/keys/{path}") for path in plan.secrets]
    study = [
        ("0444", f"/sources/file-{i}", f"/member/study/{path}") for i, path in enumerate(plan.study_files)
    ]
    return "; ".join(shlex.join(["install", "-D", "-m", *copy]) for copy in keys + study)


def _cidr(address: str) -> str:
    """What a network policy can say of an address: it knows no names, so that a name stands for every address."""
    return f"{host_of(address)}/32" if ip_of(address) else "0.0.0.0/0"


def _node_names(plan: Plan) -> list[str]:
    return [PurePosixPath(path).stem for path in plan.public if path.startswith(f"{SUPERNODES}/")]
