"""Certificates for tests:

an authority, collectors and hosts, also such as netdump.pki would never issue (expired, of a wrong name).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netdump.client.config import Credentials

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key as PEM texts."""

    certificate: str
    key: str


class Authority:
    """Issues certificates under its own root."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key, DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.certificate = _pem(builder.sign(self._key, hashes.SHA256()))

    def collector(self, name: str = "127.0.0.1", valid: dt.timedelta = DAY, since: dt.timedelta = -2 * DAY) -> Pair:
        """A collector's certificate for a name or address; valid: negative makes one that has expired.

        since: positive makes one of the future.
        """
        try:
            identity: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            identity = x509.DNSName(name)
        return self._issue(name, identity, ExtendedKeyUsageOID.SERVER_AUTH, valid, since)

    def host(self, name: str = "web1", valid: dt.timedelta = DAY) -> Pair:
        """A host's certificate."""
        return self._issue(
            name, x509.UniformResourceIdentifier(f"netdump:host:{name}"), ExtendedKeyUsageOID.CLIENT_AUTH, valid
        )

    def credentials(self, host: Pair | None = None) -> Credentials:
        """What a bundle of this authority holds."""
        pair = host or self.host()
        return Credentials(self.certificate, pair.certificate, pair.key)

    def _issue(
        self,
        name: str,
        identity: x509.GeneralName,
        usage: x509.ObjectIdentifier,
        valid: dt.timedelta,
        since: dt.timedelta = -2 * DAY,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, valid, since)
        builder = builder.add_extension(x509.SubjectAlternativeName([identity]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), key_pem)

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, valid: dt.timedelta, since: dt.timedelta = -2 * DAY
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + since)
            .not_valid_after(NOW + valid)
        )


def server_context(folder: Path, pair: Pair, authority: Authority, alpn: str | None = "netdump/1") -> ssl.SSLContext:
    """The collector's side of TLS; authority: whose hosts it accepts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    with tempfile.NamedTemporaryFile("w", dir=folder) as file:
        file.write(pair.certificate + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    context.load_verify_locations(cadata=authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
