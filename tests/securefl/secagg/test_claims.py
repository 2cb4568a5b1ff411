import fcntl
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocols.pairwise import StepError
from securefl.secagg import SecAggError, claims
from securefl.secagg.claims import claim


def test_steps_and_exchanges_only_go_up(tmp_path):
    path = tmp_path / "note"
    for exchange, step in ((1, 0), (1, 1), (1, 3), (7, 0), (7, 4)):
        claim(path, exchange, step)
        for earlier in ((exchange, step), (exchange, step - 1), (exchange - 1, 4)):
            with pytest.raises(StepError, match="answered already"):
                claim(path, *earlier)


def test_of_many_at_once_one_gets_it(tmp_path):
    def attempt(_):
        try:
            claim(tmp_path / "note", 1, 2)
        except StepError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 1


def test_the_note_is_read_and_written_under_a_lock(tmp_path, monkeypatch):
    """Another process that asks for the lock in between does not get it: two would read the same note."""
    path, asked = tmp_path / "note", []

    def locked(name, real):
        def call(*arguments):
            asked.append(name)
            with open(path) as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return real(*arguments)

        return call

    monkeypatch.setattr(claims, "_read", locked("read", claims._read))
    monkeypatch.setattr(claims.os, "fsync", locked("written", os.fsync))
    claim(path, 1, 0)
    assert asked == ["read", "written"]
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_note_is_the_owners(tmp_path):
    claim(tmp_path / "note", 1, 0)
    assert stat.S_IMODE(os.stat(tmp_path / "note").st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"\xff", b"\x80", b"\x82\x01", b"\x82\x01\x61a", b"\x01"])
def test_a_damaged_note_lets_nothing_pass(tmp_path, damage):
    (tmp_path / "note").write_bytes(damage)
    with pytest.raises(SecAggError, match="damaged"):
        claim(tmp_path / "note", 1, 0)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(SecAggError, match="cannot be written"):
        claim(tmp_path / "nowhere" / "note", 1, 0)
