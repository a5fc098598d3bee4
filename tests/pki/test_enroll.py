"""Enrolment over real HTTPS: who is trusted, what is sent, what is written, and when a token is spent."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest

from netdump.client.config import load_config
from netdump.errors import (
    AlreadyExistsError,
    BadNameError,
    CertificateError,
    ConfigError,
    DependencyError,
    ImpostorError,
    NameMismatchError,
    NetdumpError,
    StorageFaultError,
    TokenError,
    UnreachableError,
)
from netdump.pki import Authority, Bundle, Role, init_authority
from netdump.pki.certificates import load_certificate
from netdump.pki.enroll import enroll
from netdump.pki.identity import certificate_digest, fingerprint
from netdump.pki.token import Token, parse_token
from tests.pki import papers
from tests.pki.api import INGEST_PORT, Api
from tests.pki.conftest import NAMES

if TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86400


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "desk" / "client.toml"


def spent(api: Api) -> bool:
    (path,) = api.authority._tokens._folder.iterdir()
    return path.suffix == ".used"


def leftovers(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []


def test_a_host(api: Api, out: Path) -> None:
    out.parent.mkdir(mode=0o700)
    abandoned = out.with_name(f".client.toml.{'0' * 12}.partial")  # by an enrolment that was killed
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    bundle = enroll(api.url, api.authority.make_token("web1", Role.HOST), out)
    assert (bundle.name, bundle.role) == ("web1", Role.HOST)
    assert bundle.collectors == (f"localhost:{INGEST_PORT}",)
    assert bundle.api.url == api.url
    assert api.requests == ["/v1/ca", "/v1/enroll"]
    assert Bundle.load(out) == bundle
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert stat.S_IMODE(out.parent.stat().st_mode) == 0o700
    assert leftovers(out) == ["client.toml"]
    assert load_config(str(out), {}, {}).warnings == ()
    identity = api.authority.admit(papers.der(bundle.certificate))
    key = load_certificate(bundle.certificate, "it").public_key()
    assert identity.fingerprint == fingerprint(key)


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST"])
def test_other_ways_to_write_the_url(api: Api, out: Path, host: str) -> None:
    bundle = enroll(f"{host}:{api.port}", api.authority.make_token("ann", Role.ANALYST), out)
    assert bundle.role is Role.ANALYST
    assert bundle.api.url == f"https://{host.lower()}:{api.port}"


def test_where_dumps_go(api: Api, out: Path) -> None:
    api.extra["advertise"] = ["a.example:7000", "b.example"]
    bundle = enroll(api.url, api.authority.make_token("web1", Role.HOST), out)
    assert bundle.collectors == ("a.example:7000", "b.example:7461")
    bundle = enroll(api.url, api.authority.make_token("web1", Role.HOST), out, collectors=["c.example:1"], force=True)
    assert bundle.collectors == ("c.example:1",)
    api.extra["advertise"] = ["not an address"]
    with pytest.raises(ConfigError, match="--collector"):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), out, force=True)


def test_the_name_may_be_insisted_on(api: Api, out: Path) -> None:
    token = api.authority.make_token("web1", Role.HOST)
    with pytest.raises(NameMismatchError, match="can only be for host web1"):
        enroll(api.url, token, out, name="web2")
    assert not spent(api)
    assert leftovers(out) == []
    assert enroll(api.url, token, out, name="web1").name == "web1"


def test_a_used_token(api: Api, out: Path) -> None:
    token = api.authority.make_token("web1", Role.HOST)
    enroll(api.url, token, out)
    kept = out.read_bytes()
    with pytest.raises(TokenError, match="make a new one on the collector"):
        enroll(api.url, token, out, force=True)
    assert out.read_bytes() == kept
    assert leftovers(out) == ["client.toml"]


def test_a_bundle_is_not_overwritten(api: Api, out: Path) -> None:
    out.parent.mkdir()
    token = api.authority.make_token("web1", Role.HOST)
    out.write_text("mine")
    with pytest.raises(AlreadyExistsError, match="--force"):
        enroll(api.url, token, out)
    assert out.read_text() == "mine"
    out.unlink()
    out.symlink_to("/nowhere")
    with pytest.raises(AlreadyExistsError, match="--force"):
        enroll(api.url, token, out)
    assert api.requests == []
    enroll(api.url, token, out, force=True)
    assert not out.is_symlink()


def test_what_is_no_file_is_never_replaced(api: Api, tmp_path: Path) -> None:
    """Of root's that would be /dev/null, for the whole machine."""
    os.mkfifo(tmp_path / "null")
    with pytest.raises(AlreadyExistsError, match="null is not a file, and is never replaced"):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), tmp_path / "null", force=True)
    assert api.requests == []
    assert (tmp_path / "null").is_fifo()


def test_a_place_that_cannot_be_written_costs_no_token(api: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    token = api.authority.make_token("web1", Role.HOST)
    for out in (tmp_path / "file" / "client.toml", tmp_path / ("x" * 300), tmp_path / ("x" * 300) / "client.toml"):
        with pytest.raises(StorageFaultError):
            enroll(api.url, token, out)
    assert api.requests == []


def test_a_full_disk_costs_no_token(api: Api, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(StorageFaultError, match=r"cannot write .*client\.toml: No space left"):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), out)
    assert not spent(api)
    assert leftovers(out) == []


def test_a_library_that_is_too_old_costs_no_token(api: Api, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = api.authority.make_token("web1", Role.HOST)
    with monkeypatch.context() as old:
        old.setattr("cryptography.x509.Certificate", object)
        with pytest.raises(DependencyError, match="this needs cryptography 43 or newer"):
            enroll(api.url, token, out)
    assert not spent(api)
    assert enroll(api.url, token, out).name == "web1"


def test_nothing_is_sent_for_bad_arguments(api: Api, out: Path) -> None:
    token = api.authority.make_token("web1", Role.HOST)
    bad: list[tuple[type[NetdumpError], dict[str, object]]] = [
        (TokenError, {"token": "nonsense"}),
        (ConfigError, {"url": "http://localhost"}),
        (ConfigError, {"collectors": ["a:0"]}),
        (BadNameError, {"name": "a/b"}),
    ]
    for error, change in bad:
        with pytest.raises(error):
            enroll(**{"url": api.url, "token": token, "out": out, **change})  # type: ignore[arg-type]
    assert api.requests == []
    assert leftovers(out) == []


def test_the_wrong_collector_never_sees_the_secret(folder: Path, out: Path, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    token = Authority.load(folder).make_token("web1", Role.HOST)
    with (
        Api(tmp_path / "other") as other,
        pytest.raises(ImpostorError, match="is not the collector that made this token"),
    ):
        enroll(other.url, token, out)
    assert other.requests == ["/v1/ca"]
    assert leftovers(out) == []


def test_who_repeats_the_right_certificate_gets_no_further(folder: Path, out: Path, tmp_path: Path) -> None:
    authority = Authority.load(folder)
    init_authority(tmp_path / "other", NAMES)
    with Api(tmp_path / "other") as other:
        other.answers["/v1/ca"] = (200, authority.ca_pem.encode())
        with pytest.raises(ImpostorError, match="who answers at"):
            enroll(other.url, authority.make_token("web1", Role.HOST), out)
    assert other.requests == ["/v1/ca"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate(api: Api, out: Path, body: bytes) -> None:
    api.answers["/v1/ca"] = (200, body)
    with pytest.raises(ImpostorError):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), out)


def test_a_leaf_is_no_authority(api: Api, out: Path) -> None:
    # Someone with any certificate of ours makes a token of its own that names it as the authority.
    bundle = papers.enrolled(api.authority, "web2")
    leaf = load_certificate(bundle.certificate, "it")
    api.answers["/v1/ca"] = (200, bundle.certificate.encode())
    with pytest.raises(ImpostorError):
        enroll(api.url, Token(certificate_digest(leaf), b"0" * 16).text(), out)


def test_an_expired_collector(tmp_path: Path, out: Path) -> None:
    init_authority(tmp_path / "old", NAMES, now=time.time() - 11 * YEAR)
    with Api(tmp_path / "old") as api, pytest.raises(CertificateError, match="has expired"):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), out)
    assert not spent(api)


def test_a_collector_of_another_name(tmp_path: Path, out: Path) -> None:
    init_authority(tmp_path / "named", ["collector.example"])
    with Api(tmp_path / "named") as api, pytest.raises(NameMismatchError, match="does not bear that name"):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), out)
    assert not spent(api)


def test_an_unreachable_collector(folder: Path, out: Path) -> None:
    token = Authority.load(folder).make_token("web1", Role.HOST)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="refused"):
            enroll(f"https://127.0.0.1:{silent.getsockname()[1]}", token, out)
    assert leftovers(out) == []


def test_an_answer_with_somebody_elses_certificate(api: Api, out: Path) -> None:
    api.extra["certificate"] = papers.enrolled(api.authority, "web2").certificate
    with pytest.raises(CertificateError, match="nothing was written"):
        enroll(api.url, api.authority.make_token("web1", Role.HOST), out)
    assert leftovers(out) == []


def test_only_the_secret_is_sent(api: Api, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    redeem = Authority.redeem

    def note(self: Authority, secret: str, request: str, now: float | None = None) -> object:
        sent.extend((secret, request))
        return redeem(self, secret, request, now)

    monkeypatch.setattr(Authority, "redeem", note)
    token = api.authority.make_token("web1", Role.HOST)
    bundle = enroll(api.url, token, out)
    assert sent[0] == parse_token(token).secret_text()
    assert "PRIVATE" not in sent[1]
    assert bundle.key not in sent[1]
