"""How the API answers: JSON objects, errors as {"error": {"code", "message"}}, and which HTTP status an error has.

Owns the shape of answers. Messages of errors are written for the person at the other end; nothing of a mistake of ours
gets out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response

from netdump.errors import (
    AmbiguousIdError,
    BadNameError,
    BadRequestError,
    BusyError,
    CertificateError,
    DumpNotFoundError,
    ForbiddenError,
    IncompleteDumpError,
    NameMismatchError,
    NetdumpError,
    OwnerError,
    RevokedError,
    SigningRequestError,
    StorageFaultError,
    TokenError,
    TooManyRequestsError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

PIECE_BYTES: Final = 64 * 1024
"""What a reader must take of a long answer within stall_s, about twice."""

HEADERS: Mapping[str, str] = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

# The first class that fits counts; whatever is not here is 500.
STATUS: tuple[tuple[type[NetdumpError], int], ...] = (
    (DumpNotFoundError, 404),
    (AmbiguousIdError, 409),
    (IncompleteDumpError, 409),
    (BusyError, 409),
    (StorageFaultError, 503),
    (OwnerError, 403),
    (TokenError, 403),
    (NameMismatchError, 403),
    (RevokedError, 403),
    (CertificateError, 403),
    (BadNameError, 400),
    (SigningRequestError, 400),
    (TooManyRequestsError, 429),
    (ForbiddenError, 403),
    (BadRequestError, 400),
)


class Answer(Response):
    """An answer that is given to the network piece by piece, so that who reads it slowly is seen to read.

    A log may have 8 MiB, a plan more.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        """Implements ASGI."""
        body = memoryview(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(body), PIECE_BYTES):
            piece = bytes(body[start : start + PIECE_BYTES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


class _JsonAnswer(Answer, JSONResponse):
    """An object."""


def status_of(error: NetdumpError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_answer(error: NetdumpError, status: int | None = None) -> Response:
    """The answer for an error. status: None for the one that belongs to its class."""
    headers = dict(HEADERS)
    if isinstance(error, TooManyRequestsError):
        headers["retry-after"] = "60"
    body = {"error": {"code": error.code, "message": str(error)}}
    return _JsonAnswer(body, status_code=status or status_of(error), headers=headers)


def json_answer(content: Mapping[str, object]) -> Response:
    """The answer for an object."""
    return _JsonAnswer(content, headers=dict(HEADERS))
