import math
import struct
import tracemalloc

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import model_validator

import protocols.chain
import protocols.contribution
import protocols.envelope
from protocols.canonical import DIGEST_BYTES, MAX_DEPTH, MAX_ITEMS, Record, decode, digest, encode
from protocols.errors import EncodingError
from tests.protocols.rfc8949 import by_hand, head

integers = st.one_of(st.integers(-(2**64), 2**64 - 1), st.integers(-300, 300))
scalars = st.one_of(
    st.none(), st.booleans(), integers, st.floats(), st.text(max_size=30), st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=30), inner, max_size=5)
    ),
    max_leaves=10,
)


def same(a, b):
    """Equal, and of the same types (1, 1.0 and True are equal in Python)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return struct.pack(">d", a) == struct.pack(">d", b) if isinstance(a, float) else a == b


# -- the encoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [  # RFC 8949, appendix A
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000, "1903e8"),
        (1000000, "1a000f4240"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (-1, "20"),
        (-100, "3863"),
        (0.0, "f90000"),
        (-0.0, "f98000"),
        (1.0, "f93c00"),
        (65504.0, "f97bff"),
        (100000.0, "fa47c35000"),
        (1.1, "fb3ff199999999999a"),
        (math.inf, "f97c00"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("IETF", "6449455446"),
        ("ü", "62c3bc"),
        ([], "80"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({}, "a0"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        ({"bb": 1, "c": 2, "a": 3}, "a361610361630262626201"),
    ],
)
def test_encoding_is_that_of_the_rfc(value, expected):
    assert encode(value).hex() == expected
    assert same(decode(bytes.fromhex(expected)), value)


@settings(deadline=None, max_examples=100)
@given(values)
def test_encoding_agrees_with_a_second_encoder_and_is_read_back(value):
    data = encode(value)
    assert data == by_hand(value)
    if b"\xf9\x7e\x00" not in data:  # a NaN's payload is not kept
        assert same(decode(data), value)


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**64) - 1,
        {1, 2},
        {1: 2},
        {b"a": 1},
        {None: 1},
        ...,
        bytearray(b"a"),
        1j,
        "\ud800",
        [[{"a": [2**64]}]],
    ],
    ids=repr,
)
def test_other_values_have_no_encoding(value):
    with pytest.raises(EncodingError):
        encode(value)


def test_a_value_that_holds_itself_has_no_encoding():
    loop = []
    loop.append(loop)
    with pytest.raises(EncodingError):
        encode(loop)


REFUSED = {
    "empty": "",
    "integer_not_minimal_1": "1800",
    "integer_not_minimal_2": "1900ff",
    "integer_not_minimal_4": "1a0000ffff",
    "integer_not_minimal_8": "1b00000000ffffffff",
    "negative_not_minimal": "3800",
    "length_not_minimal": "580161",
    "text_length_not_minimal": "780161",
    "array_length_not_minimal": "980100",
    "map_length_not_minimal": "b801616100",
    "float_not_shortest_32": "fa3f800000",
    "float_not_shortest_64": "fb3ff0000000000000",
    "nan_with_payload": "f97e01",
    "nan_of_32_bits": "fa7fc00000",
    "indefinite_array": "9fff",
    "indefinite_map": "bfff",
    "indefinite_bytes": "5f4101ff",
    "indefinite_text": "7f6161ff",
    "map_unsorted": "a2616201616102",
    "map_unsorted_by_length": "a262616101616202",
    "map_duplicate_key": "a2616101616101",
    "map_duplicate_key_other_value": "a2616101616102",
    "map_integer_key": "a10101",
    "map_bytes_key": "a1416101",
    "map_array_key": "a1810101",
    "map_keys_one_and_true": "a20100f500",
    "trailing_byte": "0000",
    "trailing_message": "8001",
    "truncated_array": "8201",
    "truncated_text": "6261",
    "truncated_head": "19",
    "utf8_invalid": "61ff",
    "utf8_surrogate": "63eda080",
    "tag_date": "c074323031332d30332d32315432303a30343a30305a",
    "tag_timestamp": "c11a514b67b0",
    "tag_big_integer": "c249010000000000000000",
    "tag_big_integer_small": "c24101",
    "tag_decimal": "c48221196ab3",
    "tag_decimal_huge": "c4821b7fffffffffffffff01",
    "tag_bigfloat_huge": "c5821b00000000ffffffff01",
    "tag_rational_by_zero": "d81e820100",
    "tag_regex": "d8236161",
    "tag_uuid": "d82550" + "00" * 16,
    "tag_set": "d9010283010203",
    "tag_shared_reference": "d81c81d81d00",
    "tag_string_reference": "d9010082616161d81900",
    "tag_self_described": "d9d9f700",
    "tag_unknown": "d9053900",
    "tag_nested": "81a16161d9053900",
    "undefined": "f7",
    "simple_value_0": "e0",
    "simple_value_255": "f8ff",
    "simple_value_nested": "a16161f8ff",
    "break_alone": "ff",
    "reserved_head": "1c",
    "bytes_of_2_64": "5bffffffffffffffff",
    "bytes_of_2_40": "5b000000ffffffffff",
    "text_of_2_63": "7b7fffffffffffffff",
    "array_of_2_64": "9bffffffffffffffff",
    "array_of_2_32": "9b00000000ffffffff00",
    "map_of_2_32": "bb00000000ffffffff",
    "deep_arrays": "81" * 100_000 + "00",
    "deep_maps": "a16161" * 100_000 + "00",
    "deep_tags": "c6" * 100_000 + "00",
    "deep_indefinite": "9f" * 100_000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_encoding_is_refused(name):
    with pytest.raises(EncodingError):
        decode(bytes.fromhex(REFUSED[name]))


@pytest.mark.parametrize("name", [name for name in REFUSED if name.startswith("tag_")])
def test_no_tag_is_interpreted(name):
    # Not even in order to refuse it: a regular expression or a date of a stranger's is not built.
    with pytest.raises(EncodingError) as error:
        decode(bytes.fromhex(REFUSED[name]))
    assert isinstance(error.value.__cause__, cbor2.CBORDecodeError)
    assert "semantic tag" in str(error.value.__cause__)


def accepted_only_if_canonical(data):
    try:
        value = decode(data)
    except EncodingError:
        return
    assert by_hand(value) == data


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=64))
@example(b"\xd8\x1c\x81\xd8\x1d\x00")
def test_arbitrary_bytes_are_a_value_or_an_encoding_error(data):
    accepted_only_if_canonical(data)


# -- how much is read ------------------------------------------------------------------------------------------------


def items(value):
    """Lists, maps, their keys, and what stands in them."""
    if isinstance(value, list):
        return 1 + sum(map(items, value))
    if isinstance(value, dict):
        return 1 + sum(1 + items(entry) for entry in value.values())
    return 1


@settings(deadline=None, max_examples=200)
@given(values)
def test_a_value_is_read_up_to_its_number_of_items(value):
    data, count = encode(value), items(value)
    if b"\xf9\x7e\x00" not in data:
        assert same(decode(data, count), value)
    with pytest.raises(EncodingError, match="more than"):
        decode(data, count - 1)


def test_what_is_encoded_is_not_too_large_to_be_read_again():
    largest = [0] * (MAX_ITEMS - 1)
    assert decode(encode(largest)) == largest
    with pytest.raises(EncodingError, match=f"more than {MAX_ITEMS:,}"):
        encode([*largest, 0])
    with pytest.raises(EncodingError, match=f"more than {MAX_ITEMS:,}"):
        decode(by_hand([*largest, 0]))


@pytest.mark.parametrize("nested", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "maps"])
def test_what_is_encoded_is_not_too_deep_to_be_read_again(nested):
    deepest = 0
    for _ in range(MAX_DEPTH):
        deepest = nested(deepest)
    assert same(decode(encode(deepest)), deepest)
    for too_deep in (nested(deepest), nested(nested(deepest))):
        with pytest.raises(EncodingError):
            encode(too_deep)
        with pytest.raises(EncodingError):
            decode(by_hand(too_deep))


@pytest.mark.parametrize(
    "item", [b"\x80", b"\xa0", b"\x40", b"\x00", b"\x19\x01\x00", b"\x58\x18" + bytes(24)]
)
def test_many_small_items_are_refused_before_they_are_made(item):
    count = 20_000
    data = head(4, count) + item * count
    tracemalloc.start()
    try:
        with pytest.raises(EncodingError, match="items"):
            decode(data, 100)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


# -- records ---------------------------------------------------------------------------------------------------------


class Inner(Record):
    kind = "inner"
    n: int


class Box(Record):
    kind = "box"
    name: str
    data: bytes
    n: int
    flag: bool
    names: list[str]
    table: dict[str, bytes]
    inner: Inner | None


class Twin(Box):
    kind = "twin"


boxes = st.builds(
    Box,
    name=st.text(max_size=20),
    data=st.binary(max_size=40),
    n=integers,
    flag=st.booleans(),
    names=st.lists(st.text(max_size=5), max_size=3),
    table=st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=3),
    inner=st.one_of(st.none(), st.builds(Inner, n=integers)),
)
BOX = Box(name="a", data=b"b", n=1, flag=True, names=["x"], table={"k": b"v"}, inner=Inner(n=2))


def edited(change):
    """BOX's bytes with its fields changed by ``change``, encoded by hand."""
    fields = BOX.body()
    change(fields)
    return by_hand(["box", fields])


@settings(deadline=None)
@given(boxes)
def test_a_record_is_read_back_and_its_bytes_begin_with_its_kind(box):
    data = box.to_bytes()
    assert data == by_hand(["box", box.body()])
    assert data.startswith(Box.prefix())
    assert not data.startswith(Twin.prefix())
    again = Box.from_bytes(data)
    assert again == box
    assert again.to_bytes() == data
    assert again.digest() == box.digest()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("name"), "at name"),
        (lambda f: f.update(surplus=1), "by an unknown field"),
        (lambda f: f.update(name=b"a"), "at name"),
        (lambda f: f.update(name=None), "at name"),
        (lambda f: f.update(data="b"), "at data"),
        (lambda f: f.update(n="1"), "at n"),
        (lambda f: f.update(n=1.0), "at n"),
        (lambda f: f.update(n=True), "at n"),
        (lambda f: f.update(flag=1), "at flag"),
        (lambda f: f.update(names={"x": 1}), "at names"),
        (lambda f: f.update(names=[1]), "at names"),
        (lambda f: f.update(table={"k": "v"}), "at table"),
        (lambda f: f.update(table=[]), "at table"),
        (lambda f: f.update(inner={"n": "2"}), "at inner"),
        (lambda f: f.update(inner={"n": 2, "m": 2}), "at inner"),
        (lambda f: f.update(inner={}), "at inner"),
    ],
)
def test_a_missing_unknown_or_wrong_field_is_an_encoding_error(change, says):
    assert Box.from_bytes(edited(lambda f: None)) == BOX
    with pytest.raises(EncodingError, match=rf"^This box is malformed {says}\.$"):
        Box.from_bytes(edited(change))


def test_a_record_that_is_malformed_all_over_is_told_how_often():
    with pytest.raises(EncodingError, match=r"^This box is malformed in 5,000 places\.$"):
        Box.from_bytes(edited(lambda f: f.update(names=[1] * 5000)))


class Ordered(Record):
    kind = "ordered"
    low: int
    high: int

    @model_validator(mode="after")
    def _in_order(self):
        if self.low > self.high:
            raise ValueError("low is not above high")
        return self


def test_fields_that_do_not_go_together_are_an_encoding_error():
    assert Ordered.from_bytes(by_hand(["ordered", {"high": 2, "low": 1}])) == Ordered(low=1, high=2)
    with pytest.raises(EncodingError, match=r"^This ordered is malformed as a whole\.$"):
        Ordered.from_bytes(by_hand(["ordered", {"high": 1, "low": 2}]))


def test_a_strangers_text_stays_out_of_the_message():
    with pytest.raises(EncodingError) as error:
        Box.from_bytes(edited(lambda f: f.update({"x\nforged log line": 1})))
    assert "forged" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [["twin", BOX.body()], ["box"], ["box", BOX.body(), 1], ["box", []], [1, {}], {}, 1, "box", None],
    ids=repr,
)
def test_another_kind_or_shape_is_an_encoding_error(value):
    with pytest.raises(EncodingError, match=r"^These bytes are not a box"):
        Box.from_bytes(by_hand(value))


DEEP = {
    "arrays": lambda depth: b"\x81" * depth + b"\x00",
    "maps": lambda depth: b"\xa1\x61a" * depth + b"\x00",
    "tags": lambda depth: b"\xd8\x1c" * depth + b"\x00",
}


@pytest.mark.parametrize("depth", [10, 390, 1000, 100_000])
@pytest.mark.parametrize("shape", DEEP)
def test_deep_nesting_in_a_field_is_an_encoding_error(shape, depth):
    plain = edited(lambda f: None)
    assert plain.count(b"\x65names\x81\x61x") == 1
    with pytest.raises(EncodingError):
        Box.from_bytes(plain.replace(b"\x65names\x81\x61x", b"\x65names" + DEEP[shape](depth)))


@settings(deadline=None, max_examples=250)
@given(boxes, st.data())
def test_a_mutated_message_is_another_message_or_an_encoding_error(box, data):
    message = bytearray(box.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(0, len(message)))
        end = data.draw(st.integers(where, min(where + 4, len(message))))
        message[where:end] = data.draw(st.binary(max_size=9))
    try:
        read = Box.from_bytes(bytes(message))
    except EncodingError:
        return
    assert read.to_bytes() == message


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_record_or_an_encoding_error(data):
    for candidate in (data, Box.prefix() + data):
        with pytest.raises(EncodingError):
            Box.from_bytes(candidate)


def test_a_record_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        BOX.n = 3


# -- digests ---------------------------------------------------------------------------------------------------------


def test_digests_are_separated_by_kind():
    twin = Twin(**dict(BOX))
    assert twin.body() == BOX.body()
    assert len({BOX.digest(), twin.digest(), digest("box ", BOX.body())}) == 3
    assert BOX.digest() == digest("box", BOX.body())
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", ["b"]) != digest("a", "b")
    assert len(BOX.digest()) == DIGEST_BYTES


def test_every_field_counts_in_the_digest():
    other = {"name": "b", "data": b"", "n": 2, "flag": False, "names": [], "table": {}, "inner": None}
    changed = [BOX.model_copy(update={field: value}).digest() for field, value in other.items()]
    assert len({BOX.digest(), *changed}) == 1 + len(Box.model_fields)


def test_the_protocols_records_have_kinds_of_their_own_and_no_optional_fields():
    modules = (protocols.chain, protocols.contribution, protocols.envelope)
    records = {
        entry
        for module in modules
        for entry in vars(module).values()
        if isinstance(entry, type) and issubclass(entry, Record) and entry is not Record
    }
    assert len(records) >= 9
    assert len({record.kind for record in records} - {""}) == len(records)
    # A default would give one record two encodings: with the field and without.
    assert all(field.is_required() for record in records for field in record.model_fields.values())
