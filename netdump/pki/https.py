"""One request to a collector's API and its answer, for enrolment and renewal.

Owns the bounds on what comes back (64 KiB). What a failure means is for faults.py. Not for bulk data.
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from netdump.client.credentials import NO_CHECK_TIME
from netdump.errors import ImpostorError, RemoteError
from netdump.pki.channel import FAULTS, Channel
from netdump.pki.faults import answered_error, connection_error
from netdump.pki.tls import verifying_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from netdump.pki.endpoint import Endpoint

CA_PATH = "/v1/ca"
ANSWER_MAX = 65536  # bytes


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
    except (ValueError, OverflowError):
        raise RemoteError(f"{endpoint.url} does not say what time it has") from None


def _exchange(
    endpoint: Endpoint, context: ssl.SSLContext, method: str, path: str, body: Mapping[str, str] | None
) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers of the answer."""
    headers = {"Accept": "application/json, application/x-pem-file"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    channel = Channel(endpoint, context, keep=0)
    try:
        answer = channel.ask(method, path, body=None if body is None else json.dumps(body).encode(), headers=headers)
        try:
            data = answer.read(ANSWER_MAX + 1)
        finally:
            answer.close()
    except FAULTS as error:
        raise connection_error(endpoint.url, error) from error
    if len(data) > ANSWER_MAX:
        raise ImpostorError(f"{endpoint.url} answers with more than {ANSWER_MAX} bytes: it is no netdump collector")
    if answer.status != 200:
        raise answered_error(endpoint.url, answer.status, data)
    return data, {name.lower(): value for name, value in answer.headers.items()}


def parse_object(data: bytes, endpoint: Endpoint) -> dict[str, object]:
    """Return the JSON object that the collector answered with. Raises ImpostorError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImpostorError(f"{endpoint.url} does not answer as a netdump collector does: no JSON") from error
    if not isinstance(value, dict):
        raise ImpostorError(f"{endpoint.url} does not answer as a netdump collector does: no JSON object")
    return value
