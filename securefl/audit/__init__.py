"""Checks what others left, as anyone can: files and public keys, no network, nothing written."""

from securefl.audit.verdict import Check, Receipt, SumCheck, Verdict
from securefl.audit.verify import verify

__all__ = ["Check", "Receipt", "SumCheck", "Verdict", "verify"]
