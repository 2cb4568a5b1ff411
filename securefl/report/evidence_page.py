"""``evidence.html`` and ``evidence.json``: one run, as a data protection officer files it. Both hold the same facts.

The same run folder gives the same bytes. Nothing is read but what ``report.html`` is made of, the results of attacks,
and names and sizes of files: no key, no record, no content of ``homes/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from securefl import durable
from securefl.audit import Verdict, verify
from securefl.audit.claims import CLAIMS
from securefl.audit.registry import Claim
from securefl.consortium import Consortium
from securefl.report.evidence import Evidence, gather
from securefl.report.evidence_attacks import Attack, attacks
from securefl.report.evidence_law import Link, Provision, provisions
from securefl.report.evidence_limits import Statement, guaranteed, not_guaranteed
from securefl.report.evidence_people import Trained, trained
from securefl.report.evidence_privacy import Spent, spent_by
from securefl.report.evidence_retention import NOWHERE, Kept, retention
from securefl.report.evidence_traffic import Traffic, traffic
from securefl.report.receipts import mark
from securefl.run_folder import RunFolder

HTML_FILE, JSON_FILE = "evidence.html", "evidence.json"
FORMAT = "securefl-evidence-1"
NO_ADVICE = (
    "This page is no legal advice, and no statement that any law is complied with. It collects technical facts for "
    "those who assess that."
)


@dataclass(frozen=True)
class Dossier:
    """All facts of one run.

    Attributes:
        evidence, verdict: what the run folder holds, and what its verification found.
        pinned: whether it was verified against members' keys from outside of the folder.
        people, moved, spent, attacks, promises, limits, law, kept: a section of the page each.
        uncovered: files in the run folder that no rule of retention covers.
        claims: those that are cited anywhere, in the registry's order.
        tests: those that the law's table cites beside the claims'.
    """

    evidence: Evidence
    verdict: Verdict
    pinned: bool
    people: Trained
    moved: Traffic
    spent: Spent
    attacks: Sequence[Attack]
    promises: Sequence[Statement]
    limits: Sequence[Statement]
    law: Sequence[Provision]
    kept: Sequence[Kept]
    uncovered: Sequence[str]
    claims: Sequence[Claim]
    tests: Sequence[str]

    @property
    def not_signed(self) -> list[str]:
        """What stands under nobody's signature, without these pages themselves."""
        return [name for name in self.verdict.not_signed if name not in (HTML_FILE, JSON_FILE)]


def write_evidence(run: RunFolder, pinned: Consortium | None = None) -> tuple[Path, Path]:
    """Write ``evidence.html`` and ``evidence.json`` into a run folder and return their paths.

    An unfinished run gets what there is so far.

    Args:
        pinned: the members as the caller knows them; without it, the folder's keys are taken, and the page says so.

    Raises:
        RunError: there is no run in the folder.
        EngineError: a file cannot be written.
    """
    dossier = collect(run, pinned)
    html, data = run.path / HTML_FILE, run.path / JSON_FILE
    # Both are made before the first is written: an old pair is better than half of a new one.
    contents = {html: render(dossier), data: to_json(dossier)}
    for path, content in contents.items():
        durable.write(path, content.encode(), mode=0o644)
    return html, data


def collect(run: RunFolder, pinned: Consortium | None = None) -> Dossier:
    """Read everything.

    Raises:
        RunError: there is no run in the folder.
    """
    evidence, verdict = gather(run), verify(run.path, pinned)
    spent = spent_by(run, evidence)
    promises, law = guaranteed(evidence, spent), provisions(evidence.terms)
    kept, uncovered = retention(run, evidence.consortium)
    links = [link for provision in law for link in provision.links]
    cited = {link.to for link in links if link.kind == "claim"} | {s.claim for s in promises}
    return Dossier(
        evidence=evidence,
        verdict=verdict,
        pinned=pinned is not None,
        people=trained(run, evidence, verdict),
        moved=traffic(run, evidence, verdict),
        spent=spent,
        attacks=attacks(run, evidence),
        promises=promises,
        limits=not_guaranteed(evidence, verdict),
        law=law,
        kept=kept,
        uncovered=uncovered,
        claims=[claim for id_, claim in CLAIMS.items() if id_ in cited],
        tests=list(dict.fromkeys(link.to for link in links if link.kind == "test")),
    )


def render(dossier: Dossier) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("securefl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: "not known" if number is None else f"{number:,}"
    environment.filters["bound"] = lambda value: "none" if value is None else f"{value:.4g}"
    environment.globals["anchor"] = anchor
    return environment.get_template("evidence.html.j2").render(
        d=dossier,
        info=dossier.evidence.info,
        verdict=dossier.verdict,
        mark=mark(dossier.verdict),
        no_advice=NO_ADVICE,
        nowhere=NOWHERE,
        version=version("securefl"),
    )


def anchor(link: Link) -> str:
    """The id on the page that a link leads to."""
    if link.kind in ("claim", "test"):
        return f"{link.kind}-{re.sub(r'[^A-Za-z0-9]+', '-', link.to)}"
    return link.to


def to_json(dossier: Dossier) -> str:
    """The same facts to read by program; pictures by name and digest."""
    info, verdict, kept = dossier.evidence.info, dossier.verdict, ("study", "name", "started", "securefl")
    moved = asdict(dossier.moved)
    for site, counted in zip(moved["sites"], dossier.moved.sites, strict=True):
        site["total"] = counted.total
    found = {
        "format": FORMAT,
        "notice": NO_ADVICE,
        "written_by": f"securefl {version('securefl')}",
        "run": {name: info[name] for name in kept if name in info},
        "missing": list(dossier.evidence.missing),
        "study_and_members": {**asdict(dossier.people), "facts": _named(dossier.people)},
        "sent": moved,
        "privacy": asdict(dossier.spent),
        "attacks": [_attack(attack) for attack in dossier.attacks],
        "receipts": {
            "sentence": verdict.sentence,
            "holds": verdict.holds,
            "closed": verdict.closed,
            "keys_from_outside": dossier.pinned,
            "first_fault": asdict(verdict.fault) if verdict.fault else None,
            "unverified": verdict.unverified,
            "checks": [asdict(check) for check in verdict.checks],
            "claims": verdict.claims,
            "not_signed": dossier.not_signed,
            "receipts": [asdict(receipt) for receipt in verdict.receipts],
        },
        "guaranteed": [asdict(statement) for statement in dossier.promises],
        "not_guaranteed": [asdict(statement) for statement in dossier.limits],
        "law": [asdict(provision) for provision in dossier.law],
        "retention": {
            "files": [{**asdict(row.rule), "files": row.files, "bytes": row.size} for row in dossier.kept],
            "notes": list(NOWHERE),
            "not_covered": list(dossier.uncovered),
        },
        "claims": [
            {
                "id": c.id,
                "statement": c.statement,
                "adversary": c.adversary,
                "limits": c.limits,
                "shown": c.shown,
            }
            for c in dossier.claims
        ],
    }
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _named(people: Trained) -> dict[str, str]:
    return {fact.name: fact.value for fact in people.facts}


def _attack(attack: Attack) -> dict[str, Any]:
    pictures = [{"name": p.name, "sha256": p.sha256, "embedded": bool(p.data)} for p in attack.pictures]
    plain = {name: getattr(attack, name) for name in ("id", "title", "tries", "state", "sentence", "results")}
    return {**plain, "pictures": pictures}
