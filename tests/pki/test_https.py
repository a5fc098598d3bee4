"""One request to a collector: every failure has its own error, and what comes back is bounded."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from netdump.errors import (
    BadRequestError,
    CertificateError,
    ForbiddenError,
    ImpostorError,
    NameMismatchError,
    NetdumpError,
    RefusedError,
    RemoteError,
    RevokedError,
    TokenError,
    UnreachableError,
)
from netdump.pki import Authority, Role, client_context, init_authority
from netdump.pki.endpoint import Endpoint
from netdump.pki.https import ANSWER_MAX, call, collector_time, parse_object
from netdump.pki.tls import unverified_context, verifying_context
from tests.pki import papers
from tests.pki.api import Api
from tests.pki.conftest import NAMES

if TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86400


def get(api: Api, path: str = "/v1/ca") -> bytes:
    return call(Endpoint.parse(api.url), verifying_context(api.authority.ca_pem), "GET", path)


def test_a_good_answer(api: Api) -> None:
    assert get(api) == api.authority.ca_pem.encode()


def test_the_time_of_the_collector(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Api(folder) as api:
        endpoint, ca = Endpoint.parse(api.url), api.authority.ca_pem
        assert abs(collector_time(endpoint, ca) - time.time()) < 60
        for text in ("", "noon", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"):
            monkeypatch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda *_, text=text: text)
            with pytest.raises(RemoteError, match="does not say what time it has"):
                collector_time(endpoint, ca)


def test_an_unverified_request_warns_nobody(api: Api) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call(Endpoint.parse(api.url), unverified_context(), "GET", "/v1/ca")
    assert seen == []


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "token", TokenError),
        (403, "revoked", RevokedError),
        (400, "name-mismatch", NameMismatchError),
        (403, "forbidden", ForbiddenError),
        (403, "something-new", ForbiddenError),
        (401, "", ForbiddenError),
        (400, "something-new", BadRequestError),
        (404, "", BadRequestError),
        (302, "", BadRequestError),
        (429, "", RemoteError),
        (500, "internal", RemoteError),
        (503, "", RemoteError),
        (204, "", RemoteError),
    ],
)
def test_errors_of_the_collector(api: Api, status: int, code: str, error: type[NetdumpError]) -> None:
    body = json.dumps({"error": {"code": code, "message": "it says so"}}).encode()
    if status == 204:
        body = b""
    api.answers["/v1/ca"] = (status, body)
    with pytest.raises(NetdumpError, match="status 204" if status == 204 else "it says so") as caught:
        get(api)
    assert caught.type is error


@pytest.mark.parametrize(
    "body", [b"", b"<html>nginx</html>", b"[]", b'{"error": 7}', b'{"error": {}}', b"\xff", b"[" * 60000]
)
def test_errors_of_something_in_between(api: Api, body: bytes) -> None:
    api.answers["/v1/ca"] = (404, body)
    with pytest.raises(BadRequestError, match="status 404"):
        get(api)


def test_text_of_the_collector_is_harmless(api: Api) -> None:
    message = "\x1b]0;owned\x07" + "x" * 5000
    api.answers["/v1/ca"] = (403, json.dumps({"error": {"code": "token", "message": message}}).encode())
    with pytest.raises(TokenError) as caught:
        get(api)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1100


def test_a_long_answer_is_cut_off(api: Api) -> None:
    api.answers["/v1/ca"] = (200, b"x" * ANSWER_MAX)
    assert len(get(api)) == ANSWER_MAX
    api.answers["/v1/ca"] = (200, b"x" * (ANSWER_MAX + 1))
    with pytest.raises(ImpostorError, match="more than 65536 bytes"):
        get(api)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(UnreachableError, match="refused"):
            call(endpoint, unverified_context(), "GET", "/v1/ca")


def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UnreachableError, match=r"https://collector\.invalid:7462"):
        call(Endpoint("collector.invalid"), unverified_context(), "GET", "/v1/ca")


def serve_once(reply: bytes) -> tuple[threading.Thread, int]:
    """Answer one connection with bytes that are no TLS, then close."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(reply)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, listener.getsockname()[1]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", ImpostorError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ImpostorError),
        (b"", NetdumpError),
    ],
)
def test_something_else_answers(reply: bytes, error: type[NetdumpError]) -> None:
    thread, port = serve_once(reply)
    with pytest.raises(error):
        call(Endpoint("127.0.0.1", port), unverified_context(), "GET", "/v1/ca")
    thread.join()


def test_an_impostor(folder: Path, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    with Api(tmp_path / "other") as other, pytest.raises(ImpostorError, match="is not the collector"):
        call(Endpoint.parse(other.url), verifying_context(Authority.load(folder).ca_pem), "GET", "/v1/ca")


def test_another_name(api: Api, tmp_path: Path) -> None:
    init_authority(tmp_path / "named", ["collector.example"])
    with Api(tmp_path / "named") as named:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(NameMismatchError, match="netdump init --name"):
                call(Endpoint(host, named.port), verifying_context(named.authority.ca_pem), "GET", "/v1/ca")


@pytest.mark.parametrize(("years", "words"), [(-11, "has expired"), (1, "not valid yet")])
def test_dates(tmp_path: Path, years: int, words: str) -> None:
    init_authority(tmp_path, NAMES, now=time.time() + years * YEAR)
    with Api(tmp_path) as api, pytest.raises(CertificateError, match=words):
        get(api)


def test_an_older_tls(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(folder / "pki" / "collector.crt", folder / "pki" / "collector.key")
    with Api(folder, context) as api, pytest.raises(NetdumpError) as caught:
        get(api)
    assert caught.type in {ImpostorError, RefusedError}


def test_our_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    init_authority(tmp_path / "other", NAMES)
    bundle = papers.enrolled(Authority.load(tmp_path / "other"), "web1", Role.HOST)
    with Api(folder) as api:
        context = client_context(bundle)
        context.load_verify_locations(cadata=api.authority.ca_pem)
        # What arrives first, the alert or the end of the connection, is not in our hands.
        with pytest.raises((RefusedError, UnreachableError)):
            call(Endpoint.parse(api.url), context, "POST", "/v1/renew", {"csr": "x"})


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"null", b"\xff\xfe", b"{", b"[" * 60000, b'{"a": 1} x'])
def test_objects_only(data: bytes) -> None:
    with pytest.raises(ImpostorError, match="does not answer as a netdump collector"):
        parse_object(data, Endpoint("collector.example"))
    assert parse_object(b'{"a": 1}', Endpoint("collector.example")) == {"a": 1}
