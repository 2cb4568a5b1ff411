"""What may reach Syft, out of a letter whose sender is proved: everything else of Syft's is the sender's text.

Adversary: a pinned person who writes what it likes into Syft's messages: another's name, paths outside its place,
    permission files, changes to a job that was reviewed, numbers, times, bombs.
Promise: a researcher can bring new jobs into its own job folder of this datasite and do nothing else there; a hospital
    can change its own datasite's copy at the researcher and nothing else. Only paths and contents are taken over: Syft
    sees messages that are built anew from them.

Nothing here imports Syft, and nothing of a message is interpreted before it is bounded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from securefl.domain.errors import SyftMessageError
from securefl.domain.shallow_yaml import read_map

MEBIBYTE = 2**20
LARGEST_JOB, MOST_JOB_FILES = 16 * MEBIBYTE, 500
LARGEST_EVENTS, MOST_EVENTS = 96 * MEBIBYTE, 5000
LARGEST_MOCK, MOST_MOCK_FILES = 48 * MEBIBYTE, 500
LARGEST_CONFIG = 16_384
DEEPEST = 12
PERMISSIONS = "syft.pub.yaml"
_MEMBER = "proposed_file_changes.json"  # Syft's name for the one file in its archives, of either kind
_PART = re.compile(r"[A-Za-z0-9_(\[][A-Za-z0-9 _.+=@,()\[\]-]{0,99}")
JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Job:
    """A new job: its name, and its files' texts by path in the datasite."""

    name: str
    folder: str
    files: dict[str, str]


@dataclass(frozen=True)
class Change:
    """A file of a datasite that its owner has written, or deleted if there is no content."""

    path: str
    content: str | bytes | None


def read_job(data: bytes, sender: str, datasite: str, protocol: str) -> Job:
    """The one new job in a researcher's message.

    Args:
        data: Syft's compressed message.
        sender: whose letter it came in.
        datasite: this person's name.
        protocol: of Syft's job folders, as ``1``.

    Raises:
        SyftMessageError: it is none, or it asks for more.
    """
    message = _unpacked(data, LARGEST_JOB)
    _only(message, {"id", "sender_email", "message_filename", "proposed_file_changes"})
    if message.get("sender_email") != sender:
        raise SyftMessageError(f"A message of {sender} claims to be from somebody else.")
    changes = _dicts(message.get("proposed_file_changes"), MOST_JOB_FILES)
    inbox = f"app_data/job/inbox/{sender}/v{protocol}/"
    files: dict[str, str] = {}
    for change in changes:
        path = _path(change.get("path_in_datasite"))
        if change.get("datasite_email") != datasite or not path.startswith(inbox):
            raise SyftMessageError(f"A message of {sender} writes outside its own job folder.")
        if change.get("is_deleted") is not False or change.get("old_hash") is not None:
            raise SyftMessageError(
                f"A message of {sender} changes or deletes files: a job, once sent, stays as it is."
            )
        content = change.get("content")
        if not isinstance(content, str) or change.get("content_type") not in ("text", None):
            raise SyftMessageError(
                f"A job of {sender} holds {path!r}, which is not text: Syft's jobs are text only."
            )
        _utf8(content)
        if path in files:
            raise SyftMessageError(f"A message of {sender} writes {path!r} twice.")
        files[path] = content
    names = {path[len(inbox) :].split("/")[0] for path in files}
    if len(names) != 1 or not JOB_NAME.fullmatch(next(iter(names))):
        raise SyftMessageError(f"A message of {sender} is not one job with a plain name.")
    name = names.pop()
    folder = inbox + name
    _check_tree(files)
    inner = [path[len(folder) + 1 :] for path in files]
    if not {"run.sh", "config.yaml"} <= set(inner) or not any(path.startswith("code/") for path in inner):
        raise SyftMessageError(f"The job {name!r} of {sender} lacks config.yaml, run.sh or code.")
    if any(path not in ("run.sh", "config.yaml") and not path.startswith("code/") for path in inner):
        raise SyftMessageError(f"The job {name!r} of {sender} holds more than config.yaml, run.sh and code.")
    config = read_map(
        _utf8(files[f"{folder}/config.yaml"]), f"config.yaml of the job {name!r}", LARGEST_CONFIG
    )
    for key, must in (("submitted_by", sender), ("datasite_email", datasite), ("name", name)):
        if config.get(key, must) != must:
            raise SyftMessageError(f"The job {name!r} of {sender} gives itself another {key}.")
    return Job(name, folder, files)


def read_changes(data: bytes, sender: str) -> list[Change]:
    """What a hospital has changed in its own datasite, in its order.

    Raises:
        SyftMessageError: it is no such message, or speaks of another datasite.
    """
    message = _unpacked(data, LARGEST_EVENTS)
    _only(message, {"events", "message_filepath"})
    changes = []
    for event in _dicts(message.get("events"), MOST_EVENTS):
        if event.get("datasite_email") != sender:
            raise SyftMessageError(f"A message of {sender} speaks of another's datasite.")
        path = _path(event.get("path_in_datasite"), permissions=True)
        if path.split("/")[0] == "private":
            raise SyftMessageError(f"A message of {sender} writes into a private folder.")
        deleted, content = event.get("is_deleted"), event.get("content")
        if deleted is True and content is None:
            changes.append(Change(path, None))
            continue
        if deleted is not False or not isinstance(content, str):
            raise SyftMessageError(f"A message of {sender} is malformed at {path!r}.")
        read = _content(content, event.get("content_type"))
        if _syft_parses(path):
            read_map(read if isinstance(read, bytes) else _utf8(read), path)
        changes.append(Change(path, read))
    return changes


def check_collection(sender: str, tag: str, content_hash: str, files: dict[str, bytes]) -> None:
    """Raise SyftMessageError unless these are a dataset's mock files, and nothing else, of ``sender``'s."""
    if not TAG.fullmatch(tag):
        raise SyftMessageError(f"A dataset of {sender} has no plain name.")
    total = sum(map(len, files.values()))
    if len(files) > MOST_MOCK_FILES or total > LARGEST_MOCK:
        raise SyftMessageError(
            f"The mock data of {tag} are {len(files)} files of {total:,} bytes: {MOST_MOCK_FILES} files and "
            f"{LARGEST_MOCK:,} bytes are the most, publish fewer."
        )
    for name in files:
        if "/" in name or _path(name) != name:
            raise SyftMessageError(f"A mock file of {tag} has no plain name.")
    if len({name.lower() for name in files}) != len(files):
        raise SyftMessageError(f"Two mock files of {tag} have the same name: Syft keeps them in one folder.")
    if content_hash != collection_hash(files):
        raise SyftMessageError(f"The mock files of {tag} are not the ones that its name says.")
    about = read_map(files.get("dataset.yaml", b""), f"dataset.yaml of {tag}")
    if about.get("name") != tag:
        raise SyftMessageError(f"The dataset {tag} of {sender} gives itself another name.")
    listed = about.get("mock_files_urls") or []
    if not isinstance(listed, list):
        raise SyftMessageError(f"The dataset {tag} of {sender} does not list its files.")
    for url in [*(about.get(key) for key in ("mock_url", "private_url", "readme_url")), *listed]:
        if url is not None and not _own_url(url, sender):
            raise SyftMessageError(f"The dataset {tag} of {sender} points to another's files.")


def collection_hash(files: dict[str, bytes]) -> str:
    """Syft's name for a collection's content: twelve hexadecimal digits."""
    hasher = hashlib.sha256()
    for name in sorted(files):
        hasher.update(name.encode() + files[name])
    return hasher.hexdigest()[:12]


def _own_url(url: Any, sender: str) -> bool:
    start = f"syft://{sender}/"
    if not isinstance(url, str) or not url.startswith(start):
        return False
    try:
        _path(url[len(start) :].rstrip("/"))
    except SyftMessageError:
        return False
    return True


def _path(path: Any, permissions: bool = False) -> str:
    """A relative path of plain names; never a permission file unless those are allowed."""
    if not isinstance(path, str) or not path or len(path) > 400:
        raise SyftMessageError("A path is missing or too long.")
    parts = path.split("/")
    plain = all(_PART.fullmatch(part) and not part.endswith((".", " ")) for part in parts)
    if not plain or len(parts) > DEEPEST or str(PurePosixPath(path)) != path:
        raise SyftMessageError(f"A path is not made of plain names inside the datasite: {path[:80]!a}.")
    if not permissions and any(part.lower() == PERMISSIONS for part in parts):
        raise SyftMessageError(
            "A message brings a permission file, which only the datasite's owner may write."
        )
    return path


def _check_tree(files: dict[str, str]) -> None:
    # Also not apart by capitals only: some file systems would make one file of the two.
    lowered = [path.lower() for path in files]
    folders = {str(parent) for path in lowered for parent in PurePosixPath(path).parents}
    if len(set(lowered)) != len(lowered) or folders & set(lowered):
        raise SyftMessageError("Two files of a message have the same path, or one is the other's folder.")


def _content(content: str, kind: Any) -> str | bytes:
    if kind != "binary":
        _utf8(content)
        return content
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SyftMessageError("A binary file of a message is not in base64.") from error


def _utf8(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise SyftMessageError("A file of a message is not text that UTF-8 can hold.") from error


def _syft_parses(path: str) -> bool:
    """Whether this is a file that Syft reads as YAML by itself, whenever it looks at a datasite."""
    *folders, name = path.split("/")
    if name == PERMISSIONS:
        return True
    if folders[:2] == [
        "app_data",
        "job",
    ]:  # app_data/job/inbox/EMAIL/v1/NAME/config.yaml; deeper ones are results
        return len(folders) <= 6 and name in ("config.yaml", "state.yaml")
    return folders[:2] == ["public", "syft_datasets"] and name == "dataset.yaml"


def _only(message: dict[str, Any], fields: set[str]) -> None:
    if not set(message) <= fields:
        raise SyftMessageError("A message of Syft's has fields that are not known.")


def _dicts(values: Any, most: int) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not values or not all(isinstance(v, dict) for v in values):
        raise SyftMessageError("A message of Syft's holds no list of files.")
    if len(values) > most:
        raise SyftMessageError(f"A message of Syft's holds {len(values)} files: {most} are the most.")
    return values


def _unpacked(data: bytes, limit: int) -> dict[str, Any]:
    """The JSON in Syft's archive: gzip of a tar of one plain file. Bounded before it is believed."""
    try:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        archive = inflater.decompress(data, limit + 10240)
        if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
            raise SyftMessageError(
                f"A message of Syft's is cut off, or unpacks to more than {limit:,} bytes."
            )
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            member = tar.next()
            plain = member is not None and member.isreg() and not member.issparse() and member.name == _MEMBER
            if member is None or not plain or member.size > len(archive):
                raise SyftMessageError("A message of Syft's is not the archive that it should be.")
            file = tar.extractfile(member)
            value = json.loads(file.read() if file is not None else b"")
    except (zlib.error, tarfile.TarError, OSError, ValueError, RecursionError) as error:
        raise SyftMessageError("A message of Syft's does not unpack.") from error
    if not isinstance(value, dict):
        raise SyftMessageError("A message of Syft's is not a map.")
    return value
