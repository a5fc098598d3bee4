"""Certificates and keys: what exactly netdump puts into them.

Owns the content of the three kinds: the authority's, the collector's, a client's. All keys made here are ECDSA P-256.
Every certificate has subject and authority key identifiers and critical basicConstraints and keyUsage, so that it
passes ssl.VERIFY_X509_STRICT, which Python sets by default from 3.13 on (cpython issue 107361). Touches no file and no
clock.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import cryptography
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from netdump.errors import CertificateError, DependencyError, PkiError
from netdump.namedtuple import NamedTuple
from netdump.pki.identity import MALFORMED, role_uri
from netdump.pki.names import CollectorName, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.pki.role import Role

AUTHORITY_LIFE = timedelta(days=20 * 365 + 5)
COLLECTOR_LIFE = timedelta(days=10 * 365 + 3)  # long: it must be trusted on the day of a crash, and nobody may renew it
CLIENT_LIFE = timedelta(days=2 * 365)
BACKDATE = timedelta(days=1)  # for peers whose clock is behind
PEM_MAX = 65536  # bytes of a PEM file of ours
COMMON_NAME_MAX = 64  # characters (ub-common-name, RFC 5280 appendix A)

PrivateKey = ec.EllipticCurvePrivateKey
ClientPublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey


class Issuer(NamedTuple):
    """Who signs: the authority's certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


class Validity(NamedTuple):
    """The dates of a certificate, in UTC."""

    first: datetime
    last: datetime


def check_library() -> None:
    """Find out whether the installed cryptography can do what netdump asks of it, before anything depends on it.

    Raises DependencyError. pip installs one that can; a distribution's package may be older.
    """
    if not hasattr(x509.Certificate, "not_valid_after_utc"):
        raise DependencyError(
            f"this needs cryptography 43 or newer, and Python finds {cryptography.__version__}: install netdump into "
            "a virtual environment, where pip brings what it needs"
        )


def new_key() -> PrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> str:
    """Return a private key as unencrypted PEM (PKCS #8). A secret."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def certificate_pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM).decode()


def load_key(pem: str | bytes, what: str) -> PrivateKey:
    """Read a private key made by new_key. what: names it in messages. Raises PkiError."""
    try:
        key = load_pem_private_key(_bounded(pem), None)
    except MALFORMED as error:
        raise PkiError(f"{what} is not a private key in PEM, or is encrypted") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{what} is not an ECDSA key")
    return key


def load_certificate(pem: str | bytes, what: str) -> x509.Certificate:
    """Read one certificate in PEM, with a key that can be read. what: names it in messages. Raises CertificateError."""
    try:
        certificate = x509.load_pem_x509_certificate(_bounded(pem))
        certificate.public_key()  # which is parsed only now
    except MALFORMED as error:
        raise CertificateError(f"{what} is not a certificate in PEM: {printable(str(error), 200)}") from error
    return certificate


def validity(pem: str | bytes, what: str) -> Validity:
    """From when to when a certificate is good. what: names it in messages.

    Raises CertificateError, DependencyError.
    """
    return dates(load_certificate(pem, what))


def dates(certificate: x509.Certificate) -> Validity:
    """The same of a certificate that is read already. Raises DependencyError."""
    check_library()
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def age(span: Validity, now: datetime) -> float:
    """Return the share of a certificate's life that is over: 0 at its first second, 1 at its last."""
    return (now - span.first) / (span.last - span.first)


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's name and signature stand on the certificate. Dates are not looked at."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def build_authority(key: PrivateKey, now: datetime) -> x509.Certificate:
    """Make the self-signed certificate of a new authority. now: aware."""
    # The random part tells two authorities apart in a TLS stack's diagnostics, which show only the subject.
    subject = _subject(f"netdump authority {secrets.token_hex(4)}")
    builder = _builder(subject, key.public_key(), key.public_key(), now, now + AUTHORITY_LIFE)
    builder = builder.issuer_name(subject).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_key_usage(authority=True), critical=True).sign(key, hashes.SHA256())


def build_collector(
    names: Sequence[CollectorName], key: ec.EllipticCurvePublicKey, issuer: Issuer, now: datetime
) -> x509.Certificate:
    """Make the collector's certificate. names: what clients dial, 1 or more, the first also as common name."""
    alternatives = [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names]
    leaf = _Leaf(str(names[0]), alternatives, ExtendedKeyUsageOID.SERVER_AUTH, COLLECTOR_LIFE)
    return _build_leaf(leaf, key, issuer, now)


def build_client(role: Role, name: str, key: ClientPublicKey, issuer: Issuer, now: datetime) -> x509.Certificate:
    """Make the certificate of a host, analyst or operator. name: has passed check_name."""
    uri = x509.UniformResourceIdentifier(role_uri(role, name))
    return _build_leaf(_Leaf(name, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, CLIENT_LIFE), key, issuer, now)


class _Leaf(NamedTuple):
    """What tells one kind of certificate from another."""

    common_name: str
    alternatives: Sequence[x509.GeneralName]
    usage: ObjectIdentifier
    life: timedelta


def _build_leaf(leaf: _Leaf, key: ClientPublicKey, issuer: Issuer, now: datetime) -> x509.Certificate:
    authority = issuer.certificate
    start, end = authority.not_valid_before_utc, authority.not_valid_after_utc
    if not start <= now < end:
        raise CertificateError(
            f"the authority is valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}, and the clock says "
            f"{now:%Y-%m-%d}: set the clock, or make a new authority"
        )
    builder = _builder(_subject(leaf.common_name), key, issuer.key.public_key(), now, min(now + leaf.life, end))
    builder = builder.issuer_name(authority.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.usage]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(leaf.alternatives), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def _builder(
    subject: x509.Name, key: ClientPublicKey, issuer_key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _subject(common_name: str) -> x509.Name:
    # The common name is for people; what counts is the subject alternative name, so a name too long for it is left out.
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "netdump")]
    if len(common_name) <= COMMON_NAME_MAX:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _bounded(pem: str | bytes) -> bytes:
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > PEM_MAX:
        raise ValueError(f"more than {PEM_MAX} bytes")
    return data
