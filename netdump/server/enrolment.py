"""API: the authority's certificate, enrolment with a token, renewal. The only part of the API that strangers reach."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING

from starlette.responses import Response

from netdump.errors import BadRequestError
from netdump.server.answers import HEADERS, json_answer
from netdump.server.api import Access, Endpoint, Visit

if TYPE_CHECKING:
    from netdump.pki.authority import Issue


async def show_authority(visit: Visit) -> Response:
    """GET /v1/ca. Tells the time as well: hosts compare their clocks with it (`netdump doctor`)."""
    headers = {**HEADERS, "date": formatdate(usegmt=True)}
    return Response(visit.desk.authority.ca_pem, media_type="application/x-pem-file", headers=headers)


async def enroll(visit: Visit) -> Response:
    """POST /v1/enroll {"token": secret, "csr": PEM}."""
    visit.count_against_limit()
    token, request = await _members(visit, "token", "csr")
    issue = await asyncio.to_thread(visit.desk.authority.redeem, token, request)
    visit.note("enrolled", enrolled=issue.name, as_role=str(issue.role), fingerprint=issue.fingerprint)
    return _issued(visit, issue)


async def renew(visit: Visit) -> Response:
    """POST /v1/renew {"csr": PEM}."""
    visit.count_against_limit()
    (request,) = await _members(visit, "csr")
    issue = await asyncio.to_thread(visit.desk.authority.renew, visit.certificate(), request)
    visit.note("renewed", fingerprint=issue.fingerprint)
    return _issued(visit, issue)


async def _members(visit: Visit, *names: str) -> list[str]:
    body = await visit.body()
    missing = [name for name in names if name not in body]
    if missing:
        raise BadRequestError(f"the request lacks {' and '.join(missing)}")
    return [body[name] for name in names]


def _issued(visit: Visit, issue: Issue) -> Response:
    desk = visit.desk
    return json_answer(
        {
            "name": issue.name,
            "role": str(issue.role),
            "certificate": issue.certificate,
            "ca": issue.ca,
            "ingest_port": desk.ingest_address().port,
            "advertise": [str(address) for address in desk.config.ingest.advertise],
        }
    )


ENDPOINTS = (
    Endpoint("GET", "/v1/ca", Access.ANYBODY, show_authority),
    Endpoint("POST", "/v1/enroll", Access.ANYBODY, enroll),
    Endpoint("POST", "/v1/renew", Access.ANY_ROLE, renew),
)
