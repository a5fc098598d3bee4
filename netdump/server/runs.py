"""API: the run tables of a dump, as a stream: which part of the image is in which state.

Owns the stream: tables are read in threads while it goes on, and no more than the peer takes.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from netdump.index.runstream import pack_stream
from netdump.server.answers import HEADERS
from netdump.server.api import Access, Endpoint, Visit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from starlette.types import Receive, Scope, Send

    from netdump.server.api import Desk
    from netdump.store.runtables import RunTable


async def read_runs(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/runs: the run tables of all chunks that are durable. Analysts and operators.

    application/octet-stream in the form of netdump.index.runstream, of unknown length. Nothing is decompressed for it,
    so the tables are as good as the disk they lie on; their form is checked. What goes wrong before the first piece is
    answered as an error, what comes later stands at the end of the stream.
    """
    dump_id = str(visit.request.path_params["id"])
    tables = await asyncio.to_thread(visit.desk.catalog.run_tables, dump_id)
    headers = {**HEADERS, "content-type": "application/octet-stream"}
    if visit.request.method == "HEAD":
        return Response(headers=headers)
    visit.note("runs-read", dump=dump_id)
    stream = _Stream(_until_stop(tables, visit.desk))
    return _RunsResponse(stream, await stream.step(), headers)


def _until_stop(tables: Generator[RunTable, None, None], desk: Desk) -> Generator[RunTable, None, None]:
    """The tables, until the collector stops (BusyError)."""
    with closing(tables):
        for table in tables:
            desk.keep_on(table.offset)
            yield table


class _Stream:
    """Steps through the stream in threads, one at a time, also when who waits for a step goes away."""

    def __init__(self, tables: Generator[RunTable, None, None]) -> None:
        self._tables = tables
        self._pieces = pack_stream(tables)
        self._guard = threading.Lock()

    async def step(self) -> bytes | None:
        """The next piece, None at the end."""
        return await asyncio.to_thread(self._step)

    async def close(self) -> None:
        """Give everything back, behind a step that may still be under way."""
        await asyncio.to_thread(self._close)

    def _step(self) -> bytes | None:
        with self._guard:
            return next(self._pieces, None)

    def _close(self) -> None:
        with self._guard:
            self._pieces.close()
            self._tables.close()


class _RunsResponse(StreamingResponse):
    """The stream as an answer; it is closed when the answer is over, however it ends."""

    def __init__(self, stream: _Stream, first: bytes | None, headers: dict[str, str]) -> None:
        super().__init__(_pieces(stream, first), headers=headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.close()


async def _pieces(stream: _Stream, first: bytes | None) -> AsyncIterator[bytes]:
    piece = first
    while piece is not None:
        yield piece
        piece = await stream.step()


ENDPOINTS = (Endpoint("GET", "/v1/dumps/{id}/runs", Access.READER, read_runs),)
