"""Searches files for secrets, byte by byte, in every form in which a program could have written them.

A canary is a secret that is known to the searcher. It is looked for as it stands, as hexadecimal digits and in base64
at each of its three phases, both also broken into lines, as Python shows bytes, and as JSON and UTF-16 write text;
files that are compressed (gzip, zip, and so .npz) are unpacked as well. The bytes of a secret under another cipher or
checksum are not found, nor numbers that were written as other bytes (``images`` has these).
"""

from __future__ import annotations

import base64
import gzip
import json
import mmap
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SHORTEST = 8
"""Bytes: what is shorter is found by chance."""
LARGEST_UNPACKED = 1 << 28
"""Bytes that one compressed file is unpacked to at most; the rest of it is not searched."""
LARGEST_JOINED = 1 << 26
"""Bytes of a file that are searched for what was broken into lines."""
_IN_LINES = ("hexadecimal", "base64")
PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


@dataclass(frozen=True)
class Found:
    """A secret in a file.

    Attributes:
        secret: its name; never its bytes.
        file: relative to the folder.
        form: how it is written there.
    """

    secret: str
    file: str
    form: str

    def __str__(self) -> str:
        return f"{self.secret} stands in {self.file} ({self.form})"


@dataclass(frozen=True)
class Searched:
    """What came of a search.

    Attributes:
        found: every secret in every file.
        files, bytes: how much was searched, unpacked bytes included.
        links: relative to the folder; they are not followed.
        packed: files that look compressed and could not be unpacked, or not wholly; their own bytes were searched.
    """

    found: tuple[Found, ...]
    files: int
    bytes: int
    links: tuple[str, ...]
    packed: tuple[str, ...] = ()


class _PackedError(Exception):
    """A file could not be unpacked to its end."""


def forms(secret: bytes) -> dict[str, bytes]:
    """The ways in which a secret may have been written: the name of each, and its bytes."""
    shown = repr(secret)[2:-1]
    found = {
        "as it stands": secret,
        "hexadecimal": secret.hex().encode(),
        "hexadecimal, capitals": secret.hex().upper().encode(),
        "as Python shows bytes": shown.encode(),
    }
    for phase in range(3):
        # Without the digits at either end that neighbours have a part in.
        padded = base64.b64encode(bytes(phase) + secret)
        start = 0 if phase == 0 else phase + 1
        core = padded[start : (phase + len(secret)) * 8 // 6]
        found[f"base64, phase {phase}"] = core
        found[f"base64 for addresses, phase {phase}"] = core.replace(b"+", b"-").replace(b"/", b"_")
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return found
    return found | {"JSON": json.dumps(text)[1:-1].encode(), "UTF-16": text.encode("utf-16-le")}


def search(
    folder: Path, secrets: Mapping[str, bytes], skip: Iterable[str] = (), pem: bool = True
) -> Searched:
    """Look for secrets in every file below a folder, in names of files too.

    Args:
        secrets: by name.
        skip: paths relative to the folder, files or folders, that are the secrets' own place.
        pem: also report private keys in PEM, whosever they are.

    Raises:
        ValueError: a secret is too short to tell it from chance.
        OSError: a file or folder cannot be read.
    """
    for name, secret in secrets.items():
        if len(secret) < SHORTEST:
            raise ValueError(f"The canary {name} is too short: give it {SHORTEST} bytes at least.")
    wanted = [
        (name, form, bytes_) for name, secret in secrets.items() for form, bytes_ in forms(secret).items()
    ]
    home = [folder / path for path in skip]
    found: dict[Found, None] = {}
    files = size = 0
    links, packed = [], []
    for path in sorted(_below(folder)):
        if any(path.is_relative_to(place) for place in home):
            continue
        file = path.relative_to(folder).as_posix()
        name_bytes = path.name.encode(errors="surrogateescape")
        found |= dict.fromkeys(
            Found(n, file, f"its name, {form}") for n, form, b in wanted if b in name_bytes
        )
        if path.is_symlink():
            links.append(file)
        if path.is_symlink() or not path.is_file():
            continue
        files += 1
        try:
            for how, content in _contents(path):
                size += len(content)
                found |= dict.fromkeys(_found_in(file, how, content, wanted, pem))
        except _PackedError:
            packed.append(file)
    return Searched(tuple(found), files, size, tuple(links), tuple(packed))


def _found_in(
    file: str, how: str, content: bytes | mmap.mmap, wanted: list[tuple[str, str, bytes]], pem: bool
) -> Iterator[Found]:
    joined = _joined(content)
    for name, form, secret in wanted:
        if content.find(secret) >= 0:
            yield Found(name, file, f"{how}{form}")
        elif form.startswith(_IN_LINES) and joined.find(secret) >= 0:
            yield Found(name, file, f"{how}{form}, in lines")
    if pem and PEM.search(content):
        yield Found("a private key", file, f"{how}PEM")


def _below(folder: Path) -> Iterator[Path]:
    """All files and folders; a folder that cannot be read is an error, and not an empty one."""

    def stop(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=stop):
        yield from (Path(place) / name for name in (*folders, *files))


def _joined(content: bytes | mmap.mmap) -> bytes:
    """The beginning of a text without its white space, also such as stands in a string of JSON."""
    return content[:LARGEST_JOINED].translate(None, b" \t\r\n").replace(b"\\n", b"")


def _contents(path: Path) -> Iterator[tuple[str, bytes | mmap.mmap]]:
    """A file's bytes, and what they unpack to; at last a _PackedError if they look packed and are not, or damaged."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield "", content
        head = content[:4]
    try:
        if head[:3] == b"\x1f\x8b\x08":
            with gzip.open(path) as unpacked:
                yield "unpacked, ", unpacked.read(LARGEST_UNPACKED)
        elif head == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    with archive.open(name) as member:
                        yield f"unpacked from {name}, ", member.read(LARGEST_UNPACKED)
    except Exception as error:  # a hostile archive can make Python's unpackers raise anything
        raise _PackedError(path.name) from error
