"""The newest letter of the same keys counts, whatever comes when."""

from __future__ import annotations

import pytest

from securefl.domain.errors import IdentityError
from securefl.domain.frames import Letter
from securefl.domain.late import is_late, mark


def letter(number: int, keys: bytes = b"k" * 32) -> Letter:
    return Letter(
        sender="ops@hub.example", keys=keys, number=number, topic="notice", sent=0, head=b"", body=b""
    )


def test_a_letter_is_late_once_it_or_a_newer_one_counted(tmp_path):
    place = tmp_path / "notice"
    assert not is_late(place, letter(1))
    mark(place, letter(2))
    assert [is_late(place, letter(number)) for number in (1, 2, 3)] == [True, True, False]
    assert not is_late(tmp_path / "other", letter(1))


def test_new_keys_begin_anew(tmp_path):
    mark(tmp_path / "notice", letter(9))
    assert not is_late(tmp_path / "notice", letter(1, b"n" * 32))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"keys": "", "number": "x"}'])
def test_what_is_damaged_is_said(tmp_path, content):
    mark(tmp_path / "notice", letter(1))
    (beside,) = tmp_path.iterdir()
    beside.write_text(content.replace('""', f'"{"6b" * 32}"'))
    with pytest.raises(IdentityError, match="is damaged"):
        is_late(tmp_path / "notice", letter(1))
