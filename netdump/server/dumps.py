"""API: dumps. Lists, facts, logs, segments, verification, deletion.

Ids and names from a peer are checked by catalog and store before they become part of a path.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Final, TypeVar

import aiofiles
from starlette.responses import Response, StreamingResponse

from netdump.errors import BadRequestError, BusyError, DumpNotFoundError, StorageFaultError
from netdump.index.catalog import PREFIX_DIGITS_MIN
from netdump.index.reading import LIST_LIMIT_MAX, Query, list_json, pack_plan
from netdump.index.record import State, dump_json, parse_time
from netdump.server.answers import HEADERS, Answer, json_answer
from netdump.server.api import Access, Endpoint, Visit
from netdump.server.ranges import Span, UnsatisfiableRangeError, parse_range
from netdump.store.layout import SEGMENTS, checked_id, is_dump_id, segment_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiofiles.threadpool.binary import AsyncBufferedReader
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

LIST_DEFAULT: Final = 100
LIMIT_DIGITS: Final = len(str(LIST_LIMIT_MAX))
PIECE_BYTES: Final = 1 << 20
QUERY_MEMBERS: Final = {"host", "state", "since", "drill", "before", "limit"}

Result = TypeVar("Result")


async def list_dumps(visit: Visit) -> Response:
    """GET /v1/dumps?host=&state=&since=&drill=&limit=&before=, newest first."""
    query = _query(visit)
    records = await asyncio.to_thread(visit.desk.catalog.list, query)
    return json_answer(list_json(records))


async def show_dump(visit: Visit) -> Response:
    """GET /v1/dumps/{id}."""
    record = await asyncio.to_thread(visit.desk.catalog.show, _id(visit))
    return json_answer(dump_json(record))


async def show_log(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/log."""
    text = await asyncio.to_thread(visit.desk.catalog.log, _id(visit))
    visit.note("log-read", dump=_id(visit))
    return Answer(text, media_type="text/plain; charset=utf-8", headers=dict(HEADERS))


async def show_headline(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/headline: the raw document."""
    raw = await asyncio.to_thread(visit.desk.catalog.headline, _id(visit))
    visit.note("headline-read", dump=_id(visit))
    return _octets(raw, "headline")


async def show_receipt(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/receipt: the signed document, byte for byte."""
    document = await asyncio.to_thread(visit.desk.catalog.receipt, _id(visit))
    if document is None:
        raise DumpNotFoundError("the dump has no receipt: it is not complete")
    return Answer(document, media_type="application/json", headers=dict(HEADERS))


async def show_plan(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/plan."""
    plan = await asyncio.to_thread(visit.desk.catalog.plan, _id(visit))
    visit.note("fetch-planned", dump=plan.id)
    body = await asyncio.to_thread(pack_plan, plan)  # of a vast dump it takes seconds
    return Answer(body, media_type="application/json", headers=dict(HEADERS))


async def read_segment(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/segments/{name}, whole or a range of it."""
    name = visit.request.path_params["name"]
    if segment_range(name) is None:
        raise DumpNotFoundError("that is not the name of a segment")
    file = await open_segment(visit, name)
    try:
        size = os.fstat(file.fileno()).st_size
        # Segments carry no validator, so no If-Range can be met: then the whole file is asked for.
        wanted = None if "if-range" in visit.request.headers else visit.request.headers.get("range")
        span = parse_range(wanted, size)
    except UnsatisfiableRangeError:
        await file.close()
        headers = {**HEADERS, "content-range": f"bytes */{size}"}
        return Response(status_code=416, headers=headers)
    headers = {**HEADERS, "accept-ranges": "bytes", "content-type": "application/octet-stream"}
    if span is not None:
        headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{size}"
    part = span or Span(0, size)
    headers["content-length"] = str(part.end - part.start)
    if visit.request.method == "HEAD":
        await file.close()
        return Response(status_code=200 if span is None else 206, headers=headers)
    return FileResponse(file, _pieces(file, part), status_code=200 if span is None else 206, headers=headers)


async def verify_dump(visit: Visit) -> Response:
    """POST /v1/dumps/{id}/verify: read and check everything. The answer comes when that is done."""
    desk = visit.desk
    if desk.verifications.locked():
        raise BusyError("the collector verifies as many dumps as it does at a time: try again later")
    async with desk.verifications:
        visit.note("verification", dump=_id(visit))
        report = await _while_awaited(visit, lambda keep_on: desk.catalog.verify(_id(visit), keep_on))
    return json_answer(report.as_json())


async def _while_awaited(visit: Visit, work: Callable[[Callable[[int], None]], Result]) -> Result:
    """Do long work in a thread, until the collector stops or the peer is gone (BusyError).

    work is given a function to call now and then.
    """
    gone = threading.Event()

    def keep_on(offset: int) -> None:
        visit.desk.keep_on(offset)
        if gone.is_set():
            raise BusyError("whoever asked has gone")

    doing = asyncio.ensure_future(asyncio.to_thread(work, keep_on))
    watch = asyncio.create_task(_end_of(visit.request))
    try:
        await asyncio.wait({doing, watch}, return_when=asyncio.FIRST_COMPLETED)
        gone.set()  # which nothing looks at any more if the work is done
        return await doing
    finally:
        watch.cancel()


async def _end_of(request: Request) -> None:
    """Return when the peer of a request has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def delete_dump(visit: Visit) -> Response:
    """DELETE /v1/dumps/{id}."""
    desk = visit.desk
    visit.note("deletion", dump=_id(visit))
    await asyncio.to_thread(desk.catalog.delete, _id(visit))
    desk.space.poke()
    return json_answer({"deleted": True})


def _id(visit: Visit) -> str:
    return str(visit.request.path_params["id"])


def _octets(raw: bytes | None, what: str) -> Response:
    if raw is None:
        raise DumpNotFoundError(f"the dump has no {what}")
    return Answer(raw, media_type="application/octet-stream", headers=dict(HEADERS))


def _query(visit: Visit) -> Query:
    """What a list is asked for. Raises BadRequestError."""
    asked = visit.request.query_params
    unknown = sorted(set(asked.keys()) - QUERY_MEMBERS)
    if unknown:
        raise BadRequestError(f"unknown parameter {unknown[0]!r}: known are {', '.join(sorted(QUERY_MEMBERS))}")
    limit, state, since, drill, before = (
        asked.get(name) or None for name in ("limit", "state", "since", "drill", "before")
    )
    if limit is not None and not (
        limit.isascii() and limit.isdecimal() and len(limit) <= LIMIT_DIGITS and 1 <= int(limit) <= LIST_LIMIT_MAX
    ):
        raise BadRequestError(f"limit must be 1 to {LIST_LIMIT_MAX}")
    if state is not None and state not in set(State):
        raise BadRequestError(f"state must be one of {', '.join(State)}")
    if drill not in {None, "0", "1"}:
        raise BadRequestError("drill must be 0 or 1")
    if before is not None and not is_dump_id(before):
        raise BadRequestError("before must be a whole dump id")
    try:
        since_s = None if since is None else parse_time(since)
    except ValueError:
        raise BadRequestError("since must be a time such as 2026-01-31T12:00:00Z") from None
    return Query(
        host=asked.get("host") or None,
        state=None if state is None else State(state),
        since=since_s,
        drill=None if drill is None else drill == "1",
        before=before,
        limit=LIST_DEFAULT if limit is None else int(limit),
    )


async def open_segment(visit: Visit, name: str) -> AsyncBufferedReader:
    """The file of a segment whose name has the form of one. Raises DumpNotFoundError, StorageFaultError."""
    asked, store = _id(visit), visit.desk.store
    if len(asked) < PREFIX_DIGITS_MIN:
        raise DumpNotFoundError(f"that is too short: give at least {PREFIX_DIGITS_MIN} digits of the id")
    dump_id = asked if is_dump_id(asked) else await asyncio.to_thread(store.resolve, asked)
    path = store.root / checked_id(dump_id) / SEGMENTS / name
    try:
        return await aiofiles.open(path, "rb", opener=_no_link)
    except FileNotFoundError:
        raise DumpNotFoundError(f"there is no dump {dump_id} with a segment {name}; ask for its plan again") from None
    except OSError as error:
        raise StorageFaultError(f"segment {name} of dump {dump_id} cannot be read: {error.strerror}") from error


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


class FileResponse(StreamingResponse):
    """Pieces that are made of a file, which is closed when the answer is over, however it ends."""

    def __init__(
        self, file: AsyncBufferedReader, pieces: AsyncIterator[bytes], *, status_code: int, headers: dict[str, str]
    ) -> None:
        super().__init__(pieces, status_code=status_code, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Implements ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._file.close()


async def _pieces(file: AsyncBufferedReader, span: Span) -> AsyncIterator[bytes]:
    """The bytes of a span. A file that has become shorter ends the connection: the length was promised."""
    await file.seek(span.start)
    left = span.end - span.start
    while left and (piece := await file.read(min(PIECE_BYTES, left))):
        left -= len(piece)
        yield piece


ENDPOINTS = (
    Endpoint("GET", "/v1/dumps", Access.READER, list_dumps),
    Endpoint("GET", "/v1/dumps/{id}", Access.READER, show_dump),
    Endpoint("DELETE", "/v1/dumps/{id}", Access.OPERATOR, delete_dump),
    Endpoint("GET", "/v1/dumps/{id}/log", Access.READER, show_log),
    Endpoint("GET", "/v1/dumps/{id}/headline", Access.READER, show_headline),
    Endpoint("GET", "/v1/dumps/{id}/receipt", Access.READER, show_receipt),
    Endpoint("GET", "/v1/dumps/{id}/plan", Access.READER, show_plan),
    Endpoint("GET", "/v1/dumps/{id}/segments/{name}", Access.READER, read_segment),
    Endpoint("POST", "/v1/dumps/{id}/verify", Access.READER, verify_dump),
)
