"""Text that somebody else wrote, made fit to be shown, kept and signed: short, on one line, and only what is seen.

Adversary: a member, a researcher, or whoever writes to a person's terminal: control characters move its cursor and
    rename its window, format characters hide text or turn its direction, and a reason of megabytes is in every receipt.
"""

from __future__ import annotations

import re

UNSEEN = "\ufffd"
"""Stands for each character that is not seen."""
LONGEST_SENTENCE = 300
OTHER_REASON = "other-reason"
_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")


def plain(text: str) -> str:
    """Text without control and format characters, which could rewrite a terminal's screen; its lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else UNSEEN for c in text)


def line(text: str) -> str:
    """Text on one line, without control and format characters."""
    return plain(text).replace("\n", UNSEEN)


def sentence(text: str) -> str:
    """An explanation on one line, cut after ``LONGEST_SENTENCE`` characters."""
    shown = line(" ".join(text[:LONGEST_SENTENCE].split()))
    return shown if len(text) <= LONGEST_SENTENCE else f"{shown}…"


def is_word(reason: str) -> bool:
    """Whether a reason is a fixed word: lower case letters, digits and hyphens, 32 at most."""
    return _WORD.fullmatch(reason) is not None


def word(reason: str) -> str:
    """A reason as it stands in receipts: a fixed word, or that it was none."""
    return reason if is_word(reason) else OTHER_REASON
