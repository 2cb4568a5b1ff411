"""A hospital's node for one approved study: a SuperNode, confined, that runs a checked private copy.

Adversary: whoever changes files between approval and start; the study's own code; the SuperLink.
Promise: what runs has the digest that the steward signed, computed from the bytes that were then written; the node
    reads that copy, the study's records and the hospital's keys, writes its own memory and, in a private study, the
    hospital's privacy ledger, and reaches the consortium's SuperLink only, as far as ``Child.confinement`` says.
Not promised: that the study's code cannot use the hospital's consortium keys: it runs in the process that signs and
    seals, so that they must be within its reach. So must the ledger in a private study. The steward's own keys are
    not, and its permits can only be read.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from securefl import consortium as members
from securefl import durable
from securefl.consent import Consent
from securefl.deploy.plan import ENVIRONMENT, Process, plan_folder
from securefl.deploy.settings import CA_FILE, CONSORTIUM_FILE, host_of, port_of
from securefl.domain import sandbox
from securefl.domain.errors import LaunchError, NotApprovedError, ProposalError
from securefl.domain.sandbox import Cell, Confined, Confinement, Limits
from securefl.member import MEMBER_FILE, Places
from securefl.permit import PermitError
from securefl.study import Study

LIMITS = Limits()


class Child:
    """A node that runs.

    Attributes:
        run: its folder: ``home`` (its memory, with a folder for the hospital), ``study``, ``member.toml``, ``log``.
    """

    def __init__(self, run: Path, confined: Confined) -> None:
        self.run, self._confined = run, confined

    @property
    def confinement(self) -> Confinement:
        """What confines it, and what does not."""
        return self._confined.confinement

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._confined.alive

    @property
    def logs(self) -> Path:
        """The file with what it said."""
        return self._confined.log

    def state(self) -> str:
        """``running``, or how it ended, as one sentence."""
        return self._confined.ended or "running"

    def stop(self) -> None:
        """End it, with all that it started. What it must not lose is on its disk."""
        self._confined.stop()


def start(
    *,
    study: Path,
    digest: bytes,
    permit: Path,
    steward: bytes,
    hospital: Path,
    data: Path,
    run: Path,
    limits: Limits = LIMITS,
    clock: Callable[[], float] = time.time,
) -> Child:
    """Start a hospital's node for an approved study. It ends at the latest when the permit does.

    Args:
        study: the steward's copy of the study.
        digest: of the study with its consortium, as approved.
        permit: folder of the permit; the node looks there before every contribution.
        steward: the steward's public key.
        hospital: the member's folder, as ``securefl deploy`` made it.
        data: the records' folder; the study finds it as ``../data``.
        run: folder of this run; with what an interrupted start of it left, the node goes on.
        limits: what the node may use.
        clock: seconds since 1970.

    Raises:
        NotApprovedError: no permit holds now for this study.
        ProposalError: the study is not the one that was approved.
        LaunchError: ``hospital`` is not a hospital's folder.
        EngineError: the process cannot be started.
    """
    hospital, data, permit = hospital.resolve(), data.resolve(), permit.resolve()
    run = durable.private_folder(run).resolve()
    plan = plan_folder(hospital, with_study=False)
    if plan.role != "hospital":
        raise LaunchError(f"{hospital} is the folder of a {plan.role}: a study needs a hospital's.")
    try:
        allowed = Consent(permit, steward, digest, plan.name, clock).permit()
    except PermitError as error:
        raise NotApprovedError(str(error)) from error
    copied = copy_study(study, digest, hospital / CONSORTIUM_FILE, run / "study")
    _lead(run / "data", data)
    for name in ("home", "flower", "tmp", "root"):
        durable.private_folder(run / name)
    privacy = durable.private_folder(hospital / "privacy")
    Places(
        name=plan.name, role="hospital", study=run / "study", consortium=hospital / CONSORTIUM_FILE,
        keys=hospital / "keys", home=run / "home", privacy=privacy, steward=steward.hex(), permit=permit,
    ).save(run / MEMBER_FILE)  # fmt: skip

    (supernode,) = plan.processes
    read = [run / "study", run / "data", run / MEMBER_FILE, data, permit, hospital / CA_FILE]
    read += [hospital / CONSORTIUM_FILE, *(hospital / "keys" / name for name in supernode.secrets)]
    written = [run / "home", run / "flower", run / "tmp"]
    if copied.settings.privacy is not None:
        written.append(privacy)
    unwalled = sandbox.hindrance()
    address = plan.deployment.superlink
    port = port_of(address) + (port_of(address) == supernode.local_port)
    seconds = allowed.expires - clock()
    cell = Cell(
        command=_command(supernode, hospital, run, address if unwalled else f"127.0.0.1:{port}"),
        folder=run / "tmp",
        files={**dict.fromkeys(read, False), **dict.fromkeys(written, True)},
        root=run / "root",
        log=run / "log",
        environment={
            **ENVIRONMENT, "HOME": str(run / "tmp"), "TMPDIR": str(run / "tmp"), "FLWR_HOME": str(run / "flower"),
        },
        address=(port, host_of(address), port_of(address)),
        limits=replace(limits, seconds=seconds if limits.seconds is None else min(limits.seconds, seconds)),
        unwalled=unwalled,
    )  # fmt: skip
    return Child(run, sandbox.start(cell))


def copy_study(study: Path, digest: bytes, consortium: Path, to: Path) -> Study:
    """Copy a study, checked: the bytes that are compared are the ones that are written. Nobody may write the copy.

    Raises:
        ProposalError: they do not have that digest.
    """
    members_digest = members.load(consortium).digest()
    loaded = Study.load(study)
    if loaded.digest(members_digest) != digest:
        raise ProposalError("The study's files are not the ones that were approved: it is not started.")
    if to.exists():
        for folder in [to, *(path for path in to.rglob("*") if path.is_dir())]:
            folder.chmod(0o700)
        shutil.rmtree(to)
    loaded.copy_to(to)
    # What else the copy could hold counts too: a Python file that was there before would be imported.
    if Study.load(to).digest(members_digest) != digest:
        raise ProposalError(f"The copy in {to} is not the study that was approved: it is not started.")
    for path in [*to.rglob("*"), to]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    return loaded


def _lead(link: Path, to: Path) -> None:
    """A link to the records, so that their account in the privacy ledger is the same in every run."""
    link.unlink(missing_ok=True)
    link.symlink_to(to)


def _command(supernode: Process, hospital: Path, run: Path, superlink: str) -> list[str]:
    """The command of the hospital's folder, for this run's ``member.toml``, with another way to the SuperLink."""
    words = [sys.executable, "-P", "-m", *supernode.command]
    words[words.index(MEMBER_FILE)] = str(run / MEMBER_FILE)
    words[words.index("--superlink") + 1] = superlink
    for option in ("--root-certificates", "--auth-supernode-private-key"):
        place = words.index(option) + 1
        words[place] = str(hospital / words[place])
    return words
