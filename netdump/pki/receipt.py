"""Receipts: what the collector signs when a dump is complete (protocol/store.md section 6).

Owns the signature and whose it is; what the fields say, the store knows.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from netdump.errors import CertificateError, DamagedError
from netdump.pki.certificates import certificate_pem, issued_by, load_certificate
from netdump.pki.folder import Folder
from netdump.pki.identity import MALFORMED
from netdump.pki.record import unsealed
from netdump.store.sealed import canonical, seal
from netdump.wire import RECEIPT_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "netdump-receipt/1"
ALGORITHM = ec.ECDSA(hashes.SHA256())


def sign_receipt(directory: Path, fields: Mapping[str, object]) -> bytes:
    """Return the receipt of a complete dump, signed with the collector's key.

    It is the content of receipt.json and of RECEIPT's `document`. directory: the collector's. fields: id, host,
    image_bytes, chunks, root, completed [S-35]; format, collector, certificate and signature are added. Blocks on the
    disk for two small files. Raises CertificateError, StorageFaultError, PkiError.
    """
    folder = Folder(directory)
    certificate = folder.read_collector()
    key = folder.read_key(folder.collector_key, certificate)
    names = _names(certificate)
    if not names:
        raise CertificateError(f"{folder.collector_certificate} is not a collector's certificate")
    statement = {**fields, "format": FORMAT, "collector": names[0], "certificate": certificate_pem(certificate)}
    signature = key.sign(canonical(statement), ALGORITHM)
    document = seal({**statement, "signature": base64.b64encode(signature).decode()})
    assert len(document) <= RECEIPT_MAX, "a certificate with COLLECTOR_NAMES_MAX names leaves room"
    return document


def check_receipt(document: bytes, ca: str | bytes) -> dict[str, object]:
    """Return the fields of a good receipt. ca: PEM of the collector's authority.

    Good: sealed, signed by the certificate in it, which the authority issued for a collector that bears the name given.
    Its dates do not matter: a receipt outlives them. Raises DamagedError for a document that is not whole,
    CertificateError for one that is not the collector's.
    """
    if len(document) > RECEIPT_MAX:
        raise DamagedError(f"the receipt has {len(document)} bytes, more than the {RECEIPT_MAX} it can have")
    fields = unsealed(document, FORMAT, "the receipt")
    texts = {key: fields.get(key) for key in ("certificate", "collector", "signature")}
    pem, collector, signature = (value if isinstance(value, str) else "" for value in texts.values())
    certificate = load_certificate(pem, "the certificate in the receipt")
    if not issued_by(certificate, load_certificate(ca, "the authority's certificate")):
        raise CertificateError("the receipt was signed by somebody whom the collector's authority does not know")
    if collector not in _names(certificate):
        raise CertificateError("the receipt was signed by another than the collector it names")
    statement = {key: value for key, value in fields.items() if key != "signature"}
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey), "the authority issues no other collector certificates"
    try:
        key.verify(base64.b64decode(signature, validate=True), canonical(statement), ALGORITHM)
    except (InvalidSignature, ValueError) as error:
        raise CertificateError("the signature of the receipt is wrong") from error
    return fields


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the names of a collector's certificate; none if it is not one."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except MALFORMED:
        return []
    return [str(each.value) for each in alternatives] if ExtendedKeyUsageOID.SERVER_AUTH in usages else []
