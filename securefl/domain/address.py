"""Names of people: emails that are safe as names of folders, on any file system."""

from __future__ import annotations

import re

from securefl.domain.errors import AddressError

LONGEST = 100
# Lower case only: some shares do not tell "A@x" from "a@x". No "..", no leading dot, no device names of Windows, since
# every one has an "@".
_LOCAL = r"[a-z0-9_](?:[a-z0-9_+-]|\.(?!\.))*(?<!\.)"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_EMAIL = re.compile(rf"{_LOCAL}@{_LABEL}(?:\.{_LABEL})+")


def is_email(text: object) -> bool:
    """Whether ``text`` can be a person's name here."""
    return isinstance(text, str) and len(text) <= LONGEST and _EMAIL.fullmatch(text) is not None


def checked(text: str) -> str:
    """``text`` itself.

    Raises:
        AddressError: it is not an email in lower case of the shape ``name@place.example``.
    """
    if not is_email(text):
        raise AddressError(
            f"{str(text)[:LONGEST]!r} cannot be a name here: use an email address in lower case, such as "
            "steward@north.example."
        )
    return text
