"""Files are whole or not there, also when the disk is full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securefl import durable
from securefl.errors import EngineError


@settings(max_examples=25)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_what_is_written_replaces_what_was_there(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("d") / "file"
    for data in (first, second):
        durable.write(path, data)
        assert path.read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_files_and_folders_are_private_unless_said_otherwise(tmp_path):
    durable.write(tmp_path / "made" / "secret", b"1")
    durable.write(tmp_path / "made" / "public", memoryview(b"22"), mode=0o644)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "made" / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "made" / "public").stat().st_mode & 0o777 == 0o644
    assert durable.private_folder(tmp_path / "made") == tmp_path / "made"


def test_the_folders_above_are_private_too_and_what_stood_there_stays(tmp_path):
    before = tmp_path.stat().st_mode
    (tmp_path / "open").mkdir(mode=0o755)
    durable.write(tmp_path / "open" / "a" / "b" / "c" / "secret", b"1")
    for part in ("a", "a/b", "a/b/c"):
        assert (tmp_path / "open" / part).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o755
    assert tmp_path.stat().st_mode == before
    with pytest.raises(EngineError):
        durable.private_folder(tmp_path / "open" / "a" / "b" / "c" / "secret" / "d")


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, call):
    durable.write(tmp_path / "file", b"old")
    real = getattr(os, call)
    done = []

    def fail(*arguments):
        done.append(arguments)
        if call == "write" and len(done) == 1:
            return real(arguments[0], bytes(arguments[1])[:1])  # half of it goes through
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EngineError, match="is full: free some space and run again with --resume"):
        durable.write(tmp_path / "file", b"new and longer")
    monkeypatch.undo()
    assert done
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_bytes_and_then_the_folder_are_synced(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda d: order.append(Path(f"/proc/self/fd/{d}").readlink().name) or fsync(d)
    )
    monkeypatch.setattr(os, "replace", lambda a, b: order.append("rename") or replace(a, b))
    durable.write(tmp_path / "file", b"1")
    assert order[0].startswith(".file.")
    assert order[1:] == ["rename", tmp_path.name]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("Only root can mount a small file system.")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("This computer does not let root mount a file system.")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_is_really_full(tiny_disk):
    durable.write(tiny_disk / "file", b"old")
    with pytest.raises(EngineError, match=f"The disk that holds {tiny_disk} is full"):
        durable.write(tiny_disk / "file", bytes(200_000))
    assert (tiny_disk / "file").read_bytes() == b"old"
    assert [p.name for p in tiny_disk.iterdir()] == ["file"]
    durable.write(tiny_disk / "file", bytes(1000))


@pytest.mark.parametrize("make", [durable.private_folder, lambda path: durable.write(path, b"1")])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, make):
    (tmp_path / "a-file").write_bytes(b"1")
    for path in (tmp_path / "a-file" / "below", Path("/proc/nothing/below")):
        with pytest.raises(EngineError, match="cannot be written") as error:
            make(path)
        assert "\n" not in str(error.value)
    assert (tmp_path / "a-file").read_bytes() == b"1"


def test_a_folder_without_permission(tmp_path):
    if os.geteuid() == 0:
        # Root may write everywhere; what the error becomes is shown all the same.
        assert "check the permissions" in str(
            durable._explained(PermissionError(13, "Permission denied"), tmp_path)
        )
        return
    tmp_path.chmod(0o500)
    with pytest.raises(EngineError, match="check the permissions of its folder"):
        durable.write(tmp_path / "file", b"1")
