"""Unread messages of one peer: whole, in order, once, and not too many of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.mesh_inbox import (
    MAX_MESSAGE_BYTES,
    MAX_TAG_BYTES,
    PIECE_BYTES,
    FaultError,
    Header,
    Inbox,
)


def header(sequence=0, size=1, tag=b"t"):
    return Header(bytes(16), bytes(16), sequence, size, tag)


def put(inbox, of, offset, length):
    inbox.check(of, offset, length)
    inbox.add(of, memoryview(bytes(length)))


def put_whole(inbox, sequence, size):
    for offset in range(0, max(size, 1), PIECE_BYTES):
        put(inbox, header(sequence, size), offset, min(PIECE_BYTES, size - offset))


@given(st.lists(st.sampled_from([0, 1, PIECE_BYTES, PIECE_BYTES + 1]), max_size=6))
def test_messages_come_out_whole_and_in_order(sizes):
    inbox = Inbox()
    for sequence, size in enumerate(sizes):
        put_whole(inbox, sequence, size)
    assert [message.size for message in inbox.messages] == sizes
    assert all(message.complete for message in inbox.messages)
    assert [sum(map(len, message.pieces)) for message in inbox.messages] == sizes
    assert inbox.next_sequence == len(sizes)


def test_a_message_is_complete_with_its_last_piece_only():
    inbox = Inbox()
    put(inbox, header(size=PIECE_BYTES + 1), 0, PIECE_BYTES)
    assert not inbox.messages[0].complete
    assert inbox.next_sequence == 0
    put(inbox, header(size=PIECE_BYTES + 1), PIECE_BYTES, 1)
    assert inbox.messages[0].complete
    assert inbox.next_sequence == 1


@pytest.mark.parametrize(
    ("of", "offset", "length", "said"),
    [
        (header(1), 0, 1, "message 1 instead of 0"),
        (header(-1), 0, 1, "message -1 instead of 0"),
        (header(2**70), 0, 1, "instead of 0"),
        (header(size=-1), 0, 1, "too large"),
        (header(size=MAX_MESSAGE_BYTES + 1), 0, PIECE_BYTES, "too large"),
        (header(tag=bytes(MAX_TAG_BYTES + 1)), 0, 1, "too large"),
        (header(), 0, 0, "another length"),
        (header(), 0, 2, "another length"),
        (header(), 1, 0, "another length"),
        (header(), -1, 2, "another length"),
        (header(size=8), 0, 4, "another length"),  # a piece is not cut where its sender likes
        (header(size=PIECE_BYTES + 1), PIECE_BYTES, 1, "another length"),
    ],
)
def test_a_first_piece_of_any_other_kind_is_a_fault(of, offset, length, said):
    with pytest.raises(FaultError, match=said):
        Inbox().check(of, offset, length)


@pytest.mark.parametrize(
    ("of", "offset", "length", "said"),
    [
        (header(size=2 * PIECE_BYTES), 0, PIECE_BYTES, "another length"),  # once more
        (header(size=3 * PIECE_BYTES), PIECE_BYTES, PIECE_BYTES, "two messages"),
        (header(size=2 * PIECE_BYTES, tag=b"u"), PIECE_BYTES, PIECE_BYTES, "two messages"),
        (header(1, size=1), 0, 1, "message 1 instead of 0"),
    ],
)
def test_a_second_piece_of_any_other_kind_is_a_fault(of, offset, length, said):
    inbox = Inbox()
    put(inbox, header(size=2 * PIECE_BYTES), 0, PIECE_BYTES)
    with pytest.raises(FaultError, match=said):
        inbox.check(of, offset, length)
    put(inbox, header(size=2 * PIECE_BYTES), PIECE_BYTES, PIECE_BYTES)  # the control


def test_eight_messages_wait_and_no_more():
    inbox = Inbox()
    for sequence in range(8):
        assert inbox.has_room
        put_whole(inbox, sequence, 0)
    assert not inbox.has_room
    inbox.messages.popleft()
    assert inbox.has_room


def test_bytes_that_wait_are_bounded_but_one_message_may_always_come_in():
    inbox = Inbox()
    size = 64 << 20
    for offset in range(0, size, PIECE_BYTES):
        assert inbox.has_room  # its own bytes do not stop it
        put(inbox, header(size=size), offset, PIECE_BYTES)
    assert not inbox.has_room
    inbox.messages[0].pieces.popleft()  # read in part
    assert inbox.has_room
    put_whole(inbox, 1, 1)
