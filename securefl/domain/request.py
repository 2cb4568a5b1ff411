"""A proposal as its steward sees it: review, approve, deny, revoke.

Adversary: a researcher, or whoever can write the shared folder or Syft's copy of it, who wants something else to run
    than what was reviewed.
Promise: a permit is signed over the digest of every byte of a private copy, which was made at the first review and
    compared again at the moment of the approval, and over the one signed proposal; nothing else that is called approved
    has any effect.
"""

from __future__ import annotations

import secrets
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from securefl import durable
from securefl.domain.errors import DecidedError
from securefl.domain.letters import Decision, LogCopy, State
from securefl.domain.proposal import Proposal, SignedProposal, Site, check_study, take_study
from securefl.domain.review import Review, review
from securefl.domain.wording import made
from securefl.errors import StudyError
from securefl.permit import Permit, PermitError, SignedPermit
from securefl.study import Study

if TYPE_CHECKING:
    from securefl.domain.owner_session import Owner

DAYS = 90
"""How long an approval holds unless the steward says otherwise."""
DAY = 86_400


class Request:
    """One proposal at one hospital.

    Attributes:
        proposal: signed by a pinned researcher.
        job: Syft's own object.
    """

    def __init__(self, owner: Owner, signed: SignedProposal, job: Any) -> None:
        self._owner, self._signed, self.job = owner, signed, job
        self.proposal: Proposal = signed.proposal
        self.site: Site = self.proposal.site_of(owner.email)
        self._code = Path(job.code_dir)

    @property
    def name(self) -> str:
        """As Syft lists it."""
        return self.proposal.name

    @property
    def state(self) -> State:
        """How it stands here."""
        decision = self.decision
        return decision.state if decision else "pending"

    @property
    def decision(self) -> Decision | None:
        """What was decided last, if anything."""
        return self._owner.decisions.of(self.proposal)

    @property
    def permit(self) -> SignedPermit | None:
        """The permit, once approved."""
        return self._owner.decisions.permit_of(self.proposal)

    @property
    def rounds_done(self) -> int:
        """Rounds of training whose sum has been opened with this hospital asked, in the last run."""
        signed = self.permit
        return 0 if signed is None else self._owner.rounds_done(signed, self.site.hospital)

    def review(self) -> Review:
        """Every byte that would run, the data that it touches, who would take part, and what it costs in privacy.

        Nothing of the proposal is executed.

        Raises:
            ProposalError: what arrived is not what was proposed.
        """
        with self._owner.alone():
            study = self._copy()
            return review(
                self.proposal, self.site, study, self._owner.dataset(self.site.dataset),
                self._owner.earlier_study(self.proposal), self._owner.fingerprint_of(self.proposal.researcher),
            )  # fmt: skip

    def approve(
        self,
        reason: str,
        *,
        days: int = DAYS,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> SignedPermit:
        """Allow it, once: for another run it is proposed again.

        Args:
            reason: for the log, and for the researcher.
            days: how long the approval holds.
            epsilon, delta: most that it may tell about one patient; by default what the study promises.

        Raises:
            DecidedError: it was decided before.
            ProposalError: what arrived is not what was proposed.
            StudyError: a private study without a target of its own needs a budget here.
            PermitError: a reason, an end or a budget that no permit can have.
        """
        owner = self._owner
        with owner.alone():
            if self.state != "pending":
                raise DecidedError(
                    f"{self.name} is {self.state} already: only a new proposal can change that."
                )
            study = self._copy()
            check_fits(study, self.proposal, self.site, owner)
            dataset = owner.dataset(self.site.dataset)
            now = int(owner.clock())
            limit = _limit(study, epsilon, delta)
            permit = made(
                Permit, PermitError, number=secrets.token_bytes(16), study=self.proposal.study,
                proposal=self.proposal.digest(),
                hospital=self.site.hospital, dataset=dataset.name, purpose=self.proposal.purpose, runs=1,
                epsilon=limit[0], delta=limit[1], unit=limit[2], not_before=now, expires=now + days * DAY,
                steward=owner.email, researcher=self.proposal.researcher, reason=reason,
            )  # fmt: skip
            signed = SignedPermit.of(permit, owner.identity.signing)
            endorsed = owner.endorse(signed)
            owner.log.append(
                owner.email, "approved", self.proposal.study, reason, proposal=self.name,
                researcher=self.proposal.researcher, dataset=dataset.name, permit=permit.number.hex(),
                expires=permit.expires, epsilon=permit.epsilon,
            )  # fmt: skip
            signed.save(owner.permit_folder(permit.number))
            owner.decide(self._signed, self.site, "approved", reason, endorsed)
            owner.tell_syft(self.job, "approve", reason)
            return signed

    def deny(self, reason: str) -> None:
        """Refuse it; the researcher is told why.

        Raises:
            DecidedError: it was decided before.
        """
        owner = self._owner
        with owner.alone():
            if self.state != "pending":
                raise DecidedError(f"{self.name} is {self.state} already: revoke it instead.")
            owner.log.append(
                owner.email, "denied", self.proposal.study, reason, proposal=self.name,
                researcher=self.proposal.researcher,
            )  # fmt: skip
            owner.decide(self._signed, self.site, "denied", reason)
            owner.tell_syft(self.job, "reject", reason)

    def revoke(self, reason: str, *, keep_peer: bool = False) -> None:
        """Take an approval back: the hospital declines from its next contribution on, and the researcher is put out.

        Args:
            reason: for the log, the researcher, and the receipts of the rounds that follow.
            keep_peer: leave the researcher among the peers.

        Raises:
            DecidedError: there is no approval that could be revoked.
        """
        self._owner.revoke(self.name, reason, keep_peer=keep_peer)

    @property
    def log(self) -> str:
        """What the node of the last run said; it is the steward's alone until ``share_log``."""
        signed = self.permit
        return "" if signed is None else self._owner.node_log(signed).decode(errors="replace")

    def share_log(self, reason: str) -> None:
        """Hand the log of the last run to the researcher: read it first, the study's own code may have written there.

        Raises:
            DecidedError: nothing has run.
            UnknownPeerError: the researcher was removed here.
        """
        owner, signed = self._owner, self.permit
        if signed is None or not self.log:
            raise DecidedError(f"{self.name} has no log: nothing of it has run here.")
        with owner.alone():
            owner.fingerprint_of(self.proposal.researcher)
            data = owner.node_log(signed)
            owner.log.append(
                owner.email, "log-shared", self.proposal.study, reason, proposal=self.name,
                researcher=self.proposal.researcher,
            )  # fmt: skip
            copy = LogCopy(proposal=self.proposal.digest(), hospital=self.site.hospital, log=data)
            owner.tell(self.proposal.researcher, LogCopy.topic, copy.to_bytes())

    def _copy(self) -> Study:
        """A private copy of the study, compared with the signed proposal whenever it is asked for."""
        target = self._owner.study_folder(self.proposal)
        if target.exists():
            return check_study(target, self.proposal)
        durable.private_folder(target.parent)
        return take_study(self._code, self.proposal, target)

    def __repr__(self) -> str:
        return f"{self.name}: {self.state}, of {self.proposal.researcher}, for {self.site.dataset}"


def check_fits(study: Study, proposal: Proposal, site: Site, owner: Owner) -> None:
    """Raise unless the study can run at this hospital as the proposal says.

    Raises:
        StudyError: it names other keys for this hospital, or reads its records elsewhere than in the dataset.
    """
    owner.check_members(study, site.hospital)
    root = study.settings.data.root
    parts = PurePosixPath(root or "../data").parts
    if parts[:2] != ("..", "data") or ".." in parts[2:]:
        raise StudyError(
            f'{proposal.name} reads {root}, and a hospital\'s records stand in ../data: ask for `root = "../data/…"`.'
        )


def _limit(study: Study, epsilon: float | None, delta: float | None) -> tuple[str, str, Any]:
    private = study.settings.privacy
    if private is None:
        if epsilon is not None:
            raise StudyError(
                "The study has no [privacy], so that no epsilon can be kept: ask for a private one, or leave the "
                "budget out."
            )
        return "", "", ""
    wanted = epsilon if epsilon is not None else private.epsilon
    if wanted is None:
        raise StudyError("The study sets its noise alone: say the epsilon that it may spend here.")
    if private.epsilon is not None and wanted > private.epsilon:
        wanted = private.epsilon
    return repr(float(wanted)), repr(float(delta if delta is not None else private.delta)), private.unit
