"""One encoding for everything that is signed, digested or sent.

Adversary: whoever writes the bytes, and would like two readers to understand them differently.
Promise: a value has exactly one encoding, and only that one is accepted; whatever the bytes, reading them ends in a
    value or an EncodingError; a digest names the kind of thing it is of, so that a digest of one kind never stands
    for another.
Source: CBOR, RFC 8949, section 4.2 (core deterministic encoding); SHA-256, FIPS 180-4.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, NoReturn, Self

import cbor2
from pydantic import BaseModel, ConfigDict, ValidationError

from protocols.errors import EncodingError

DIGEST_BYTES = 32


class _NoTags(dict[int, Any]):
    """CBOR's tags (dates, big integers, shared references ...) have no place in a message: none is interpreted."""

    def __missing__(self, tag: int) -> NoReturn:
        raise ValueError(f"tag {tag}")


_NO_TAGS = _NoTags()


_LEAVES = (str, bytes, float, bool, type(None))


def _check_plain(value: Any) -> None:
    kind = type(value)
    if kind in _LEAVES:
        return
    if kind is int:
        if not -(2**64) <= value < 2**64:
            raise ValueError("an integer has at most 64 bits and a sign")
    elif kind is dict:
        for key, entry in value.items():
            if type(key) is not str:
                raise TypeError("a map's keys are strings")
            _check_plain(entry)
    elif kind is list or kind is tuple:
        for entry in value:
            _check_plain(entry)
    else:
        raise TypeError("not a plain value")


def encode(value: Any) -> bytes:
    """The one encoding of ``value``: None, bool, int (-2^64 to 2^64 - 1), float, str, bytes, lists, maps by string.

    Raises:
        EncodingError: the value, or something in it, is nothing of these.
    """
    try:
        _check_plain(value)
        return bytes(cbor2.dumps(value, canonical=True))
    except (cbor2.CBORError, TypeError, ValueError, RecursionError) as error:
        raise EncodingError(f"This value has no canonical encoding: {type(value).__name__}.") from error


def decode(data: bytes) -> Any:
    """The value whose one encoding is ``data``.

    Raises:
        EncodingError: ``data`` is not CBOR, is followed by further bytes, or is not the canonical encoding.
    """
    try:
        value = cbor2.loads(
            data, semantic_decoders=_NO_TAGS, allow_indefinite=False, allow_duplicate_keys=False
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
            # Only names of ours go into the message: an unknown field's name is the sender's text.
            at = error.errors()[0]["loc"]  # empty where the fields do not go together
            where = f"at {at[0]}" if at and at[0] in cls.model_fields else "by an unknown field"
            raise EncodingError(f"This {cls.kind} is malformed {where if at else 'as a whole'}.") from error
