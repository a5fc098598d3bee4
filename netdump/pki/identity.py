"""Who a certificate says its holder is: role and name from its one subject alternative name, and the key's fingerprint.

Owns the URI `netdump:ROLE:NAME`, fingerprints, and reading them from what a peer shows. Trusts nothing: whether the
certificate is the authority's is TLS's to check, whether it was revoked is the authority's (authority.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from netdump.errors import BadNameError, CertificateError
from netdump.pki.names import check_name, printable
from netdump.pki.role import Role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

CERTIFICATE_MAX = 16384  # bytes of DER; ours have about 500
URI_SCHEME = "netdump"

# What cryptography raises for input that is not what it should be.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer is.

    fingerprint: lower-case hexadecimal SHA-256 of the key (SubjectPublicKeyInfo), by which certificates are revoked.
    """

    role: Role
    name: str
    fingerprint: str


def role_uri(role: Role, name: str) -> str:
    """Return the subject alternative name of a client certificate. name must have passed check_name."""
    return f"{URI_SCHEME}:{role}:{name}"


def fingerprint(key: PublicKeyTypes) -> str:
    """Return the lower-case hexadecimal SHA-256 of a public key's SubjectPublicKeyInfo (DER)."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def certificate_digest(certificate: x509.Certificate) -> str:
    """Return the lower-case hexadecimal SHA-256 of a certificate (DER)."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def peer_identity(der: bytes) -> Identity:
    """Read who a client is from its certificate, as `SSLObject.getpeercert(True)` returns it.

    der: up to 16 KiB. The certificate must carry the extended key usage clientAuth and exactly one subject alternative
    name, the URI netdump:ROLE:NAME [W-04]. Raises CertificateError for everything else.
    """
    if not 0 < len(der) <= CERTIFICATE_MAX:
        raise CertificateError(f"a client certificate has 1 to {CERTIFICATE_MAX} bytes, this one {len(der)}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        alternatives = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key = fingerprint(certificate.public_key())
    except MALFORMED as error:
        raise CertificateError(
            f"the certificate is not a netdump client certificate: {printable(str(error))}"
        ) from error
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        raise CertificateError("the certificate is not for clients: it has no extended key usage clientAuth")
    if len(alternatives) != 1 or not isinstance(alternatives[0], x509.UniformResourceIdentifier):
        raise CertificateError(f"the certificate must have one subject alternative name, a URI {URI_SCHEME}:ROLE:NAME")
    role, name = parse_role_uri(alternatives[0].value)
    return Identity(role, name, key)


def parse_role_uri(uri: str) -> tuple[Role, str]:
    """Split `netdump:ROLE:NAME`. Raises CertificateError."""
    scheme, _, rest = uri.partition(":")
    role, _, name = rest.partition(":")
    if scheme != URI_SCHEME or role not in set(Role):
        raise CertificateError(f"'{printable(uri, 300)}' is not a name of a netdump client ({URI_SCHEME}:ROLE:NAME)")
    try:
        return Role(role), check_name(name)
    except BadNameError as error:
        raise CertificateError(f"the certificate bears a bad name: {error}") from error
