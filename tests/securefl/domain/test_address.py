"""An email becomes a folder's name, so only plain ones are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securefl.domain.address import checked, is_email
from securefl.domain.errors import AddressError


@pytest.mark.parametrize("email", ["a@b.example", "first.last+tag@dept.north-1.example", "_x9@a.b.c"])
def test_ordinary_emails_are_taken(email):
    assert checked(email) == email


@pytest.mark.parametrize(
    "email",
    [
        "", "a", "a@b", "@b.example", "a@", "A@b.example", "a@B.example", "../a@b.example", "a@b.example/..",
        "a/b@c.example", "a\\b@c.example", ".a@b.example", "a.@b.example", "a..b@c.example", "a@b..example",
        "a@-b.example", "a@b-.example", "a@b.example\n", " a@b.example", "a@b.example\0", "ä@b.example",
        "a@b.exämple", "a" * 100 + "@b.example", "-a@b.example", "a@b.example.", "con:@b.example",
    ],
)  # fmt: skip
def test_others_are_refused(email):
    with pytest.raises(AddressError, match="cannot be a name here"):
        checked(email)


@given(st.text(max_size=30))
def test_whatever_is_taken_is_one_plain_folder_name(text):
    for candidate in (text, f"{text}@b.example", f"a@{text}.example"):
        if is_email(candidate):
            assert "/" not in candidate
            assert ".." not in candidate
            assert candidate == candidate.lower()
            assert candidate.isascii()
            assert candidate.isprintable()
            assert not candidate.startswith((".", "-"))
