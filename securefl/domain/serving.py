"""A hospital's service: it runs what its steward has approved, one study at a time, and nothing else.

Adversary: a researcher whose approval was revoked, has expired or is used up; whoever changes files between approval
    and start; a study's own code.
Promise: what starts is a copy whose digest was compared at that moment with the permit's; it runs confined. The node
    itself asks for the permit before each contribution: from a revocation, or the permit's end, on it declines,
    whatever becomes of this service, and it ends with the run.

A node starts when the coordinator's operator says that its run has begun, and ends when it says that the run has. Both
words stand on the disk (``launched`` and ``closed`` beside the study): a service that begins later goes on. A SuperLink
knows a hospital's SuperNode by one key, and lets one connection of it in: a second study that was launched waits.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocols.errors import ProtocolError
from securefl import durable
from securefl.consent import Consent
from securefl.domain.errors import ChangedKeyError, DatasetError, ProposalError, RelayError
from securefl.domain.frames import Letter
from securefl.domain.late import is_late, mark
from securefl.domain.letters import Notice, State
from securefl.domain.node import Progress
from securefl.domain.parcel import Piece
from securefl.domain.proposal import Proposal, SignedProposal, Site, check_study
from securefl.domain.release import check_operator, take_piece
from securefl.domain.runs import Runs
from securefl.errors import EngineError, SecureFLError, StudyError
from securefl.permit import SignedPermit

if TYPE_CHECKING:
    from securefl.domain.child import Child
    from securefl.domain.owner_session import Owner

EVERY = 1.0
"""Seconds between two looks."""
PAUSE = 10.0
"""Seconds before a node that ended is started again: its SuperLink may not be there yet."""
GRACE = 120.0
"""Seconds that a node stays after its last outcome, to answer the check of that sum; or, short of it, after the run."""


class Serving:
    """The service; used as a context, so that its node ends with it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._child: Child | None = None
        self._permit: bytes | None = None
        self._again = 0.0
        self._done_at: float | None = None
        self._progress = Progress()
        self._trouble = ""

    def __enter__(self) -> Serving:
        self._log("serving-began", None, "")
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop()
        self._log("serving-ended", None, "")

    def run(self, seconds: float | None = None) -> None:
        """Step until interrupted, or for so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(KeyboardInterrupt):
            while end is None or time.monotonic() < end:
                self.step()
                time.sleep(EVERY)

    def step(self) -> None:
        """Take the mail, and start, watch or end what is approved. What goes wrong is logged; the rest goes on."""
        with self._owner.alone():
            self._take_mail()
            for signed in self._owner.decisions.proposals():
                try:
                    self._look_at(signed)
                except SecureFLError as error:
                    self._fail(signed, error)

    @property
    def confinement(self) -> Any:
        """What confines the node that runs now, if one does."""
        return self._child.confinement if self._child else None

    # ------------------------------------------------------------------ mail

    def _take_mail(self) -> None:
        """Take the mail; while the share is away, or the disk full, it waits, and what runs goes on."""
        trouble = ("", "")
        try:
            for letter in self._owner.mail.each((Piece.topic, Notice.topic)):
                self._take(letter)
        except (RelayError, ChangedKeyError) as error:
            trouble = ("relay-away", str(error))
        except (EngineError, OSError) as error:
            trouble = ("mail-waits", str(error))
        if trouble[0] and self._trouble != trouble[0]:
            with contextlib.suppress(EngineError):  # a full disk may have no place for a line either
                self._log(trouble[0], None, trouble[1])
        self._trouble = trouble[0]

    def _take(self, letter: Letter) -> None:
        try:
            if letter.topic == Notice.topic:
                self._note(letter, Notice.from_bytes(letter.body))
            else:
                take_piece(self._owner, letter.sender, Piece.from_bytes(letter.body))
        except (EngineError, OSError):
            raise  # this computer's fault: the letter waits
        except (SecureFLError, ProtocolError, ValueError) as error:
            self._log("letter-refused", None, str(error), actor=letter.sender, topic=letter.topic)

    def _note(self, letter: Letter, notice: Notice) -> None:
        """What an operator told. The coordinator's says when a node is wanted, and when no more; it decides nothing."""
        proposal = check_operator(self._owner, letter.sender, notice.proposal)
        place = self._beside(proposal, f"notice-{letter.sender}")
        if is_late(place, letter):
            return
        launched, closed = self._beside(proposal, "launched"), self._beside(proposal, "closed")
        if letter.sender == proposal.coordinator:
            if notice.state == "running":
                closed.unlink(missing_ok=True)
                durable.write(launched, b"")
            elif notice.state == "finished":
                durable.write(closed, b"")
            elif notice.state == "failed":
                launched.unlink(missing_ok=True)
        self._log(
            f"operator-{notice.state}", notice.proposal, notice.reason, actor=letter.sender, member=notice.member
        )  # fmt: skip
        mark(place, letter)

    def _beside(self, proposal: Proposal, name: str) -> Path:
        return self._owner.study_folder(proposal).with_name(name)

    def _is_wanted(self, proposal: Proposal) -> bool:
        return self._beside(proposal, "launched").exists()

    def _is_closed(self, proposal: Proposal) -> bool:
        return self._beside(proposal, "closed").exists()

    # --------------------------------------------------------------- studies

    def _look_at(self, signed: SignedProposal) -> None:
        proposal, owner = signed.proposal, self._owner
        decision, permit = owner.decisions.of(proposal), owner.decisions.permit_of(proposal)
        if permit is None or decision is None:
            return
        site, mine = proposal.site_of(owner.email), self._permit == permit.permit.number
        if decision.state not in ("approved", "running"):
            if mine:
                self._let_decline(proposal, decision.reason)
            return
        if (refusal := self._consent(proposal, permit).refusal()) is not None:
            self._end(signed, site, "expired", refusal)
        elif not self._is_wanted(proposal):
            if mine:
                self._interrupt(proposal, "the coordinator's run has failed")
        elif self._is_closed(proposal) and not mine:
            self._end_run(signed, site, permit)
        elif mine and self._child is not None:
            self._watch(signed, permit, self._child)
        elif self._child is None and time.monotonic() >= self._again:
            self._start(signed, site, permit)

    def _let_decline(self, proposal: Proposal, reason: str) -> None:
        """Keep a node that may contribute no more until the run is over.

        It declines each round, so that the others need not wait for it, and the receipts say why it is absent. It reads
        no record and runs no code of the study's.
        """
        over = self._is_closed(proposal) or not self._is_wanted(proposal)
        if over or self._child is None or not self._child.alive:
            self._beside(proposal, "launched").unlink(missing_ok=True)
            self._interrupt(proposal, reason)

    def _consent(self, proposal: Proposal, permit: SignedPermit) -> Consent:
        owner = self._owner
        return Consent(
            owner.permit_folder(permit.permit.number), owner.identity.signing.public, proposal.study,
            proposal.site_of(owner.email).hospital, owner.clock,
        )  # fmt: skip

    def _start(self, signed: SignedProposal, site: Site, permit: SignedPermit) -> None:
        """Start the node of a study: the next run, or again the one that was interrupted."""
        # Late: it imports what starts processes.
        from securefl.domain import child

        owner, proposal, number = self._owner, signed.proposal, permit.permit.number
        check_study(owner.study_folder(proposal), proposal)
        dataset = owner.dataset(permit.permit.dataset)
        dataset.private_files()
        runs = Runs(owner.permit_folder(number))
        # Written before the start: a run that may have begun is a run that was used.
        run = owner.run_folder(permit, runs.begin(permit.permit.runs))
        self._child = child.start(
            study=owner.study_folder(proposal), digest=proposal.study,
            permit=owner.permit_folder(number), steward=owner.identity.signing.public,
            hospital=owner.hospital, data=Path(dataset.private), run=run, clock=owner.clock,
        )  # fmt: skip
        self._permit, self._done_at, self._progress = number, None, Progress()
        self._log(
            "node-started", proposal.study, "", proposal=proposal.name, permit=number.hex(), run=run.name,
            confinement=str(self._child.confinement),
        )  # fmt: skip

    def _watch(self, signed: SignedProposal, permit: SignedPermit, child: Child) -> None:
        owner, proposal = self._owner, signed.proposal
        site = proposal.site_of(owner.email)
        awaited = self._progress.awaited(child.run / "home", site.hospital)
        decision = owner.decisions.of(proposal)
        if awaited is not None and decision is not None and decision.state == "approved":
            self._log("run-began", proposal.study, "", proposal=proposal.name)
            owner.decide(signed, site, "running", "the first outcome has come")
        rounds = check_study(owner.study_folder(proposal), proposal).settings.training.rounds
        complete, closed = awaited is not None and awaited > rounds, self._is_closed(proposal)
        if complete or closed:
            self._done_at = self._done_at or time.monotonic()
            if (complete and closed) or not child.alive or time.monotonic() - self._done_at > GRACE:
                self._stop()
                self._end_run(signed, site, permit)
        elif not child.alive:
            self._log("node-ended", proposal.study, "it is started again", proposal=proposal.name)
            self._stop()
            self._again = time.monotonic() + PAUSE

    def _end_run(self, signed: SignedProposal, site: Site, permit: SignedPermit) -> None:
        """The run is over, whether or not this hospital saw its end: its permit is used, and the next study's turn."""
        owner, proposal = self._owner, signed.proposal
        rounds = check_study(owner.study_folder(proposal), proposal).settings.training.rounds
        seen = owner.rounds_done(permit, site.hospital)
        said = f"{rounds} rounds are over"
        if seen < rounds:
            said = f"the run is over, and the end of {seen} of its {rounds} rounds has come here"
        Runs(owner.permit_folder(permit.permit.number)).end()
        self._beside(proposal, "launched").unlink(missing_ok=True)
        self._end(signed, site, "done", said)

    def _end(self, signed: SignedProposal, site: Site, state: State, reason: str) -> None:
        self._log(f"study-{state}", signed.proposal.study, reason, proposal=signed.proposal.name)
        self._owner.decide(signed, site, state, reason)

    def _interrupt(self, proposal: Proposal, reason: str) -> None:
        self._stop()
        self._log("node-stopped", proposal.study, reason, proposal=proposal.name)

    def _fail(self, signed: SignedProposal, error: SecureFLError) -> None:
        """What can never run is over; what the machine could not do now is tried again."""
        proposal, permit = signed.proposal, self._owner.decisions.permit_of(signed.proposal)
        if isinstance(error, (ProposalError, DatasetError, StudyError)):
            if permit is not None and self._permit == permit.permit.number:
                self._stop()
            self._end(signed, proposal.site_of(self._owner.email), "failed", str(error))
        else:
            with contextlib.suppress(EngineError):  # a full disk may have no place for a line either
                self._log("start-failed", proposal.study, str(error), proposal=proposal.name)
        self._again = time.monotonic() + PAUSE

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
        self._child = self._permit = None

    def _log(
        self, action: str, digest: bytes | None, reason: str, actor: str = "securefl", **facts: str
    ) -> None:
        self._owner.log.append(actor, action, digest, reason, **facts)
