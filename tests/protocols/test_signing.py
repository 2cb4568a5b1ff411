import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocols.errors import EncodingError, SignatureError
from protocols.signing import KEY_BYTES, SIGNATURE_BYTES, SigningKey, verify

# RFC 8032, section 7.1, test 1
PRIVATE = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
DIGEST = bytes(range(32))
KIND = "outcome"
# CBOR of ["securefl-signature-1", "outcome", DIGEST], written by hand.
MESSAGE = b"\x83\x74securefl-signature-1\x67outcome\x58\x20" + DIGEST


def test_the_public_key_is_that_of_the_rfc():
    key = SigningKey(PRIVATE)
    assert key.public == PUBLIC
    assert key.private_bytes() == PRIVATE


def test_what_is_signed_is_kind_and_digest_in_cbor():
    signature = SigningKey(PRIVATE).sign(KIND, DIGEST)
    assert signature == Ed25519PrivateKey.from_private_bytes(PRIVATE).sign(MESSAGE)
    assert len(signature) == SIGNATURE_BYTES
    verify(PUBLIC, KIND, DIGEST, signature)


def test_a_signature_is_of_one_kind_digest_and_key():
    signature = SigningKey(PRIVATE).sign(KIND, DIGEST)
    other = SigningKey.generate().public
    for public, kind, digest in [
        (other, KIND, DIGEST),
        (PUBLIC, "closing", DIGEST),
        (PUBLIC, "outcome ", DIGEST),
        (PUBLIC, "", DIGEST),
        (PUBLIC, KIND, bytes(32)),
        (PUBLIC, KIND, DIGEST[:-1]),
        (PUBLIC, KIND, DIGEST + b"\x00"),
        (PUBLIC, KIND, b""),
    ]:
        with pytest.raises(SignatureError, match="not its sender's"):
            verify(public, kind, digest, signature)


def test_every_bit_of_a_signature_and_of_a_key_counts():
    signature = SigningKey(PRIVATE).sign(KIND, DIGEST)
    for bit in range(8 * SIGNATURE_BYTES):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(PUBLIC, KIND, DIGEST, bytes(changed))
    for bit in range(8 * KEY_BYTES):
        changed = bytearray(PUBLIC)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            verify(bytes(changed), KIND, DIGEST, signature)


def test_the_other_form_of_a_signature_is_refused():
    # s + l is congruent to s modulo the group's order l, and must not pass (RFC 8032, section 5.1.7).
    signature = SigningKey(PRIVATE).sign(KIND, DIGEST)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(SignatureError):
        verify(PUBLIC, KIND, DIGEST, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_keys_of_another_size_are_refused(size):
    with pytest.raises(EncodingError, match=f"32 bytes, this one has {size}"):
        SigningKey(bytes(size))
    with pytest.raises(SignatureError):
        verify(bytes(size), KIND, DIGEST, bytes(SIGNATURE_BYTES))


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_signatures_of_another_size_are_refused(size):
    with pytest.raises(SignatureError):
        verify(PUBLIC, KIND, DIGEST, bytes(size))


def test_keys_are_new_and_survive_their_bytes():
    keys = [SigningKey.generate() for _ in range(20)]
    assert len({key.public for key in keys}) == 20
    again = SigningKey(keys[0].private_bytes())
    assert again.public == keys[0].public
    assert again.sign(KIND, DIGEST) == keys[0].sign(KIND, DIGEST)


def test_a_key_is_not_printed():
    key = SigningKey(PRIVATE)
    assert PRIVATE.hex() not in repr(key) + str(key)
    assert repr(PRIVATE) not in repr(key) + str(key)
