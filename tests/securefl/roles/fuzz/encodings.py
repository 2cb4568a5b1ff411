"""A message's bytes damaged, or its values written in CBOR other than the canonical one, by a writer of its own."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from protocols.canonical import encode

from .tree import Pick, Place, places

# fmt: off
TAGS = (
    0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799, 2**64 - 1,
)
# fmt: on
DEPTHS = (10, 900, 1100, 20_000)


def damaged(pick: Pick, data: bytes, other: bytes) -> bytes:
    """The bytes with a few flipped, inserted, taken out, or from another message."""
    cut, end = sorted((pick(range(len(data) + 1)), pick(range(len(data) + 1))))
    start = pick(range(len(other) + 1))
    byte = bytes([pick(range(256))])
    bit = bytes([data[cut] ^ (1 << pick(range(8)))]) if cut < len(data) else byte
    return bytes(
        pick((
            data[:cut] + bit + data[cut + 1 :],
            data[:cut] + bit + data[cut + 1 :],
            data[:cut] + byte + data[cut + 1 :],
            data[:cut] + byte + data[cut:],
            data[:cut] + data[cut + 1 :],
            data[:cut] + data[end:],
            data[:end] + data[cut:],
            data[:cut],
            data + byte,
            data + data,
            data[:cut] + other[start:],
            data[:cut] + other[cut:],
            byte + data,
        ))
    )  # fmt: skip


def head(major: int, argument: int, size: int | None = None) -> bytes:
    """A data item's first bytes; ``size`` is the argument's, in bytes, where it is not the shortest."""
    if size is None:
        size = next(s for s in (0, 1, 2, 4, 8) if s or argument < 24 if argument < max(24, 256**s))
    if size == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + argument.to_bytes(size, "big")


def written(value: Any, irregular: Callable[[Place, Any, bytes], bytes], place: Place = ()) -> bytes:
    """Canonical CBOR, in which ``irregular`` may write each value otherwise: it gets place, value and its bytes."""
    match value:
        case None:
            regular = b"\xf6"
        case bool():
            regular = b"\xf5" if value else b"\xf4"
        case int():
            regular = head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            regular = head(2, len(value)) + value
        case str():
            regular = head(3, len(value.encode())) + value.encode()
        case list():
            regular = head(4, len(value)) + b"".join(_entries(value, irregular, place))
        case dict():
            regular = head(5, len(value)) + b"".join(_entries(value, irregular, place))
        case _:
            raise TypeError(type(value).__name__)
    return irregular(place, value, regular)


def _entries(value: Any, irregular: Callable[[Place, Any, bytes], bytes], place: Place = ()) -> list[bytes]:
    if isinstance(value, list):
        return [written(entry, irregular, (*place, index)) for index, entry in enumerate(value)]
    keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
    return [encode(key) + written(value[key], irregular, (*place, key)) for key in keys]


def irregular(pick: Pick, tree: Any) -> bytes:
    """The same message, or nearly, written down in a way that is not the canonical one."""
    chosen = pick(places(tree))

    def otherwise(place: Place, value: Any, regular: bytes) -> bytes:
        return bytes(pick(_FORMS)(pick, value, regular)) if place == chosen else regular

    return written(tree, otherwise)


def _as_is(place: Place, value: Any, regular: bytes) -> bytes:
    return regular


def _longer(pick: Pick, value: Any, regular: bytes) -> bytes:
    """An argument in more bytes than it needs."""
    major, low = regular[0] >> 5, regular[0] & 31
    if major == 7:
        return bytes([0xF8, low])
    short = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
    argument = int.from_bytes(regular[1 : 1 + short], "big") if short else low
    sizes = [size for size in (1, 2, 4, 8) if size > short]
    return head(major, argument, pick(sizes)) + regular[1 + short :] if sizes else regular + b"\x00"


def _indefinite(pick: Pick, value: Any, regular: bytes) -> bytes:
    """Strings in pieces, lists and maps with an end mark."""
    if isinstance(value, (bytes, str)):
        data = value if isinstance(value, bytes) else value.encode()
        major, cut = (2 if isinstance(value, bytes) else 3), pick((0, len(data) // 2, len(data)))
        pieces = [data[:cut], data[cut:]] if cut else [data]
        return (
            bytes([major << 5 | 31])
            + b"".join(head(major, len(p)) + p for p in pieces)
            + pick((b"\xff", b""))
        )
    if isinstance(value, (list, dict)):
        return (
            bytes([(4 if isinstance(value, list) else 5) << 5 | 31])
            + b"".join(_entries(value, _as_is))
            + b"\xff"
        )
    return bytes([regular[0] | 31]) + regular[1:]


def _disordered(pick: Pick, value: Any, regular: bytes) -> bytes:
    """A map's keys in another order, twice, or no strings."""
    if not isinstance(value, dict) or not value:
        return regular[:1] + regular
    entries, name = _entries(value, _as_is), encode(pick(list(value)))
    again = [*entries, name + written(pick(list(value.values())), _as_is)]
    numbered = [*entries[:-1], head(0, 7) + b"\xf6"]
    nulled = [*entries, b"\xf6\xf6"]
    chosen = pick((entries[::-1], entries[1:] + entries[:1], again, sorted(again), numbered, nulled))
    return head(5, len(chosen)) + b"".join(chosen)


def _tagged(pick: Pick, value: Any, regular: bytes) -> bytes:
    """Under a tag; an integer also as a big one."""
    if type(value) is int and pick((True, False)):
        magnitude = value if value >= 0 else -1 - value
        data = magnitude.to_bytes((magnitude.bit_length() + 7) // 8 or 1, "big")
        return head(6, 2 if value >= 0 else 3) + head(2, len(data)) + data
    return head(6, pick(TAGS)) + regular


def _floating(pick: Pick, value: Any, regular: bytes) -> bytes:
    """A number with a point."""
    number = float(value) if type(value) is int else pick((0.0, -0.0, float("nan"), float("inf"), 1.5))
    return bytes(
        pick((b"\xfb" + struct.pack(">d", number), b"\xf9\x7e\x00", b"\xf9\x00\x00", b"\xfa\x3f\x80\x00\x00"))
    )


def _simple(pick: Pick, value: Any, regular: bytes) -> bytes:
    """Simple values without a meaning, reserved heads, an end mark where nothing ends."""
    return bytes(
        pick(
            (
                b"\xf7",
                b"\xe0",
                b"\xf0",
                b"\xf8\x20",
                b"\xf8\xff",
                b"\xf8\x14",
                b"\xff",
                b"\xfc",
                b"\x1c",
                b"\x5e",
                b"\x9d",
            )
        )
    )


def _deep(pick: Pick, value: Any, regular: bytes) -> bytes:
    """At the bottom of many lists, maps or tags."""
    return bytes(pick((b"\x81", b"\xa1\x61a", b"\xc6", b"\x9f"))) * pick(DEPTHS) + regular


def _huge(pick: Pick, value: Any, regular: bytes) -> bytes:
    """A length that is not there."""
    major, power = pick((2, 3, 4, 5)), pick((7, 15, 16, 31, 32, 40, 62, 63, 64))
    return head(major, 2**power - 1, pick((8, None))) + pick((b"", regular))


def _mistyped(pick: Pick, value: Any, regular: bytes) -> bytes:
    """Text that is no UTF-8, or a lone surrogate."""
    return bytes(pick((b"\x61\xff", b"\x63\xed\xa0\x80", b"\x62\xc0\x80", b"\x41\xff")))


_FORMS = (
    _longer, _longer, _indefinite, _indefinite, _disordered, _disordered, _tagged, _tagged, _floating, _simple, _deep,
    _huge, _mistyped,
)  # fmt: skip
