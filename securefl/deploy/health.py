"""Whether a member's process is well: asked from the same container or computer, answered by the process itself."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

from securefl.deploy.plan import Plan, Process, plan_folder
from securefl.deploy.settings import CA_FILE, host_of, port_of
from securefl.errors import ConsortiumError, EngineError

SECONDS = 5.0
"""Longest wait for one answer."""


def check(folder: Path, name: str | None = None, ready: bool = False) -> list[str]:
    """Ask the processes of a folder whether they serve; a line for each thing that was found well.

    A SuperNode that lost its SuperLink is alive and not ready: to start it anew would mend nothing.

    Args:
        folder: a member's or the coordinator's.
        name: one process; None for all.
        ready: ask also whether it can work: a SuperNode must reach its SuperLink under the pinned authority.

    Raises:
        EngineError: the first thing that is not well.
        ConsortiumError: there is no such process, or the folder is malformed.
    """
    plan = plan_folder(folder, with_study=False)
    asked = [process for process in plan.processes if name in (None, process.name)]
    if not asked:
        names = ", ".join(process.name for process in plan.processes)
        raise ConsortiumError(f"{plan.name} has no process {name}: it has {names}.")
    return [line for process in asked for line in _check(folder, plan, process, ready)]


def _check(folder: Path, plan: Plan, process: Process, ready: bool) -> list[str]:
    found = []
    if process.name == "superlink":
        return [_https("The SuperLink", "127.0.0.1", process.port or 0, folder / CA_FILE)]
    if process.local_port is not None:
        found.append(_http(f"The SuperNode of {plan.name}", process.local_port))
        if ready:
            host, port = host_of(plan.deployment.superlink), port_of(plan.deployment.superlink)
            found.append(_https("The SuperLink", host, port, folder / CA_FILE))
    if process.socket is not None:
        found.append(_socket(f"The {process.name} {plan.name}", folder / process.socket))
        if ready and process.port is not None:
            found.append(_port(f"The mesh port of {plan.name}", process.port))
    return found


def _http(who: str, port: int) -> str:
    return _answers(who, http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS))


def _https(who: str, host: str, port: int, roots: Path) -> str:
    try:
        context = ssl.create_default_context(cafile=str(roots))
    except OSError as error:
        raise EngineError(f"{roots} cannot be read: restore it from what was handed out.") from error
    return _answers(who, http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context))


def _answers(who: str, connection: http.client.HTTPConnection) -> str:
    where = f"{connection.host}:{connection.port}"
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        raise EngineError(
            f"{who} at {where} shows a certificate that is refused ({error.verify_message}): see that it is renewed, "
            "and that ca.pem is the current one."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(f"{who} at {where} does not answer: {_reason(error)}.") from error
    finally:
        connection.close()
    if status != 200:
        raise EngineError(f"{who} at {where} answers with status {status}.")
    return f"{who} answers at {where}."


def _socket(who: str, path: Path) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(SECONDS)
        try:
            end.connect(str(path))
        except OSError as error:
            raise EngineError(f"{who} does not take messages at {path}: {_reason(error)}.") from error
    return f"{who} takes messages at {path}."


def _port(who: str, port: int) -> str:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except OSError as error:
        raise EngineError(f"{who}, {port}, is not open: {_reason(error)}.") from error
    return f"{who}, {port}, is open."


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__).lower().rstrip(".")
