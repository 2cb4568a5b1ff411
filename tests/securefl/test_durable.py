"""Files are whole or not there, also when the disk is full."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
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


def synced(monkeypatch, act):
    """The folders and files that were synced meanwhile."""
    found, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda d: found.append(Path(f"/proc/self/fd/{d}").readlink()) or fsync(d)
    )
    act()
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("make", [durable.write, durable.replace, durable.create])
def test_the_entry_of_each_folder_that_was_made_is_synced(tmp_path, monkeypatch, make):
    made = ["a", "a/b", "a/b/c"]
    found = synced(monkeypatch, lambda: make(tmp_path / "a" / "b" / "c" / "file", b"1"))
    assert {(tmp_path / part).parent for part in made} <= set(found)
    # The control: what stood there before is not synced again.
    again = synced(monkeypatch, lambda: make(tmp_path / "a" / "b" / "c" / "file", b"1"))
    assert not {(tmp_path / part).parent for part in made} & set(again)


# -- created once --------------------------------------------------------------------------------------------------


def test_what_is_created_stays_and_the_same_may_be_created_again(tmp_path, monkeypatch):
    path = tmp_path / "made" / "file"
    for _ in range(2):
        found = synced(monkeypatch, lambda: durable.create(path, b"1"))
        assert found[-1] == path.parent  # also where another process has written it, and not yet synced
    with pytest.raises(EngineError, match="written by another process, with something else"):
        durable.create(path, b"2")
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [("file", b"1")]
    assert path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(EngineError, match="cannot be written: is a directory"):
        durable.create(tmp_path / "folder", b"1")


CREATES = """
import sys
from pathlib import Path
from securefl import durable
from securefl.errors import EngineError
make, path, data = getattr(durable, sys.argv[1]), Path(sys.argv[2]), sys.argv[3].encode()
print("ready", flush=True)
sys.stdin.read()
try:
    make(path, data)
except EngineError:
    print("refused")
else:
    print("made")
"""


@pytest.mark.parametrize(("make", "succeed"), [("create", 1), ("write", 6)])  # the control: each replaces
def test_of_processes_that_create_at_once_one_succeeds(tmp_path, make, succeed):
    path = tmp_path / "file"
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", CREATES, make, str(path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(6)
    ]  # fmt: skip
    assert [process.stdout.readline() for process in racing] == ["ready\n"] * 6
    for process in racing:
        process.stdin.close()
    said = [process.stdout.read().strip() for process in racing]
    assert [process.wait() for process in racing] == [0] * 6
    assert said.count("made") == succeed
    assert said[int(path.read_bytes())] == "made"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# -- killed between the writing and the renaming -----------------------------------------------------------------

STOPS = """
import os, signal, sys
from pathlib import Path
from securefl import durable

def stop(_from, _to):
    print("written", flush=True)
    if sys.argv[3] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
    renames(_from, _to)

name = "link" if sys.argv[1] == "create" else "replace"
renames = getattr(os, name)
setattr(os, name, stop)
getattr(durable, sys.argv[1])(Path(sys.argv[2]), b"an update")
"""


def stopped(make, path, how):
    """Another process that has written, and not yet renamed."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS, make, str(path), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "written\n"
    return process


def left(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("make", ["write", "replace", "create"])
def test_what_a_killed_process_has_left_unfinished_is_swept(tmp_path, make):
    path = tmp_path / "pledge-3"
    assert stopped(make, path, "dies").wait() == -9
    ((name, data),) = left(tmp_path).items()
    assert name.startswith(".pledge-3.")
    assert data == b"an update"
    durable.sweep(tmp_path)
    assert left(tmp_path) == {}


@pytest.mark.parametrize("make", ["write", "replace", "create"])
def test_what_a_living_process_writes_is_not_swept(tmp_path, make):
    path = tmp_path / "pledge-3"
    process = stopped(make, path, "waits")
    durable.sweep(tmp_path)
    assert list(left(tmp_path).values()) == [b"an update"]
    process.communicate("")
    assert process.returncode == 0
    assert left(tmp_path) == {"pledge-3": b"an update"}


def test_a_file_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    flock, swept = fcntl.flock, []

    def late(descriptor, operation):
        if operation == fcntl.LOCK_EX and not swept:
            swept.extend(tmp_path.iterdir())
            durable.sweep(tmp_path)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    durable.write(tmp_path / "file", b"1")
    assert len(swept) == 1
    assert left(tmp_path) == {"file": b"1"}


def test_where_there_are_no_locks_files_are_written_and_nothing_is_swept(tmp_path, monkeypatch):
    def none(_descriptor, _operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    durable.write(tmp_path / "file", b"1")
    (tmp_path / ".file.0123abcd").write_bytes(b"2")
    durable.sweep(tmp_path)
    assert left(tmp_path) == {"file": b"1", ".file.0123abcd": b"2"}


def test_nothing_else_is_swept(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"1")
    for name in (
        "file",
        ".lock",
        ".file",
        ".file.cafe",
        ".file.0123ABCD",
        ".file.0123abcde",
        "file.0123abcd",
    ):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / ".folder.0123abcd").mkdir()
    (tmp_path / ".link.0123abcd").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / ".pipe.0123abcd")
    before = sorted(tmp_path.iterdir())
    (tmp_path / ".file.0123abcd").write_bytes(b"1")  # the control
    durable.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


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
