"""What was trained, by whom, on which approval, and what their signatures stand under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.errors import ProtocolError
from securefl.audit import Verdict
from securefl.report.evidence import Evidence
from securefl.run_folder import RunFolder
from securefl.study import Study

NO_APPROVAL = (
    "There is no record of an approval: this version keeps none. Approvals by an ethics committee, a data access "
    "board or a hospital's management have to be filed beside this page."
)


@dataclass(frozen=True)
class MemberFacts:
    """A member.

    Attributes:
        fingerprint: of all its pinned public keys, in groups of four digits.
        signed: what of this run carries its signature, in words.
    """

    name: str
    role: str
    fingerprint: str
    signed: str


@dataclass(frozen=True)
class Fact:
    """A line of a table: what it is, and what it is here."""

    name: str
    value: str


@dataclass(frozen=True)
class Trained:
    """Study and members.

    Attributes:
        facts: the study's purpose, model and data, and the digests that name it, in words.
        members: hospitals, parties, the dealer.
        approval: sentences on who approved what, and on what there is no record of.
    """

    facts: Sequence[Fact]
    members: Sequence[MemberFacts]
    approval: Sequence[str]


def trained(run: RunFolder, evidence: Evidence, verdict: Verdict) -> Trained:
    """From a run folder; what cannot be read is said to be not known."""
    return Trained(_facts(evidence, verdict), _members(run, evidence, verdict), _approval(evidence))


def _facts(evidence: Evidence, verdict: Verdict) -> list[Fact]:
    info, unknown = evidence.info, "not known"
    facts = [
        Fact("study", str(info.get("name", unknown))),
        Fact("study digest", str(info.get("study", unknown))),
        Fact("begun", str(info.get("started", unknown))),
        Fact("software", f"securefl {info.get('securefl', unknown)}, {info.get('fingerprint', unknown)}"),
    ]
    if evidence.study is None:
        return facts
    s = evidence.study.settings
    purpose = s.description or "The study's author has given none."
    rounds = f"{len(evidence.rounds)} of {s.training.rounds}"
    facts[1:1] = [Fact("purpose, in its author's words", purpose)]
    facts += [
        Fact("records", _records(evidence.study)),
        Fact("model", f"{s.model.kind}, {_count(evidence.summary.get('parameters'))} coordinates"),
        Fact("rounds of training done", rounds),
        Fact("files under the study digest", ", ".join(evidence.study.files)),
    ]
    if evidence.consortium is not None:
        facts.append(Fact("members' digest", evidence.consortium.digest().hex()))
    if verdict.closing is not None:
        facts.append(Fact("released model's digest", verdict.closing.model.hex()))
    return facts


def _records(study: Study) -> str:
    data = study.settings.data
    kinds = {
        "mri-lesions": "mri-lesions: slices of a public brain template with synthetic lesions; no patient's record",
        "fed-heart": "fed-heart: public, de-identified records of heart patients (UCI)",
        "npz": "npz: the hospitals' own files",
        "imaging": "imaging: the hospitals' own images",
        "module": "module: read by the study's own code",
    }
    where = "all on one computer, a simulation" if study.simulation else "each hospital's on its own computer"
    return f"{kinds.get(data.source, f'{data.source}: public images')}; {where}"


def _count(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else "an unknown number of"


def _members(run: RunFolder, evidence: Evidence, verdict: Verdict) -> list[MemberFacts]:
    consortium = evidence.consortium
    if consortium is None:
        return []
    answered = answers_by_hospital(run, len(verdict.receipts))
    members = [*consortium.hospitals.values(), *consortium.parties.values()]
    members += [consortium.dealer] if consortium.dealer else []
    return [
        MemberFacts(m.name, m.role, m.fingerprint, _signed(m.name, m.role, verdict, answered))
        for m in members
    ]


def _signed(name: str, role: str, verdict: Verdict, answered: dict[str, int]) -> str:
    if role == "dealer":
        return "nothing: it deals random numbers to the parties"
    if role == "hospital":
        count = answered.get(name, 0)
        added = sum(name in receipt.included for receipt in verdict.receipts)
        return f"contributions, {added} of which were added; {count} answers to checks of sums"
    valid = sum(receipt.signers.get(name, False) for receipt in verdict.receipts)
    closing = " and the closing record" if verdict.closers.get(name) else ""
    return f"{valid} of {len(verdict.receipts)} receipts{closing}"


def answers_by_hospital(run: RunFolder, rounds: int) -> dict[str, int]:
    """How many checks of sums each hospital signed an answer for, among the first rounds."""
    counts: dict[str, int] = {}
    for round_ in range(rounds):
        try:
            record = run.verification(round_)
        except (ProtocolError, OSError):
            continue
        for given in record.answers if record else []:
            counts[given.answer.hospital] = counts.get(given.answer.hospital, 0) + 1
    return counts


def _approval(evidence: Evidence) -> list[str]:
    pinned = (
        "The consortium file pins each member's public keys. The study digest covers it, the settings, every file that "
        "the settings name and the version of the software; each signature under this run covers the digest."
    )
    agreed = (
        "So a party's signature on a receipt, and a hospital's on its contribution, show that the holder of that key "
        "ran this study and no other. They do not show who inside that organisation decided it."
    )
    if evidence.simulation:
        agreed += " In this run all keys were made up on one computer: the signatures show no organisation's decision."
    return [NO_APPROVAL, pinned, agreed]
