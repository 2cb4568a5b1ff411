"""Mutants whose operators launch what no hospital approved, and whose approvers release what nobody checked."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import SignatureError
from protocols.signing import SigningKey
from securefl.audit.mutants.consortium_folders import HOSPITALS, Folders, deployed, permit_of
from securefl.audit.mutants.share import RESEARCHER, SOUTH, STEWARD
from securefl.audit.mutants.unsigned import write_run
from securefl.audit.registry import Finding, Mutant
from securefl.audit.stage import staged
from securefl.audit.stage_cast import HOSPITALS as STAGE_HOSPITALS
from securefl.domain.errors import ReleaseError
from securefl.domain.letters import Decision, LaunchOrder
from securefl.domain.operator_session import Operator
from securefl.domain.owner_session import Owner
from securefl.domain.parcel import Piece, pieces
from securefl.domain.proposal import Proposal, SignedProposal, Site, file_digests
from securefl.domain.session import Session
from securefl.permit import EndorsedPermit, SignedPermit
from securefl.run_folder import RunFolder
from securefl.study import Study

OPERATOR, OTHER_OPERATOR = "ops@uni.example", "ops@lab.example"

# -- whose steward is whose ------------------------------------------------------------------------------------------


@dataclass
class Launching:
    """A researcher, and the operator of a party who has accepted her.

    Attributes:
        stewards: the hospitals' stewards' keys, by email.
    """

    folders: Folders
    operator: Operator
    researcher: Session
    stewards: Mapping[str, SigningKey]

    def order(self, proposal: Proposal, permits: list[EndorsedPermit]) -> LaunchOrder:
        """What the researcher sends."""
        signed = SignedProposal.sign(proposal, self.researcher.identity.signing)
        files = dict(Study.load(self.folders.study).files)
        return LaunchOrder(proposal=signed, files=files, permits=permits)

    def launched(self, order: LaunchOrder) -> bool:
        """Whether the shipped operator launches it."""
        self.researcher.mail.send(OPERATOR, LaunchOrder.topic, order.to_bytes())
        self.operator.step()
        return [e.action for e in self.operator.log.entries() if e.action.startswith("launch")][
            -1
        ] == "launched"


@contextmanager
def _launching() -> Iterator[Launching]:
    with deployed() as folders:
        (folders.root / "relay").mkdir()
        # The party's own process is not what is attacked.
        (folders.of("uni") / "start.sh").write_text("#!/bin/sh\nexit 0\n")
        researcher = Session(RESEARCHER, folders.root / "researcher", folders.root / "relay")
        operator = Operator(OPERATOR, folders.root / "ops", folders.root / "relay", folders.of("uni"))
        for one, other in ((researcher, operator), (operator, researcher)):
            one.accept(other.email, other.fingerprint)
        stewards = {email: SigningKey.generate() for email in (STEWARD, SOUTH)}
        with operator:
            yield Launching(folders, operator, researcher, stewards)


def _permits(
    launching: Launching,
    proposal: Proposal,
    signers: Mapping[str, SigningKey],
    endorsers: Mapping[str, SigningKey],
) -> list[EndorsedPermit]:
    """A permit for each hospital, by whoever signs as its steward and endorses as the hospital."""
    made = []
    for site in proposal.sites:
        permit = permit_of(
            proposal.study,
            site.hospital,
            int(time.time()) - 60,
            proposal=proposal.digest(),
            steward=site.steward,
        )
        made.append(
            EndorsedPermit.of(SignedPermit.of(permit, signers[site.steward]), endorsers[site.hospital])
        )
    return made


def by_the_proposal(order: LaunchOrder, known: Mapping[str, bytes]) -> bool:
    """The naive operator: for each hospital there is a permit, signed by who the proposal says is its steward."""
    given = {endorsed.signed.permit.hospital: endorsed.signed for endorsed in order.permits}
    try:
        for site in order.proposal.proposal.sites:
            given[site.hospital].checked(known[site.steward])
    except (KeyError, SignatureError):
        return False
    return True


def _own(launching: Launching) -> LaunchOrder:
    """The researcher says that she is both hospitals' steward, and approves."""
    key = launching.researcher.identity.signing
    stewards = dict.fromkeys(HOSPITALS, RESEARCHER)
    proposal = launching.folders.proposal(RESEARCHER, stewards, [OTHER_OPERATOR, OPERATOR])
    return launching.order(
        proposal, _permits(launching, proposal, {RESEARCHER: key}, dict.fromkeys(HOSPITALS, key))
    )


def _launch_breaks() -> Finding:
    with _launching() as launching:
        known = {RESEARCHER: launching.researcher.identity.signing.public}
        launched = by_the_proposal(_own(launching), known)
    said = (
        "A researcher who named herself both hospitals' steward, and approved, was "
        f"{'' if launched else 'not '}launched."
    )
    return Finding(launched, said, {"launched": int(launched)})


def _launch_caught() -> Finding:
    with _launching() as launching:
        folders, keys = launching.folders, launching.stewards
        proposal = folders.proposal(
            RESEARCHER, dict(zip(HOSPITALS, (STEWARD, SOUTH), strict=True)), [OTHER_OPERATOR, OPERATOR]
        )
        own = {h: folders.keys(h).signing for h in HOSPITALS}
        both = _permits(launching, proposal, keys, own)
        another = proposal.model_copy(update={"number": b"another proposal"})
        tries = {
            "her own": _own(launching),
            "no": launching.order(proposal, []),
            "one": launching.order(proposal, both[:1]),
            "the other hospital's": launching.order(
                proposal, _permits(launching, proposal, keys, dict.fromkeys(HOSPITALS, own[HOSPITALS[1]]))
            ),
            "another proposal's": launching.order(another, both),
        }
        launched = [name for name, order in tries.items() if launching.launched(order)]
        honest = launching.launched(launching.order(proposal, both))
    said = (
        f"{len(launched)} of {len(tries)} orders were launched ({', '.join(tries)} endorsement); with every "
        f"hospital's, it {'was' if honest else 'was not'}."
    )
    return Finding(not launched and honest, said, {"launched": len(launched), "orders": len(tries)})


# -- released as it came ---------------------------------------------------------------------------------------------


def as_it_came(sender: str, proposal: Proposal, run: Path) -> bytes | None:
    """The naive approver: what the coordinator's operator sends is the study's result."""
    return (run / "model.safetensors").read_bytes() if sender == proposal.coordinator else None


def _changed(run: RunFolder) -> None:
    """Another model: the last byte of its weights is not what was computed."""
    data = bytearray(run.model_file.read_bytes())
    data[-1] ^= 1
    run.model_file.write_bytes(data)


@contextmanager
def _finished() -> Iterator[tuple[RunFolder, Proposal, SignedProposal, Path]]:
    """A finished run with a true record; its proposal, as it was approved; and a folder for the people."""
    with staged() as stage, tempfile.TemporaryDirectory(prefix="securefl-audit-") as name:
        stage.play()
        run = RunFolder(Path(name) / "run")
        write_run(stage, run)
        study, key = stage.study, SigningKey.generate()
        proposal = Proposal(
            number=bytes(16), researcher=RESEARCHER, title="A study", purpose="who has it", study=stage.terms.study,
            files=file_digests(study), operators=[OPERATOR, OTHER_OPERATOR], approver=STEWARD, created=0,
            sites=[Site(steward=f"steward@{h}.example", hospital=h, dataset="d") for h in STAGE_HOSPITALS],
        )  # fmt: skip
        (Path(name) / "hospital").mkdir()
        shutil.copy(stage.people.folder / "consortium.toml", Path(name) / "hospital")
        yield run, proposal, SignedProposal.sign(proposal, key), Path(name)


def _release_breaks() -> Finding:
    with _finished() as (run, proposal, _, _folder):
        true = run.model_file.read_bytes()
        _changed(run)
        released = as_it_came(OPERATOR, proposal, run.path)
    changed = released is not None and released != true
    said = f"A model with a changed weight was {'' if changed else 'not '}released, as the operator sent it."
    return Finding(changed, said, {"released": int(changed)})


def _release_caught() -> Finding:
    with _finished() as (run, proposal, signed, folder):
        (folder / "relay").mkdir()
        approver = Owner(STEWARD, folder / "approver", folder / "relay", folder / "hospital")
        operator = Session(OPERATOR, folder / "operator", folder / "relay")
        other = Session(OTHER_OPERATOR, folder / "other", folder / "relay")
        for one in (operator, other):
            approver.accept(one.email, one.fingerprint)
            one.accept(STEWARD, approver.fingerprint)
        decided = Decision(
            proposal=proposal.digest(), hospital=STAGE_HOSPITALS[0], state="approved", reason="", time=0
        )
        approver.decisions.keep(signed, decided)
        _sent(other, proposal, run, approver)
        kept = len(approver.releases())
        _sent(operator, proposal, run, approver)
        honest = _verifies(approver)
        _changed(run)
        _sent(operator, proposal, run, approver)
        changed = _verifies(approver)
    said = (
        f"Of a changed model the record {'holds' if changed else 'does not hold'}, so that it is not released; of the "
        f"true one it {'holds' if honest else 'does not hold'}. Of other senders {kept} runs were kept."
    )
    return Finding(honest and not changed and not kept, said, {"released": int(changed), "kept": kept})


def _sent(sender: Session, proposal: Proposal, run: RunFolder, approver: Owner) -> None:
    """Hand a run to the approver, whose service takes it."""
    for piece in pieces(proposal.digest(), run.path):
        sender.mail.send(approver.email, Piece.topic, piece.to_bytes())
    approver.serving().step()


def _verifies(approver: Owner) -> bool:
    """Whether the one run that waits may be released; ``Release.approve`` asks the same."""
    (release,) = approver.releases()
    try:
        return release.verify().accepted
    except ReleaseError:
        return False


MUTANTS = (
    Mutant(
        "stewards-by-the-proposal",
        "launch-needs-every-hospital",
        "Whose permit a hospital needs is who the proposal says is its steward.",
        _launch_breaks,
        _launch_caught,
    ),
    Mutant(
        "released-as-it-came",
        "release-is-checked",
        "What the coordinator's operator sends is released as the study's result.",
        _release_breaks,
        _release_caught,
    ),
)
