"""What a collector answers to a request for a certificate, checked before it is believed or written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from netdump.errors import BadNameError, CertificateError, ImpostorError
from netdump.pki.certificates import PrivateKey, certificate_pem, issued_by, load_certificate
from netdump.pki.identity import peer_identity
from netdump.pki.names import check_name
from netdump.pki.role import Role

if TYPE_CHECKING:
    from cryptography import x509

ADVERTISED_MAX = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """A certificate for our key.

    ingest_port: of the collector that answered; advertise: addresses that it names instead, may be empty.
    """

    name: str
    role: Role
    certificate: str
    ingest_port: int
    advertise: tuple[str, ...]


def check_answer(fields: dict[str, object], key: PrivateKey, authority: x509.Certificate, url: str) -> Answer:
    """Check the answer's fields against our key and the authority that we trust. url: of the collector, for messages.

    Raises CertificateError if the certificate is not ours or not the authority's, ImpostorError if the answer is no
    collector's.
    """
    role, port, advertise = fields.get("role"), fields.get("ingest_port"), fields.get("advertise", [])
    if not isinstance(role, str) or role not in set(Role):
        raise _strange(url, "role")
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise _strange(url, "ingest_port")
    if (
        not isinstance(advertise, list)
        or len(advertise) > ADVERTISED_MAX
        or not all(isinstance(each, str) for each in advertise)
    ):
        raise _strange(url, "advertise")
    try:
        name = check_name(_string(fields, "name", url))
    except BadNameError as error:
        raise _strange(url, "name") from error
    certificate = load_certificate(_string(fields, "certificate", url), f"what {url} sent")
    if certificate.public_key() != key.public_key() or not issued_by(certificate, authority):
        raise CertificateError(
            f"the certificate that {url} sent is not for our key, or not from its authority: nothing was written"
        )
    holder = peer_identity(certificate.public_bytes(Encoding.DER))
    if (holder.role, holder.name) != (role, name):
        raise CertificateError(
            f"{url} says {role} {name}, but its certificate says {holder.role} {holder.name}: nothing was written"
        )
    return Answer(name, Role(role), certificate_pem(certificate), port, tuple(advertise))


def _string(fields: dict[str, object], key: str, url: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise _strange(url, key)
    return value


def _strange(url: str, key: str) -> ImpostorError:
    return ImpostorError(f"{url} does not answer as a netdump collector does: {key} is missing or makes no sense")
