"""How the API answers: JSON objects, errors as {"error": {"code", "message"}}, and which HTTP status an error has.

Owns the shape of answers. Messages of errors are written for the person at the other end; nothing of a mistake of ours
gets out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

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


def status_of(error: NetdumpError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_answer(error: NetdumpError, status: int | None = None) -> JSONResponse:
    """The answer for an error. status: None for the one that belongs to its class."""
    headers = dict(HEADERS)
    if isinstance(error, TooManyRequestsError):
        headers["retry-after"] = "60"
    body = {"error": {"code": error.code, "message": str(error)}}
    return JSONResponse(body, status_code=status or status_of(error), headers=headers)


def json_answer(content: Mapping[str, object]) -> JSONResponse:
    """The answer for an object."""
    return JSONResponse(content, headers=dict(HEADERS))
