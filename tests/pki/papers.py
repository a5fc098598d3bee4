"""Certificates, bundles and requests as tests need them, good and bad."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netdump.pki import Bundle, Role
from netdump.pki.certificates import key_pem, new_key
from netdump.pki.endpoint import Endpoint
from netdump.pki.request import make_request
from netdump.pki.token import parse_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
    from cryptography.x509.oid import ObjectIdentifier

    from netdump.pki import Authority

SHA256 = hashes.SHA256()
ROOT = "0123456789abcdef" * 4
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def secret_of(token: str) -> str:
    return parse_token(token).secret_text()


def enrolled(
    authority: Authority, name: str, role: Role = Role.HOST, *, now: float | None = None, port: int = 1
) -> Bundle:
    """Enrol without a network: a bundle as `netdump enroll` would write it."""
    key = new_key()
    token = authority.make_token(name, role, now=now)
    issue = authority.redeem(secret_of(token), make_request(key), now)
    endpoint = Endpoint("localhost", port)
    return Bundle(name, role, ("localhost:7461",), endpoint, issue.ca, issue.certificate, key_pem(key))


def certificate(
    alternatives: Sequence[x509.GeneralName] | None, usages: Sequence[ObjectIdentifier] | None = (CLIENT,)
) -> bytes:
    """A self-signed certificate (DER) with whatever names and usages; None leaves the extension out."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    )
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    if alternatives is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def request(
    key: CertificateIssuerPrivateKeyTypes | None = None,
    *,
    common_names: Sequence[str] = (),
    alternatives: Sequence[x509.GeneralName] | None = None,
    algorithm: hashes.SHA256 | hashes.SHA224 | None = SHA256,
) -> str:
    """A request with whatever names, signed by its key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if alternatives is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), algorithm).public_bytes(Encoding.PEM).decode()


def pem_of(data: bytes, label: str) -> str:
    lines = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n"


def body_of(pem: str) -> bytes:
    return base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-----")))
