from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from netdump.client.credentials import NO_CHECK_TIME, client_context
from netdump.errors import BundleError

if TYPE_CHECKING:
    from tests.client.certificates import Authority


def test_tls13_with_ca_and_name_but_without_dates(authority: Authority) -> None:
    context = client_context(authority.credentials(), "client.toml")
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert not context.hostname_checks_common_name
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.verify_flags & NO_CHECK_TIME
    assert len(context.get_ca_certs()) == 1


def test_no_descriptor_is_left(authority: Authority) -> None:
    before = os.listdir("/proc/self/fd")
    client_context(authority.credentials(), "client.toml")
    with pytest.raises(BundleError):
        client_context(authority.credentials()._replace(key=authority.host().key), "client.toml")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_system_without_proc_is_told(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(BundleError, match=r"Function not implemented.*/proc must be mounted"):
        client_context(authority.credentials(), "client.toml")


def test_a_key_of_another_certificate(authority: Authority) -> None:
    mixed = authority.credentials()._replace(key=authority.host().key)
    with pytest.raises(BundleError, match=r"client\.toml: certificate or key .* is damaged .*mismatch.*enroll"):
        client_context(mixed, "client.toml")


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
def test_damaged_texts(authority: Authority, name: str) -> None:
    good = authority.credentials()
    damaged = good._replace(**{name: getattr(good, name)[:60] + "!!" + getattr(good, name)[62:]})
    with pytest.raises(BundleError, match="damaged"):
        client_context(damaged, "client.toml")


def test_an_encrypted_key_does_not_ask_on_the_terminal(authority: Authority) -> None:
    pair = authority.host()
    key = serialization.load_pem_private_key(pair.key.encode(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    ).decode()
    with pytest.raises(BundleError):
        client_context(authority.credentials(pair._replace(key=locked)), "client.toml")
