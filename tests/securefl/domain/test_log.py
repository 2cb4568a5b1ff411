"""The audit log: what was written verifies, and nothing else does."""

from __future__ import annotations

import json
import multiprocessing

import pytest

from securefl.domain.errors import BrokenLogError
from securefl.domain.identity import Identity
from securefl.domain.log import HEAD_FILE, LOG_FILE, AuditLog, verify

EMAIL = "steward@north.example"


@pytest.fixture
def identity(tmp_path):
    return Identity.open(tmp_path, EMAIL)


@pytest.fixture
def log(identity, tmp_path):
    log = AuditLog(tmp_path, identity, lambda: 1_800_000_000.7)
    for i in range(5):
        log.append(
            EMAIL, "decided", bytes([i]) * 32, f"reason {i} — ünïcode", number_of_it=i, names=["a", "b"]
        )
    return log


def test_what_was_written_is_read(log, identity, tmp_path):
    entries = log.entries()
    assert [e.number for e in entries] == [1, 2, 3, 4, 5]
    assert entries[2].digest == bytes([2]) * 32
    assert (entries[2].actor, entries[2].action, entries[2].time) == (EMAIL, "decided", 1_800_000_000)
    assert entries[2].facts == {"number_of_it": 2, "names": ["a", "b"]}
    assert verify(tmp_path, identity.signing.public).entries == entries
    assert verify(tmp_path / LOG_FILE, identity.signing.public).entries == entries
    assert (tmp_path / LOG_FILE).stat().st_mode & 0o777 == 0o600
    assert len([json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]) == 5


def test_texts_that_are_no_unicode_are_written_all_the_same(identity, tmp_path):
    AuditLog(tmp_path, identity, lambda: 0.0).append(
        EMAIL, "refused", None, "a name: \udcff", names=("\udcfe", "b")
    )
    (entry,) = verify(tmp_path, identity.signing.public).entries
    assert (entry.reason, entry.facts) == ("a name: \\udcff", {"names": ["\\udcfe", "b"]})


def test_an_empty_log_holds(identity, tmp_path):
    assert verify(tmp_path, identity.signing.public).entries == []
    assert AuditLog(tmp_path, identity, lambda: 0.0).head() == b""


SPOILT = {
    "removed": (lambda lines: lines[:2] + lines[3:], 3),
    "removed-first": (lambda lines: lines[1:], 1),
    "reason-changed": (lambda lines: [*lines[:2], lines[2].replace(b"reason 2", b"reason 9"), *lines[3:]], 3),
    "time-changed": (
        lambda lines: [*lines[:2], lines[2].replace(b"1800000000", b"1800000001"), *lines[3:]],
        3,
    ),
    "space-added": (lambda lines: [*lines[:2], lines[2].replace(b'"time":', b'"time": '), *lines[3:]], 3),
    "swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
    "repeated": (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
    "cut-off-at-the-end": (lambda lines: lines[:4], 5),
    "emptied": (lambda lines: [], 1),
    "half-a-line": (lambda lines: [*lines, b'{"number":6'], 6),
    "two-more-copied": (lambda lines: [*lines, lines[4]], 6),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_log_fails_and_names_the_line(log, identity, tmp_path, how):
    spoil, line = SPOILT[how]
    data = (tmp_path / LOG_FILE).read_bytes()
    lines = data.split(b"\n")[:-1]
    assert (
        b"".join(one + b"\n" for one in lines) == data
    )  # the control: put together again it is the same, and holds
    assert len(verify(tmp_path, identity.signing.public).entries) == 5
    changed = spoil(lines)
    ending = b"" if how == "half-a-line" else b"\n"
    (tmp_path / LOG_FILE).write_bytes(b"\n".join(changed) + (ending if changed else b""))
    with pytest.raises(BrokenLogError) as caught:
        verify(tmp_path, identity.signing.public)
    assert caught.value.line == line


def test_another_persons_log_is_not_this_ones(log, tmp_path):
    other = Identity.open(tmp_path / "other", "other@north.example")
    with pytest.raises(BrokenLogError, match="not signed by the log's owner"):
        verify(tmp_path, other.signing.public)


def test_a_log_without_its_head_fails(log, identity, tmp_path):
    (tmp_path / HEAD_FILE).unlink()
    with pytest.raises(BrokenLogError, match="head is missing"):
        verify(tmp_path, identity.signing.public)


def test_an_older_pair_of_log_and_head_is_found_out_by_who_kept_a_later_head(log, identity, tmp_path):
    data, head = (tmp_path / LOG_FILE).read_bytes(), (tmp_path / HEAD_FILE).read_bytes()
    log.append(EMAIL, "later", None, "to be hidden")
    kept = log.head()
    assert len(verify(tmp_path, identity.signing.public, [kept]).entries) == 6
    (tmp_path / LOG_FILE).write_bytes(data)
    (tmp_path / HEAD_FILE).write_bytes(head)
    assert (
        len(verify(tmp_path, identity.signing.public).entries) == 5
    )  # alone, the pair holds: this is not promised
    with pytest.raises(BrokenLogError, match="its end was cut off"):
        verify(tmp_path, identity.signing.public, [kept])


def test_an_owner_who_writes_another_log_is_found_out_by_who_kept_a_head(log, identity, tmp_path):
    kept = log.head()
    (tmp_path / LOG_FILE).unlink()
    (tmp_path / HEAD_FILE).unlink()
    for _ in range(7):
        AuditLog(tmp_path, identity, lambda: 5.0).append(EMAIL, "decided", None, "nicer")
    assert len(verify(tmp_path, identity.signing.public).entries) == 7  # the owner's key can sign anything
    with pytest.raises(BrokenLogError, match="Line 5 of the log is another"):
        verify(tmp_path, identity.signing.public, [kept])


def test_a_crash_between_line_and_head_loses_nothing(log, identity, tmp_path):
    head = (tmp_path / HEAD_FILE).read_bytes()
    log.append(EMAIL, "sixth", None, "")
    (tmp_path / HEAD_FILE).write_bytes(head)
    assert len(verify(tmp_path, identity.signing.public).entries) == 6
    log.append(EMAIL, "seventh", None, "")
    assert [e.action for e in log.entries()][-2:] == ["sixth", "seventh"]


def test_a_crash_within_a_line_leaves_the_lines_before_it(log, tmp_path):
    with (tmp_path / LOG_FILE).open("ab") as file:
        file.write(b'{"number":6,"act')
    log.append(EMAIL, "sixth", None, "")
    assert [e.action for e in log.entries()] == ["decided"] * 5 + ["sixth"]


def test_a_log_that_was_cut_is_not_written_on(log, tmp_path):
    data = (tmp_path / LOG_FILE).read_bytes()
    (tmp_path / LOG_FILE).write_bytes(data[: data.rindex(b"\n", 0, -1) + 1])
    with pytest.raises(BrokenLogError, match="restore it from its backup"):
        log.append(EMAIL, "sixth", None, "")


def _write(home: str, count: int) -> None:
    from pathlib import Path

    identity = Identity.open(Path(home), EMAIL)
    for _ in range(count):
        AuditLog(Path(home), identity, lambda: 0.0).append(EMAIL, "by-process", None, "")


def test_several_processes_write_one_log(log, identity, tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(str(tmp_path), 8)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(verify(tmp_path, identity.signing.public).entries) == 5 + 24
