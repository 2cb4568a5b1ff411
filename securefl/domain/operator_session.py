"""The session of who runs the coordinator or a party: it launches what all hospitals have approved, and nothing else.

Adversary: a researcher who wants to run what was not approved.
Promise: a study is put into this member's folder only with a permit from every hospital of the consortium, endorsed by
    the key that the consortium pins for it. The hospitals ask for their own permits all the same: an operator that
    launches more gets nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from protocols.errors import ProtocolError, SignatureError
from securefl import consortium as members
from securefl import durable
from securefl.deploy import check, join, put_study
from securefl.deploy.plan import ENVIRONMENT, REGISTER_FILE, plan_folder
from securefl.deploy.settings import COORDINATOR
from securefl.domain.errors import ChangedKeyError, LaunchError, RelayError, UnknownPeerError
from securefl.domain.frames import Letter
from securefl.domain.letters import LaunchOrder, Notice
from securefl.domain.parcel import Piece, pieces
from securefl.domain.proposal import Proposal, SignedProposal, write_study
from securefl.domain.relay import Carrier
from securefl.domain.sandbox import clean_environment
from securefl.domain.session import Clock, Session
from securefl.errors import EngineError, SecureFLError
from securefl.permit import EndorsedPermit
from securefl.run_folder import RunFolder

EVERY = 1.0
LAUNCH = "launch.json"
NoticeState = Literal["refused", "ready", "running", "finished", "failed"]


class Operator(Session):
    """An operator's session.

    Args:
        email, home, relay, clock: see ``Session``.
        folder: the coordinator's or a party's folder, as ``securefl deploy`` made it.

    Raises:
        ConsortiumError: it is none, or a hospital's.
    """

    def __init__(
        self,
        email: str,
        home: str | Path,
        relay: str | Path | Carrier,
        folder: str | Path,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(email, home, relay, clock)
        self.folder = Path(folder).absolute()
        self.role = plan_folder(self.folder, with_study=False).role
        if self.role not in (COORDINATOR, "party", "dealer"):
            raise LaunchError(f"{self.folder} is the folder of a {self.role}: its steward's session runs it.")
        self._member: subprocess.Popen[bytes] | None = None
        self._run: subprocess.Popen[bytes] | None = None
        self._registered = self._away = False

    def close(self) -> None:
        """End what the session started."""
        for process in (self._run, self._member):
            _end(process)
        self._run = self._member = None

    def serve(self, seconds: float | None = None) -> None:
        """Run this member's processes, and launch what is approved, until interrupted or for so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(KeyboardInterrupt):
            while end is None or time.monotonic() < end:
                self.step()
                time.sleep(EVERY)
        self.close()

    def step(self) -> None:
        """Keep the processes, take launch orders, watch the run. What goes wrong is logged; the rest goes on."""
        with self.alone():
            self._keep_member()
            try:
                for letter in self.mail.each(LaunchOrder.topic):
                    self._take(letter)
                self.mail.receive("syft/")  # datasets and the like, which are no operator's matter
                self._watch()
                self._away = False
            except (RelayError, ChangedKeyError) as error:
                if not self._away:
                    self.log.append("securefl", "relay-away", None, str(error))
                self._away = True

    def _take(self, letter: Letter) -> None:
        try:
            self._launch(letter.sender, LaunchOrder.from_bytes(letter.body))
        except RelayError:
            raise
        except (SecureFLError, ProtocolError, OSError, ValueError) as error:
            self.log.append(letter.sender, "launch-refused", None, str(error))

    # -------------------------------------------------------------- launching

    def _launch(self, researcher: str, order: LaunchOrder) -> None:
        proposal = order.proposal.check(researcher, self._peers.get(researcher).signing)
        try:
            if self.email not in proposal.operators:
                raise LaunchError(f"{proposal.name} does not name {self.email} among its operators.")
            self._check_permits(proposal, order.permits)
            current = self._current()
            if current and current["state"] == "running" and current["proposal"] != proposal.digest().hex():
                raise LaunchError(f"{current['name']} runs here: launch again when it has ended.")
            study = self.home / "studies" / proposal.digest().hex() / "study"
            durable.private_folder(study.parent)
            # It compares every byte, and that every hospital of the study is among those whose permits were checked.
            write_study(order.files, proposal, study)
            if self.role != "dealer":
                put_study(self.folder, study)
        except SecureFLError as error:
            self._tell(proposal, "refused", str(error))
            raise
        self.log.append(researcher, "launched", proposal.study, "", proposal=proposal.name)
        durable.write(study.parent / "proposal.cbor", order.proposal.to_bytes())
        self._keep_permits(study.parent / "permits", order.permits)
        self._note(proposal, "running")
        if self.role == COORDINATOR:
            self._start_run(proposal, resume=self._out(proposal).exists())
        else:
            # A party takes its study when it starts.
            _end(self._member)
            self._member = None
            self._keep_member()
            self._tell(proposal, "ready", "")

    def _check_permits(self, proposal: Proposal, permits: Sequence[EndorsedPermit]) -> None:
        """Every hospital of this member's own consortium has approved, and its own key says so."""
        consortium = members.load(self.folder / members.FILE)
        given = {endorsed.signed.permit.hospital: endorsed for endorsed in permits}
        now = self.clock()
        for name, hospital in consortium.hospitals.items():
            endorsed = given.get(name)
            if endorsed is None:
                raise LaunchError(f"{name} has not approved {proposal.name}.")
            try:
                permit = endorsed.checked(hospital.signing_key)
            except SignatureError as error:
                raise LaunchError(f"The permit of {name} is not endorsed by its pinned key.") from error
            if (permit.proposal, permit.study) != (proposal.digest(), proposal.study):
                raise LaunchError(f"The permit of {name} is for another proposal.")
            if not permit.not_before <= now < permit.expires:
                raise LaunchError(f"The permit of {name} does not hold now: ask its steward for another.")

    def _keep_permits(self, folder: Path, permits: Sequence[EndorsedPermit]) -> None:
        """Only those that were checked: an order may bring more, under any name."""
        durable.private_folder(folder)
        hospitals = members.load(self.folder / members.FILE).hospitals
        for endorsed in permits:
            if (name := endorsed.signed.permit.hospital) in hospitals:
                durable.write(folder / f"{name}.cbor", endorsed.to_bytes())

    # -------------------------------------------------------------- processes

    def _keep_member(self) -> None:
        """Keep ``start.sh`` running: the SuperLink, or the party and its SuperNode."""
        if self._member is None or self._member.poll() is not None:
            join(self.folder)
            self._member = self._start([str(self.folder / "start.sh")], "member.log")
        if self.role == COORDINATOR and not self._registered:
            with contextlib.suppress(EngineError):
                check(self.folder)
                done = subprocess.run(
                    [str(self.folder / REGISTER_FILE)],
                    env=self._environment(),
                    capture_output=True,
                    text=True,
                )
                self._registered = done.returncode == 0
                if not self._registered:
                    self.log.append("securefl", "register-failed", None, done.stderr.strip()[-300:])

    def _start_run(self, proposal: Proposal, resume: bool) -> None:
        command = [
            sys.executable, "-P", "-m", "securefl", "run", str(self.folder / "study"),
            "--out", str(self._out(proposal)), "--engine", "flower", "--connection", "consortium", "--quiet",
            *(["--resume"] if resume else []),
        ]  # fmt: skip
        self._run = self._start(command, "run.log")
        self._tell(proposal, "running", "")

    def _watch(self) -> None:
        current = self._current()
        if self.role != COORDINATOR or not current or current["state"] != "running":
            return
        signed = self._signed(current["proposal"])
        if self._run is None:
            if self._registered:  # this session began while a run was under way
                self._start_run(signed.proposal, resume=self._out(signed.proposal).exists())
            return
        if self._run.poll() is None:
            return
        ended, self._run = self._run.returncode, None
        if ended != 0:
            said = (self.home / "run.log").read_text(errors="replace").strip().splitlines()[-1:]
            self._finish(signed.proposal, "failed", said[0][:500] if said else "It ended without a word.")
            return
        self._add_permits(signed.proposal)
        for piece in pieces(signed.proposal.digest(), self._out(signed.proposal)):
            self.mail.send(signed.proposal.approver, Piece.topic, piece.to_bytes())
        self._finish(signed.proposal, "finished", f"its release is with {signed.proposal.approver}")

    def _add_permits(self, proposal: Proposal) -> None:
        """Put into the finished run what it was launched with, so that whoever has its folder can check that too."""
        kept = self.home / "studies" / proposal.digest().hex() / "permits"
        for path in kept.glob("*.cbor"):
            durable.write(RunFolder(self._out(proposal)).permits / path.name, path.read_bytes())

    def _finish(self, proposal: Proposal, state: NoticeState, reason: str) -> None:
        self.log.append("securefl", f"run-{state}", proposal.study, reason, proposal=proposal.name)
        self._note(proposal, state)
        self._tell(proposal, state, reason)

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.home / log).open("ab") as file:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self._environment(),
                start_new_session=True,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """Nothing of the operator's own environment: a study's code runs in what is started here."""
        home = str(self.home)
        return {
            **clean_environment(),
            **ENVIRONMENT,
            "HOME": home,
            "FLWR_HOME": str(self.folder / "home" / "flwr"),
        }

    # ----------------------------------------------------------------- memory

    def _out(self, proposal: Proposal) -> Path:
        return self.folder / "home" / f"run-{proposal.number.hex()}"

    def _current(self) -> dict[str, str]:
        try:
            said: dict[str, str] = json.loads((self.home / LAUNCH).read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LaunchError(f"{self.home / LAUNCH} is damaged: remove it, and launch again.") from error
        return said

    def _note(self, proposal: Proposal, state: str) -> None:
        said = {"proposal": proposal.digest().hex(), "name": proposal.name, "state": state}
        durable.write(self.home / LAUNCH, json.dumps(said).encode())

    def _signed(self, proposal: str) -> SignedProposal:
        return SignedProposal.from_bytes((self.home / "studies" / proposal / "proposal.cbor").read_bytes())

    def _tell(self, proposal: Proposal, state: NoticeState, reason: str) -> None:
        member = plan_folder(self.folder, with_study=False).name
        notice = Notice(
            proposal=proposal.digest(), member=member, state=state, reason=reason, time=int(self.clock())
        )
        for person in [proposal.researcher, *dict.fromkeys(site.steward for site in proposal.sites)]:
            with contextlib.suppress(UnknownPeerError):
                self.mail.send(person, Notice.topic, notice.to_bytes())


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """End a process and all that it started."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
