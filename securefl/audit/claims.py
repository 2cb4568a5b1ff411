"""The registry: every guarantee that is claimed, with its limits, its enforcement, its evidence and its mutants."""

from __future__ import annotations

from securefl.audit.claims_privacy import PRIVACY
from securefl.audit.claims_runs import RUNS
from securefl.audit.claims_secrecy import SECRECY
from securefl.audit.claims_sums import SUMS
from securefl.audit.registry import Claim

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in (*SECRECY, *SUMS, *RUNS, *PRIVACY)}
"""By id: who sees what, what is opened, what a run withstands, what a patient is promised."""
