"""One encoding for everything that is signed, digested or sent.

Adversary: whoever writes the bytes, and would like two readers to understand them differently, or one to be long about
    it: a byte of CBOR can be an empty list, which takes Python a microsecond and 72 bytes.
Promise: a value has exactly one encoding, and only that one is accepted; whatever the bytes, reading them ends in a
    value or an EncodingError, after work that is bounded but for the copying of long texts and byte strings; a digest
    names the kind of thing it is of, so that a digest of one kind never stands for another.
Source: CBOR, RFC 8949, section 4.2 (core deterministic encoding); SHA-256, FIPS 180-4.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, NoReturn, Self

import cbor2
from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.errors import EncodingError

DIGEST_BYTES = 32
MAX_ITEMS = 2**19
"""Of a value: lists, maps, their keys, and what stands in them. The check of ten thousand hospitals' sum has fewer."""
MAX_DEPTH = 32
"""Of lists and maps in one another."""
MANY_ERRORS = 100
"""Of a record, beyond which they are counted and not named, which takes longer than all else."""


class _NoTags(dict[int, Any]):
    """CBOR's tags (dates, big integers, shared references ...) have no place in a message: none is interpreted."""

    def __missing__(self, tag: int) -> NoReturn:
        raise ValueError(f"tag {tag}")


_NO_TAGS = _NoTags()


_LEAVES = (str, bytes, float, bool, type(None))


def _check_plain(value: Any, depth: int = MAX_DEPTH) -> int:
    """How many items a value has; raises TypeError or ValueError if it has no encoding."""
    kind = type(value)
    if kind in _LEAVES:
        return 1
    if kind is int:
        if not -(2**64) <= value < 2**64:
            raise ValueError("an integer has at most 64 bits and a sign")
        return 1
    if kind not in (dict, list, tuple):
        raise TypeError("not a plain value")
    if depth == 0:
        raise ValueError("lists and maps are too deep in one another")
    items = 1
    if kind is dict:
        items += len(value)
        for key, entry in value.items():
            if type(key) is not str:
                raise TypeError("a map's keys are strings")
            items += _check_plain(entry, depth - 1)
    else:
        for entry in value:
            items += _check_plain(entry, depth - 1)
    return items


_STRINGS = (2, 3)
"""CBOR's major types of byte strings and texts. All else is a head alone; what stands in a list or map follows it."""
_SHORT_STRINGS = (0x58, 0x78)
"""How a byte string and a text begin whose length is in the next byte."""


def _step(first: int) -> int:
    """Bytes from an item's head to the next head, if the first byte says it; else 0."""
    argument = first & 31
    if argument > 23:
        return 0
    return 1 + argument if first >> 5 in _STRINGS else 1


_STEPS = [_step(first) for first in range(256)]


def _check_count(data: bytes, most: int) -> None:
    """Go from head to head, at most ``most`` of them. Raises EncodingError if there are more."""
    at, end = 0, len(data)
    if end <= most:
        return  # an item has a byte at least
    for _ in range(most):
        if at >= end:
            return
        first = data[at]
        step = _STEPS[first]
        if step:
            at += step
        elif first in _SHORT_STRINGS:
            at += 2 + (data[at + 1] if at + 1 < end else 0)
        else:
            size = 2 ** ((first & 31) - 24)
            if size > 8:
                raise ValueError("a head of no length")
            argument = int.from_bytes(data[at + 1 : at + 1 + size], "big")
            at += 1 + size + (argument if first >> 5 in _STRINGS else 0)
    if at < end:
        raise EncodingError(f"These bytes are not a message: they hold more than {most:,} items.")


def encode(value: Any) -> bytes:
    """The one encoding of ``value``: None, bool, int (-2^64 to 2^64 - 1), float, str, bytes, lists, maps by string.

    Raises:
        EncodingError: the value, or something in it, is nothing of these; or it is too large to be read again.
    """
    try:
        items = _check_plain(value)
        data = bytes(cbor2.dumps(value, canonical=True))
    except (cbor2.CBORError, TypeError, ValueError, RecursionError) as error:
        raise EncodingError(f"This value has no canonical encoding: {type(value).__name__}.") from error
    if items > MAX_ITEMS:
        raise EncodingError(f"This value has {items:,} items: more than {MAX_ITEMS:,} are not read again.")
    return data


def decode(data: bytes, most: int = MAX_ITEMS) -> Any:
    """The value whose one encoding is ``data``, of at most ``most`` items.

    Raises:
        EncodingError: ``data`` is not CBOR, goes on after it, is not the canonical encoding, or has more items.
    """
    try:
        _check_count(data, most)
        value = cbor2.loads(
            data,
            semantic_decoders=_NO_TAGS,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
        _check_plain(value)
        again = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise EncodingError("These bytes are not a message: they do not decode.") from error
    if again != data:
        raise EncodingError("These bytes are not a message: their encoding is not the canonical one.")
    return value


def digest(kind: str, value: Any) -> bytes:
    """SHA-256 (32 bytes) of the kind and the value, encoded together."""
    return hashlib.sha256(encode(["securefl", kind, value])).digest()


class Record(BaseModel):
    """A frozen typed value with one encoding. Its class's ``kind`` is part of its bytes and of its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_bytes="base64")
    kind: ClassVar[str] = ""

    def body(self) -> dict[str, Any]:
        """The fields as plain values, in the shape that is encoded."""
        return self.model_dump(mode="python")

    def to_bytes(self) -> bytes:
        """The one encoding of this record."""
        return encode([type(self).kind, self.body()])

    @classmethod
    def prefix(cls) -> bytes:
        """How the bytes of every record of this kind begin."""
        return encode([cls.kind, 0])[:-1]

    def digest(self) -> bytes:
        """The 32-byte name of this record."""
        return digest(type(self).kind, self.body())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a record of this kind.

        Raises:
            EncodingError: the bytes are not canonical, are of another kind, or a field is missing, unknown or wrong.
        """
        return cls.from_value(decode(data))

    @classmethod
    def from_value(cls, value: Any) -> Self:
        """Read a record of this kind from an already decoded ``[kind, fields]``."""
        if not (
            isinstance(value, list)
            and len(value) == 2
            and value[0] == cls.kind
            and isinstance(value[1], dict)
        ):
            raise EncodingError(f"These bytes are not a {cls.kind}.")
        try:
            return cls.model_validate(value[1])
        except ValidationError as error:
            if error.error_count() > MANY_ERRORS:
                raise EncodingError(
                    f"This {cls.kind} is malformed in {error.error_count():,} places."
                ) from error
            # Only names of ours go into the message: an unknown field's name is the sender's text.
            at = error.errors()[0]["loc"]  # empty where the fields do not go together
            where = f"at {at[0]}" if at and at[0] in cls.model_fields else "by an unknown field"
            raise EncodingError(f"This {cls.kind} is malformed {where if at else 'as a whole'}.") from error
