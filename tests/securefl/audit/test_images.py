"""An update is found as numbers of any type and order, written by the standard library, NumPy and safetensors."""

from __future__ import annotations

import array
import base64
import io
import json
import lzma
import struct

import numpy as np
import pytest
import safetensors.numpy

from protocols.ring import Encoding, signed
from securefl.audit.canaries import search
from securefl.audit.images import images

ENCODING = Encoding.for_bound(32, 4.0, 5)
UPDATE, OTHER = np.random.default_rng(1).normal(0.0, 0.01, (2, 50))


def saved(save, vector):
    file = io.BytesIO()
    save(file, vector)
    return file.getvalue()


NUMBERS = {
    "doubles": lambda v: array.array("d", v).tobytes(),
    "doubles, big-endian": lambda v: struct.pack(f">{len(v)}d", *v),
    "floats": lambda v: v.astype(np.float32).tobytes(),
    "floats, big-endian": lambda v: struct.pack(f">{len(v)}f", *v),
    "a tensor": lambda v: safetensors.numpy.save({"update": v.astype(np.float32)}),
    "NumPy's file": lambda v: saved(np.save, v),
    "NumPy's compressed file": lambda v: saved(lambda file, x: np.savez_compressed(file, update=x), v),
    "NumPy's text": lambda v: saved(np.savetxt, v),
    "JSON": lambda v: json.dumps({"update": v.tolist()}).encode(),
    "JSON in lines": lambda v: json.dumps({"update": v.tolist()}, indent=2).encode(),
    "JSON of floats": lambda v: json.dumps([float(x) for x in v.astype(np.float32)]).encode(),
    "a list": lambda v: repr(list(map(float, v))).encode(),
    "a list of NumPy's numbers": lambda v: repr(list(v)).encode(),
    "lines": lambda v: "".join(f"{x}\n" for x in v).encode(),
    "doubles in base64": lambda v: base64.encodebytes(v.tobytes()),
}
WHOLE = {
    "longs": lambda v: array.array("q", v.tolist()).tobytes(),
    "longs, big-endian": lambda v: struct.pack(f">{len(v)}q", *v.tolist()),
    "integers, big-endian": lambda v: struct.pack(f">{len(v)}i", *v.tolist()),
    "doubles": lambda v: array.array("d", v.tolist()).tobytes(),
    "JSON": lambda v: json.dumps({"update": v.tolist()}).encode(),
    "a list without spaces": lambda v: json.dumps(v.tolist(), separators=(",", ":")).encode(),
    "lines": lambda v: "".join(f"{x}\n" for x in v).encode(),
}
"""How a program may write an update, and one in units of the ring."""


@pytest.fixture
def found(tmp_path):
    """Whether a vector is found in a file with this content."""

    def found(content, vector):
        (tmp_path / "file").write_bytes(content)
        return bool(search(tmp_path, images("update", vector)).found)

    return found


@pytest.mark.parametrize("way", NUMBERS)
def test_an_update_is_found_however_its_numbers_are_written(found, way):
    assert found(NUMBERS[way](UPDATE), UPDATE)
    assert not found(NUMBERS[way](UPDATE), OTHER)


@pytest.mark.parametrize("way", WHOLE)
def test_an_update_in_units_of_the_ring_is_found_however_it_is_written(found, way):
    assert found(WHOLE[way](signed(ENCODING.encode(UPDATE))), signed(ENCODING.encode(UPDATE)))
    assert not found(WHOLE[way](signed(ENCODING.encode(UPDATE))), signed(ENCODING.encode(OTHER)))


def test_a_part_of_it_and_one_with_zeros_are_found(found):
    zeros = np.concatenate([np.zeros(20), UPDATE[:5], np.zeros(3), UPDATE[5:]])
    assert found(zeros.tobytes(), zeros)
    assert found(zeros[28:].tobytes(), zeros)
    assert found(UPDATE[:8].tobytes(), UPDATE)
    assert not found(bytes(8 * 100), zeros)


def test_what_is_nearly_all_zeros_has_no_images():
    with pytest.raises(ValueError, match="No 8 numbers"):
        images("update", np.array([1.0, 2.0, 0.0] * 9))


def test_numbers_that_do_not_fit_are_no_image():
    assert not [name for name in images("update", np.arange(1, 9) << 20) if "int16" in name]
    assert [name for name in images("update", np.arange(1, 9)) if "int16" in name]


NOT_FOUND = {
    "rounded": lambda v: np.array2string(v).encode(),
    "scaled": lambda v: (v * 1.5).tobytes(),
    "halves": lambda v: v.astype(np.float16).tobytes(),
    "another order": lambda v: v[::-1].tobytes(),
    "another compression": lambda v: lzma.compress(json.dumps(v.tolist()).encode()),
}
"""What the claim says is not found."""


@pytest.mark.parametrize("way", NOT_FOUND)
def test_what_is_not_found_is_what_the_claim_leaves_out(found, way):
    assert not found(NOT_FOUND[way](UPDATE), UPDATE)
