"""The HTTPS API: which address does what, for whom (the table), and the frame around every request.

Owns routes, roles and limits. What a request does is in enrolment.py and dumps.py. The peer's certificate comes with
the connection (https.py); TLS has checked its authority and dates.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from netdump.errors import (
    BadRequestError,
    BusyError,
    CertificateError,
    ForbiddenError,
    NetdumpError,
    TooManyRequestsError,
)
from netdump.pki import Authority, Identity, Role
from netdump.server.answers import error_answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from netdump.index.catalog import LocalCatalog
    from netdump.index.packing import Packer
    from netdump.server.audit import Audit
    from netdump.server.config import Address, Config
    from netdump.server.ratelimit import RateLimit
    from netdump.server.space import SpaceWatch
    from netdump.store.store import Store

PACKINGS_MAX: Final = max(1, (os.cpu_count() or 1) // 2)
"""Pieces that are compressed for analysts at a time: hosts that crash have the other CPUs."""

BODY_MAX: Final = 16 * 1024  # a token and a signing request have about 1 KiB

RENEWALS_PER_DAY: Final = 24
"""Of one name, which needs one in a year. Each leaves a file, and takes its time when the name is revoked."""


class Access(Enum):
    """Who may make a request. Roles beyond those named may not."""

    ANYBODY = frozenset[Role]()
    ANY_ROLE = frozenset({Role.HOST, Role.ANALYST, Role.OPERATOR})
    READER = frozenset({Role.ANALYST, Role.OPERATOR})
    OPERATOR = frozenset({Role.OPERATOR})


@dataclass(frozen=True, slots=True)
class Desk:
    """What requests are answered with.

    opened: the catalog; raises BusyError while it is not there yet. strangers: the audit for what fails before it is
    known who asks, and for what hosts cannot do. ingest_address: asked for at each enrolment, because the system may
    have chosen the port. packers: those that are idle.
    """

    authority: Authority
    opened: Callable[[], LocalCatalog]
    store: Store
    config: Config
    space: SpaceWatch
    audit: Audit
    strangers: Audit
    ingest_address: Callable[[], Address]
    enrolments: RateLimit
    renewals: RateLimit
    renewals_by_day: RateLimit
    verifications: asyncio.Semaphore
    packings: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PACKINGS_MAX))
    packers: list[Packer] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def catalog(self) -> LocalCatalog:
        """What dumps are read through. Raises BusyError while it is not there yet."""
        return self.opened()

    def keep_on(self, offset: int) -> None:  # noqa: ARG002  # a progress callback
        """Called by long work in threads: raises BusyError once the collector stops."""
        if self.stopping.is_set():
            raise BusyError("the collector stops; ask again when it is back")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, after it was found to be allowed. identity: None only where anybody may come."""

    request: Request
    desk: Desk
    identity: Identity | None

    @property
    def peer(self) -> str:
        """The peer's address, "" if it is gone already."""
        client = self.request.client
        return "" if client is None else client.host

    def certificate(self) -> bytes:
        """The peer's certificate (DER). Raises CertificateError without one."""
        der = self.request.state.certificate
        if not isinstance(der, bytes):
            raise CertificateError("this needs a client certificate: enroll with `netdump enroll`")
        return der

    def note(self, event: str, **fields: str | int | None) -> None:
        """Log who does what."""
        self.desk.audit(event, **self._who, **fields)

    def note_failure(self, **fields: str) -> None:
        """Log who could not do what. Readers are answered for; hosts may be hostile, and fill no log either."""
        is_reader = self.identity is not None and self.identity.role is not Role.HOST
        (self.desk.audit if is_reader else self.desk.strangers)("request-failed", **self._who, **fields)

    @property
    def _who(self) -> dict[str, str]:
        who = {} if self.identity is None else {"role": str(self.identity.role), "name": self.identity.name}
        return {"peer": self.peer, **who}

    async def body(self) -> dict[str, str]:
        """The JSON object of texts that was sent. Raises BadRequestError."""
        data = bytearray()
        try:
            async for piece in self.request.stream():
                data += piece
                if len(data) > BODY_MAX:
                    raise BadRequestError(f"the request is larger than {BODY_MAX} bytes")
        except ClientDisconnect:
            raise BadRequestError("the request broke off") from None
        try:
            value = json.loads(bytes(data))
        except (ValueError, RecursionError):
            raise BadRequestError("the request is not JSON") from None
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise BadRequestError("the request is not a JSON object of texts")
        return value

    def count_against_limit(self) -> None:
        """Count a request for a certificate: strangers by address, others by name. Raises TooManyRequestsError."""
        now = asyncio.get_running_loop().time()
        # A person and a host may have one name: neither is to use up what the other has.
        holder = "" if self.identity is None else f"{self.identity.role} {self.identity.name}"
        if self.identity is None:
            allowed, what = self.desk.enrolments.allow(self.peer, now), "enrolment"
        elif self.desk.renewals_by_day.allow(holder, now):
            allowed, what = self.desk.renewals.allow(holder, now), "renewal"
        else:
            raise TooManyRequestsError(
                f"{self.identity.name} has asked for renewal {RENEWALS_PER_DAY} times in a day; try again in an hour"
            )
        if not allowed:
            raise TooManyRequestsError(f"too many {what} requests; try again in a minute")


Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table of routes."""

    method: str
    path: str
    access: Access
    handler: Handler


def build_app(desk: Desk, endpoints: tuple[Endpoint, ...]) -> Starlette:
    """The ASGI application."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    app = Starlette(
        routes=[
            Route(path, _frame(desk, methods), methods=list(methods), include_in_schema=False)
            for path, methods in by_path.items()
        ],
        exception_handlers={HTTPException: _http_error, Exception: _mistake},
    )
    app.router.redirect_slashes = False  # there is one address for each thing
    return app


def _frame(desk: Desk, methods: dict[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        # Starlette adds HEAD wherever there is GET.
        endpoint = methods["GET" if request.method == "HEAD" else request.method]
        visit = Visit(request, desk, None)
        try:
            visit = Visit(request, desk, await _identify(request, desk, endpoint.access))
            return await endpoint.handler(visit)
        except NetdumpError as error:
            visit.note_failure(method=request.method, path=request.url.path, code=error.code, reason=_why(error))
            return error_answer(error)

    return answer


async def _identify(request: Request, desk: Desk, access: Access) -> Identity | None:
    """Who asks, if that is allowed; anew for each request. Raises CertificateError, RevokedError, ForbiddenError."""
    if access is Access.ANYBODY:
        return None
    identity = await asyncio.to_thread(desk.authority.admit, request.state.certificate)
    if identity.role not in access.value:
        allowed = " or ".join(sorted(access.value))
        raise ForbiddenError(
            f"{identity.name} has the role {identity.role}, which may not do this: enroll with a token for {allowed}"
        )
    return identity


def _why(error: NetdumpError) -> str:
    """What the log says, and the peer does not learn: what is wrong with a token."""
    return str(getattr(error, "detail", "") or error)


async def _mistake(request: Request, error: Exception) -> Response:  # noqa: ARG001  # Starlette's signature
    """Ours. Starlette raises it again once this is answered, and so it gets into the log."""
    return error_answer(NetdumpError("the collector made a mistake; its log says which"))


async def _http_error(request: Request, error: Exception) -> Response:  # noqa: ARG001  # Starlette's signature
    assert isinstance(error, HTTPException)
    return error_answer(
        BadRequestError(
            f"this collector knows no such request ({error.detail}): if your netdump is newer than the collector's, "
            "upgrade the collector"
        ),
        error.status_code,
    )
