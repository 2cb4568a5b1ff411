import hmac
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.envelope import (
    OVERHEAD_BYTES,
    PRIVATE_BYTES,
    PUBLIC_BYTES,
    Binding,
    SealingKey,
    envelope_digest,
    seal,
)
from protocols.errors import EncodingError, SealError

BINDING = Binding(
    study=bytes(32),
    round=3,
    attempt=1,
    previous=bytes([1]) * 32,
    sender="charite",
    recipient="alpha",
    content="update",
    width=32,
    size=1000,
)
OTHER = {
    "study": bytes(31) + b"\x01",
    "round": 4,
    "attempt": 2,
    "previous": bytes(32),
    "sender": "charit",
    "recipient": "beta",
    "content": "statistics",
    "width": 16,
    "size": 1001,
}
CONTENT = b"content"
MLKEM_CIPHERTEXT, X25519_CIPHERTEXT = 1088, 32


@pytest.fixture(scope="module")
def key():
    return SealingKey.generate()


@pytest.fixture(scope="module")
def envelope(key):
    return seal(key.public, CONTENT, BINDING)


def closed(key, envelope, binding=BINDING):
    with pytest.raises(SealError, match=r"^The envelope from .* to .* does not open\.$"):
        key.open(envelope, binding)


@settings(deadline=None, max_examples=20)
@given(content=st.binary(max_size=3000))
def test_an_envelope_opens_where_it_was_meant_to(key, content):
    envelope = seal(key.public, content, BINDING)
    assert len(envelope) == len(content) + OVERHEAD_BYTES
    assert key.open(envelope, BINDING) == content


@pytest.mark.parametrize("field", Binding.model_fields)
def test_every_field_of_the_binding_counts(key, envelope, field):
    assert key.open(envelope, BINDING) == CONTENT
    closed(key, envelope, BINDING.model_copy(update={field: OTHER[field]}))


def test_the_bindings_fields_do_not_run_into_each_other(key):
    sealed = seal(key.public, CONTENT, BINDING.model_copy(update={"sender": "ab", "recipient": "c"}))
    closed(key, sealed, BINDING.model_copy(update={"sender": "a", "recipient": "bc"}))


def test_another_key_does_not_open(envelope):
    closed(SealingKey.generate(), envelope)


def test_both_halves_of_the_key_are_needed(key, envelope):
    own, other = key.private_bytes(), SealingKey.generate().private_bytes()
    closed(SealingKey(own[:64] + other[64:]), envelope)
    closed(SealingKey(other[:64] + own[64:]), envelope)


def test_no_byte_may_be_changed(key, envelope):
    places = {0, 1, MLKEM_CIPHERTEXT - 1, *range(0, len(envelope), 23)}
    places |= set(range(MLKEM_CIPHERTEXT, len(envelope)))  # X25519's point, the content, the tag
    for place in sorted(places):
        for flip in (0x01, 0x80):
            changed = bytearray(envelope)
            changed[place] ^= flip
            closed(key, bytes(changed))


def test_no_byte_may_be_missing_or_added(key, envelope):
    for size in {0, 1, 16, 31, 32, 1087, 1088, 1089, 1119, 1120, 1121, OVERHEAD_BYTES, len(envelope) - 1}:
        closed(key, envelope[:size])
    closed(key, envelope[1:])
    closed(key, envelope + b"\x00")
    closed(key, b"\x00" + envelope)


@settings(deadline=None, max_examples=30)
@given(data=st.binary(max_size=1300))
def test_arbitrary_bytes_do_not_open(key, data):
    closed(key, data)


def test_points_of_small_order_do_not_open(key, envelope):
    # X25519 with such a point gives zero, whoever computes it.
    for point in (bytes(32), b"\x01" + bytes(31)):
        closed(key, envelope[:MLKEM_CIPHERTEXT] + point + envelope[MLKEM_CIPHERTEXT + X25519_CIPHERTEXT :])


def test_sealing_twice_gives_two_unrelated_envelopes(key):
    first, second = seal(key.public, bytes(1000), BINDING), seal(key.public, bytes(1000), BINDING)
    same = sum(a == b for a, b in zip(first, second, strict=True))
    assert same < 0.03 * len(first)  # one byte in 256 by chance


def test_sizes(key, envelope):
    assert len(key.public) == PUBLIC_BYTES == 1216
    assert len(key.private_bytes()) == PRIVATE_BYTES == 96
    assert len(envelope) - len(CONTENT) == OVERHEAD_BYTES == 1136


def test_a_key_survives_its_bytes(key, envelope):
    again = SealingKey(key.private_bytes())
    assert again.public == key.public
    assert again.private_bytes() == key.private_bytes()
    assert again.open(envelope, BINDING) == CONTENT


def test_keys_are_new():
    keys = [SealingKey.generate() for _ in range(10)]
    assert len({key.public[:1184] for key in keys}) == 10
    assert len({key.public[1184:] for key in keys}) == 10


def test_a_key_is_not_printed(key):
    text = repr(key) + str(key)
    assert key.private_bytes().hex() not in text
    assert key.private_bytes()[64:].hex() not in text


@pytest.mark.parametrize("size", [0, 32, 64, 95, 97, 1216])
def test_private_keys_of_another_size_are_refused(size):
    with pytest.raises(EncodingError, match=f"96 bytes, this one has {size}"):
        SealingKey(bytes(size))


@pytest.mark.parametrize("size", [0, 32, 96, 1184, 1215, 1217])
def test_public_keys_of_another_size_are_refused(size):
    with pytest.raises(EncodingError, match=f"1216 bytes, this one has {size}"):
        seal(bytes(size), CONTENT, BINDING)


def test_sealing_to_garbage_is_refused(key):
    garbage = {
        "coefficients beyond the modulus": b"\xff" * 1184 + key.public[1184:],
        "a point of order 1": key.public[:1184] + bytes(32),
        "a point of order 4": key.public[:1184] + b"\x01" + bytes(31),
        "all ones": b"\xff" * PUBLIC_BYTES,
    }
    for public in garbage.values():
        with pytest.raises(EncodingError, match="not a public sealing key"):
            seal(public, CONTENT, BINDING)


# -- agreement -------------------------------------------------------------------------------------------------------


def test_two_agree_on_the_same_bytes_and_a_third_on_others(key):
    alice, bob, carol = key, SealingKey.generate(), SealingKey.generate()
    shared = alice.agree(bob.public, b"info")
    assert len(shared) == 32
    assert shared == bob.agree(alice.public, b"info") == alice.agree(bob.public, b"info")
    others = {
        alice.agree(bob.public, b"inf"),
        alice.agree(bob.public, b""),
        alice.agree(carol.public, b"info"),
        carol.agree(bob.public, b"info"),
        alice.agree(alice.public, b"info"),
    }
    assert len({shared, *others}) == 6


def test_an_agreement_is_that_of_rfc_7748_with_hkdf():
    # The keys and the shared point of RFC 7748, section 6.1.
    scalar = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    own = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    peer = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    info = b"\x84" + b"\x74securefl-agreement-1" + b"\x44info" + b"\x58\x20" + own + b"\x58\x20" + peer
    expected = hmac.digest(hmac.digest(bytes(32), shared, "sha256"), info + b"\x01", "sha256")
    assert SealingKey(bytes(64) + scalar).agree(bytes(1184) + peer, b"info") == expected


def test_an_agreement_needs_a_public_key(key):
    for size in (0, 32, 1215, 1217):
        with pytest.raises(EncodingError, match=f"1216 bytes, this one has {size}"):
            key.agree(bytes(size), b"info")
    for point in (bytes(32), b"\x01" + bytes(31)):  # of order 1 and 4
        with pytest.raises(EncodingError, match="not a public sealing key"):
            key.agree(key.public[:1184] + point, b"info")


def test_a_large_envelope(key):
    content = os.urandom(4_000_001)
    assert key.open(seal(key.public, content, BINDING), BINDING) == content


def test_the_digest_of_an_envelope_is_blake3():
    # The first test vector of the BLAKE3 specification: the empty input.
    assert envelope_digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert (
        envelope_digest(b"\x00").hex() == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"
    )
