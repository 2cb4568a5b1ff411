"""What is promised of a run, and what is not: both by the study's settings, both with the same weight.

A promise is a claim of the registry (``securefl.audit.claims``), in its words. The limits follow ``threat_model.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from securefl.audit import Verdict
from securefl.audit.claims import CLAIMS
from securefl.report.evidence import Evidence
from securefl.report.evidence_privacy import Spent
from securefl.roles.terms import Terms

ALWAYS = (
    "parties-see-nothing",
    "coordinator-sees-envelopes",
    "minimum-hospitals",
    "one-sum-a-round",
    "no-two-sums-of-a-model",
    "masks-are-used-once",
    "openings-are-masked",
    "no-seeded-secrets",
    "past-rounds-stay-sealed",
    "keys-are-pinned",
    "committee-is-not-shrunk",
    "model-is-not-chosen",
    "receipts-verify-offline",
    "missing-hospitals-cost-themselves",
    "channel-is-authenticated",
    "any-bytes-are-answered",
    "faults-end-in-errors",
    "private-keys-stay-home",
)
WITH_NORMS = ("norms-are-bounded", "offenders-are-named", "dealer-sees-no-data")
WITH_SUMS = ("wrong-sums-are-noticed",)
WITH_PRIVACY = ("noise-in-every-sum", "one-patient-is-bounded", "draws-are-secret", "budget-over-all-studies")
WITHOUT_NOISE = ("no-count-difference", "exact-sum", "model-is-determined", "crashes-cost-nothing")


@dataclass(frozen=True)
class Statement:
    """One sentence, or a few, under a heading; ``claim`` is the id of the claim that it is, if it is one."""

    head: str
    says: str
    claim: str = ""


NO_PRIVACY = Statement(
    "Privacy of the released model.",
    "There is no differential privacy in this study. The model and the sums may reveal that a patient's record was "
    "used, or parts of it.",
)
UNDER_PRIVACY = (
    Statement(
        "That every party added its noise, and every hospital clipped and sampled.",
        "Nobody can see it from the sums. A hospital's own patients rely on their hospital's software.",
    ),
    Statement(
        "Privacy of the held-out records.",
        "Accuracies and every other figure of held-out records are computed without noise.",
    ),
)
SIMULATION = Statement(
    "Anything on this computer: the run was a simulation.",
    "All members, keys and records were in one place, and nobody was kept from anything. Baselines, where any were "
    "run, pool the records. The promises beside this list are those of the same study among organisations.",
)
INSECURE = Statement(
    "Checks: the run was an insecure one.",
    "On purpose, nobody checked norms or sums. A wrong sum or a poisoned update would not have been noticed.",
)
DEALER = Statement(
    "Secrecy against a dealer that works with a party.",
    "Together they read what enters the norm check: a number of random linear functions of each update, or a short "
    "update itself. A dealer that lies can spare or exclude a hospital.",
)
ANYWAY = (
    Statement(
        "The hospital's own computer.",
        "Records, the hospital's own update and its keys are there in the clear. Whoever controls it reads them. "
        "This software encrypts no disk, logs nobody in and keeps no record of who looked at what there.",
    ),
    Statement(
        "Metadata.",
        "Who takes part, when, for how long and how many bytes it sends is visible to coordinator and network.",
    ),
    Statement(
        "Correct or lawful records.",
        "Nothing here checks that records are right, that they were collected lawfully, that patients were "
        "informed or agreed, or that they may be used for this purpose.",
    ),
    Statement(
        "Availability.",
        "The coordinator, a party or the dealer can stop the study. A party that loses its disk in the middle of "
        "an opening ends it.",
    ),
    Statement(
        "Secrecy for all time.",
        "Envelopes are sealed with ML-KEM-768 and X25519 together. The masks of the sum's check and the "
        "signatures are classical: whoever breaks them later learns one linear equation of an update for each "
        "checked round.",
    ),
    Statement(
        "Faultless software.",
        "CrypTen, with which the parties compute, is research code; what of it does not hold was replaced. "
        "Approval workflows with Syft are no part of this version. Nobody outside this project has audited it. "
        "Timing, memory and power of the machines are out of scope.",
    ),
    Statement(
        "Truth beyond the signatures.",
        "Receipts prove what was agreed, not that parties did not collude. Times, bytes, accuracies and reasons "
        "for absence are the coordinator's word.",
    ),
)
"""Whatever the settings are."""


def guaranteed(evidence: Evidence, spent: Spent) -> list[Statement]:
    """The claims that hold for a study with these settings; none if the study cannot be read."""
    terms = evidence.terms
    if terms is None:
        return []
    norms = WITH_NORMS if terms.checks_norms else ()
    ids = [
        *ALWAYS,
        # Noise does not repeat, and under privacy the check of norms has a bound of its own.
        *(WITHOUT_NOISE if terms.private is None else WITH_PRIVACY),
        *(id_ for id_ in norms if terms.private is None or id_ != "norms-are-bounded"),
        *(WITH_SUMS if terms.checks_sums else ()),
    ]
    found = [Statement("", CLAIMS[id_].statement, id_) for id_ in ids]
    if spent.private and spent.rows:
        found.insert(0, Statement("", f"{spent.sentence} What it rests on stands under Privacy spent."))
    return found


def not_guaranteed(evidence: Evidence, verdict: Verdict) -> list[Statement]:
    """What this study does not promise, most important first."""
    terms = evidence.terms
    if terms is None:
        return [
            Statement("Anything.", "The study cannot be read, so nothing can be said about what it promised.")
        ]
    return [
        *_run(evidence, terms),
        *_model(terms),
        *_secrecy(terms),
        _poison(terms),
        _sums(terms, verdict),
        *([DEALER] if terms.checks_norms else []),
        *ANYWAY,
    ]


def _run(evidence: Evidence, terms: Terms) -> list[Statement]:
    found = []
    if evidence.simulation:
        found.append(SIMULATION)
    if terms.unchecked:
        found.append(INSECURE)
    return found


def _secrecy(terms: Terms) -> list[Statement]:
    parties, colluding = len(terms.parties), terms.colluding
    if colluding == 0:
        assumed = "that no hospital colludes. One that does subtracts its own update"
    elif colluding == 1:
        assumed = "that at most one hospital colludes. It subtracts its own update"
    else:
        assumed = f"that at most {colluding} hospitals collude. They subtract their own updates"
    changes = terms.private is None and terms.minimum < len(terms.hospitals)
    changing = (
        " Of a hospital that is missing in one round and there in the next, the difference of the two sums is nearly "
        "the update."
        if changes
        else ""
    )
    return [
        Statement(
            f"Secrecy against more than {terms.collusion_bound} colluding parties.",
            f"The study assumes that at most {terms.collusion_bound} of {parties} parties work together. All parties "
            "of a round's committee together read every update of that round. So does one operator of all of them.",
        ),
        Statement(
            "Secrecy of the sum.",
            f"Each round's sum, over at least {terms.minimum} hospitals, is open. The study assumes {assumed} from it, "
            f"and fewer others are left to hide a hospital among.{changing}",
        ),
    ]


def _model(terms: Terms) -> list[Statement]:
    if terms.private is None:
        return [NO_PRIVACY]
    settings = terms.private.settings
    unit = settings.unit
    wider = (
        "It is no bound for a group of patients, or for a hospital as a whole: those may stand out."
        if unit == "patient"
        else "It is stated for a hospital that is there or not; a change within a hospital counts up to twice."
    )
    return [
        Statement(
            f"Privacy beyond the stated epsilon, or if more parties than {settings.colluding_parties} "
            "subtract their noise.",
            f"Epsilon bounds what can be learnt of one {unit}; it is not zero. What is true of many patients is "
            f"learnt: that is the purpose. {wider} Studies on the same records add up.",
        ),
        *UNDER_PRIVACY,
    ]


def _poison(terms: Terms) -> Statement:
    # Under privacy round 0 is a roll call, on which nothing depends.
    first = "" if terms.private else " What it says of its records in round 0 is believed."
    if terms.checks_norms:
        return Statement(
            "A defence against poisoned updates within the norm bound.",
            "A hospital may send any update that is short enough. It can worsen the model, or plant behaviour in it. "
            f"An update between the bound and twice the bound may pass.{first}",
        )
    return Statement(
        "A defence against poisoned updates.",
        "This study does not check norms. One hospital can send anything that can be encoded, worsen the model without "
        f"limit, or plant behaviour in it.{first}",
    )


def _sums(terms: Terms, verdict: Verdict) -> Statement:
    if terms.private is not None:
        return Statement(
            "That the sums are right.",
            "The hospitals cannot check a sum with noise in it. Each sum is the committee's word: a party that lies "
            "about its share changes it, and is not noticed.",
        )
    if not terms.checks_sums:
        return Statement("That the sums are right.", "Nobody checked them. Each sum is the committee's word.")
    count = len(verdict.unverified)
    here = f" In this run {count} of {len(verdict.receipts)} sums were not checked." if count else ""
    return Statement(
        "That a wrong sum is mended.",
        "The hospitals' check notices a wrong sum, unless an included hospital lies along with the parties. It does "
        f"not mend it and does not say who lied.{here}",
    )
