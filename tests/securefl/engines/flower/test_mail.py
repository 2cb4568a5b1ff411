"""Mail survives Flower's own wire format, byte for byte; what is not mail is refused."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import EncodingError
from securefl.engines.flower import mail
from securefl.engines.link import MAX_SECONDS, Reply


def _carried(content: RecordDict) -> RecordDict:
    return recorddict_from_proto(ProtoRecordDict.FromString(recorddict_to_proto(content).SerializeToString()))


@given(st.lists(st.binary(max_size=200), max_size=12), st.text(max_size=20))
def test_mail_arrives_as_it_was_sent(messages: list[bytes], member: str) -> None:
    content = _carried(mail.packed(messages, member))
    assert mail.unpacked(content) == messages
    assert mail.addressee(content) == member
    assert mail.refusal(content) is None


@given(st.lists(st.binary(max_size=200), max_size=12), st.floats(0.0, MAX_SECONDS))
def test_answers_arrive_with_the_time_that_they_took(messages: list[bytes], seconds: float) -> None:
    reply = mail.unpacked_reply(_carried(mail.packed_reply(Reply(messages, seconds))))
    assert reply == Reply(messages, seconds)


seconds = st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=9), st.binary(max_size=9))


@given(st.dictionaries(st.sampled_from(["training-seconds", "x"]), st.one_of(seconds, st.lists(st.floats()))))
def test_whatever_an_answer_says_of_its_time_is_a_number_of_seconds_or_refused(notes: dict[str, Any]) -> None:
    content = mail.packed_reply(Reply([b"a"]))
    content["notes"] = ConfigRecord(notes)
    try:
        reply = mail.unpacked_reply(_carried(content))
    except EncodingError:
        return
    assert reply == Reply([b"a"], notes["training-seconds"])
    assert 0.0 <= reply.training_seconds <= MAX_SECONDS


def test_a_refusal_is_not_an_answer() -> None:
    content = _carried(mail.refused("No study has been approved here."))
    assert mail.refusal(content) == "No study has been approved here."
    with pytest.raises(EncodingError):
        mail.unpacked_reply(content)


def _array(**changes: object) -> Array:
    parts = {"dtype": "uint8", "shape": (3,), "stype": "securefl.bytes", "data": b"abc", **changes}
    return Array(**parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"messages": ConfigRecord({"0": "abc"})}),
        RecordDict({"messages": ArrayRecord({"1": _array()})}),
        RecordDict({"messages": ArrayRecord({"0": _array(dtype="float32")})}),
        RecordDict({"messages": ArrayRecord({"0": _array(shape=(2,))})}),
        RecordDict({"messages": ArrayRecord({"0": _array(stype="numpy.ndarray")})}),
        RecordDict({"messages": ArrayRecord({str(i): _array() for i in range(65)})}),
    ],
    ids=["empty", "no array", "gap", "dtype", "shape", "serialisation", "too many"],
)
def test_what_is_not_mail_is_refused(content: RecordDict) -> None:
    with pytest.raises(EncodingError):
        mail.unpacked(content)


def test_the_control_of_the_refusals_is_mail() -> None:
    assert mail.unpacked(RecordDict({"messages": ArrayRecord({"0": _array()})})) == [b"abc"]


def test_too_much_mail_is_not_sent() -> None:
    with pytest.raises(EncodingError, match="64"):
        mail.packed([b""] * 65, "north")
