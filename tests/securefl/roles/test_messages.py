"""Messages: one encoding each, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.canonical import encode
from protocols.errors import EncodingError
from securefl.roles import messages
from securefl.roles.messages import Accepted, Behind, Held, Message, PartyStatus, read_message

KINDS = {
    cls.kind: cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, Message)
}


def test_every_message_of_a_study_comes_back_as_it_was(theatre, tmp_path):
    stage = theatre.stage(theatre.cast(3, 2, 1), tmp_path).run()
    seen = set()
    for data in stage.wire:
        message = read_message(data)
        assert message.to_bytes() == data
        seen.add(type(message).kind)
    assert len(seen) >= 17


def test_every_kind_of_the_module_is_read_under_its_own_name():
    from protocols.chain import SignedOutcome

    carried = {
        "round",
        "round-key",
        "contribution",
        "frozen-list",
        "outcome",
        "closing",
        "signed-outcome",
        "",
    }
    spoken = {kind for kind in KINDS if kind not in carried}
    assert len(spoken) == 21
    for kind in spoken:
        with pytest.raises(EncodingError, match="malformed"):  # known, but these are not its fields
            read_message(encode([kind, {"no": 1}]))
    with pytest.raises(EncodingError, match="not a message of a known kind"):
        read_message(encode([SignedOutcome.kind, {}]))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(EncodingError):
        read_message(data)


@given(st.integers(0, 2**63 - 1), st.text(max_size=30))
def test_a_changed_byte_never_gives_the_same_message(round_, name):
    data = Accepted(member=name, round=round_).to_bytes()
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            other = read_message(changed)
        except EncodingError:
            continue
        assert other.to_bytes() == changed != data


def test_a_field_of_the_wrong_type_is_refused_by_name():
    good = Held(party="p", context=b"c", hospital="h", contribution=b"d")
    for field, value in (("party", 1), ("context", "text"), ("contribution", None)):
        with pytest.raises(EncodingError, match=field):
            read_message(encode([Held.kind, {**good.body(), field: value}]))
    with pytest.raises(EncodingError, match="round"):
        read_message(encode([Behind.kind, {"hospital": "h", "round": True}]))
    with pytest.raises(EncodingError, match="unknown field"):
        read_message(encode([Held.kind, {**good.body(), "extra": 1}]))


def test_two_kinds_with_the_same_fields_have_other_bytes_and_digests():
    assert Behind(hospital="h", round=1).digest() != Accepted(member="h", round=1).digest()
    assert not Behind(hospital="h", round=1).to_bytes().startswith(Accepted.prefix())
    assert Behind(hospital="h", round=1).to_bytes().startswith(Behind.prefix())


def test_what_is_missing_is_none_and_not_left_out():
    status = PartyStatus(
        party="p", round=0, attempt=0, previous=b"", released=False, context=None, frozen=None, prepared=None
    )
    assert read_message(status.to_bytes()) == status
