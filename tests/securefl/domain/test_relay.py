"""The shared folder: public files that all may read, and nothing but plain files is read."""

from __future__ import annotations

import os

import pytest

from securefl.domain.errors import AddressError, FrameTooLargeError, MalformedFrameError, RelayError
from securefl.domain.relay import Relay, read_plain

EMAIL, PEER = "steward@north.example", "researcher@lab.example"


@pytest.fixture
def relay(tmp_path):
    return Relay(tmp_path)


def test_what_is_written_can_be_read_by_all_and_is_whole_or_not_there(relay, tmp_path):
    relay.put_card(EMAIL, b"card")
    relay.put(EMAIL, PEER, "1.frame", b"frame")
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    (entry,) = relay.frames(EMAIL, PEER)
    assert (entry.name, entry.size, entry.plain) == ("1.frame", 5, True)
    assert relay.read(entry, 5) == b"frame"
    assert relay.head(entry, 2) == b"fr"
    assert relay.card(EMAIL) == b"card"
    assert relay.card(PEER) is None
    assert relay.frames(PEER, EMAIL) == []


def test_files_that_are_still_being_written_are_not_shown(relay, tmp_path):
    relay.put_card(EMAIL, b"card")
    relay.put(EMAIL, PEER, "1.frame", b"frame")
    (tmp_path / EMAIL / "to" / PEER / ".2.frame.12ab").write_bytes(b"half")
    assert [entry.name for entry in relay.frames(EMAIL, PEER)] == ["1.frame"]


@pytest.mark.parametrize("name", ["../x@y.example", "/etc", ".", ""])
def test_a_name_that_is_none_is_no_folder(relay, name):
    for call in (relay.card, lambda n: relay.frames(n, PEER), lambda n: relay.frames(EMAIL, n)):
        with pytest.raises(AddressError):
            call(name)


def test_what_is_no_plain_file_or_too_long_is_not_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert read_plain(tmp_path / "file", 5) == b"12345"
    with pytest.raises(FrameTooLargeError):
        read_plain(tmp_path / "file", 4)
    for name in ("link", "pipe"):
        with pytest.raises(MalformedFrameError):
            read_plain(tmp_path / name, 5)


def test_a_share_that_is_not_there_or_not_writable_is_said_so(relay, tmp_path, monkeypatch):
    with pytest.raises(RelayError, match="connect it"):
        Relay(tmp_path / "gone").frames(EMAIL, PEER)
    relay.put_card(EMAIL, b"card")

    def refuse(*arguments, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(RelayError, match="permissions"):
        relay.put(EMAIL, PEER, "1.frame", b"frame")
    assert relay.frames(EMAIL, PEER) == []
