"""What exactly stands in our certificates."""

from __future__ import annotations

import base64
import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from netdump.errors import CertificateError, DependencyError, PkiError
from netdump.pki import Role
from netdump.pki import certificates as made
from netdump.pki.names import parse_collector_names

NOW = datetime(2026, 11, 22, 21, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def issuer() -> made.Issuer:
    key = made.new_key()
    return made.Issuer(made.build_authority(key, NOW), key)


def critical(certificate: x509.Certificate) -> dict[str, bool]:
    return {extension.oid._name: extension.critical for extension in certificate.extensions}


def test_a_certificate_whose_key_is_none(issuer: made.Issuer) -> None:
    """Its parser does not look at the key before somebody asks for it; whoever asks later must not be surprised."""
    der = bytearray(issuer.certificate.public_bytes(Encoding.DER))
    point = issuer.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    at = der.index(point)
    der[at + 1 : at + len(point)] = bytes(len(point) - 1)
    text = base64.encodebytes(bytes(der)).decode()
    with pytest.raises(CertificateError, match="is not a certificate"):
        made.load_certificate(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n", "what was sent")


def test_the_authority(issuer: made.Issuer) -> None:
    authority = issuer.certificate
    assert critical(authority) == {
        "subjectKeyIdentifier": False,
        "authorityKeyIdentifier": False,
        "basicConstraints": True,
        "keyUsage": True,
    }
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    assert authority.not_valid_before_utc == NOW - DAY
    assert authority.not_valid_after_utc == NOW.replace(year=2046)
    assert authority.subject == authority.issuer
    assert made.issued_by(authority, authority)


def test_a_client(issuer: made.Issuer) -> None:
    key = made.new_key()
    certificate = made.build_client(Role.HOST, "web1", key.public_key(), issuer, NOW)
    assert critical(certificate) == {
        "subjectKeyIdentifier": False,
        "authorityKeyIdentifier": False,
        "basicConstraints": True,
        "keyUsage": True,
        "extendedKeyUsage": False,
        "subjectAltName": False,
    }
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("netdump:host:web1")]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_before_utc == NOW - DAY
    assert certificate.not_valid_after_utc == NOW + 730 * DAY
    assert certificate.public_key() == key.public_key()
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_collector(issuer: made.Issuer) -> None:
    names = parse_collector_names(["collector.example", "192.0.2.7", "2001:db8::7"])
    certificate = made.build_collector(names, made.new_key().public_key(), issuer, NOW)
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["collector.example"]
    assert alternatives.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("192.0.2.7"),
        ipaddress.ip_address("2001:db8::7"),
    ]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert certificate.not_valid_after_utc == NOW.replace(year=2036)


def test_a_name_too_long_for_the_subject_stands_in_the_uri_alone(issuer: made.Issuer) -> None:
    name = "n" * 253
    certificate = made.build_client(Role.HOST, name, made.new_key().public_key(), issuer, NOW)
    assert name not in certificate.subject.rfc4514_string()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"netdump:host:{name}")]


def test_nothing_outlives_the_authority(issuer: made.Issuer) -> None:
    end = issuer.certificate.not_valid_after_utc
    certificate = made.build_client(Role.HOST, "web1", made.new_key().public_key(), issuer, end - 10 * DAY)
    assert certificate.not_valid_after_utc == end


@pytest.mark.parametrize("when", [NOW - 2 * DAY, NOW.replace(year=2046)])
def test_an_authority_signs_only_while_it_is_valid(issuer: made.Issuer, when: datetime) -> None:
    with pytest.raises(CertificateError, match="set the clock, or make a new authority"):
        made.build_client(Role.HOST, "web1", made.new_key().public_key(), issuer, when)


def test_issued_by_looks_at_name_and_signature(issuer: made.Issuer) -> None:
    key = made.new_key()
    other = made.Issuer(made.build_authority(key, NOW), key)
    certificate = made.build_client(Role.HOST, "web1", made.new_key().public_key(), issuer, NOW)
    assert made.issued_by(certificate, issuer.certificate)
    assert not made.issued_by(certificate, other.certificate)
    # The same authority's name over another key.
    pretender = made.Issuer(issuer.certificate, key)
    forged = made.build_client(Role.HOST, "web1", made.new_key().public_key(), pretender, NOW)
    assert not made.issued_by(forged, issuer.certificate)


def test_keys_come_back_from_their_text() -> None:
    key = made.new_key()
    again = made.load_key(made.key_pem(key), "the key")
    assert again.private_numbers() == key.private_numbers()
    assert isinstance(key.curve, ec.SECP256R1)


def test_other_keys_are_refused() -> None:
    encrypted = made.new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem in (encrypted, other, b"", b"nonsense", b"x" * 70000):
        with pytest.raises(PkiError, match="key 7"):
            made.load_key(pem, "key 7")


@pytest.mark.parametrize(
    "pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n", "x" * 70000, "\ud800"]
)
def test_other_certificates_are_refused(pem: str) -> None:
    with pytest.raises(CertificateError, match="paper 7 is not a certificate"):
        made.load_certificate(pem, "paper 7")


def test_a_certificate_that_is_too_large_is_not_read(issuer: made.Issuer) -> None:
    pem = made.certificate_pem(issuer.certificate)
    made.load_certificate(pem.ljust(made.PEM_MAX), "what was sent")
    with pytest.raises(CertificateError, match="is not a certificate"):
        made.load_certificate(pem.ljust(made.PEM_MAX + 1), "what was sent")


def test_from_when_to_when(issuer: made.Issuer) -> None:
    first, last = made.validity(made.certificate_pem(issuer.certificate), "the authority")
    assert first <= NOW < last
    assert (first, last) == (issuer.certificate.not_valid_before_utc, issuer.certificate.not_valid_after_utc)
    with pytest.raises(CertificateError, match="the authority"):
        made.validity("x", "the authority")


def test_age() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    span = made.Validity(first, first + timedelta(days=100))
    for days, share in ((0, 0), (25, 0.25), (100, 1), (-50, -0.5)):
        assert made.age(span, first + timedelta(days=days)) == share


def test_dates_with_a_library_that_is_too_old(issuer: made.Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has one whose certificates lack these attributes."""
    pem = made.certificate_pem(issuer.certificate)
    monkeypatch.setattr(x509, "Certificate", object)
    with pytest.raises(DependencyError, match=r"this needs cryptography 43 or newer, and Python finds [0-9]"):
        made.validity(pem, "the authority")
