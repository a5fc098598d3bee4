"""Who a peer is: exactly one URI of ours, or nobody."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import CertificateError
from netdump.pki import Identity, Role, peer_identity
from netdump.pki.identity import parse_role_uri, role_uri
from tests.pki import papers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netdump.pki import Authority

URI = x509.UniformResourceIdentifier
GOOD = papers.certificate([URI("netdump:host:web1")])


@pytest.mark.parametrize("role", list(Role))
def test_an_issued_certificate(authority: Authority, role: Role) -> None:
    der = papers.der(papers.enrolled(authority, "web1.example", role).certificate)
    spki = (
        x509.load_der_x509_certificate(der).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    assert peer_identity(der) == Identity(role, "web1.example", hashlib.sha256(spki).hexdigest())


@pytest.mark.parametrize(
    "alternatives",
    [
        None,
        [x509.DNSName("netdump:host:web1")],
        [x509.DNSName("web1")],
        [x509.RFC822Name("a@example.com")],
        [URI("netdump:host:web1"), URI("netdump:host:web2")],
        [URI("netdump:host:web1"), x509.DNSName("web1")],
        [URI("netdump:root:web1")],
        [URI("netdump:HOST:web1")],
        [URI("netdump:host:")],
        [URI("netdump:host")],
        [URI("netdump:host:web1:extra")],
        [URI("netdump:host:../web1")],
        [URI("netdump:host:web1%00")],
        [URI("Netdump:host:web1")],
        [URI("https://netdump:host:web1")],
        [URI("netdump::web1")],
    ],
)
def test_other_names_are_nobody(alternatives: Sequence[x509.GeneralName] | None) -> None:
    with pytest.raises(CertificateError) as caught:
        peer_identity(papers.certificate(alternatives))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "usages", [None, [ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]]
)
def test_other_usages_are_nobody(usages: Sequence[x509.ObjectIdentifier] | None) -> None:
    with pytest.raises(CertificateError):
        peer_identity(papers.certificate([URI("netdump:host:web1")], usages))


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x80" * 100, GOOD[:-1], GOOD + b"\0", b"x" * 16385])
def test_garbage(der: bytes) -> None:
    with pytest.raises(CertificateError):
        peer_identity(der)


@given(st.binary(max_size=400))
@settings(derandomize=True, deadline=None)
def test_any_bytes_are_nobody(der: bytes) -> None:
    with pytest.raises(CertificateError):
        peer_identity(der)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
@settings(derandomize=True, deadline=None, max_examples=400)
def test_any_broken_byte_is_an_identity_or_a_certificate_error(position: int, flip: int) -> None:
    broken = bytearray(GOOD)
    broken[position] ^= flip
    try:
        identity = peer_identity(bytes(broken))
    except CertificateError:
        return
    assert identity.role in set(Role)


@given(st.text(max_size=60))
@settings(derandomize=True, deadline=None)
def test_uris_that_pass_are_the_canonical_ones(text: str) -> None:
    for uri in (text, f"netdump:host:{text}"):
        try:
            role, name = parse_role_uri(uri)
        except CertificateError:
            continue
        assert role_uri(role, name) == uri
