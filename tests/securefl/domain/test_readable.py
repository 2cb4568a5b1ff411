"""Code that would run as something else than it reads is refused; each trick is shown to work first."""

from __future__ import annotations

import codecs
import runpy

import pytest

from securefl.domain.errors import ProposalError
from securefl.domain.readable import check_readable

TRICKS = {
    "utf-7": b"# coding: utf-7\n# harmless +AAo-RAN = True\n",
    "unicode escapes": b"# coding: raw_unicode_escape\n# harmless \\u000aRAN = True\n",
    "second line": b"#!/usr/bin/python\n# vim: set fileencoding=utf-7 :\n# +AAo-RAN = True\n",
    "carriage return": b"# harmless\rRAN = True\n",
    "form feed": b"if False:\n    pass\n    \x0cRAN = True\n",
}


@pytest.mark.parametrize("source", TRICKS.values(), ids=TRICKS)
def test_code_that_shows_as_something_else_is_refused(source, tmp_path):
    (tmp_path / "trick.py").write_bytes(source)
    assert runpy.run_path(str(tmp_path / "trick.py"))["RAN"] is True  # the control: Python runs it
    with pytest.raises(ProposalError) as error:
        check_readable("parts/trick.py", source)
    assert str(error.value).startswith("parts/trick.py ")


@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0"])
@pytest.mark.parametrize("place", ["{}", "a = 1  # {}b", "a = 1  # {}", "{}a = 1"])
def test_no_line_holds_another(end, place):
    text = "x = 1\n" + place.format(end) + "\ny = 2\n"
    with pytest.raises(ProposalError, match="line feeds only"):
        check_readable("a.py", text.encode())
    check_readable("a.py", text.replace(end, "").encode())  # the control


@pytest.mark.parametrize("name", ["a.py", "study.toml"])
@pytest.mark.parametrize("sign", ["\u202e", "\u2066", "\u200b", "\u00ad", "\x1b", "\x08"])
def test_what_is_not_seen_or_turns_the_text_is_refused(name, sign):
    text = "x = 'a'  # b\n"
    with pytest.raises(ProposalError, match=rf"{name} holds U\+{ord(sign):04X}"):
        check_readable(name, text.replace("b", sign).encode())
    check_readable(name, text.encode())  # the control


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\n",
        b"x = 1",
        b"# -*- coding: utf-8 -*-\r\nx = 1\r\n",
        codecs.BOM_UTF8 + b"x = 1\n",
        "name = 'Z\u00fcrich'\n\tx = 1\n".encode(),
    ],
)
def test_ordinary_text_is_taken(source):
    check_readable("a.py", source)


@pytest.mark.parametrize("name", ["a.py", "consortium.toml"])
def test_bytes_that_are_no_text_are_refused(name):
    with pytest.raises(ProposalError, match="is not text in UTF-8"):
        check_readable(name, b"x = 1 # \xff\n")


def test_an_encoding_that_nobody_knows_is_refused():
    with pytest.raises(ProposalError, match="does not know"):
        check_readable("a.py", b"# coding: secret\n")
