"""Whether a file that a steward reads is the file that Python runs.

Adversary: a researcher who writes code that shows as a comment: under a declared encoding (in UTF-7, a comment's
    ``+AAo-`` ends the line), behind a character that ends a line for Python, or sets its indentation back to nothing,
    and shows as a sign within one, or between characters that turn the direction of writing (Boucher and Anderson,
    "Trojan Source", 2021).
Not promised: that code which can be read is harmless, or that two letters that look alike are one.
"""

from __future__ import annotations

import io
import tokenize
import unicodedata

from securefl.domain.errors import ProposalError

ENCODINGS = ("utf-8", "utf-8-sig")
UNSEEN = ("Cc", "Cf")
"""Unicode's categories of control and format characters."""


def check_readable(name: str, content: bytes) -> None:
    """Raise ProposalError unless these bytes are text, and, of a Python file, run as they read."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ProposalError(f"{name} is not text in UTF-8: a steward could not read it.") from error
    if name.endswith(".py"):
        _check_python(name, content, text)
    unseen = sorted(
        {c for c in text.removeprefix("\ufeff") if unicodedata.category(c) in UNSEEN} - set("\t\n\r")
    )
    if unseen:
        raise ProposalError(
            f"{name} holds U+{ord(unseen[0]):04X}, which is not seen, or turns the text around it: take it out."
        )


def _check_python(name: str, content: bytes, text: str) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError as error:
        raise ProposalError(f"{name} declares an encoding that Python does not know: write UTF-8.") from error
    if encoding not in ENCODINGS:
        raise ProposalError(
            f"{name} declares the encoding {encoding}, so that it runs as something else than it reads: write UTF-8."
        )
    lines = text.replace("\r\n", "\n").split("\n")
    # str.splitlines knows every character that ends a line anywhere.
    if "\0" in text or any(line.splitlines() not in ([], [line]) for line in lines):
        raise ProposalError(
            f"{name} holds a character that looks like part of a line and ends it (a form feed, a lone carriage "
            "return, a Unicode separator): end lines with line feeds only."
        )
