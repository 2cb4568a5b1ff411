"""The code against the known answers, and the known answers against a second computation.

What is expected is computed here a second time, with none of the code under test: CBOR by hand, HKDF from HMAC,
counter mode from single AES blocks, rounding in Python's rationals, HPKE's key schedule from the text of the RFC.
"""

import hashlib
import hmac
import json
import struct
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocols.envelope import Binding, SealingKey
from protocols.errors import EncodingError, SealError
from protocols.prg import Stream, ring_dtype
from protocols.ring import Encoding, from_bytes, signed
from protocols.sharing import Shape, add_share, check_share, zeros


def cases(file):
    vectors = json.loads((files("protocols") / "vectors" / f"{file}.json").read_text())
    assert len({case["name"] for case in vectors}) == len(vectors)
    return [pytest.param(case, id=case["name"]) for case in vectors]


def good(file):
    return [case for case in cases(file) if not case.id.startswith("bad_")]


def bad(file):
    return [case for case in cases(file) if case.id.startswith("bad_")]


def unhex(text):
    return bytes.fromhex(text)


# -- the second computation ------------------------------------------------------------------------------------------


def cbor_head(major, argument):
    for limit, code, size in ((24, None, 0), (1 << 8, 24, 1), (1 << 16, 25, 2), (1 << 32, 26, 4)):
        if argument < limit:
            first = argument if code is None else code
            return bytes([major << 5 | first]) + (argument.to_bytes(size, "big") if size else b"")
    return bytes([major << 5 | 27]) + argument.to_bytes(8, "big")


def cbor_text(text):
    return cbor_head(3, len(text.encode())) + text.encode()


def cbor_bytes(data):
    return cbor_head(2, len(data)) + data


def hkdf(seed, info):
    """HKDF with SHA-256, no salt, 32 bytes: one step of each kind."""
    key = hmac.digest(bytes(32), seed, "sha256")
    return hmac.digest(key, info + b"\x01", "sha256")


def aes_ctr(key, size):
    """Counter mode from zero: each block is the counter, encrypted alone."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return b"".join(block.update(i.to_bytes(16, "big")) for i in range(-(-size // 16)))[:size]


def expansion(seed, label, context, size):
    info = b"\x83" + cbor_text("securefl-prg-1") + cbor_text(label) + cbor_bytes(context)
    return aes_ctr(hkdf(seed, info), size)


def elements(data, width):
    step = width // 8
    return [int.from_bytes(data[i : i + step], "little") for i in range(0, len(data), step)]


def bound_bytes(fields):
    """A binding in CBOR: its fields by length of name, then by name."""
    order = ("size", "round", "study", "width", "sender", "attempt", "content", "previous", "recipient")
    assert sorted(order) == sorted(fields)
    out = b"\x82" + cbor_text("envelope") + cbor_head(5, len(order))
    for name in order:
        value = fields[name]
        out += cbor_text(name)
        if isinstance(value, int):
            out += cbor_head(0, value)
        else:
            out += cbor_text(value) if isinstance(value, str) else cbor_bytes(value)
    return out


def hpke_open(private, envelope, info):
    """RFC 9180, base mode, with MLKEM768-X25519 (X-Wing), HKDF-SHA256 and AES-256-GCM."""
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0x0002)

    def extract(salt, label, key_material):
        return hmac.digest(salt, b"HPKE-v1" + suite + label + key_material, "sha256")

    def expand(key, label, context, size):
        labeled = struct.pack(">H", size) + b"HPKE-v1" + suite + label + context
        return hmac.digest(key, labeled + b"\x01", "sha256")[:size]

    lattice, curve = MLKEM768PrivateKey.from_seed_bytes(private[:64]), private[64:]
    point, public = envelope[1088:1120], X25519PrivateKey.from_private_bytes(curve).public_key()
    first = lattice.decapsulate(envelope[:1088])
    second = X25519PrivateKey.from_private_bytes(curve).exchange(X25519PublicKey.from_public_bytes(point))
    shared = hashlib.sha3_256(first + second + point + public.public_bytes_raw() + rb"\.//^" + b"\\").digest()
    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, envelope[1120:], b"")


def test_the_second_computation_is_right():
    # RFC 5869, test case 3 (no salt, no info), of which 32 bytes are taken.
    assert hkdf(b"\x0b" * 22, b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    # FIPS 197, C.3: counter mode's block is this cipher's.
    block = Cipher(algorithms.AES(bytes(range(32))), modes.ECB()).encryptor()
    assert block.update(unhex("00112233445566778899aabbccddeeff")).hex() == "8ea2b7ca516745bfeafc49904b496089"
    # The first counters of an all-zero key: the blocks 0 and 1, encrypted alone.
    zero_key = Cipher(algorithms.AES(bytes(32)), modes.ECB()).encryptor()
    assert aes_ctr(bytes(32), 20) == (zero_key.update(bytes(16)) + zero_key.update(bytes(15) + b"\x01"))[:20]


# -- encoding --------------------------------------------------------------------------------------------------------


def encoding_of(case):
    return Encoding(case["width"], case["fraction_bits"], case["summands"])


@pytest.mark.parametrize("case", good("encoding"))
def test_encoding(case):
    x = np.frombuffer(unhex(case["x"]), dtype="<f8")
    encoded = unhex(case["encoded"])
    integers = [round(Fraction(float(v)) * Fraction(2) ** case["fraction_bits"]) for v in x]
    assert elements(encoded, case["width"]) == [v % 2 ** case["width"] for v in integers]
    encoding = encoding_of(case)
    assert encoding.encode(x).tobytes() == encoded
    back = signed(from_bytes(encoded, case["width"], x.size))
    assert back.tolist() == integers
    assert encoding.decode_sum(back).astype("<f8").tobytes() == unhex(case["decoded"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", bad("encoding"))
def test_encoding_is_refused(case):
    with pytest.raises(EncodingError):
        encoding_of(case).encode(np.frombuffer(unhex(case["x"]), dtype="<f8"))


# -- expansion -------------------------------------------------------------------------------------------------------


def stream_of(case):
    return Stream(unhex(case["seed"]), case["label"], unhex(case["context"]))


@pytest.mark.parametrize("case", good("expansion"))
def test_expansion(case):
    size = case["size"] * case["width"] // 8
    second = expansion(unhex(case["seed"]), case["label"], unhex(case["context"]), size)
    vector = stream_of(case).ring_vector(case["size"], case["width"])
    assert vector.dtype == ring_dtype(case["width"])
    assert vector.tolist() == elements(second, case["width"])
    assert (
        hashlib.sha256(vector.tobytes()).hexdigest() == hashlib.sha256(second).hexdigest() == case["sha256"]
    )
    assert vector.tobytes().startswith(unhex(case["first"]))


@pytest.mark.parametrize("case", bad("expansion"))
def test_expansion_is_another_or_refused(case):
    if len(unhex(case["seed"])) != 32:
        with pytest.raises(EncodingError):
            stream_of(case)
        return
    vector = stream_of(case).ring_vector(case["size"], case["width"])
    assert not vector.tobytes().startswith(unhex(case["first"]))


def test_an_expansion_with_its_input_written_by_hand():
    info = b"\x83\x6esecurefl-prg-1\x65share\x43\x00\x02x"
    key = hkdf(bytes(range(32)), info)
    expected = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))
    assert Stream(bytes(range(32)), "share", b"\x00\x02x").ring_vector(4, 32).tobytes() == expected


# -- sharing ---------------------------------------------------------------------------------------------------------


def opened(case):
    total = zeros(Shape(case["size"], case["width"]))
    for party, plaintext in enumerate(case["plaintexts"]):
        add_share(total, unhex(plaintext), party, unhex(case["context"]))
    return total


@pytest.mark.parametrize("case", good("sharing"))
def test_sharing(case):
    width, context = case["width"], unhex(case["context"])
    sums = [0] * case["size"]
    for party, plaintext in enumerate(map(unhex, case["plaintexts"])):
        content, kind = plaintext[:-1], plaintext[-1]
        assert kind == (1 if party == case["vector_holder"] else 0)
        if kind == 0:
            mask_context = party.to_bytes(2, "big") + context
            content = expansion(content, "share", mask_context, case["size"] * width // 8)
        sums = [(a + b) % 2**width for a, b in zip(sums, elements(content, width), strict=True)]
    assert sums == elements(unhex(case["x"]), width)
    assert opened(case).tobytes() == unhex(case["x"])


@pytest.mark.parametrize("case", bad("sharing"))
def test_sharing_is_another_or_refused(case):
    shape = Shape(case["size"], case["width"])
    try:
        total = opened(case)
    except EncodingError:
        refused = [p for p in map(unhex, case["plaintexts"]) if not well_formed(p, shape)]
        assert len(refused) == 1
    else:
        assert case["name"] in ("bad_context", "bad_order_of_parties")
        assert total.tobytes() != unhex(case["x"])


def well_formed(plaintext, shape):
    try:
        check_share(plaintext, shape)
    except EncodingError:
        return False
    return True


# -- envelopes -------------------------------------------------------------------------------------------------------


def fields_of(case):
    hexed = ("study", "previous")
    return {name: unhex(value) if name in hexed else value for name, value in case["binding"].items()}


@pytest.mark.parametrize("case", good("envelope"))
def test_envelope(case):
    private, envelope, fields = unhex(case["private"]), unhex(case["envelope"]), fields_of(case)
    binding = Binding(**fields)
    assert binding.to_bytes() == bound_bytes(fields)
    assert hpke_open(private, envelope, bound_bytes(fields)) == unhex(case["content"])
    key = SealingKey(private)
    assert key.open(envelope, binding) == unhex(case["content"])
    assert hashlib.sha256(key.public).hexdigest() == case["public_sha256"]


@pytest.mark.parametrize("case", bad("envelope"))
def test_envelope_does_not_open(case):
    with pytest.raises(SealError):
        SealingKey(unhex(case["private"])).open(unhex(case["envelope"]), Binding(**fields_of(case)))


def test_every_field_of_a_binding_has_a_bad_case():
    names = {case.id for case in bad("envelope")}
    assert {f"bad_wrong_{field}" for field in Binding.model_fields} <= names
