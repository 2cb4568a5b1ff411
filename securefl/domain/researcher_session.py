"""A researcher's session: look at mock data, propose a study, follow the decisions, launch, take the result."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protocols.errors import ProtocolError, SignatureError
from securefl import durable
from securefl.domain.dataset import HOSPITAL_TAG
from securefl.domain.errors import DatasetError, LaunchError, ProposalError, ReleaseError
from securefl.domain.frames import Letter
from securefl.domain.late import is_late, mark
from securefl.domain.letters import Decision, LaunchOrder, LogCopy, Notice, State
from securefl.domain.parcel import Piece, take
from securefl.domain.proposal import (
    Proposal,
    SignedProposal,
    Site,
    check_study,
    file_digests,
    members_of,
    write_job,
    write_study,
)
from securefl.domain.relay import Carrier
from securefl.domain.release import RESULT
from securefl.domain.session import Clock, Session
from securefl.domain.show import Listing
from securefl.domain.wording import made
from securefl.errors import EngineError, SecureFLError
from securefl.permit import EndorsedPermit
from securefl.study import Study


class Researcher(Session):
    """A researcher's session. Arguments as ``Session``'s."""

    def __init__(
        self, email: str, home: str | Path, relay: str | Path | Carrier, clock: Clock = time.time
    ) -> None:
        super().__init__(email, home, relay, clock)
        self._folder = durable.private_folder(self.home / "proposals")

    def datasets(self) -> Listing[Any]:
        """What the hospitals published: Syft's datasets, of which ``mock_files`` are here and nothing else is."""
        with self.alone(), self.syft() as client:
            client.sync()
            known = {card.email for card in self.peers}
            found = [d for d in client.dataset_manager.get_all() if d.owner in known]
        return Listing(
            "Published datasets", ["dataset", "steward", "hospital", "description", "mock files"], found,
            lambda d: [d.name, d.owner, hospital_of(d), d.summary or "", len(d.mock_files)],
        )  # fmt: skip

    def propose(
        self,
        study: str | Path | Study,
        to: Sequence[str],
        *,
        purpose: str,
        operators: Sequence[str],
        datasets: Mapping[str, str] | None = None,
        approver: str | None = None,
    ) -> Sent:
        """Put a study to the stewards of all its hospitals.

        Args:
            study: its folder, or loaded; it names the hospitals' consortium.
            to: the stewards' emails.
            purpose: what it is for; stands in every approval.
            operators: emails of who runs the coordinator, first, and the parties.
            datasets: by steward, where one has published several.
            approver: the steward who may release the final model (default: the first of ``to``).

        Raises:
            ProposalError: a hospital of the study is not asked, a file is no text, or a name cannot be one here.
            DatasetError: a steward has published no dataset, or several and none is named.
            StudyError: the study is malformed.
        """
        loaded = study if isinstance(study, Study) else Study.load(study)
        sites = [self._site(steward, (datasets or {}).get(steward)) for steward in to]
        consortium = members_of(loaded)
        asked = sorted(site.hospital for site in sites)
        if asked != sorted(consortium.hospitals):
            raise ProposalError(
                f"The study has the hospitals {', '.join(sorted(consortium.hospitals))}, and "
                f"{', '.join(asked) or 'none'} are asked: ask each once, or take the others out of its consortium."
            )
        for operator in operators:
            self._peers.get(operator)
        if not operators:
            raise ProposalError("Somebody must run the coordinator and the parties: name their operators.")
        approver = approver or to[0]
        if approver not in to:
            raise ProposalError(
                f"{approver} is not among the stewards that are asked, so it cannot release the model."
            )
        proposal = made(
            Proposal, ProposalError, number=secrets.token_bytes(16), researcher=self.email,
            title=loaded.settings.name, purpose=purpose,
            study=loaded.digest(consortium.digest()), files=file_digests(loaded), sites=sites,
            operators=list(operators), approver=approver, created=int(self.clock()),
        )  # fmt: skip
        signed = SignedProposal.sign(proposal, self.identity.signing)
        with self.alone():
            folder = self._folder / proposal.digest().hex()
            write_study(loaded.files, proposal, folder / "study")
            durable.write(folder / "proposal.cbor", signed.to_bytes())
            self.log.append(
                self.email, "proposed", proposal.study, purpose, proposal=proposal.name, to=sorted(to)
            )
            self._submit(signed, loaded)
        return Sent(self, signed)

    def proposals(self) -> Listing[Sent]:
        """All that was proposed, the newest first."""
        found = [Sent(self, signed) for signed in self._signed()]
        found.sort(key=lambda sent: (sent.proposal.created, sent.proposal.number), reverse=True)
        return Listing(
            f"Proposals of {self.email}", ["proposal", "purpose", "states"], found,
            lambda sent: [sent.name, sent.proposal.purpose, ", ".join(s.state for s in sent.status())],
        )  # fmt: skip

    def proposal(self, name: str) -> Sent:
        """One by name.

        Raises:
            ProposalError: there is none.
        """
        for signed in self._signed():
            if signed.proposal.name == name:
                return Sent(self, signed)
        raise ProposalError(f"{self.email} has no proposal {name}: see `proposals()`.")

    def take_mail(self) -> None:
        """Take what stewards and operators wrote. A letter that is wrong is logged, and the others are taken.

        Raises:
            RelayError: the share is not there.
            EngineError: the disk is full: the letter waits.
        """
        with self.alone():
            for letter in self.mail.each((Decision.topic, Notice.topic, Piece.topic, LogCopy.topic)):
                try:
                    if letter.topic == Decision.topic:
                        self._keep_decision(letter, Decision.from_bytes(letter.body))
                    elif letter.topic == Notice.topic:
                        self._keep_notice(letter, Notice.from_bytes(letter.body))
                    elif letter.topic == LogCopy.topic:
                        self._keep_log(letter.sender, LogCopy.from_bytes(letter.body))
                    else:
                        self._keep_piece(letter.sender, Piece.from_bytes(letter.body))
                except (EngineError, OSError):
                    raise  # this computer's fault: the letter waits
                except (SecureFLError, ProtocolError, ValueError) as error:
                    self.log.append("securefl", "letter-refused", None, str(error), sender=letter.sender)

    def folder_of(self, proposal: Proposal) -> Path:
        """Where everything about a proposal is kept."""
        return self._folder / proposal.digest().hex()

    def _site(self, steward: str, dataset: str | None) -> Site:
        self._peers.get(steward)
        with self.alone(), self.syft() as client:
            client.sync()
            found = {d.name: d for d in client.dataset_manager.get_all(datasite=steward)}
        if dataset is None and len(found) == 1:
            dataset = next(iter(found))
        if dataset is None or dataset not in found:
            published = ", ".join(sorted(found)) or "nothing yet"
            raise DatasetError(
                f"{steward} has published {published}: name one of its datasets in `datasets`."
            )
        return made(
            Site, ProposalError, steward=steward, hospital=hospital_of(found[dataset]), dataset=dataset
        )

    def _submit(self, signed: SignedProposal, study: Study) -> None:
        # Late: it imports Syft.
        from securefl.domain.syft_client import check_code

        proposal = signed.proposal
        with tempfile.TemporaryDirectory(prefix="securefl-") as folder:
            code = Path(folder) / "code"
            write_job(code, signed, study.files)
            check_code(code)
            with self.syft() as client:
                for site in proposal.sites:
                    client.submit_python_job(
                        site.steward, str(code), proposal.name, entrypoint="main.py", force_submission=True
                    )

    def _signed(self) -> list[SignedProposal]:
        return [SignedProposal.from_bytes(p.read_bytes()) for p in self._folder.glob("*/proposal.cbor")]

    def _mine(self, digest: bytes) -> Proposal:
        for signed in self._signed():
            if signed.proposal.digest() == digest:
                return signed.proposal
        raise ProposalError("A letter came about a proposal that was not made here.")

    def _keep_decision(self, letter: Letter, decision: Decision) -> None:
        steward, proposal = letter.sender, self._mine(decision.proposal)
        site = proposal.site_of(steward)
        if decision.hospital != site.hospital:
            raise ProposalError(f"{steward} decided for {decision.hospital}, which is not its hospital.")
        folder = self.folder_of(proposal)
        if decision.permit is not None:
            try:
                permit = decision.permit.signed.checked(self._peers.get(steward).signing)
            except SignatureError as error:
                raise ProposalError(f"The permit of {steward} is not signed by it.") from error
            if (permit.proposal, permit.hospital) != (proposal.digest(), site.hospital):
                raise ProposalError(f"The permit of {steward} is for another proposal or hospital.")
            durable.write(folder / f"{site.hospital}.permit", decision.permit.to_bytes())
        place = folder / f"{site.hospital}.decision"
        if is_late(place, letter):
            return
        durable.write(place, decision.to_bytes())
        self.log.append(steward, decision.state, proposal.study, decision.reason, proposal=proposal.name)
        mark(place, letter)

    def _keep_log(self, steward: str, copy: LogCopy) -> None:
        proposal = self._mine(copy.proposal)
        if copy.hospital != proposal.site_of(steward).hospital:
            raise ProposalError(f"{steward} sent the log of {copy.hospital}, which is not its hospital.")
        durable.write(self.folder_of(proposal) / f"{copy.hospital}.log", copy.log)
        self.log.append(steward, "log-received", proposal.study, "", proposal=proposal.name)

    def _keep_piece(self, steward: str, piece: Piece) -> None:
        proposal = self._mine(piece.proposal)
        if steward != proposal.approver:
            raise ReleaseError(f"{steward} sent a run that {proposal.approver} releases.")
        if take(piece, self.folder_of(proposal) / RESULT):
            self.log.append(steward, "released", proposal.study, "", proposal=proposal.name)

    def _keep_notice(self, letter: Letter, notice: Notice) -> None:
        operator, proposal = letter.sender, self._mine(notice.proposal)
        if operator not in proposal.operators:
            raise ProposalError(f"{operator} is not an operator of {proposal.name}.")
        place = self.folder_of(proposal) / f"{operator}.notice"
        if is_late(place, letter):
            return
        said = {"member": notice.member, "state": notice.state, "reason": notice.reason}
        durable.write(place, json.dumps(said).encode())
        self.log.append(
            operator, f"operator-{notice.state}", proposal.study, notice.reason, proposal=proposal.name
        )
        mark(place, letter)


class Status:
    """How one hospital stands to a proposal."""

    def __init__(self, site: Site, state: State, reason: str) -> None:
        self.steward, self.hospital, self.dataset = site.steward, site.hospital, site.dataset
        self.state, self.reason = state, reason

    def __repr__(self) -> str:
        return f"{self.hospital}: {self.state}" + (f" ({self.reason})" if self.reason else "")


class Sent:
    """A proposal as its researcher sees it."""

    def __init__(self, researcher: Researcher, signed: SignedProposal) -> None:
        self._researcher, self.signed, self.proposal = researcher, signed, signed.proposal
        self._folder = researcher.folder_of(signed.proposal)

    @property
    def name(self) -> str:
        """As Syft lists it."""
        return self.proposal.name

    def status(self) -> Listing[Status]:
        """Per hospital: pending, approved, running, done, denied, revoked, expired or failed, and why."""
        self._researcher.take_mail()
        return Listing(
            self.name, ["hospital", "steward", "dataset", "state", "reason"],
            [self._status(site) for site in self.proposal.sites],
            lambda s: [s.hospital, s.steward, s.dataset, s.state, s.reason],
        )  # fmt: skip

    def notices(self) -> dict[str, dict[str, str]]:
        """What each operator told last, by email."""
        self._researcher.take_mail()
        return {p.stem: json.loads(p.read_text()) for p in sorted(self._folder.glob("*.notice"))}

    def logs(self) -> dict[str, str]:
        """By hospital: the logs that stewards have handed out."""
        self._researcher.take_mail()
        return {p.stem: p.read_text(errors="replace") for p in sorted(self._folder.glob("*.log"))}

    def launch(self) -> None:
        """Ask its operators to run it, once all hospitals have approved.

        Raises:
            LaunchError: a hospital has not approved.
        """
        states = self.status()
        if open_ := [s for s in states if s.state not in ("approved", "running")]:
            raise LaunchError(
                f"{self.name} cannot be launched: {'; '.join(map(repr, open_))}. Every hospital must approve it first."
            )
        study = check_study(self._folder / "study", self.proposal)
        order = LaunchOrder(proposal=self.signed, files=dict(study.files), permits=self.permits())
        researcher = self._researcher
        with researcher.alone():
            researcher.log.append(
                researcher.email,
                "launched",
                self.proposal.study,
                "",
                proposal=self.name,
                operators=self.proposal.operators,
            )
            for operator in self.proposal.operators:
                researcher.mail.send(operator, LaunchOrder.topic, order.to_bytes())

    def permits(self) -> list[EndorsedPermit]:
        """The permits that came, in the order of the sites."""
        paths = [self._folder / f"{site.hospital}.permit" for site in self.proposal.sites]
        return [EndorsedPermit.from_bytes(path.read_bytes()) for path in paths if path.exists()]

    @property
    def released(self) -> bool:
        """Whether the approver has released the finished run, and it has come."""
        self._researcher.take_mail()
        return (self._folder / RESULT).is_dir()

    def result(self, out: str | Path) -> Path:
        """Copy the released run into ``out``: model, receipts, study. Check it with ``securefl verify``.

        Raises:
            ReleaseError: it is not released, or is of another study.
        """
        out, folder = Path(out), self._folder / RESULT
        if out.exists():
            raise ReleaseError(f"{out} exists already: choose another folder.")
        if not self.released:
            raise ReleaseError(f"The model of {self.name} is not released yet by {self.proposal.approver}.")
        check_study(folder / "study", self.proposal)
        researcher = self._researcher
        researcher.log.append(researcher.email, "result-taken", self.proposal.study, "", proposal=self.name)
        shutil.copytree(folder, out)
        return out

    def _status(self, site: Site) -> Status:
        path = self._folder / f"{site.hospital}.decision"
        if not path.exists():
            return Status(site, "pending", "")
        decision = Decision.from_bytes(path.read_bytes())
        return Status(site, decision.state, decision.reason)

    def __repr__(self) -> str:
        return f"{self.name}: " + ", ".join(map(repr, map(self._status, self.proposal.sites)))


def hospital_of(dataset: Any) -> str:
    """The hospital's name in the consortium, from a Syft dataset's tags."""
    tags = [tag.removeprefix(HOSPITAL_TAG) for tag in dataset.tags or [] if tag.startswith(HOSPITAL_TAG)]
    if len(tags) != 1:
        raise DatasetError(f"{dataset.name} of {dataset.owner} does not say which hospital it is of.")
    return str(tags[0])
