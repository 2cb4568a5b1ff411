"""What a steward reads before deciding. It is made from bytes alone: nothing of a proposal is executed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from html import escape

from securefl.domain.dataset import Dataset
from securefl.domain.proposal import Proposal, Site, members_of
from securefl.plain_text import line, plain
from securefl.study import Study
from securefl.study_check import cohort_warnings

RULE = "-" * 78


@dataclass(frozen=True)
class Review:
    """A review, to print.

    Attributes:
        warnings: what deserves a second look, a sentence each.
        sections: title and text, in the order in which they are read.
    """

    title: str
    warnings: tuple[str, ...]
    sections: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [line(self.title), *(f"! {line(warning)}" for warning in self.warnings)]
        for title, text in self.sections:
            # Every line of what others wrote is marked, so that none can pass for a heading of ours.
            parts += [RULE, line(title), RULE, *(f"| {line(row)}" for row in text.split("\n"))]
        return "\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        warned = "".join(f"<li>{escape(plain(w))}</li>" for w in self.warnings)
        body = "".join(
            f"<details open><summary>{escape(plain(title))}</summary><pre>{escape(plain(text))}</pre></details>"
            for title, text in self.sections
        )
        return f"<h4>{escape(plain(self.title))}</h4><ul>{warned}</ul>{body}"


def review(
    proposal: Proposal, site: Site, study: Study, dataset: Dataset, earlier: Study | None, fingerprint: str
) -> Review:
    """Write down what a proposal means for one hospital.

    Args:
        proposal: signed by the researcher with this fingerprint.
        study: the private copy that would run.
        dataset: what it would read.
        earlier: the study that this researcher proposed here before under the same title, if any.
    """
    sections = [
        ("What is asked", _asked(proposal, site, fingerprint)),
        ("Who would take part", _members(proposal, study)),
        ("The data", _data(dataset, study)),
        ("Privacy", _privacy(study)),
    ]
    if earlier is not None:
        sections.append(("What changed since the last proposal of this title", _changes(earlier, study)))
    pinned = study.settings.consortium.file
    for name, content in sorted(study.files.items(), key=lambda file: (file[0] == pinned, file[0])):
        text = content.decode(errors="replace")
        sections.append((f"{name} ({len(content):,} bytes, SHA-256 {proposal.files[name].hex()})", text))
    return Review(f"{proposal.title}, proposed by {proposal.researcher}", _warnings(study), tuple(sections))


def _asked(proposal: Proposal, site: Site, fingerprint: str) -> str:
    return "\n".join(
        [
            f"purpose      {proposal.purpose}",
            f"researcher   {proposal.researcher}, {fingerprint}",
            f"proposal     {proposal.name}, {proposal.digest().hex()}",
            f"study        {proposal.study.hex()}",
            f"operators    {', '.join(proposal.operators)}",
            f"release by   {proposal.approver}",
            f"your part    {site.hospital} with {site.dataset}",
        ]
    )


def _members(proposal: Proposal, study: Study) -> str:
    consortium = members_of(study)
    stewards = {site.hospital: site for site in proposal.sites}
    lines = []
    for member in consortium.members:
        site = stewards.get(member.name)
        asked = f", {site.steward} with {site.dataset}" if site else ""
        lines.append(f"{member.role:<9} {member.name:<24} {member.fingerprint}{asked}")
    s = study.settings
    bound = s.committee.collusion_bound or len(consortium.parties) - 1
    lines.append(
        f"No sum over fewer than {s.cohort.minimum_hospitals} hospitals is opened; up to {bound} of "
        f"{len(consortium.parties)} parties may collude, and {s.cohort.colluding_hospitals} hospitals."
    )
    return "\n".join(lines)


def _data(dataset: Dataset, study: Study) -> str:
    data = study.settings.data
    files = dataset.private_files()
    size = sum(path.stat().st_size for path in files)
    where = f'root "{data.root}"' if data.root else "no root: what the source ships, or its own code reads"
    return "\n".join(
        [
            f"dataset      {dataset.name}: {dataset.description}",
            f"private      {dataset.private}, {len(files)} files, {size:,} bytes; read-only while it runs",
            f"read by      source {data.source}, {where}",
        ]
    )


def _privacy(study: Study) -> str:
    private = study.settings.privacy
    rounds = study.settings.training.rounds
    if private is None:
        return (
            f"None. The sums of {rounds} rounds and the model are opened without noise, and may tell about records. "
            "Nobody sees this hospital's update alone."
        )
    promised = (
        f"epsilon {private.epsilon:g}"
        if private.epsilon is not None
        else f"noise multiplier {private.noise_multiplier:g}, whose epsilon you set when you approve"
    )
    return (
        f"Each {private.unit}: {promised} at delta {private.delta:g}, over {rounds} rounds and their repetitions, "
        f"if at most {private.colluding_parties} parties collude. Charged to this hospital's ledger before each "
        "contribution."
    )


def _changes(earlier: Study, study: Study) -> str:
    lines: list[str] = []
    for name in sorted({*earlier.files, *study.files}):
        before = earlier.files.get(name, b"").decode(errors="replace").split("\n")
        after = study.files.get(name, b"").decode(errors="replace").split("\n")
        lines += difflib.unified_diff(before, after, f"before/{name}", f"now/{name}", lineterm="")
    return "\n".join(lines) or "Nothing: the same bytes."


def _warnings(study: Study) -> tuple[str, ...]:
    warnings = []
    if code := sorted(name for name in study.files if name.endswith(".py")):
        warnings.append(
            f"It brings code, {', '.join(code)}: read it. It runs in this hospital's confined process and sees the "
            "dataset."
        )
    if study.settings.privacy is None:
        warnings.append("It has no [privacy]: the released model may tell about single records.")
    if study.settings.data.source == "module":
        warnings.append("Its own code reads the records.")
    warnings += cohort_warnings(study.settings, len(members_of(study).hospitals))
    return tuple(warnings)
