"""One request to a collector's API and its answer, for enrolment and renewal.

Owns the bounds on what comes back (64 KiB) and turning every failure into the netdump error that says what to do. Not
for bulk data.
"""

from __future__ import annotations

import json
import ssl
import warnings
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from netdump import __version__
from netdump.errors import (
    BadNameError,
    BadRequestError,
    CertificateError,
    ForbiddenError,
    ImpostorError,
    NameMismatchError,
    NetdumpError,
    RefusedError,
    RemoteError,
    RevokedError,
    SigningRequestError,
    TokenError,
    UnreachableError,
)
from netdump.pki.names import printable
from netdump.pki.tls import NO_CHECK_TIME, verifying_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netdump.pki.endpoint import Endpoint

CA_PATH = "/v1/ca"
ANSWER_MAX = 65536  # bytes
CONNECT_TIMEOUT = 10.0  # seconds
ANSWER_TIMEOUT = 30.0  # seconds without a byte

# Verification results of OpenSSL (include/openssl/x509_vfy.h).
NOT_YET_VALID = 9
EXPIRED = 10
NAME_MISMATCH = {62, 64}  # host name, IP address

# What the collector's error codes are here.
BY_CODE: Mapping[str, type[NetdumpError]] = {
    error.code: error
    for error in (
        BadNameError,
        BadRequestError,
        CertificateError,
        ForbiddenError,
        NameMismatchError,
        RevokedError,
        SigningRequestError,
        TokenError,
    )
}


def call(
    endpoint: Endpoint, context: ssl.SSLContext, method: str, path: str, body: Mapping[str, str] | None = None
) -> bytes:
    """Make one request on a connection of its own and return the body of the answer, at most 64 KiB.

    path: ours, never a peer's. body: sent as JSON. Raises UnreachableError, ImpostorError, NameMismatchError or
    CertificateError for a connection that cannot be made or trusted, RefusedError if the collector does not take our
    certificate, and what the collector answered.
    """
    return _exchange(endpoint, context, method, path, body)[0]


def collector_time(endpoint: Endpoint, ca: str) -> float:
    """What time the collector has: seconds since 1970, by the second. ca: PEM of the authority.

    The dates of its certificate are left aside, for it is the clocks that are in doubt. Raises as call() does, and
    RemoteError if the answer has no time.
    """
    context = verifying_context(ca)
    context.verify_flags |= NO_CHECK_TIME
    text = _exchange(endpoint, context, "GET", CA_PATH, None)[1].get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        raise RemoteError(f"{endpoint.url} does not say what time it has") from None


def _exchange(
    endpoint: Endpoint, context: ssl.SSLContext, method: str, path: str, body: Mapping[str, str] | None
) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers of the answer."""
    headers = {"User-Agent": f"netdump/{__version__}", "Accept": "application/json, application/x-pem-file"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=ANSWER_TIMEOUT)
    pool = urllib3.HTTPSConnectionPool(
        endpoint.host, endpoint.port, ssl_context=context, timeout=timeout, retries=False, maxsize=1
    )
    try:
        with pool, warnings.catch_warnings():
            # The one unverified request is made on purpose; what it brings is checked against the token.
            warnings.simplefilter("ignore", InsecureRequestWarning)
            response = pool.urlopen(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                redirect=False,
                preload_content=False,
            )
            data = response.read(ANSWER_MAX + 1, decode_content=False)
            response.close()
    except HTTPError as error:
        raise _connection_error(error, endpoint) from error
    if len(data) > ANSWER_MAX:
        raise ImpostorError(f"{endpoint.url} answers with more than {ANSWER_MAX} bytes: it is no netdump collector")
    if response.status != 200:
        raise _answered_error(endpoint, response.status, data)
    return data, response.headers


def parse_object(data: bytes, endpoint: Endpoint) -> dict[str, object]:
    """Return the JSON object that the collector answered with. Raises ImpostorError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImpostorError(f"{endpoint.url} does not answer as a netdump collector does: no JSON") from error
    if not isinstance(value, dict):
        raise ImpostorError(f"{endpoint.url} does not answer as a netdump collector does: no JSON object")
    return value


def _answered_error(endpoint: Endpoint, status: int, data: bytes) -> NetdumpError:
    code = message = ""
    try:
        detail = parse_object(data, endpoint).get("error")
    except ImpostorError:
        detail = None  # an error page of something in between; the status has to do
    if isinstance(detail, dict):
        code, message = str(detail.get("code", "")), printable(str(detail.get("message", "")))
    if code in BY_CODE:
        return BY_CODE[code](message or f"{endpoint.url} refuses: {code}")
    text = f"{endpoint.url} answers with status {status}" + (f": {message}" if message else "")
    if status in {401, 403}:
        return ForbiddenError(text)
    if 300 <= status < 500 and status != 429:
        return BadRequestError(f"{text}; is that the collector's API?" if not message else text)
    return RemoteError(text)


def _connection_error(error: HTTPError, endpoint: Endpoint) -> NetdumpError:
    # urllib3 wraps the system's error, whose text says most, in one of its own that repeats the address. With TLS 1.3 a
    # client learns only after its handshake that its certificate is refused, so an alert may come wrapped as anything.
    causes = [each for each in (error.__cause__, *error.args) if isinstance(each, BaseException)]
    tls = next((each for each in causes if isinstance(each, ssl.SSLError)), None)
    if tls is not None or isinstance(error, urllib3.exceptions.SSLError):
        return _tls_error(tls, str(error), endpoint)
    inner = causes[0] if causes else error
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return UnreachableError(f"no answer from {endpoint.url}: {printable(text, 300)}; does `netdump serve` run there?")


def _tls_error(cause: ssl.SSLError | None, text: str, endpoint: Endpoint) -> NetdumpError:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _verification_error(cause, endpoint)
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return UnreachableError(
            f"{endpoint.url} ended the connection and did not say why: if it does so again, the collector's log tells"
        )
    reason = (cause.reason if cause is not None else None) or text
    if "ALERT" in reason:
        return RefusedError(
            f"the collector at {endpoint.url} refuses this certificate ({_words(reason)}): enroll with a new token"
        )
    return ImpostorError(
        f"what answers at {endpoint.url} does not speak TLS 1.3 ({_words(reason)}): it is no netdump collector"
    )


def _verification_error(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> NetdumpError:
    whose = f"the certificate of the collector at {endpoint.url}"
    if error.verify_code == EXPIRED:
        return CertificateError(f"{whose} has expired: it needs another, or this clock is wrong")
    if error.verify_code == NOT_YET_VALID:
        return CertificateError(f"{whose} is not valid yet: check the clocks of this machine and of the collector")
    if error.verify_code in NAME_MISMATCH:
        return NameMismatchError(f"{whose} does not bear that name: use one that was given to `netdump init --name`")
    return ImpostorError(f"who answers at {endpoint.url} is not the collector: {error.verify_message}")


def _words(reason: str) -> str:
    return printable(reason.lower().replace("_", " "), 200)
