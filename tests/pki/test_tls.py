"""Real handshakes between our contexts, and between ours and others'."""

from __future__ import annotations

import errno
import os
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from netdump.client.config import Credentials
from netdump.client.credentials import client_context as sender_context
from netdump.errors import BundleError, CertificateError, NotACollectorError, PkiError, RevokedError
from netdump.pki import (
    Authority,
    Bundle,
    Role,
    api_server_context,
    client_context,
    ingest_server_context,
    init_authority,
    reissue_collector,
)
from netdump.pki.certificates import (
    Issuer,
    build_client,
    certificate_pem,
    key_pem,
    load_certificate,
    load_key,
    new_key,
)
from netdump.pki.tls import unverified_context, verifying_context
from netdump.wire import ALPN
from tests.pki import papers
from tests.pki.conftest import NAMES
from tests.pki.memory import Pair

if TYPE_CHECKING:
    from collections.abc import Callable

YEAR = 365 * 86400


def sender(bundle: Bundle) -> ssl.SSLContext:
    """The context of the client in the capture kernel."""
    return sender_context(Credentials(bundle.ca, bundle.certificate, bundle.key), "client.toml")


def code_of(caught: pytest.ExceptionInfo[ssl.SSLError]) -> int:
    assert isinstance(caught.value, ssl.SSLCertVerificationError), caught.value
    return caught.value.verify_code


def test_a_host_at_the_ingest_port(folder: Path, authority: Authority) -> None:
    pair = Pair(sender(papers.enrolled(authority, "web1")), ingest_server_context(folder))
    assert pair.server.version() == pair.client.version() == "TLSv1.3"
    assert pair.server.selected_alpn_protocol() == pair.client.selected_alpn_protocol() == ALPN
    identity = authority.admit(pair.shown_certificate())
    assert (identity.role, identity.name) == (Role.HOST, "web1")


def test_an_analyst_at_the_api(folder: Path, authority: Authority) -> None:
    pair = Pair(client_context(papers.enrolled(authority, "ann", Role.ANALYST)), api_server_context(folder))
    assert pair.server.version() == "TLSv1.3"
    assert pair.server.selected_alpn_protocol() == "http/1.1"
    assert authority.admit(pair.shown_certificate()).role is Role.ANALYST


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_collector(folder: Path, authority: Authority, name: str) -> None:
    Pair(verifying_context(authority.ca_pem), api_server_context(folder), name)


@pytest.mark.parametrize("name", ["collector.example", "127.0.0.2", "::2", "xlocalhost", "a.localhost"])
def test_no_other_name(folder: Path, authority: Authority, name: str) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        Pair(verifying_context(authority.ca_pem), api_server_context(folder), name)
    assert code_of(caught) in {62, 64}


def test_a_reissued_certificate_bears_the_new_names(folder: Path, authority: Authority) -> None:
    reissue_collector(folder, ["collector.example"])
    Pair(verifying_context(authority.ca_pem), api_server_context(folder), "collector.example")
    with pytest.raises(ssl.SSLError):
        Pair(verifying_context(authority.ca_pem), api_server_context(folder), "localhost")


@pytest.mark.parametrize("flags", [ssl.VERIFY_X509_STRICT, ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN])
def test_the_strict_rules_of_python_3_13(folder: Path, authority: Authority, flags: ssl.VerifyFlags) -> None:
    client = client_context(papers.enrolled(authority, "web1"))
    server = ingest_server_context(folder)
    client.set_alpn_protocols([ALPN])
    for context in (client, server):
        context.verify_flags |= flags
        assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert Pair(client, server).shown_certificate()


def test_all_who_verify_keep_the_strict_rules(folder: Path, authority: Authority) -> None:
    """Before Python 3.13 they are not the default."""
    for context in (
        verifying_context(authority.ca_pem),
        client_context(papers.enrolled(authority, "ann", Role.ANALYST)),
        ingest_server_context(folder),
        api_server_context(folder),
    ):
        assert context.verify_flags & ssl.VERIFY_X509_STRICT


def test_ingest_needs_a_certificate(folder: Path, authority: Authority) -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Pair(verifying_context(authority.ca_pem), ingest_server_context(folder))


def test_the_api_does_not_but_nobody_is_admitted(folder: Path, authority: Authority) -> None:
    pair = Pair(verifying_context(authority.ca_pem), api_server_context(folder))
    with pytest.raises(CertificateError):
        authority.admit(pair.shown_certificate())


@pytest.mark.parametrize("make", [ingest_server_context, api_server_context])
def test_a_client_of_another_authority(
    folder: Path, authority: Authority, tmp_path: Path, make: Callable[[Path], ssl.SSLContext]
) -> None:
    init_authority(tmp_path / "other", NAMES)
    stranger = papers.enrolled(Authority.load(tmp_path / "other"), "web1")
    mixed = replace(stranger, ca=authority.ca_pem)
    with pytest.raises(ssl.SSLError) as caught:
        Pair(client_context(mixed), make(folder))
    assert code_of(caught) in {19, 20}  # no issuer that is trusted


@pytest.mark.parametrize("make", [ingest_server_context, api_server_context])
def test_a_certificate_that_a_host_has_signed(
    folder: Path, authority: Authority, make: Callable[[Path], ssl.SSLContext]
) -> None:
    """Its key lies in its capture image; whoever takes it from there is a host, and makes no operators."""
    host = papers.enrolled(authority, "web1")
    issuer = Issuer(load_certificate(host.certificate, "it"), load_key(host.key.encode(), "it"))
    key = new_key()
    made = build_client(Role.OPERATOR, "mallory", key.public_key(), issuer, datetime.now(UTC))
    forged = replace(host, certificate=certificate_pem(made) + host.certificate, key=key_pem(key))
    with pytest.raises(ssl.SSLError) as caught:
        Pair(client_context(forged), make(folder))
    assert code_of(caught) in {24, 79}  # X509_V_ERR_INVALID_CA, of OpenSSL 1.1 and 3


def test_a_collector_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    for context in (client_context(papers.enrolled(authority, "web1")), sender(papers.enrolled(authority, "web1"))):
        with pytest.raises(ssl.SSLError) as caught:
            Pair(context, api_server_context(tmp_path / "other"))
        assert code_of(caught) in {19, 20}  # the chain shown includes its own authority, or does not


def test_an_expired_client(tmp_path: Path) -> None:  # [W-04]
    then = time.time() - 3 * YEAR
    init_authority(tmp_path, NAMES, now=then)
    authority = Authority.load(tmp_path)
    old, young = papers.enrolled(authority, "web1", now=then), papers.enrolled(authority, "web1")
    for server in (ingest_server_context(tmp_path), api_server_context(tmp_path)):
        # TLS lets it pass, so that it can be told why it may not come in.
        shown = Pair(client_context(old), server).shown_certificate()
        with pytest.raises(CertificateError, match=r"of web1 expired at 2\d{3}-.*Z: enroll again"):
            authority.admit(shown)
        assert authority.admit(Pair(client_context(young), server).shown_certificate()).name == "web1"


def test_a_client_from_the_future(folder: Path, authority: Authority) -> None:
    bundle = papers.enrolled(authority, "web1", now=time.time() + 2 * 86400)
    for server in (ingest_server_context(folder), api_server_context(folder)):
        shown = Pair(client_context(bundle), server).shown_certificate()
        with pytest.raises(CertificateError, match=r"not valid before 2\d{3}-.*collector's clock right"):
            authority.admit(shown)


def test_an_expired_collector_is_refused_by_people_and_not_by_capture_kernels(tmp_path: Path) -> None:
    init_authority(tmp_path, NAMES, now=time.time() - 11 * YEAR)
    bundle = papers.enrolled(Authority.load(tmp_path), "web1")
    with pytest.raises(ssl.SSLError) as caught:
        Pair(client_context(bundle), api_server_context(tmp_path))
    assert code_of(caught) == 10
    assert Pair(sender(bundle), ingest_server_context(tmp_path)).shown_certificate()


def test_a_revoked_host_is_out_at_the_next_accept(folder: Path, authority: Authority) -> None:  # [W-04]
    bundle, server = papers.enrolled(authority, "web1"), ingest_server_context(folder)
    running = Authority.load(folder)
    running.admit(Pair(sender(bundle), server).shown_certificate())
    authority.revoke_name("web1", Role.HOST)
    with pytest.raises(RevokedError):
        running.admit(Pair(sender(bundle), server).shown_certificate())


def test_older_versions_are_refused(folder: Path, authority: Authority) -> None:  # [W-01]
    client = client_context(papers.enrolled(authority, "web1"))
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    for server in (ingest_server_context(folder), api_server_context(folder)):
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            Pair(client, server)
    server = api_server_context(folder)
    server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (
        client_context(papers.enrolled(authority, "web1")),
        verifying_context(authority.ca_pem),
        unverified_context(),
    ):
        with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
            Pair(context, server)


def test_no_session_is_resumed(folder: Path, authority: Authority) -> None:  # [W-01]
    for server in (ingest_server_context(folder), api_server_context(folder)):
        assert server.num_tickets == 0
        pair = Pair(client_context(papers.enrolled(authority, "web1")), server)
        session = pair.client.session
        assert session is None or not session.has_ticket


def test_alpn_is_left_to_the_user_of_the_context(folder: Path, authority: Authority) -> None:
    # Python's ssl goes on without a protocol when the lists do not meet; that is why tls.py says who must look [W-02].
    client = client_context(papers.enrolled(authority, "web1"))
    client.set_alpn_protocols(["netdump/2"])
    assert Pair(client, ingest_server_context(folder)).server.selected_alpn_protocol() is None


def test_a_host_is_no_collector_and_a_collector_no_host(folder: Path, authority: Authority) -> None:
    place = folder / "pki"
    collector_as_host = replace(
        papers.enrolled(authority, "web1"),
        certificate=(place / "collector.crt").read_text(),
        key=(place / "collector.key").read_text(),
    )
    with pytest.raises(ssl.SSLError) as caught:
        Pair(client_context(collector_as_host), ingest_server_context(folder))
    assert code_of(caught) == 26  # X509_V_ERR_INVALID_PURPOSE
    host = papers.enrolled(authority, "localhost")
    (place / "collector.crt").write_text(host.certificate)
    (place / "collector.key").write_text(host.key)
    for client in (verifying_context(authority.ca_pem), sender(host)):
        with pytest.raises(ssl.SSLError) as caught:
            Pair(client, api_server_context(folder))
        assert code_of(caught) in {26, 62}


def test_damaged_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotACollectorError):
        ingest_server_context(tmp_path)
    (folder / "pki" / "collector.key").write_text(key_pem(new_key()))
    for make in (ingest_server_context, api_server_context):
        with pytest.raises(PkiError, match="not the key of the certificate"):
            make(folder)


def test_a_damaged_chain(folder: Path) -> None:
    with (folder / "pki" / "collector.crt").open("a") as file:
        file.write("-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n")
    with pytest.raises(PkiError, match="cannot be used"):
        ingest_server_context(folder)


def test_damaged_bundles(authority: Authority) -> None:
    good = papers.enrolled(authority, "web1")
    other = papers.enrolled(authority, "web2")
    bad = [
        replace(good, key=other.key),
        replace(good, key="nonsense"),
        replace(good, certificate="nonsense"),
        replace(good, ca="nonsense"),
    ]
    for bundle in bad:
        with pytest.raises(BundleError, match="enroll again"):
            client_context(bundle)


def test_an_encrypted_key_does_not_ask_on_the_terminal(authority: Authority) -> None:
    good = papers.enrolled(authority, "web1")
    key = new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(BundleError):
        client_context(replace(good, key=key.decode()))


def test_a_system_without_proc_is_told(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    bundle = papers.enrolled(authority, "ann", Role.ANALYST)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", lose)
    with pytest.raises(BundleError, match="/proc must be mounted"):
        client_context(bundle)
    monkeypatch.setattr(os, "memfd_create", lose)
    with pytest.raises(BundleError, match="/proc must be mounted"):
        client_context(bundle)


def test_no_key_is_left_open(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    def memory_files() -> list[str]:
        names = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [name for name in names if name.startswith("/memfd:")]

    made: list[int] = []

    def make(*arguments: Any) -> int:
        made.append(real(*arguments))
        return made[-1]

    real, before = os.memfd_create, memory_files()
    monkeypatch.setattr(os, "memfd_create", make)
    client_context(papers.enrolled(authority, "web1"))
    assert made, "this is where keys lie for OpenSSL to read"
    assert memory_files() == before
