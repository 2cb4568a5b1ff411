"""What a hospital says when it refuses: one fixed sentence for each reason; and what is kept of what members say.

Behind a refusal stand its records, its ledger over all studies, its budget and its disk. The coordinator, and whoever
reads the run's history, is told the reason alone; the rest is in the hospital's own log. So a refusal has the same
bytes whatever the records are.
"""

from __future__ import annotations

from collections.abc import Mapping

from securefl.plain_text import sentence, word
from securefl.roles.messages import Declined, Refusal

_ANNOUNCED = "The announcement does not fit the study, or what this hospital has answered: see its own log."
_CHECKED = "This does not belong to the check of a sum in which this hospital takes part: see its own log."

SENTENCES: Mapping[str, str] = {
    "not-approved": "The hospital's steward allows no further contribution to this study: see its own log.",
    "update-not-encodable": (
        "Its update has an entry that is not a number or beyond the study's range: see its own log."
    ),
    "budget-exceeded": (
        "The round would cost more privacy than its budget, its permit or the study's promise allows, as each does "
        "without [privacy]: end the study here."
    ),
    "damaged-ledger": "Its privacy ledger is damaged: it contributes to nothing before that is mended.",
    "no-ledger": "It has no privacy ledger, which a private study needs: give it one.",
    "other-study": "This message belongs to another study.",
    "other-round": "The study has no such round.",
    "other-encoding": "The vector's width or size is not the study's.",
    "other-size": "The round wants another number of coordinates than the hospital's model has.",
    "other-model": "The announced model is not the one that the previous outcome gives.",
    "other-chain": "The message does not continue the chain that this hospital has: see its own log.",
    "impossible-statistics": (
        "The statistics of round 0 are those of no records: agree on another seed for the study, and leave out whom "
        "you do not trust."
    ),
    "other-parties": "The committee is not the study's, or does not bring one key for each party, in order.",
    "other-key": "A party's sealing key belongs to another round or attempt.",
    "key-not-pinned": "A party's sealing key is not signed by the key pinned for it.",
    "unknown-hospital": "The cohort names someone who is not a hospital of this study, or is out of order.",
    "not-in-cohort": "This hospital is not in the announced cohort.",
    "too-few-hospitals": "A sum over so few hospitals is too small for this study.",
    "second-announcement": _ANNOUNCED,
    "earlier-attempt": _ANNOUNCED,
    "wrong-sum": "An earlier sum was not that of the hospitals' updates: audit the parties first.",
    "second-outcome": "The parties signed two outcomes of one round: audit them.",
    "foreign-contribution": (
        "The round has a contribution of this hospital that it did not make: audit the parties."
    ),
    "other-outcome": _CHECKED,
    "second-challenge": _CHECKED,
    "bad-challenge": _CHECKED,
    "not-verified": _CHECKED,
    "update-lost": "The hospital has lost its update of this round.",
    "unexpected": "A hospital does not take messages of this kind.",
    "malformed": "The message, or what the hospital remembers, cannot be read: see its own log.",
}


def told(reason: str) -> str:
    """The sentence for a reason; for one that has none, that the hospital's log has it."""
    return SENTENCES.get(reason, "The hospital refuses: see its own log.")


def heard(message: Declined | Refusal) -> Declined | Refusal:
    """A member's own words as receipts, histories and screens get them: a fixed word, and a short sentence."""
    words = {"reason": word(message.reason), "explanation": sentence(message.explanation)}
    return message.model_copy(update=words)
