"""Known answers of the canonical encoding, and of how finely numbers stand in the ring."""

from __future__ import annotations

from protocols.canonical import digest, encode
from securefl.roles.terms import _update_encoding
from securefl.study.training_settings import AggregationSettings


def encoding_of(width, bound, hospitals, norm):
    """The toolkit's encoding of a study's updates."""
    settings = AggregationSettings.model_construct(width=width, bound=bound, norm_bound=norm)
    return _update_encoding(settings, hospitals)


def fineness_cases():
    """How many bits stand after the point."""
    given = {
        "statistics_of_three": (64, 2.0**40, 3, None),
        "statistics_of_a_thousand": (64, 2.0**40, 1000, None),
        "updates_16": (16, 4.0, 5, None),
        "updates_32": (32, 4.0, 5, None),
        "updates_64": (64, 4.0, 5, None),
        "bound_no_power_of_two": (32, 0.3, 7, None),
        "a_limit_that_is_met_exactly": (16, 1.0, 32767, None),
        "bound_above_the_limit": (16, 2.0**20, 1000, None),
        "most_bits": (64, 2.0**-20, 2, None),
        "norm_lowers_the_bits_16": (16, 4.0, 5, 1.0),
        "norm_lowers_the_bits_32": (32, 4.0, 5, 8.0),
        "norm_below_the_bound": (64, 4.0, 5, 0.7),
        "norm_above_the_bound": (32, 0.001, 2, 1.0),
        "bad_does_not_fit": (16, 2.0**40, 1000, None),
        "bad_more_summands_than_elements": (16, 1.0, 40000, None),
    }
    cases = []
    for name, (width, bound, hospitals, norm) in given.items():
        case = {"name": name, "width": width, "bound": bound, "hospitals": hospitals, "norm_bound": norm}
        if not name.startswith("bad_"):
            made = encoding_of(width, bound, hospitals, norm)
            case |= {"bits": made.fraction_bits, "limit": str(made.limit)}
        cases.append(case)
    return cases


def canonical_cases():
    """Values, each in its one encoding; and bytes that are none."""
    values = {
        "null": None, "true": True, "integers": [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1],
        "negative_integers": [-1, -24, -25, -256, -257, -(2**64)], "floats_16": [0.0, -0.0, 1.5, 65504.0, 2.0**-24],
        "floats_32": [100000.0, 3.4028234663852886e38, 2.0**-149], "floats_64": [1.1, 1e300, 2.0**-1074],
        "infinities": [float("inf"), float("-inf")], "text": ["", "a", "Charité", "\U0001f3e5", "x" * 24, "x" * 256],
        "bytes": [b"", b"\x00", bytes(24), bytes(256)], "empty": [[], {}],
        "keys_by_length_then_bytes": {"b": 1, "aa": 2, "a": 3, "ba": 4, "x" * 24: 5, "y" * 23: 6, "é": 7},
    }  # fmt: skip
    cases = [
        {"name": name, "bytes": encode(value).hex(), "digest": digest("vector", value).hex()}
        for name, value in values.items()
    ]
    bad = {
        "long_integer": "1801", "longer_integer": "190001", "long_text_length": "780161", "long_array_length": "980101",
        "float_64_for_16": "fb3ff8000000000000", "float_32_for_16": "fa3fc00000", "nan_with_payload": "f97e01",
        "keys_out_of_order": "a2616201616101", "longer_key_first": "a262616101616201", "doubled_key": "a2616101616102",
        "indefinite_array": "9f01ff", "indefinite_text": "7f6161ff", "indefinite_map": "bf616101ff",
        "trailing_byte": "0100", "two_values": "0101", "truncated": "6261", "empty": "", "integer_key": "a10101",
        "bytes_key": "a1416101", "tagged": "c101", "big_integer": "c249010000000000000000",
        "date": "c06a323032362d30312d3031",
        "undefined": "f7", "simple_value": "e0", "break": "ff", "not_utf_8": "61ff", "reserved_length": "1c",
        "float_key": "a1f93e0001",
    }  # fmt: skip
    return cases + [{"name": f"bad_{name}", "bytes": data} for name, data in bad.items()]
