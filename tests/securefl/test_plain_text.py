"""Whatever somebody writes, what is kept and shown of it is short, on one line, and seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from securefl.plain_text import LONGEST_SENTENCE, OTHER_REASON, is_word, line, plain, sentence, word
from securefl.roles.messages import Declined, Refusal
from securefl.roles.refusals import SENTENCES, heard, told

OBEYED = [
    "\x1b[2J", "\x1b]0;owned\x07", "\x9b2J", "\r", "\x00", "\x7f", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028",
]  # fmt: skip
texts = (
    st.text(st.characters(), max_size=60)
    | st.sampled_from(OBEYED)
    | st.text(max_size=5).map(lambda t: t * 500)
)


def seen(text):
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


@given(texts)
@example("A" * 5_000_000)
def test_a_sentence_is_short_and_on_one_line(text):
    shown = sentence(text)
    assert len(shown) <= LONGEST_SENTENCE + 1
    assert shown.isprintable()
    assert seen(shown)
    assert sentence(shown) == shown


@given(texts)
def test_only_lines_are_kept_of_what_is_not_seen(text):
    assert plain(text).count("\n") == text.count("\n")
    assert seen(plain(text).replace("\n", ""))
    assert line(text).isprintable()


@pytest.mark.parametrize("text", OBEYED)
def test_what_a_terminal_obeys_is_replaced(text):
    assert line(f"a{text}b")[1] == "\ufffd"
    assert sentence(f"a{text}b").isprintable()


@given(st.text(st.characters(max_codepoint=127), max_size=40) | texts)
@example("no-answer\n")
@example("a" * 33)
@example("ä")
def test_a_reason_is_a_fixed_word(reason):
    kept = word(reason)
    assert is_word(kept)
    assert kept in (reason, OTHER_REASON)
    assert len(kept) <= 32
    assert set(kept) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_what_members_say_in_good_faith_stays_as_it_is():
    for reason in (*SENTENCES, "bad-contribution", "second-contribution", "no-answer", "unreachable"):
        said = Declined(context=b"", hospital="va", reason=reason, explanation=told(reason))
        assert heard(said) == said


@given(texts, texts)
def test_what_is_heard_of_a_member_is_a_word_and_a_sentence(reason, explanation):
    refusal = Refusal(member="va", about="freeze", hospital="b", reason=reason, explanation=explanation)
    found = heard(refusal)
    assert (found.member, found.about, found.hospital) == ("va", "freeze", "b")
    assert (found.reason, found.explanation) == (word(reason), sentence(explanation))
