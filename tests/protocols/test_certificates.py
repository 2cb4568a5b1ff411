import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from protocols.certificates import (
    certificate_der,
    check_party_certificate,
    fingerprint,
    make_party_certificate,
    party_name,
)
from protocols.errors import EncodingError, SignatureError


def certificate(names, *, ca=False, key=None, signer=None):
    """A certificate with chosen faults."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = signer or key
    name = x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(signer, algorithm).public_bytes(Encoding.PEM)


def test_a_made_certificate_is_accepted_for_its_rank_and_consortium_only():
    made = make_party_certificate(2, "heart-eu")
    check_party_certificate(made.certificate_pem, 2, "heart-eu")
    for rank, consortium in [(1, "heart-eu"), (2, "heart-us")]:
        with pytest.raises(EncodingError, match=f"party-{rank}.{consortium}"):
            check_party_certificate(made.certificate_pem, rank, consortium)


def test_the_key_belongs_to_the_certificate_and_stays_out_of_the_repr():
    made = make_party_certificate(0, "c")
    key = load_pem_private_key(made.private_key_pem, None)
    assert key.public_key() == x509.load_pem_x509_certificate(made.certificate_pem).public_key()
    assert "PRIVATE" not in repr(made)


def test_a_certificate_is_valid_from_yesterday_for_the_days_asked():
    loaded = x509.load_pem_x509_certificate(make_party_certificate(0, "c", days=10).certificate_pem)
    assert loaded.not_valid_after_utc - loaded.not_valid_before_utc == datetime.timedelta(days=11)
    assert loaded.not_valid_before_utc < datetime.datetime.now(datetime.UTC) < loaded.not_valid_after_utc


@pytest.mark.parametrize("consortium", ["", "a.b", "A", "-a", "a-", "x" * 41, "a\n", "*"])
def test_names_that_are_no_dns_label_are_refused(consortium):
    with pytest.raises(EncodingError):
        party_name(0, consortium)


def test_a_negative_rank_has_no_name():
    with pytest.raises(EncodingError):
        party_name(-1, "c")


def test_faulty_certificates_are_refused():
    good, name = ec.generate_private_key(ec.SECP256R1()), party_name(0, "c")
    check_party_certificate(certificate([name], key=good), 0, "c")  # the control
    faults = {
        "second name": certificate([name, party_name(1, "c")]),
        "no name": certificate([]),
        "could sign others": certificate([name], ca=True),
        "another curve": certificate([name], key=ec.generate_private_key(ec.SECP384R1())),
        "Ed25519": certificate([name], key=ed25519.Ed25519PrivateKey.generate()),
        "not PEM": b"certificate",
        "two": certificate([name]) * 2,
        "none": b"",
    }
    accepted = []
    for fault, pem in faults.items():
        try:
            check_party_certificate(pem, 0, "c")
            accepted.append(fault)
        except EncodingError:
            pass
    assert accepted == []
    with pytest.raises(SignatureError):
        check_party_certificate(certificate([name], signer=good), 0, "c")


def test_the_fingerprint_is_that_of_the_der_whatever_the_pem_looks_like():
    pem = make_party_certificate(0, "c").certificate_pem
    relined = b"\n# a comment\n" + pem + b"\n"
    assert certificate_der(pem) == certificate_der(relined)
    assert fingerprint(pem) == fingerprint(relined)
    assert len(fingerprint(pem)) == 64
    assert fingerprint(pem) != fingerprint(make_party_certificate(0, "c").certificate_pem)
