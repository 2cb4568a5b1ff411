"""A secret is found wherever and however it was written; what is no secret is not."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import textwrap
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.audit.canaries import forms, search

SECRET = bytes(range(200, 232))
NOBODY = 65534
TEXT = 'Mr "Müller", born 1950'.encode()


@contextmanager
def as_another_user():
    """Root reads everything, and so it is somebody else for the block."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(before)


@pytest.fixture
def left(tmp_path):
    """Writes a file with some bytes in the middle, and says what is found there."""

    def left(content, secret=SECRET, name="file"):
        path = tmp_path / "folder" / "inside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"before " + content + b" after")
        return {found.form for found in search(tmp_path / "folder", {"it": secret}).found}

    return left


def test_as_it_stands_and_in_digits(left):
    assert left(SECRET) == {"as it stands"}
    assert left(SECRET.hex().encode()) == {"hexadecimal"}
    assert left(SECRET.hex().upper().encode()) == {"hexadecimal, capitals"}
    assert left(repr(SECRET).encode()) == {"as Python shows bytes"}
    assert left(str({"key": SECRET}).encode()) == {"as Python shows bytes"}
    assert left(bytes(32)) == set()
    assert left(SECRET[:-1]) == set()


@given(st.binary(max_size=10), st.binary(min_size=8, max_size=60), st.binary(max_size=10))
def test_in_base64_among_any_neighbours(before, secret, after):
    for encode, name in ((base64.b64encode, "base64"), (base64.urlsafe_b64encode, "base64 for addresses")):
        assert forms(secret)[f"{name}, phase {len(before) % 3}"] in encode(before + secret + after)


def test_in_digits_that_are_broken_into_lines(left):
    assert left("\n    ".join(textwrap.wrap(SECRET.hex(), 20)).encode()) == {"hexadecimal, in lines"}
    lines = base64.encodebytes(b"x" * 31 + SECRET)
    assert lines.count(b"\n") == 2
    assert left(lines) == {"base64, phase 1, in lines"}
    assert {f.rpartition(",")[2] for f in left(json.dumps(lines.decode()).encode())} == {" in lines"}
    # A text is another one when its spaces are left out.
    assert left(b"18\n123456", b"18123456") == set()


def test_as_text_in_json_and_utf_16(left):
    assert left(json.dumps({"name": TEXT.decode()}).encode(), TEXT) == {"JSON"}
    assert left(TEXT.decode().encode("utf-16-le"), TEXT) == {"UTF-16"}


def test_packed_files_are_unpacked(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(SECRET * 3))
    archive = io.BytesIO()
    np.savez_compressed(archive, x=np.frombuffer(SECRET, dtype=np.uint8))
    (tmp_path / "a.npz").write_bytes(archive.getvalue())
    found = search(tmp_path, {"it": SECRET}).found
    assert [f.file for f in found] == ["a.gz", "a.npz"]
    assert all(f.form.startswith("unpacked") for f in found)


def test_a_damaged_archive_is_searched_as_it_is(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000))[:-9] + SECRET)
    (tmp_path / "b").write_bytes(b"PK\x03\x04" + SECRET)
    with zipfile.ZipFile(tmp_path / "c", "w") as archive:
        archive.writestr("x", bytes(20))
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-3])
    searched = search(tmp_path, {"it": SECRET})
    assert [f.file for f in searched.found] == ["a.gz", "b"]
    assert searched.packed == ("a.gz", "b", "c")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_an_unpacker_raises_the_other_files_are_searched(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x", bytes(range(100)) * 40)
    whole = path.read_bytes()
    (tmp_path / "b").write_bytes(SECRET)
    assert search(tmp_path, {"it": SECRET}).packed == ()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        assert [f.file for f in search(tmp_path, {"it": SECRET}).found] == ["b"]


def test_bytes_that_begin_like_gzip_by_chance_are_no_archive(tmp_path):
    (tmp_path / "sum").write_bytes(b"\x1f\x8b" + bytes(100))
    assert search(tmp_path, {"it": SECRET}).packed == ()


def test_names_links_own_places_and_empty_files(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "it.key").write_bytes(SECRET)
    (tmp_path / SECRET.hex()).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "keys" / "it.key")
    searched = search(tmp_path, {"it": SECRET}, skip=["keys"])
    assert [(f.file, f.form) for f in searched.found] == [(SECRET.hex(), "its name, hexadecimal")]
    assert (searched.files, searched.bytes, searched.links) == (1, 0, ("link",))
    (tmp_path / f"to {SECRET.hex()}").symlink_to(tmp_path)
    assert len(search(tmp_path, {"it": SECRET}, skip=["keys"]).found) == 2


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log").write_bytes(SECRET)
    assert search(tmp_path, {"it": SECRET}).found
    (tmp_path / "logs").chmod(0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # another user may not read the folders above
    with as_another_user(), pytest.raises(PermissionError) as error:
        search(Path(), {"it": SECRET})
    assert Path(error.value.filename) == Path("logs")


def test_private_keys_of_anybody_are_found(tmp_path):
    pem = b"-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\n"
    (tmp_path / "log").write_bytes(b"x" * 5000 + pem)
    (tmp_path / "public").write_bytes(b"-----BEGIN PUBLIC KEY-----\n")
    assert [(f.secret, f.file) for f in search(tmp_path, {}).found] == [("a private key", "log")]
    assert not search(tmp_path, {}, pem=False).found


def test_what_is_found_by_chance_is_no_canary(tmp_path):
    with pytest.raises(ValueError, match="too short"):
        search(tmp_path, {"it": b"seven b"})


def test_no_secret_shows_in_what_is_found(left, tmp_path):
    left(SECRET)
    (found,) = search(tmp_path, {"it": SECRET}).found
    assert str(found) == "it stands in folder/inside/file (as it stands)"
    assert SECRET.hex() not in repr(found)


def test_random_bytes_hold_no_secret(tmp_path):
    (tmp_path / "noise").write_bytes(random.Random(1).randbytes(1 << 20))
    searched = search(tmp_path, {"it": SECRET})
    assert (searched.found, searched.bytes) == ((), 1 << 20)
