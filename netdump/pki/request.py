"""Requests for certificates (PKCS #10), made and checked.

Of a request only the public key is taken; the certificate contains what the authority decides. A request that names
somebody else is refused rather than quietly answered with another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from netdump.errors import NameMismatchError, SigningRequestError
from netdump.pki.identity import MALFORMED, role_uri
from netdump.pki.names import printable

if TYPE_CHECKING:
    from netdump.pki.certificates import ClientPublicKey, PrivateKey
    from netdump.pki.role import Role

REQUEST_MAX = 16384  # characters of PEM; ours have about 400
CURVES = (ec.SECP256R1, ec.SECP384R1)
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def make_request(key: PrivateKey, name: str | None = None) -> str:
    """Return a request for a certificate of key, in PEM.

    name: the only name to accept; None leaves it to the collector.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def check_request(pem: str, role: Role, name: str) -> ClientPublicKey:
    """Return the key of a request from a stranger, for whom a token or certificate grants role and name.

    pem: at most 16,384 characters. The key must be P-256, P-384 or Ed25519 and must have signed the request. Raises
    SigningRequestError for a request that cannot be used, NameMismatchError for one that asks for another name.
    """
    if len(pem) > REQUEST_MAX:
        raise SigningRequestError(
            f"a request for a certificate has at most {REQUEST_MAX} characters, this one {len(pem)}"
        )
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = _checked_key(request)
        asked = _names_asked(request)
    except (*MALFORMED, InvalidSignature) as error:
        raise SigningRequestError(
            f"this is not a usable request for a certificate: {printable(str(error), 200)}"
        ) from error
    for other in asked:
        if other not in {name, role_uri(role, name)}:
            raise NameMismatchError(
                f"the request is for '{printable(other, 300)}', but the certificate can only be for {role} {name}: "
                "use a token for that name, or leave the name out"
            )
    return key


def _checked_key(request: x509.CertificateSigningRequest) -> ClientPublicKey:
    key = request.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, CURVES):
            raise SigningRequestError(f"keys must be P-256, P-384 or Ed25519, not {key.curve.name}")
    elif not isinstance(key, Ed25519PublicKey):
        raise SigningRequestError(f"keys must be P-256, P-384 or Ed25519, not {type(key).__name__}")
    algorithm = request.signature_hash_algorithm
    if algorithm is not None and not isinstance(algorithm, HASHES):
        raise SigningRequestError(f"a request must be signed with SHA-256 or better, not {algorithm.name}")
    if not request.is_signature_valid:
        raise SigningRequestError("the request is not signed with the key it is for")
    return key


def _names_asked(request: x509.CertificateSigningRequest) -> list[str]:
    names = [_text(attribute.value) for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    for extension in request.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names += [_text(alternative.value) for alternative in extension.value]
    return names


def _text(value: object) -> str:
    # Anything but a string or address (a directory name, an object identifier) shows as what it is and equals no name
    # of ours.
    return value if isinstance(value, str) else str(value)
