"""The certificate authority of a deployment, the SuperLink's certificate, and the SuperNodes' keys.

The authority signs one thing: the SuperLink's certificate. Members trust it for nothing else, and the parties' channel
does not know it (its certificates are pinned one by one). So its key can do one harm: stand between members and
SuperLink, and carry the sealed envelopes that the coordinator carries anyway.

Source: X.509 profile RFC 5280. ECDSA over P-256 and P-384, which OpenSSL, gRPC and Flower 1.41 all take.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securefl.errors import ConsortiumError

AUTHORITY_DAYS, SUPERLINK_DAYS, LATE_CLOCK_DAYS = 3650, 397, 1
"""Validity. A SuperLink's certificate lives for 13 months: renewing it is a yearly habit, not a surprise."""


def make_authority(days: int = AUTHORITY_DAYS) -> tuple[bytes, bytes]:
    """A new authority: (private key, certificate), both in PEM."""
    key = ec.generate_private_key(ec.SECP384R1())
    # Two authorities stand in one bundle while they change: each has its own name.
    name = _name(f"securefl deployment authority {secrets.token_hex(4)}")
    builder = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )
    return _private(key), builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def make_superlink(
    host: str, authority_key: bytes, authority_certificate: bytes, days: int = SUPERLINK_DAYS
) -> bytes:
    """A new SuperLink key and its certificate, in one PEM file, so that the two can only be replaced together.

    Besides ``host`` the certificate names this computer: the SuperLink's own child process speaks to it there.

    Args:
        host: DNS name or IPv4 address, as members reach it.
        authority_key, authority_certificate: PEM.
        days: validity from now; never beyond the authority's own.

    Raises:
        ConsortiumError: the authority's key is damaged or belongs to another certificate.
    """
    authority = certificates(authority_certificate)[-1]
    signer = _load_key(authority_key)
    if not belongs(authority_key, authority):
        raise ConsortiumError(
            "The authority's key and certificate do not belong together: restore its folder."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    try:
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host.lower()))
    certificate = (
        _builder(_name("securefl SuperLink"), authority.subject, key.public_key(), days, authority)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(names))), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, SHA256())
    )
    return _private(key) + certificate.public_bytes(Encoding.PEM)


def make_supernode_key() -> tuple[bytes, str]:
    """A SuperNode's key as Flower takes it: (private key, OpenSSH; public key, one OpenSSH line)."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates in a PEM file, in order.

    Raises:
        ConsortiumError: there is none.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConsortiumError("These bytes hold no certificate in PEM: restore the file.") from error


def belongs(private_key: bytes, certificate: x509.Certificate) -> bool:
    """Whether a private key, in PEM, is the one of a certificate."""
    return _load_key(private_key).public_key() == certificate.public_key()


def bundle(old: bytes, new: bytes) -> bytes:
    """``ca.pem`` while authorities change: those of ``old`` that still hold, then the new one, which is the last."""
    now = datetime.datetime.now(datetime.UTC)
    holding = [c for c in certificates(old) if c.not_valid_after_utc > now]
    return b"".join(c.public_bytes(Encoding.PEM) for c in holding) + new


def newest(pem: bytes) -> bytes:
    """The last certificate in a PEM file, alone."""
    return certificates(pem)[-1].public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    within: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    start, end = now - datetime.timedelta(LATE_CLOCK_DAYS), now + datetime.timedelta(days)
    if within is not None:
        start, end = max(start, within.not_valid_before_utc), min(end, within.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ConsortiumError("A private key is damaged: restore its folder.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConsortiumError("A private key is not an EC key: restore its folder.")
    return key
