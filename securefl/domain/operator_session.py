"""The session of who runs the coordinator or a party: it launches what all hospitals have approved, and nothing else.

Adversary: a researcher who wants to run what was not approved.
Promise: a study is put into this member's folder only with a permit from every hospital of the consortium, endorsed by
    the key that the consortium pins for it. The hospitals ask for their own permits all the same: an operator that
    launches more gets nothing.
"""

from __future__ import annotations

import contextlib
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
from securefl.domain.errors import ChangedKeyError, LaunchError, RelayError
from securefl.domain.frames import Letter
from securefl.domain.late import is_late, mark
from securefl.domain.launches import Launches
from securefl.domain.letters import LaunchOrder, Notice
from securefl.domain.parcel import Piece, pieces
from securefl.domain.proposal import Proposal, write_study
from securefl.domain.relay import Carrier
from securefl.domain.sandbox import clean_environment
from securefl.domain.session import Clock, Session
from securefl.errors import EngineError, SecureFLError
from securefl.permit import EndorsedPermit
from securefl.roles.host import home_of
from securefl.roles.party_memory import MEMORY, PartyMemory
from securefl.run_folder import RunFolder

EVERY = 1.0
NoticeState = Literal["refused", "ready", "running", "finished", "failed"]


class Operator(Session):
    """An operator's session.

    Args:
        email, home, relay, clock: see ``Session``.
        folder: the coordinator's or a party's folder, as ``securefl deploy`` made it.

    Raises:
        ConsortiumError: it is none.
        LaunchError: it is a hospital's.
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
        self._registered = False
        self._launches = Launches(self.home)
        self._troubles: set[str] = set()

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
        """Keep the processes, take the mail, watch the run. What goes wrong is logged, once; the rest goes on."""
        with self.alone():
            troubles: dict[str, str] = {}
            for part in (self._keep_member, self._take_mail, self._watch):
                try:
                    part()
                except (RelayError, ChangedKeyError) as error:
                    troubles[str(error)] = "relay-away"
                except (SecureFLError, OSError) as error:
                    troubles[str(error)] = "step-failed"
            for said in sorted(troubles.keys() - self._troubles):
                with contextlib.suppress(EngineError):  # a full disk may have no place for a line either
                    self.log.append("securefl", troubles[said], None, said)
            self._troubles = set(troubles)

    def _take_mail(self) -> None:
        for letter in self.mail.each((LaunchOrder.topic, Notice.topic)):
            launch = letter.topic == LaunchOrder.topic
            try:
                if launch:
                    self._launch(letter.sender, LaunchOrder.from_bytes(letter.body))
                else:
                    self._hear(letter, Notice.from_bytes(letter.body))
            except (SecureFLError, ProtocolError, OSError, ValueError) as error:
                action = "launch-refused" if launch else "letter-refused"
                self.log.append(letter.sender, action, None, str(error))
        self.mail.receive("syft/")  # datasets and the like, which are no operator's matter

    # -------------------------------------------------------------- launching

    def _launch(self, researcher: str, order: LaunchOrder) -> None:
        proposal = order.proposal.check(researcher, self._peers.get(researcher).signing)
        try:
            if self.email not in proposal.operators:
                raise LaunchError(f"{proposal.name} does not name {self.email} among its operators.")
            self._check_permits(proposal, order.permits)
            if self._runs_already(proposal):
                self._tell(proposal, self._at_work, "")
                return
            study = self._launches.folder(proposal) / "study"
            durable.private_folder(study.parent)
            # It compares every byte, and that every hospital of the study is among those whose permits were checked.
            write_study(order.files, proposal, study)
            if self.role != "dealer":
                put_study(self.folder, study)
        except SecureFLError as error:
            self._tell(proposal, "refused", str(error))
            raise
        self.log.append(researcher, "launched", proposal.study, "", proposal=proposal.name)
        # Only those that were checked: an order may bring more, under any name.
        hospitals = members.load(self.folder / members.FILE).hospitals
        self._launches.keep(
            order.proposal, [p for p in order.permits if p.signed.permit.hospital in hospitals]
        )
        self._launches.note(proposal, "running")
        if self.role == COORDINATOR:
            self._start_run(proposal, resume=self._out(proposal).exists())
        else:
            # A party takes its study when it starts.
            _end(self._member)
            self._member = None
            self._keep_member()
            self._tell(proposal, self._at_work, "")

    @property
    def _at_work(self) -> NoticeState:
        return "running" if self.role == COORDINATOR else "ready"

    def _runs_already(self, proposal: Proposal) -> bool:
        """Whether what is to be launched runs here now.

        Raises:
            LaunchError: another one does, or the run of this one is over.
        """
        current = self._launches.current()
        same, state = current.get("proposal") == proposal.digest().hex(), current.get("state")
        if state == "running" and same:
            return True
        # The coordinator's operator tells the end of a run, and may be a stranger here: a party's own word counts too.
        if state == "running" and not self._has_signed_the_end(current["proposal"]):
            raise LaunchError(f"{current['name']} runs here: launch again when it has ended.")
        # One that failed may have ended and not been handed over: then a launch hands it over.
        if (same and state == "finished") or (self._is_over(proposal) and not same):
            raise LaunchError(f"The run of {proposal.name} is over: propose the study again for another.")
        return False

    def _has_signed_the_end(self, launch: str) -> bool:
        if self.role != "party":
            return False
        study, name = self._launches.proposal(launch).study, plan_folder(self.folder, with_study=False).name
        memory = home_of(self.folder / "home" / "{study}" / name, study) / MEMORY
        return memory.exists() and PartyMemory.from_bytes(memory.read_bytes()).closed != b""

    def _hear(self, letter: Letter, notice: Notice) -> None:
        """The coordinator's operator tells a party when the run has ended, so that the next can be launched."""
        current = self._launches.current()
        if current.get("proposal") != notice.proposal.hex():
            return
        proposal, action = self._launches.proposal(current["proposal"]), f"operator-{notice.state}"
        place = self._launches.folder(proposal) / "notice"
        if letter.sender != proposal.coordinator or is_late(place, letter):
            return
        if notice.state in ("finished", "failed"):
            self._launches.note(proposal, notice.state)
            self.log.append(letter.sender, action, proposal.study, notice.reason, proposal=proposal.name)
        mark(place, letter)

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
        current = self._launches.current()
        if self.role != COORDINATOR or not current or current["state"] != "running":
            return
        proposal = self._launches.proposal(current["proposal"])
        if self._run is None:  # this session began while a run was under way
            if self._is_over(proposal):
                self._hand_over(proposal)
            elif self._registered and not RunFolder(self._out(proposal)).running():
                self._start_run(proposal, resume=self._out(proposal).exists())
            return
        if self._run.poll() is None:
            return
        ended, self._run = self._run.returncode, None
        if ended != 0:
            said = (self.home / "run.log").read_text(errors="replace").strip().splitlines()[-1:]
            self._finish(proposal, "failed", said[0][:500] if said else "It ended without a word.")
        elif not self._is_over(proposal):
            self._finish(
                proposal, "failed", "It was stopped before its last round: launch it again to go on."
            )
        else:
            self._hand_over(proposal)

    def _is_over(self, proposal: Proposal) -> bool:
        """Whether the run has come to its end, closing record and results included."""
        run = RunFolder(self._out(proposal))
        return run.receipts.is_dir() and run.closing() is not None and run.summary_file.exists()

    def _hand_over(self, proposal: Proposal) -> None:
        """Put the finished run into the outbox, for its approver."""
        try:
            self._peers.get(proposal.approver)
            self._add_permits(proposal)
            parcel = pieces(proposal.digest(), self._out(proposal))
            self.post(proposal.approver, Piece.topic, (piece.to_bytes() for piece in parcel))
        except EngineError:
            raise  # this computer's fault: it is tried again
        except SecureFLError as error:
            self._finish(proposal, "failed", f"It has ended, and cannot be handed over. {error}")
            return
        self._finish(proposal, "finished", f"its release is with {proposal.approver}")

    def _add_permits(self, proposal: Proposal) -> None:
        """Put into the finished run what it was launched with, so that whoever has its folder can check that too."""
        for name, data in self._launches.permits(proposal).items():
            durable.write(RunFolder(self._out(proposal)).permits / name, data)

    def _finish(self, proposal: Proposal, state: NoticeState, reason: str) -> None:
        self.log.append("securefl", f"run-{state}", proposal.study, reason, proposal=proposal.name)
        self._launches.note(proposal, state)
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

    def _tell(self, proposal: Proposal, state: NoticeState, reason: str) -> None:
        member = plan_folder(self.folder, with_study=False).name
        notice = Notice(
            proposal=proposal.digest(), member=member, state=state, reason=reason, time=int(self.clock())
        )
        concerned = [proposal.researcher, *(site.steward for site in proposal.sites), *proposal.operators]
        for person in dict.fromkeys(concerned):
            if person != self.email:
                self.tell(person, Notice.topic, notice.to_bytes())


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
