"""Parties' certificates: self-signed, pinned one by one, no authority anywhere.

Adversary: everyone on the network, and every party under another party's name.
Promise: a certificate names one rank of one consortium and can sign no other certificate; a connection that trusts
    nothing but the peer's pinned certificate ends at the holder of its key. There is no authority's key to steal.
Source: X.509 profile RFC 5280; server identity by DNS name, RFC 6125. ECDSA over P-256 with SHA-256: gRPC's BoringSSL
    refuses Ed25519 certificates (no common signature algorithm; tried with grpcio 1.85).
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.errors import EncodingError, SignatureError

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class PartyCertificate:
    """A party's identity on the committee's channel.

    Attributes:
        private_key_pem: PKCS #8, unencrypted: for a file of mode 0600, never in a ``repr``.
        certificate_pem: public; pinned by every member.
    """

    private_key_pem: bytes = field(repr=False)
    certificate_pem: bytes


def party_name(rank: int, consortium: str) -> str:
    """The DNS name of a party: ``party-<rank>.<consortium>.securefl``.

    Raises:
        EncodingError: a negative rank, or a consortium's id that is not 1 to 40 lower-case letters, digits and
            inner hyphens.
    """
    if rank < 0 or not _LABEL.fullmatch(consortium):
        raise EncodingError(
            f"A party's name needs a rank from 0 and a consortium id of at most 40 of a-z, 0-9 and '-': "
            f"not {rank} and {consortium!r}."
        )
    return f"party-{rank}.{consortium}.securefl"


def make_party_certificate(rank: int, consortium: str, days: int = 3650) -> PartyCertificate:
    """A new key from the operating system's source, and its self-signed certificate.

    Args:
        rank: the party, from 0.
        consortium: the consortium's id (see :func:`party_name`).
        days: validity from now; one day before now is included, for clocks that run late.
    """
    name = party_name(rank, consortium)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(key, SHA256())
    )
    return PartyCertificate(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.public_bytes(Encoding.PEM),
    )


def certificate_der(certificate_pem: bytes) -> bytes:
    """The one binary form of a certificate, for exact comparison (the PEM of the same one may differ).

    Raises:
        EncodingError: not one certificate in PEM.
    """
    return _load(certificate_pem).public_bytes(Encoding.DER)


def fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 over the certificate, 64 hexadecimal digits.

    Raises:
        EncodingError: not one certificate in PEM.
    """
    return _load(certificate_pem).fingerprint(SHA256()).hex()


def check_party_certificate(certificate_pem: bytes, rank: int, consortium: str) -> None:
    """Accept a certificate for pinning, or say why not.

    Raises:
        EncodingError: not one certificate, of another rank or consortium, with a second name, able to sign others,
            or of a key that the channel cannot use.
        SignatureError: not signed by its own key.
    """
    certificate = _load(certificate_pem)
    name = party_name(rank, consortium)
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound as error:
        raise EncodingError(f"The certificate of party {rank} lacks its name: make a new one.") from error
    if names != [x509.DNSName(name)]:
        raise EncodingError(f"The certificate is not one for {name!r} alone: use the one of party {rank}.")
    if authority:
        raise EncodingError(f"The certificate of party {rank} could sign others: make a new one.")
    key = certificate.public_key()
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
        raise EncodingError(f"The certificate of party {rank} is not of a P-256 key: make a new one.")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, TypeError, ValueError) as error:
        raise SignatureError(
            f"The certificate of party {rank} is not signed by its own key: make a new one."
        ) from error


def _load(certificate_pem: bytes) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(certificate_pem)
    except ValueError as error:
        raise EncodingError("These bytes are not a certificate in PEM.") from error
    if len(certificates) != 1:
        raise EncodingError(f"One certificate is wanted, here are {len(certificates)}.")
    return certificates[0]
