"""Whether a key or a canary stands in a run's folder where it does not belong.

A key belongs into one file, a simulation's member's in ``keys/MEMBER/``. That file is searched as every other one is,
for everything but this key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from securefl.audit.canaries import PEM, SHORTEST, Found, Searched, search
from securefl.audit.verdict import Check
from securefl.run_folder import RunFolder

NAME = "secrets"
BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class KeyFile:
    """A file that is named as one of a key.

    Attributes:
        file: relative to the run's folder.
        belongs: whether it is a place of a member's keys.
        secret: the key; all that stands there if it holds none in PEM or base64. Empty if too short to look for.
        others: whether it holds a private key in PEM beside its own.
    """

    file: str
    belongs: bool
    secret: bytes
    others: bool


def check_secrets(run: RunFolder, canaries: Mapping[str, bytes]) -> Check:
    """One check: every file is searched for canaries, for private keys, and for the folder's keys but its own."""
    try:
        keys = _key_files(run)
        secrets, owners = _wanted(keys, canaries)
        searched = search(run.path, secrets)
    except OSError as error:
        return Check(
            NAME, "fails", f"{error.filename} cannot be read: {(error.strerror or 'unknown').lower()}."
        )
    by_right = {key.file for key in keys if key.belongs and not key.others}
    found = [f for f in searched.found if owners.get(f.secret) != f.file and not _own_pem(f, by_right)]
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        said = str(found[0])
        return Check(NAME, "fails", f"{said[0].upper()}{said[1:]}{more}.")
    return _nothing_found(searched, len(secrets), len(canaries))


def _nothing_found(searched: Searched, secrets: int, canaries: int) -> Check:
    where = f"{searched.bytes} bytes of {searched.files} files"
    if not searched.bytes:
        return Check(NAME, "unchecked", "Nothing was searched: no file of this folder has a byte in it.")
    if not secrets:
        says = (
            f"No key lies here and no canary was given: {where} were searched for private keys in PEM only. Put a "
            "canary into the records and give --canary-file."
        )
        return Check(NAME, "unchecked", says)
    says = f"{secrets} secrets ({canaries} canaries) stand in none of {where}, but for each key in its own"
    if searched.links:
        links = f"{searched.links[0]} is a link, and links are not followed: audit what it leads to as well"
        return Check(NAME, "unchecked", f"{says}; {links}.")
    if searched.packed:
        inside = f"{searched.packed[0]} looks compressed and could not be unpacked: nobody has looked into it"
        return Check(NAME, "unchecked", f"{says}; {inside}.")
    return Check(NAME, "holds", f"{says}.")


def _key_files(run: RunFolder) -> list[KeyFile]:
    """Those in places of members' keys come first."""
    files = [
        _key_file(path.relative_to(run.path), path.is_relative_to(run.keys), path.read_bytes())
        for path in run.path.rglob("*.key")
        if path.is_file()
    ]
    return sorted(files, key=lambda key: (not key.belongs, key.file))


def _key_file(file: Path, belongs: bool, content: bytes) -> KeyFile:
    block = BLOCK.search(content)
    text = block[2] if block else b"".join(content.split(maxsplit=1)[:1])
    rest = content.replace(block[0], b"") if block else content
    try:
        secret = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        secret = b""
    secret = secret if len(secret) >= SHORTEST else content if len(content) >= SHORTEST else b""
    return KeyFile(file.as_posix(), belongs, secret, PEM.search(rest) is not None)


def _wanted(keys: list[KeyFile], canaries: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, str]]:
    """All secrets by name, and the file that each key is at home in; one that lies in two is at home in the first."""
    homes: dict[bytes, str] = {}
    for key in keys:
        if key.secret:
            homes.setdefault(key.secret, key.file)
    owners = {f"the key of {file}": file for file in homes.values()}
    named = {f"the key of {file}": secret for secret, file in homes.items()}
    return {**canaries, **named}, owners


def _own_pem(found: Found, by_right: set[str]) -> bool:
    return found.form == "PEM" and found.file in by_right
