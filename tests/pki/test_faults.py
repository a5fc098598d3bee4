"""From status, body and exception to the error that says what to do. What arises on real connections: test_api.py."""

from __future__ import annotations

import json
import socket
import ssl
from http.client import IncompleteRead, RemoteDisconnected

import pytest

from netdump import errors
from netdump.errors import (
    BadRequestError,
    CertificateError,
    DamagedError,
    ImpostorError,
    NetdumpError,
    RefusedError,
    UnreachableError,
)
from netdump.pki.faults import MESSAGE_CHARS_MAX, answered_error, connection_error
from netdump.store.findings import DamageFoundError

URL = "https://localhost:7462"


def error_classes(kind: type[NetdumpError] = NetdumpError) -> list[type[NetdumpError]]:
    found = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return found + [inner for each in found for inner in error_classes(each)]


@pytest.mark.parametrize("kind", error_classes())
def test_each_error_of_the_collector_is_the_same_here(kind: type[NetdumpError]) -> None:
    body = json.dumps({"error": {"code": kind.code, "message": "text"}}).encode()
    error = answered_error(URL, 500, body)
    if issubclass(kind, errors.ProtocolError):
        assert type(error) is errors.RemoteError
    else:
        assert type(error) is kind
    assert "text" in str(error)


def test_damage_is_plain_damage_whatever_subclasses_there_are() -> None:
    assert issubclass(DamageFoundError, DamagedError)
    body = b'{"error": {"code": "damaged", "message": "x"}}'
    assert type(answered_error(URL, 500, body)) is DamagedError


def test_long_messages_are_cut() -> None:
    body = json.dumps({"error": {"code": "busy", "message": "x" * 5000}}).encode()
    assert len(str(answered_error(URL, 409, body))) <= MESSAGE_CHARS_MAX + 1


@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (429, True), (408, True), (404, False)])
def test_what_is_tried_again(status: int, *, retryable: bool) -> None:
    assert answered_error(URL, status, b"").retryable is retryable


def test_certificates_outside_their_dates() -> None:
    for code, text in ((10, "has expired"), (9, "not valid yet")):
        cause = ssl.SSLCertVerificationError("x")
        cause.verify_code = code
        error = connection_error(URL, cause)
        assert isinstance(error, CertificateError)
        assert text in str(error)


def test_an_alert_in_mid_stream_is_a_refusal() -> None:
    cause = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] x")
    cause.reason = "TLSV1_ALERT_UNKNOWN_CA"
    assert isinstance(connection_error(URL, cause), RefusedError)


def test_the_port_for_dumps_is_not_that_of_the_api() -> None:
    cause = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x")
    cause.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    error = connection_error(URL, cause)
    assert isinstance(error, BadRequestError)
    assert "calls api" in str(error)


def test_a_name_without_address() -> None:
    error = connection_error(URL, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert isinstance(error, UnreachableError)
    assert str(error) == f"no address is known for {URL}: Name or service not known; is the name right?"


@pytest.mark.parametrize("reason", ["UNEXPECTED_EOF_WHILE_READING", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", None])
def test_a_tls_stream_that_breaks_is_a_cut(reason: str | None) -> None:
    cause = ssl.SSLError(8, "EOF occurred in violation of protocol")
    cause.reason = reason  # type: ignore[assignment]
    assert isinstance(connection_error(URL, cause), UnreachableError)


@pytest.mark.parametrize("reason", ["WRONG_VERSION_NUMBER", "TLSV1_ALERT_PROTOCOL_VERSION", "HTTP_REQUEST"])
def test_what_does_not_speak_tls_1_3_is_no_collector(reason: str) -> None:
    cause = ssl.SSLError(1, "x")
    cause.reason = reason
    assert isinstance(connection_error(URL, cause), ImpostorError)
    # Unless a collector was there before: a flipped bit in a record's header looks the same.
    assert isinstance(connection_error(URL, cause, proven=True), UnreachableError)


def test_a_handshake_that_takes_too_long_is_told_without_where_in_python() -> None:
    here, there = socket.socketpair()
    here.settimeout(0.01)
    with here, there, pytest.raises(TimeoutError) as late:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(here, server_hostname="localhost")
    words = f"no answer from {URL}: The handshake operation timed out; does `netdump serve` run there?"
    assert str(connection_error(URL, late.value)) == words


def test_the_systems_own_words_are_shown() -> None:
    error = connection_error(URL, ConnectionResetError(104, "Connection reset by peer"))
    assert isinstance(error, UnreachableError)
    assert "Connection reset by peer" in str(error)


def test_an_answer_that_is_none_is_told_as_such() -> None:
    assert "IncompleteRead" in str(connection_error(URL, IncompleteRead(b"", 5)))
    assert "RemoteDisconnected" in str(connection_error(URL, RemoteDisconnected("")))
