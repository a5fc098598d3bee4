"""What a collector has for itself: its authority's certificate, and its own, which it shows to whoever dials it.

Owns reading both for people, and giving the collector another one. The authority's lasts as long as the authority.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from netdump.errors import CertificateError
from netdump.namedtuple import NamedTuple
from netdump.pki import durable
from netdump.pki.certificates import Issuer, Validity, build_collector, certificate_pem, dates
from netdump.pki.folder import Folder
from netdump.pki.identity import MALFORMED, fingerprint
from netdump.pki.names import parse_collector_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class OwnCertificate(NamedTuple):
    """One of the two.

    whose: "authority" or "collector". names: of the collector what clients dial, its own name first; of the authority
    the one that tells it from others. fingerprint: of its key. pem: all of it.
    """

    whose: str
    names: tuple[str, ...]
    validity: Validity
    fingerprint: str
    pem: str


def authority_certificate(directory: Path) -> OwnCertificate:
    """Read the authority's. Raises NotACollectorError, CertificateError, StorageFaultError, PkiError."""
    certificate = Folder(directory).read_authority()
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return _own("authority", tuple(str(each.value) for each in names), certificate)


def collector_certificate(directory: Path) -> OwnCertificate:
    """Read the collector's. Raises CertificateError, StorageFaultError, PkiError."""
    folder = Folder(directory)
    certificate = folder.read_collector()
    return _own("collector", _alternatives(certificate, folder.collector_certificate), certificate)


def reissue_collector(directory: Path, names: Sequence[str], now: float | None = None) -> None:
    """Give the collector a new certificate from the same authority, for these names.

    A running collector shows it within a minute (netdump/server/owncertificate.py). The older one may be lost, damaged,
    or of another authority. The collector's key stays, so that certificate and key match at every instant. A stolen key
    needs a new authority anyway, for clients ignore dates and do not know of revocations (protocol/wire.md section 10).
    Raises as init_authority does, and NotACollectorError.
    """
    folder = Folder(directory)
    authority = folder.read_authority()
    issuer = Issuer(authority, folder.read_key(folder.ca_key, authority))
    key = folder.read_key(folder.collector_key)
    moment = datetime.fromtimestamp(int(time.time() if now is None else now), UTC)
    certificate = build_collector(parse_collector_names(names), key.public_key(), issuer, moment)
    durable.remove_abandoned(folder.collector_certificate)
    durable.write(folder.collector_certificate, certificate_pem(certificate).encode())


def _own(whose: str, names: tuple[str, ...], certificate: x509.Certificate) -> OwnCertificate:
    key = fingerprint(certificate.public_key())
    return OwnCertificate(whose, names, dates(certificate), key, certificate_pem(certificate))


def _alternatives(certificate: x509.Certificate, path: Path) -> tuple[str, ...]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except MALFORMED as error:
        raise CertificateError(f"{path} bears no names: {error}") from error
    return tuple(str(each.value) for each in alternatives)
