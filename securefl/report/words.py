"""Phrases that several reports have in common."""

from __future__ import annotations


def collusion(parties: int) -> str:
    """So many parties work together, as a clause: "no party colludes", "1 party colludes", "2 parties collude"."""
    if parties == 0:
        return "no party colludes"
    return "1 party colludes" if parties == 1 else f"{parties} parties collude"
