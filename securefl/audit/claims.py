"""The registry: every guarantee that is claimed, with its limits, its enforcement, its evidence and its mutants."""

from __future__ import annotations

from securefl.audit.claims_domain import DOMAIN
from securefl.audit.claims_privacy import PRIVACY
from securefl.audit.claims_runs import RUNS
from securefl.audit.claims_secagg import SECAGG
from securefl.audit.claims_secrecy import SECRECY
from securefl.audit.claims_sums import SUMS
from securefl.audit.registry import Claim

THEMES: dict[str, tuple[Claim, ...]] = {
    "Who sees what": SECRECY,
    "What is opened": SUMS,
    "What a run withstands": RUNS,
    "What a patient is promised": PRIVACY,
    "Who may run what": DOMAIN,
    "What a Flower app hides": SECAGG,
}
"""The claims by theme, in the order in which they are told."""
CLAIMS: dict[str, Claim] = {claim.id: claim for claims in THEMES.values() for claim in claims}
"""By id."""
