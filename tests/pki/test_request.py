"""Requests from strangers: the key is taken, or a clear refusal comes out."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import NameMismatchError, SigningRequestError
from netdump.pki import Role
from netdump.pki.certificates import new_key
from netdump.pki.request import check_request, make_request
from tests.pki import papers

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

GOOD = make_request(new_key())
LABEL = "CERTIFICATE REQUEST"


def test_ours_without_and_with_a_name() -> None:
    key = new_key()
    assert check_request(make_request(key), Role.HOST, "web1") == key.public_key()
    assert check_request(make_request(key, "web1"), Role.HOST, "web1") == key.public_key()
    long = "n" * 253
    assert check_request(make_request(key, long), Role.HOST, long) == key.public_key()
    with pytest.raises(NameMismatchError, match="for 'web2', but the certificate can only be for host web1"):
        check_request(make_request(key, "web2"), Role.HOST, "web1")


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())])
def test_good_keys(key: ec.EllipticCurvePrivateKey) -> None:
    assert check_request(papers.request(key), Role.HOST, "web1") == key.public_key()


def test_ed25519() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    assert check_request(papers.request(key, algorithm=None), Role.HOST, "web1") == key.public_key()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_other_keys(key: CertificateIssuerPrivateKeyTypes) -> None:
    with pytest.raises(SigningRequestError, match="keys must be P-256, P-384 or Ed25519, not"):
        check_request(papers.request(key), Role.HOST, "web1")


def test_weak_signature() -> None:
    with pytest.raises(SigningRequestError, match="SHA-256 or better, not sha224"):
        check_request(papers.request(algorithm=hashes.SHA224()), Role.HOST, "web1")


def test_a_key_that_somebody_else_signed_for() -> None:
    # The request of one key with the signature of another: whoever sends it does not hold the key.
    mine, other = papers.body_of(papers.request()), papers.body_of(papers.request())
    if len(mine) != len(other):
        mine, other = other, mine
    stolen = mine[:-70] + other[-70:]
    with pytest.raises(SigningRequestError):
        check_request(papers.pem_of(stolen, LABEL), Role.HOST, "web1")


@pytest.mark.parametrize(
    "alternative",
    [
        x509.DNSName("web1"),
        x509.UniformResourceIdentifier("netdump:host:web1"),
    ],
)
def test_the_granted_name_may_be_asked_for(alternative: x509.GeneralName) -> None:
    check_request(papers.request(common_names=["web1"], alternatives=[alternative]), Role.HOST, "web1")


@pytest.mark.parametrize(
    "alternative",
    [
        x509.DNSName("web2"),
        x509.DNSName("WEB1"),
        x509.UniformResourceIdentifier("netdump:operator:web1"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        x509.RFC822Name("web1@example.com"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web1")])),
        x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x04web1"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
    ],
)
def test_other_names_are_refused(alternative: x509.GeneralName) -> None:
    for alternatives in ([alternative], [x509.DNSName("web1"), alternative]):
        with pytest.raises(NameMismatchError):
            check_request(papers.request(alternatives=alternatives), Role.HOST, "web1")


def test_other_common_names_are_refused() -> None:
    for names in (["web2"], ["web1", "web2"], ["web1 "], ["\x1b[31mweb1"]):
        with pytest.raises(NameMismatchError) as caught:
            check_request(papers.request(common_names=names), Role.HOST, "web1")
        assert str(caught.value).isprintable()


def test_an_address_is_a_name_too() -> None:
    address = x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
    check_request(papers.request(alternatives=[address]), Role.HOST, "10.0.0.1")


def test_size_is_bounded_before_anything_is_parsed() -> None:
    with pytest.raises(SigningRequestError, match="at most 16384 characters"):
        check_request("-----BEGIN CERTIFICATE REQUEST-----\n" + "A" * 20000, Role.HOST, "web1")
    many = papers.request(alternatives=[x509.DNSName(f"host{i}.example.com") for i in range(2000)])
    with pytest.raises(SigningRequestError, match="at most 16384 characters"):
        check_request(many, Role.HOST, "web1")


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "x",
        "\0",
        "\ud800",
        "ä" * 100,
        GOOD[:-40],
        GOOD.replace("REQUEST", "CERTIFICATE"),
        papers.pem_of(b"", LABEL),
        papers.pem_of(b"\x30\x80" * 1000, LABEL),
        papers.pem_of(b"\x30\x84\xff\xff\xff\xff", LABEL),
        papers.pem_of(papers.body_of(GOOD) + b"\0", LABEL),
    ],
)
def test_garbage(pem: str) -> None:
    with pytest.raises(SigningRequestError) as caught:
        check_request(pem, Role.HOST, "web1")
    assert str(caught.value).isprintable()


@given(st.text(max_size=2000))
@settings(derandomize=True, deadline=None)
def test_any_text_is_refused(text: str) -> None:
    for pem in (text, f"-----BEGIN {LABEL}-----\n{text}\n-----END {LABEL}-----\n"):
        with pytest.raises(SigningRequestError):
            check_request(pem, Role.HOST, "web1")


@given(st.integers(0, len(papers.body_of(GOOD)) - 1), st.integers(1, 255))
@settings(derandomize=True, deadline=None, max_examples=400)
def test_any_broken_byte_is_refused(position: int, flip: int) -> None:
    broken = bytearray(papers.body_of(GOOD))
    broken[position] ^= flip
    with pytest.raises((SigningRequestError, NameMismatchError)):
        check_request(papers.pem_of(bytes(broken), LABEL), Role.HOST, "web1")
