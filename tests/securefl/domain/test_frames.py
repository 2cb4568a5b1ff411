"""A frame opens for its recipient, as what its sender sealed, and otherwise not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.envelope import seal
from securefl.domain import frames
from securefl.domain.errors import (
    FrameError,
    FrameRecipientError,
    FrameSignatureError,
    FrameTooLargeError,
    IncompleteFrameError,
    MalformedFrameError,
)
from securefl.domain.frames import (
    HEAD_BYTES,
    MAGIC,
    Frame,
    FrameBinding,
    Inside,
    is_topic,
    open_frame,
    seal_frame,
)
from securefl.domain.identity import Identity


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    return [Identity.open(folder / str(i), f"p{i}@x.example") for i in range(3)]


@pytest.fixture(scope="module")
def frame(people):
    return seal_frame(people[0], people[1].card, "decision/1", 7, 1000, b"CANARY body", b"head")


def _framed(frame: Frame) -> bytes:
    data = frame.to_bytes()
    return MAGIC + (HEAD_BYTES + len(data)).to_bytes(8, "big") + data


def test_a_letter_comes_back(people, frame):
    letter = open_frame(people[1], people[0].card, frame)
    assert (letter.sender, letter.number, letter.topic, letter.sent) == (
        "p0@x.example",
        7,
        "decision/1",
        1000,
    )
    assert (letter.body, letter.head, letter.keys) == (b"CANARY body", b"head", people[0].card.digest())
    assert frames.Letter.from_bytes(letter.to_bytes()) == letter
    assert b"CANARY" not in repr(letter).encode()


def test_nothing_of_topic_time_or_body_is_outside_the_seal(people, frame):
    again = seal_frame(people[0], people[1].card, "decision/1", 7, 1000, b"CANARY body", b"head")
    assert again != frame
    for secret in (b"CANARY", b"decision"):
        assert secret not in frame
        assert (
            secret in Inside(topic="decision/1", time=1, head=b"", content=b"CANARY").to_bytes()
        )  # the control


def test_every_changed_byte_is_noticed(people, frame):
    for at in range(0, len(frame), 7):
        changed = bytearray(frame)
        changed[at] ^= 1
        with pytest.raises(FrameError):
            open_frame(people[1], people[0].card, bytes(changed))


def test_a_beginning_is_incomplete_and_not_bad(people, frame):
    for size in (0, 1, HEAD_BYTES - 1, HEAD_BYTES, len(frame) - 1):
        with pytest.raises(IncompleteFrameError):
            open_frame(people[1], people[0].card, frame[:size])
    with pytest.raises(MalformedFrameError, match="further bytes"):
        open_frame(people[1], people[0].card, frame + b"\0")


@given(st.binary(max_size=200))
def test_other_bytes_are_no_frame(people, data):
    for candidate in (data, MAGIC + (HEAD_BYTES + len(data)).to_bytes(8, "big") + data):
        with pytest.raises(FrameError):
            open_frame(people[1], people[0].card, candidate)


def test_only_its_recipient_opens_it(people, frame):
    with pytest.raises(FrameRecipientError):
        open_frame(people[2], people[0].card, frame)


def test_a_sender_is_who_signed(people):
    """p2 writes "p0" as the sender of a frame to p1, and signs it with its own key."""
    binding = FrameBinding(
        sender="p0@x.example",
        sender_keys=people[0].card.digest(),
        recipient="p1@x.example",
        recipient_keys=people[1].card.digest(),
        number=1,
    )
    inside = Inside(topic="syft/job", time=1, head=b"", content=b"approve").to_bytes()
    sealed = seal(people[1].card.sealing, inside, binding)

    def forged(by):
        signature = by.signing.sign("letter-frame", frames._signed(binding, sealed))
        return _framed(
            Frame(
                sender="p0@x.example", recipient="p1@x.example", number=1, sealed=sealed, signature=signature
            )
        )

    assert open_frame(people[1], people[0].card, forged(people[0])).body == b"approve"  # the control
    with pytest.raises(FrameSignatureError):
        open_frame(people[1], people[0].card, forged(people[2]))


def test_what_another_sealed_is_not_signed_as_ones_own(people, frame):
    """p2 takes p0's sealed bytes and signs them as its own letter: the seal is bound to p0's keys."""
    taken = Frame.from_bytes(frame[HEAD_BYTES:])
    binding = FrameBinding(
        sender="p2@x.example",
        sender_keys=people[2].card.digest(),
        recipient="p1@x.example",
        recipient_keys=people[1].card.digest(),
        number=7,
    )
    signature = people[2].signing.sign("letter-frame", frames._signed(binding, taken.sealed))
    mine = taken.model_copy(update={"sender": "p2@x.example", "signature": signature})
    with pytest.raises(MalformedFrameError, match="does not open"):
        open_frame(people[1], people[2].card, _framed(mine))


def test_a_number_is_bound(people, frame):
    other = Frame.from_bytes(frame[HEAD_BYTES:]).model_copy(update={"number": 8})
    with pytest.raises(FrameSignatureError):
        open_frame(people[1], people[0].card, _framed(other))


def test_too_long_is_refused_on_both_sides(people, monkeypatch):
    monkeypatch.setattr(frames, "LARGEST_BODY", 100)
    monkeypatch.setattr(frames, "LARGEST_FRAME", 2000)
    assert seal_frame(people[0], people[1].card, "t", 1, 1, bytes(100))
    with pytest.raises(FrameTooLargeError, match="send it in parts"):
        seal_frame(people[0], people[1].card, "t", 1, 1, bytes(101))
    with pytest.raises(FrameTooLargeError):
        open_frame(people[1], people[0].card, MAGIC + (2001).to_bytes(8, "big") + bytes(2001 - HEAD_BYTES))
    with pytest.raises(FrameTooLargeError):  # known from the announced length, before the rest has come
        open_frame(people[1], people[0].card, MAGIC + (2**60).to_bytes(8, "big"))


@pytest.mark.parametrize("topic", ["", "UPPER", "a..b", "-a", "a b", "a\n", "x" * 64, "~a"])
def test_a_topic_is_plain(people, topic):
    assert not is_topic(topic)
    with pytest.raises(MalformedFrameError):
        seal_frame(people[0], people[1].card, topic, 1, 1, b"")
