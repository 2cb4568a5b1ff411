"""A second encoder, from the text of RFC 8949, section 4.2.1."""

import math
import struct


def head(major, argument):
    """An item's first bytes: its major type, and its argument as short as it can be."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size, "big")
    raise AssertionError(argument)


def shortest_float(value):
    """A float in the shortest form that keeps it."""
    if math.isnan(value):
        return bytes.fromhex("f97e00")
    for code, form in ((0xF9, ">e"), (0xFA, ">f")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return bytes([code]) + packed
    return b"\xfb" + struct.pack(">d", value)


def by_hand(value):
    """The one encoding of a plain value."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return shortest_float(value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(by_hand, value))
    pairs = sorted((by_hand(key), by_hand(entry)) for key, entry in value.items())
    return head(5, len(pairs)) + b"".join(key + entry for key, entry in pairs)
