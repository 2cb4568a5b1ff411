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
from protocols.errors import ChainError, EncodingError, SealError
from protocols.integrity import (
    Answer,
    PairMasks,
    answer,
    challenge,
    check_answers,
    check_coins,
    commit_coin,
    inner_product,
)
from protocols.norm_bounds import NormCheck
from protocols.prg import Stream, ring_dtype
from protocols.projection import coin, commit, project
from protocols.ring import Encoding, from_bytes, signed
from protocols.sharing import Shape, ShareReader, add_share, check_share, zeros
from tests.protocols.rfc8949 import by_hand, head


def cases(file):
    written = json.loads((files("protocols") / "vectors" / "v1" / f"{file}.json").read_text())
    assert written["version"] == 1
    vectors = written["cases"]
    assert len({case["name"] for case in vectors}) == len(vectors)
    return [pytest.param(case, id=case["name"]) for case in vectors]


def good(file):
    return [case for case in cases(file) if not case.id.startswith("bad_")]


def bad(file):
    return [case for case in cases(file) if case.id.startswith("bad_")]


def unhex(text):
    return bytes.fromhex(text)


# -- the second computation ------------------------------------------------------------------------------------------


def hkdf(seed, info):
    """HKDF with SHA-256, no salt, 32 bytes: one step of each kind."""
    key = hmac.digest(bytes(32), seed, "sha256")
    return hmac.digest(key, info + b"\x01", "sha256")


def aes_ctr(key, size):
    """Counter mode from zero: each block is the counter, encrypted alone."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return b"".join(block.update(i.to_bytes(16, "big")) for i in range(-(-size // 16)))[:size]


def expansion(seed, label, context, size):
    info = b"\x83" + by_hand("securefl-prg-1") + by_hand(label) + by_hand(context)
    return aes_ctr(hkdf(seed, info), size)


def elements(data, width):
    step = width // 8
    return [int.from_bytes(data[i : i + step], "little") for i in range(0, len(data), step)]


def cbor_array(*encoded):
    return head(4, len(encoded)) + b"".join(encoded)


def digest_of(kind, *encoded):
    """SHA-256 of a kind and a list of values, in CBOR."""
    value = cbor_array(by_hand("securefl"), by_hand(kind), cbor_array(*encoded))
    return hashlib.sha256(value).digest()


def bound_bytes(fields):
    """A binding in CBOR: its fields by length of name, then by name."""
    order = ("size", "round", "study", "width", "sender", "attempt", "content", "previous", "recipient")
    assert sorted(order) == sorted(fields)
    out = b"\x82" + by_hand("envelope") + head(5, len(order))
    for name in order:
        out += by_hand(name) + by_hand(fields[name])
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


# -- the hospitals' check of the sum ---------------------------------------------------------------------------------


def values_of(text, width):
    return np.frombuffer(unhex(text), dtype=f"<i{width // 8}")


def product_of(chi, values):
    words = elements(expansion(chi, "integrity-challenge", b"", 8 * len(values)), 64)
    return sum(word % 2**61 * value for word, value in zip(words, values.tolist(), strict=True)) % (2**61 - 1)


@pytest.mark.parametrize("case", good("inner_product"))
def test_inner_product(case):
    chi, values = unhex(case["chi"]), np.tile(values_of(case["values"], case["width"]), case["repeat"])
    expected = int.from_bytes(unhex(case["product"]), "little")
    assert inner_product(chi, values) == product_of(chi, values) == expected


@pytest.mark.parametrize("case", bad("inner_product"))
def test_inner_product_is_another_or_refused(case):
    chi, values = unhex(case["chi"]), values_of(case["values"], case["width"])
    if len(chi) != 32:
        with pytest.raises(EncodingError):
            inner_product(chi, values)
    else:
        assert inner_product(chi, values) != int.from_bytes(unhex(case["product"]), "little")


def kind_digest(kind, value):
    return hashlib.sha256(b"\x83" + by_hand("securefl") + by_hand(kind) + value).digest()


def coin_digest(coin, context, name):
    return kind_digest("integrity-coin", cbor_array(by_hand(coin), by_hand(context), by_hand(name)))


def challenge_digest(outcome, coins):
    order = sorted(coins, key=lambda name: (len(name.encode()), name.encode()))
    by_name = head(5, len(coins)) + b"".join(by_hand(n) + by_hand(coins[n]) for n in order)
    return kind_digest("integrity-challenge", cbor_array(by_hand(outcome), by_name))


def pair_element(private, peer, names, outcome, chi):
    """What a hospital shares with a peer, from their X25519 keys."""
    own, other = (X25519PrivateKey.from_private_bytes(scalar[-32:]) for scalar in (private, peer))
    points = sorted(key.public_key().public_bytes_raw() for key in (own, other))
    context = by_hand(cbor_array(by_hand(outcome), by_hand(chi)))
    purpose = cbor_array(by_hand("securefl-integrity-mask-1"), context, *map(by_hand, sorted(names)))
    info = cbor_array(by_hand("securefl-agreement-1"), by_hand(purpose), *map(by_hand, points))
    return int.from_bytes(hkdf(own.exchange(other.public_key()), info), "little")


def fields_by_hospital(case, field):
    return {name: unhex(hospital[field]) for name, hospital in case["hospitals"].items()}


def verify(case):
    """The whole check, from what stands in the file."""
    coins, context, outcome = fields_by_hospital(case, "coin"), unhex(case["context"]), unhex(case["outcome"])
    check_coins(coins, fields_by_hospital(case, "commitment"), context)
    answers = [
        Answer.from_value(
            [
                "integrity-answer",
                {
                    "outcome": outcome,
                    "challenge": unhex(case["challenge"]),
                    "hospital": name,
                    "value": int.from_bytes(unhex(hospital["answer"]), "little"),
                },
            ]
        )
        for name, hospital in case["hospitals"].items()
        if hospital["answer"] is not None
    ]
    total = values_of(case["total"], 64)
    check_answers(outcome, challenge(outcome, coins), total, answers, list(case["hospitals"]))


@pytest.mark.parametrize("case", good("integrity"))
def test_integrity(case):
    context, outcome, chi = unhex(case["context"]), unhex(case["outcome"]), unhex(case["challenge"])
    private, coins = fields_by_hospital(case, "private"), fields_by_hospital(case, "coin")
    keys = {name: SealingKey(key) for name, key in private.items()}
    publics = {name: key.public for name, key in keys.items()}
    assert challenge(outcome, coins) == challenge_digest(outcome, coins) == chi
    total = 0
    for name, hospital in case["hospitals"].items():
        assert coin_digest(coins[name], context, name).hex() == hospital["commitment"]
        assert commit_coin(coins[name], context, name).hex() == hospital["commitment"]
        update = values_of(hospital["update"], case["width"])
        mask = sum(
            (1 if name < peer else -1)
            * pair_element(private[name], private[peer], (name, peer), outcome, chi)
            for peer in private
            if peer != name
        )
        value = (product_of(chi, update) + mask) % (2**61 - 1)
        assert value.to_bytes(8, "little").hex() == hospital["answer"]
        assert answer(outcome, chi, update, PairMasks(keys[name], name, publics)).value == value
        total = total + update.astype(object)
    assert total.tolist() == values_of(case["total"], 64).tolist()
    verify(case)


@pytest.mark.parametrize("case", bad("integrity"))
def test_integrity_is_refused(case):
    with pytest.raises((ChainError, EncodingError)):
        verify(case)


def test_what_is_bad_in_an_integrity_case_is_one_thing():
    base, *_ = (case.values[0] for case in good("integrity"))
    for case in bad("integrity"):
        other = case.values[0]
        changed = [key for key in base if key not in ("name", "hospitals") and base[key] != other[key]]
        changed += [
            name for name in base["hospitals"] if base["hospitals"][name] != other["hospitals"].get(name)
        ]
        assert len(changed) == 1


# -- coins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", good("coin"))
def test_coin(case):
    context, openings = unhex(case["context"]), list(map(unhex, case["openings"]))
    for opening, commitment in zip(openings, case["commitments"], strict=True):
        second = digest_of("norm-commitment", by_hand(context), by_hand(opening))
        assert commit(opening, context).hex() == second.hex() == commitment
    second = digest_of("norm-coin", by_hand(context), cbor_array(*map(by_hand, openings)))
    assert coin(context, openings).hex() == second.hex() == case["coin"]


REFUSED_COINS = ("bad_opening_short", "bad_one_party")


@pytest.mark.parametrize("case", bad("coin"))
def test_coin_is_another_or_refused(case):
    context, openings = unhex(case["context"]), list(map(unhex, case["openings"]))
    if case["name"] in REFUSED_COINS:
        with pytest.raises(EncodingError):
            coin(context, openings)
        return
    assert coin(context, openings).hex() != case["coin"]
    committed = [commit(o, context).hex() == c for o, c in zip(openings, case["commitments"], strict=True)]
    assert all(committed) == (case["name"] == "bad_opening_left_out")


# -- projections -----------------------------------------------------------------------------------------------------


def projection_of(case):
    check = NormCheck.for_bound(case["size"], case["width"], case["bound"], case["private"])
    shape = Shape(case["size"], case["width"])
    reader = ShareReader(unhex(case["plaintext"]), shape, case["party"], unhex(case["context"]))
    return check, project(check, unhex(case["coin"]), [reader])


def second_projection(case):
    """The share from its own bytes, the matrix from its stream, the products in Python's integers."""
    width, size, rows = case["width"], case["size"], case["rows"]
    content, kind = unhex(case["plaintext"])[:-1], unhex(case["plaintext"])[-1]
    if kind == 0:
        mask_context = case["party"].to_bytes(2, "big") + unhex(case["context"])
        content = expansion(content, "share", mask_context, size * width // 8)
    x = elements(content, width)
    if size <= rows:
        return x
    blocks = [min(512, size - start) for start in range(0, size, 512)]
    context = cbor_array(head(0, size), head(0, rows))
    length = sum(rows * -(-columns // 4) for columns in blocks)
    drawn, sums = iter(expansion(unhex(case["coin"]), "norm matrix", context, length)), [0] * rows
    for start, columns in zip(range(0, size, 512), blocks, strict=True):
        for row in range(rows):
            bits = "".join(f"{next(drawn):08b}"[::-1] for _ in range(-(-columns // 4)))
            for j in range(columns):
                sums[row] += (bits[2 * j : 2 * j + 2].count("1") - 1) * x[start + j]
    return [y % 2**width for y in sums]


@pytest.mark.parametrize("case", good("projection"))
def test_projection(case):
    check, y = projection_of(case)
    assert (check.rows, check.row_bits, check.threshold) == (
        case["rows"],
        case["row_bits"],
        case["threshold"],
    )
    assert check.direct == (case["size"] <= (208 if case["private"] else 160))
    assert y.dtype == ring_dtype(case["width"])
    assert y.tolist() == [second_projection(case)]
    assert y.tobytes().startswith(unhex(case["first"]))
    assert hashlib.sha256(y.tobytes()).hexdigest() == case["sha256"]


REFUSED_PROJECTIONS = ("bad_coin_short", "bad_share_an_element_short", "bad_bound")


@pytest.mark.parametrize("case", bad("projection"))
def test_projection_is_another_or_refused(case):
    if case["name"].startswith(REFUSED_PROJECTIONS):
        with pytest.raises(EncodingError):
            projection_of(case)
        return
    assert not projection_of(case)[1].tobytes().startswith(unhex(case["first"]))
