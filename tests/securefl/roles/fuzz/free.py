"""Which fields of a message may be other than its author wrote them: what the recipient cannot know, or need not."""

from __future__ import annotations

from securefl.roles.effects import COORDINATOR

Path = tuple[str, ...]

_LINK = "the link says who the sender is"
_WORD = "the sender's own word, of which nobody else knows anything"
_NO_ORDER = "they are taken by the hospitals' names"
_PARTIES_CHECK = "the coordinator only carries it; the parties check it before they use it"
_HOSPITALS_CHECK = "the coordinator only carries it; the hospitals check it before they use it"
_LATER = "compared and checked when everybody's has come, at the latest"

FREE: dict[tuple[str, str], dict[Path, str]] = {
    # What the coordinator writes.
    ("status-request", "party"): {
        ("study",): "a party serves one study, and says in its key and its outcome which",
    },
    ("key-request", "party"): {
        ("context", "attempt"): "the coordinator numbers the attempts; upwards",
        ("context", "model"): "only hospitals compute the model; they refuse another",
        ("context", "size"): "only hospitals know the model's size; they refuse another",
        ("context", "parties"): "the coordinator may go on without parties, as far as the study allows",
        ("cohort",): "the coordinator may ask fewer hospitals, as far as the study allows; in the order of the names",
        ("session",): "the coordinator numbers the parties' meshes",
    },
    ("freeze", "party"): {
        ("frozen", "contributions"): "the coordinator may leave hospitals out, as far as study and ledger allow",
        ("frozen", "absent"): "the coordinator says why somebody is absent; but for everybody who is",
    },
    ("release", "party"): {("session",): "the coordinator numbers the parties' meshes"},
    ("settled", "party"): {("total",): "a party keeps the receipt only, and has computed the sum itself"},
    ("close-request", "party"): {
        ("closing", "model"): "only hospitals compute the model; it follows from the outcomes",
        ("closing", "unverified"): "the parties take no part in the check of the sums; the records show it",
        ("closing", "verifications"): "the parties take no part in the check of the sums; the records show it",
        ("closing", "parties"): "the coordinator may go on without parties, as far as the study allows",
    },
    ("announcement", "hospital"): {
        ("cohort",): "the parties hold the coordinator to one cohort; here it has to be large enough, and to name me",
    },
    ("challenge", "hospital"): {("coins",): _NO_ORDER},
    ("verification", "hospital"): {("coins",): _NO_ORDER, ("answers",): _NO_ORDER},
    # What the coordinator reads.
    ("party-status", COORDINATOR): {
        ("party",): _LINK, ("round",): _WORD, ("attempt",): _WORD,
        ("previous",): "a party refuses what does not follow its last outcome",
        ("released",): _WORD, ("context",): _PARTIES_CHECK, ("frozen",): _PARTIES_CHECK, ("prepared",): _PARTIES_CHECK,
    },
    ("signed-round-key", COORDINATOR): {
        ("key", "party"): _LATER, ("key", "public"): _HOSPITALS_CHECK, ("signature",): _HOSPITALS_CHECK,
    },
    ("held", COORDINATOR): {("party",): _LINK},
    ("signed-vote", COORDINATOR): {
        ("party",): _PARTIES_CHECK, ("vote", "commitment"): _PARTIES_CHECK, ("signature",): _PARTIES_CHECK,
    },
    ("signed-prepared", COORDINATOR): {
        ("party",): _PARTIES_CHECK, ("excluded",): _PARTIES_CHECK, ("session",): _LATER, ("signature",): _PARTIES_CHECK,
    },
    ("opened", COORDINATOR): {
        ("party",): _LINK, ("outcome", "context"): _LATER, ("outcome", "excluded"): _LATER,
        ("outcome", "total"): _LATER, ("signature",): _LATER, ("total",): _LATER,
    },
    ("closing-signature", COORDINATOR): {("party",): _LINK, ("signature",): _LATER},
    ("signed-contribution", COORDINATOR): {
        ("contribution", "hospital"): "whoever contributes in another's name is left out itself",
        ("contribution", "envelopes"): _PARTIES_CHECK, ("contribution", "coin"): _HOSPITALS_CHECK,
        ("signature",): _PARTIES_CHECK, ("envelopes",): _PARTIES_CHECK,
    },
    ("declined", COORDINATOR): {("hospital",): _LINK, ("reason",): _WORD, ("explanation",): _WORD},
    ("behind", COORDINATOR): {("hospital",): _LINK, ("round",): _WORD},
    ("coin-revealed", COORDINATOR): {("contribution",): _LATER, ("coin",): _LATER},
    ("signed-answer", COORDINATOR): {
        ("answer", "challenge"): _LATER, ("answer", "value"): _LATER, ("signature",): _LATER,
    },
    ("refusal", COORDINATOR): {
        ("member",): _LINK, ("about",): _WORD, ("hospital",): _WORD, ("reason",): _WORD, ("explanation",): _WORD,
    },
}  # fmt: skip
"""By kind and recipient: which fields may be other than the author wrote them, and why."""
