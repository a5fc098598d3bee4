"""What can go wrong between anybody and a collector's API, as our errors: what it answered, what TLS and sockets say.

Owns the way back from an error object to the class it was raised as over there. Must not make requests.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final

from netdump.client.credentials import NAME_MISMATCH
from netdump.errors import (
    BadRequestError,
    CertificateError,
    ForbiddenError,
    ImpostorError,
    NameMismatchError,
    NetdumpError,
    ProtocolError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from netdump.pki.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE_CHARS_MAX: Final = 500
ERROR_BYTES_MAX: Final = 65536

# Verification results of OpenSSL (include/openssl/x509_vfy.h).
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10

# Reasons of OpenSSL, as Python's ssl names them.
_NO_TLS13: Final = re.compile(
    r"WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|HTTP_REQUEST|PROTOCOL_VERSION|HANDSHAKE_FAILURE|NO_APPLICATION_PROTOCOL|"
    r"PACKET_LENGTH_TOO_LONG"
)
_REFUSAL: Final = re.compile(r"ALERT.*(?:CERT|UNKNOWN_CA|ACCESS_DENIED)")
_PLACE_IN_SSL: Final = re.compile(r"^_ssl\.c:[0-9]+: ")  # which Python puts before a handshake that timed out


def _subclasses(kind: type[NetdumpError]) -> Iterator[type[NetdumpError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _subclasses(each)


# Only what netdump.errors defines: subclasses elsewhere share a code and cannot be made of a message alone.
_BY_CODE: Final = {
    kind.code: kind
    for kind in _subclasses(NetdumpError)
    if kind.__module__ == NetdumpError.__module__ and not issubclass(kind, ProtocolError)
}


def answered_error(url: str, status: int, body: bytes) -> NetdumpError:
    """The error that an answer with another status than 200 or 206 stands for. body: at most ERROR_BYTES_MAX of it."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None  # an error page of something in between; the status has to do
    detail = answer.get("error") if isinstance(answer, dict) else None
    code, message = (detail.get("code"), detail.get("message")) if isinstance(detail, dict) else (None, None)
    text = printable(message, MESSAGE_CHARS_MAX) if isinstance(message, str) else ""
    kind = _BY_CODE.get(code) if isinstance(code, str) else None
    if kind is not None and kind is not NetdumpError:
        return kind(text or f"{url} refuses: {kind.code}")
    text = f"{url} answers with status {status}" + (f": {text}" if text else "")
    if status in {401, 403}:
        return ForbiddenError(text)
    if 300 <= status < 500 and status not in {408, 429}:
        return BadRequestError(f"{text}; is that the collector's API?")
    return RemoteError(text)


def connection_error(url: str, error: Exception, *, proven: bool = False) -> NetdumpError:
    """The error that a failed or broken connection stands for.

    error: one of channel.FAULTS. proven: a collector has answered there before, so that what is no TLS now comes from
    a damaged stream.
    """
    if isinstance(error, ssl.SSLError):
        return _tls_error(url, error, proven)
    if isinstance(error, socket.gaierror):
        return UnreachableError(f"no address is known for {url}: {error.strerror}; is the name right?")
    text = error.strerror if isinstance(error, OSError) and error.strerror else _PLACE_IN_SSL.sub("", str(error))
    return _unreachable(url, printable(text or type(error).__name__, 300))


def _tls_error(url: str, error: ssl.SSLError, proven: bool) -> NetdumpError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_error(url, error)
    reason = error.reason or "TLS broke off"
    words = printable(reason.lower().replace("_", " "), 200)
    if not proven and _NO_TLS13.search(reason):
        return ImpostorError(f"what answers at {url} does not speak TLS 1.3 ({words}): it is no netdump collector")
    if "CERTIFICATE_REQUIRED" in reason:  # the API asks for one, and does without; where dumps go it is a must
        where = "dumps go there; ask at the port that `netdump serve` calls api"
        return BadRequestError(f"{url} lets nobody in without a certificate: {where}")
    if _REFUSAL.search(reason):  # with TLS 1.3 it comes after the handshake, in place of an answer
        return RefusedError(f"the collector at {url} refuses this certificate ({words}): enroll with a new token")
    # Whatever else ends a TLS connection, such as an end without goodbye or a damaged record, is the network's doing.
    return _unreachable(url, words)


def _unreachable(url: str, words: str) -> UnreachableError:
    return UnreachableError(f"no answer from {url}: {words}; does `netdump serve` run there?")


def _verification_error(url: str, error: ssl.SSLCertVerificationError) -> NetdumpError:
    whose = f"the certificate of the collector at {url}"
    if error.verify_code == _EXPIRED:
        return CertificateError(
            f"{whose} has expired: renew it there with `netdump renew --collector DIR`, unless this clock is wrong"
        )
    if error.verify_code == _NOT_YET_VALID:
        return CertificateError(f"{whose} is not valid yet: check the clocks of this machine and of the collector")
    if error.verify_code in NAME_MISMATCH:
        return NameMismatchError(
            f"{whose} does not bear that name: use one that was given to `netdump init --name`, or add it there with "
            "`netdump renew --collector`"
        )
    return ImpostorError(f"who answers at {url} is not the collector: {error.verify_message}")
