"""A steward's session: publish, accept, review and decide, serve, release.

Adversary: researchers, other stewards, and whoever can write the shared folder.
Promise: nothing that lies there publishes, accepts, approves or runs anything; every decision is made by a call of this
    session's, and stands in the audit log before it has an effect.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securefl import consortium as members
from securefl import durable
from securefl.domain.dataset import (
    HOSPITAL_TAG,
    PRIVATE_NOTE,
    Dataset,
    Datasets,
    check_folders,
    check_name,
)
from securefl.domain.decisions import Decisions
from securefl.domain.errors import (
    ChangedKeyError,
    DecidedError,
    DomainError,
    ProposalError,
    RelayError,
    UnknownPeerError,
)
from securefl.domain.letters import ENDED, Decision, State
from securefl.domain.node import awaited_round, hospital_name
from securefl.domain.proposal import Proposal, SignedProposal, Site, members_of, read_job
from securefl.domain.relay import Carrier
from securefl.domain.request import Request
from securefl.domain.runs import Runs
from securefl.domain.session import Clock, Session
from securefl.domain.show import Listing
from securefl.domain.wording import made
from securefl.errors import StudyError
from securefl.permit import EndorsedPermit, PermitError, Revocation, SignedPermit, SignedRevocation
from securefl.study import Study

LONGEST_LOG = 16 * 2**20

if TYPE_CHECKING:
    from securefl.domain.release import Release
    from securefl.domain.serving import Serving


class Owner(Session):
    """A data owner's session.

    Args:
        email, home, relay, clock: see ``Session``.
        hospital: the hospital's folder, as ``securefl deploy`` made it; ``home/hospital`` by default.
    """

    owns = True

    def __init__(
        self,
        email: str,
        home: str | Path,
        relay: str | Path | Carrier,
        hospital: str | Path | None = None,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(email, home, relay, clock)
        self.hospital = Path(hospital).absolute() if hospital else self.home / "hospital"
        self.decisions = Decisions(self.home)
        self._datasets = Datasets(self.home)

    # ------------------------------------------------------------------ data

    def publish(self, name: str, private: str | Path, mock: str | Path, description: str = "") -> Dataset:
        """Show a dataset: its name, description and mock files go out, the private files stay.

        Args:
            name: lower case letters, digits, dots, hyphens.
            private: folder of the real records, of which nothing is copied or sent.
            mock: folder of made-up files of the same shape.

        Raises:
            DatasetError: a bad name, an empty folder, or one folder inside the other.
        """
        check_name(name)
        private, mock = Path(private).absolute(), Path(mock).absolute()
        check_folders(private, mock)
        dataset = Dataset(name, self._member_name(), str(private), description)
        with self.alone():
            note = self.home / "private-note.txt"
            durable.write(note, PRIVATE_NOTE.encode())
            self.log.append(
                self.email, "published", None, description, dataset=name, hospital=dataset.hospital
            )
            self._datasets.save(dataset)
            with self.syft() as client:
                if any(d.name == name for d in client.dataset_manager.get_all(datasite=self.email)):
                    client.delete_dataset(name, require_confirmation=False, sync=False)
                client.create_dataset(
                    name=name, mock_path=mock, private_path=note, summary=description,
                    tags=[f"{HOSPITAL_TAG}{dataset.hospital}"], users="any",
                )  # fmt: skip
        return dataset

    def withdraw(self, name: str, reason: str) -> None:
        """Publish a dataset no longer. Approvals that name it stand until they are revoked."""
        with self.alone():
            self._datasets.get(name)
            self.log.append(self.email, "withdrawn", None, reason, dataset=name)
            self._datasets.remove(name)
            with self.syft() as client:
                client.delete_dataset(name, require_confirmation=False)

    def datasets(self) -> Listing[Dataset]:
        """What is published here."""
        return Listing(
            f"Published by {self.email}", ["name", "hospital", "description", "private"], self._datasets.all(),
            lambda d: [d.name, d.hospital, d.description, d.private],
        )  # fmt: skip

    def dataset(self, name: str) -> Dataset:
        """One of them."""
        return self._datasets.get(name)

    # ------------------------------------------------------------- decisions

    def requests(self) -> Listing[Request]:
        """What researchers have proposed, the newest first. A proposal that cannot be read is denied and logged."""
        with self.alone(), self.syft() as client:
            client.sync()
            jobs = list(client.job_client.jobs)
            found = [request for job in jobs if (request := self._request(job)) is not None]
        return Listing(
            f"Proposals to {self.email}", ["proposal", "researcher", "dataset", "state", "purpose"], found,
            lambda r: [r.name, r.proposal.researcher, r.site.dataset, r.state, r.proposal.purpose],
        )  # fmt: skip

    def request(self, name: str) -> Request:
        """One of them, by its name.

        Raises:
            ProposalError: there is none.
        """
        found = [request for request in self.requests() if request.name == name]
        if len(found) > 1:
            raise ProposalError(
                f"Several proposals are called {name}: deny them, and ask for one of another title."
            )
        if not found:
            raise ProposalError(f"No proposal {name} has arrived: see `requests()`.")
        return found[0]

    def remove(self, peer: str, reason: str) -> None:
        """Put somebody out, and take back all that was approved for it."""
        with self.alone():
            self._peers.get(peer)
            for signed in self.decisions.proposals():
                if signed.proposal.researcher == peer:
                    self._take_back(signed, reason)
            super().remove(peer, reason)
            self.send_waiting()

    def revoke(self, name: str, reason: str, *, keep_peer: bool = False) -> None:
        """Take back what was approved under this name: see ``Request.revoke``. It needs no share and no Syft.

        Raises:
            DecidedError: there is no approval that could be revoked.
            PermitError: a reason that is too long.
        """
        with self.alone():
            found = [signed for signed in self.decisions.proposals() if signed.proposal.name == name]
            # A name is a piece of a digest, which a researcher can give to two proposals: then both end.
            ended = [self._take_back(signed, reason) for signed in found]
            known = {card.email for card in self.peers}
            out = set() if keep_peer else {signed.proposal.researcher for signed in found} & known
            # What a crash has stopped halfway can be finished.
            if not any(ended) and not (out and all(map(self._is_revoked, found))):
                states = [decision.state for s in found if (decision := self.decisions.of(s.proposal))]
                raise DecidedError(
                    f"{name} is {states[0] if states else 'not decided on'}: there is no approval to revoke."
                )
            for researcher in sorted(out):
                self.remove(researcher, reason)
            self.send_waiting()

    def _is_revoked(self, signed: SignedProposal) -> bool:
        decision = self.decisions.of(signed.proposal)
        return decision is not None and decision.state == "revoked"

    def _take_back(self, signed: SignedProposal, reason: str) -> bool:
        """End the approval of one proposal here; whether there was one that still held. The telling waits."""
        proposal = signed.proposal
        decision, permit = self.decisions.of(proposal), self.decisions.permit_of(proposal)
        if permit is None or decision is None or decision.state in ENDED:
            return False
        number = permit.permit.number
        revocation = made(Revocation, PermitError, permit=number, time=int(self.clock()), reason=reason)
        self.log.append(
            self.email, "revoked", proposal.study, reason, proposal=proposal.name, researcher=proposal.researcher,
            permit=number.hex(),
        )  # fmt: skip
        SignedRevocation.of(revocation, self.identity.signing).save(self.permit_folder(number))
        told = self._keep(signed, proposal.site_of(self.email), "revoked", reason)
        with contextlib.suppress(UnknownPeerError):
            self._mail.queue_last(proposal.researcher, Decision.topic, told.to_bytes())
        return True

    def releases(self) -> Listing[Release]:
        """Finished runs whose model this steward may release."""
        from securefl.domain.release import releases_of

        with self.alone():
            found = releases_of(self)
        return Listing(
            f"To be released by {self.email}", ["proposal", "researcher", "state"], found,
            lambda r: [r.name, r.proposal.researcher, r.state],
        )  # fmt: skip

    def serving(self) -> Serving:
        """The hospital's service, to be driven step by step."""
        from securefl.domain.serving import Serving

        return Serving(self)

    def serve(self, seconds: float | None = None) -> None:
        """Run approved studies, and nothing else, until interrupted or for so many seconds."""
        with self.serving() as serving:
            serving.run(seconds)

    def _peer_accepted(self, peer: str) -> None:
        """Let Syft take this researcher's jobs; they wait for a decision here."""
        from securefl.domain.syft_client import admit

        with self.syft() as client:
            admit(client, peer)

    # ------------------------------------------- what requests and serving use

    def permit_folder(self, number: bytes) -> Path:
        """Where a permit lies, and its revocation."""
        return self.home / "permits" / number.hex()

    def run_folder(self, permit: SignedPermit, run: int) -> Path:
        """What the node of one run keeps."""
        return self.home / "runs" / f"{permit.permit.number.hex()}-{run}"

    def node_log(self, permit: SignedPermit) -> bytes:
        """What the node of the last run under a permit said; its end, if it was long."""
        begun = Runs(self.permit_folder(permit.permit.number)).begun
        path = self.run_folder(permit, begun) / "log"
        return path.read_bytes()[-LONGEST_LOG:] if begun and path.exists() else b""

    def rounds_done(self, permit: SignedPermit, hospital: str) -> int:
        """Rounds of training that the last run under a permit has seen the end of."""
        begun = Runs(self.permit_folder(permit.permit.number)).begun
        awaited = awaited_round(self.run_folder(permit, begun) / "home", hospital) if begun else None
        return max((awaited or 0) - 1, 0)

    def study_folder(self, proposal: Proposal) -> Path:
        """The private copy of a proposal's study."""
        return self.home / "studies" / proposal.digest().hex() / "study"

    def earlier_study(self, proposal: Proposal) -> Study | None:
        """The last study of the same title and researcher that was decided on before."""
        for signed in reversed(self.decisions.proposals()):
            old = signed.proposal
            same = (old.title, old.researcher) == (proposal.title, proposal.researcher)
            if same and old.digest() != proposal.digest() and self.study_folder(old).exists():
                return Study.load(self.study_folder(old))
        return None

    def fingerprint_of(self, peer: str) -> str:
        """Of a pinned peer."""
        return self._peers.get(peer).fingerprint

    def endorse(self, permit: SignedPermit) -> EndorsedPermit:
        """Sign a permit with the hospital's consortium key, too."""
        pinned = members.load(self.hospital / members.FILE).member(self._member_name())
        keys = members.load_keys(self.hospital / "keys" / pinned.name, pinned)
        return EndorsedPermit.of(permit, keys.signing)

    def decide(
        self,
        signed: SignedProposal,
        site: Site,
        state: State,
        reason: str,
        permit: EndorsedPermit | None = None,
    ) -> None:
        """Keep a decision, and tell the researcher. A researcher who was put out is told no more."""
        decision = self._keep(signed, site, state, reason, permit)
        self.tell(signed.proposal.researcher, Decision.topic, decision.to_bytes())

    def _keep(
        self,
        signed: SignedProposal,
        site: Site,
        state: State,
        reason: str,
        permit: EndorsedPermit | None = None,
    ) -> Decision:
        decision = Decision(
            proposal=signed.proposal.digest(), hospital=site.hospital, state=state, reason=reason,
            time=int(self.clock()), permit=permit,
        )  # fmt: skip
        self.decisions.keep(signed, decision)
        return decision

    def tell_syft(self, job: Any, action: str, reason: str) -> None:
        """Let Syft show the decision. It has no other effect: a permit decides what runs.

        What the share does not take now, Syft tells at its next sync.
        """
        with contextlib.suppress(RelayError, ChangedKeyError), self.syft() as client:
            if job.status == "pending":
                getattr(job, action)(reason)
            client.sync()

    def check_members(self, study: Study, hospital: str) -> None:
        """Raise StudyError unless the study's consortium is the one that this hospital has joined."""
        own = members.load(self.hospital / members.FILE)
        if self._member_name() != hospital:
            raise StudyError(f"The proposal calls this hospital {hospital}, and it is {self._member_name()}.")
        if members_of(study).digest() != own.digest():
            raise StudyError(
                f"The study names other members or keys than {self.hospital / members.FILE}: ask for a study with the "
                "consortium that this hospital has joined."
            )

    def _member_name(self) -> str:
        return hospital_name(self.hospital)

    def _request(self, job: Any) -> Request | None:
        if job.datasite_owner_email != self.email or not Path(job.code_dir).is_dir():
            return None
        try:
            signed = read_job(Path(job.code_dir))
            signed.check(job.submitted_by, self._peers.get(job.submitted_by).signing)
            if job.name != signed.proposal.name:
                raise ProposalError(f"A job called {job.name!r} brings the proposal {signed.proposal.name}.")
            return Request(self, signed, job)
        except DomainError as error:
            self._refuse(job, error)
            return None

    def _refuse(self, job: Any, error: DomainError) -> None:
        """A job that is no proposal of ours is turned down once, and never blocks the next."""
        if job.status != "pending":
            return
        self.log.append(
            "securefl", "job-refused", None, str(error), job=job.name, submitted_by=job.submitted_by
        )
        job.reject(str(error))
