"""API: what is left of a segment, packed for an analyst behind a slow network.

Owns when pieces are read and compressed: one by one, as fast as they are taken, in threads, a few at a time for all;
and only where the network is slower than that. The form is netdump.index.packing's.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from netdump.errors import BadRequestError, DumpNotFoundError
from netdump.index.packing import PIECE_BYTES, Packer, stored_head
from netdump.server.answers import HEADERS
from netdump.server.api import Access, Endpoint, Visit
from netdump.server.dumps import FileResponse, open_segment
from netdump.store.layout import segment_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiofiles.threadpool.binary import AsyncBufferedReader

    from netdump.client.tcpinfo import DeliveryRate
    from netdump.server.api import Desk

FAST: Final = 150e6
"""Bytes a second from which on nothing is compressed: more than a gigabit. It would take longer than sending."""

_DIGITS_MAX: Final = 15  # of a position: a petabyte


async def read_packed(visit: Visit) -> Response:
    """GET /v1/dumps/{id}/segments/{name}/packed?from=N&always=1: the segment file from byte N (default 0) on, packed.

    always: also if the network is faster than compressing.
    """
    name, start = visit.request.path_params["name"], visit.request.query_params.get("from", "0")
    always = visit.request.query_params.get("always") == "1"
    if segment_range(name) is None:
        raise DumpNotFoundError("that is not the name of a segment")
    if not start.isascii() or not start.isdecimal() or len(start) > _DIGITS_MAX:
        raise BadRequestError("from must be a position in the segment, in bytes")
    headers = {**HEADERS, "content-type": "application/octet-stream"}
    file = await open_segment(visit, name)
    if visit.request.method == "HEAD":
        await file.close()
        return Response(headers=headers)
    records = _records(file, int(start), visit, always=always)
    return FileResponse(file, records, status_code=200, headers=headers)


async def _records(file: AsyncBufferedReader, start: int, visit: Visit, *, always: bool) -> AsyncIterator[bytes]:
    """The records from byte start on. Until the network has shown that it is slow nothing is compressed."""
    network: DeliveryRate = visit.request.state.network
    # Not behind the end: a file system that has no files so long takes that for a mistake.
    await file.seek(min(start, os.fstat(file.fileno()).st_size))
    while piece := await file.read(PIECE_BYTES):
        network.read()
        if always or (network.sure and network.rate < FAST):
            yield await _packed(piece, visit.desk)
        else:
            yield stored_head(piece)
            yield piece


async def _packed(piece: bytes, desk: Desk) -> bytes:
    """The record of a piece. There are no more packers, of some MiB each, than work at a time."""
    await desk.packings.acquire()
    packer = desk.packers.pop() if desk.packers else Packer()

    def done(_work: asyncio.Future[bytes]) -> None:
        desk.packers.append(packer)
        desk.packings.release()

    work = asyncio.get_running_loop().run_in_executor(None, packer.pack, piece)
    work.add_done_callback(done)
    # Who goes away meanwhile does not end the work: a thread cannot be stopped, and its place is not free before.
    return await asyncio.shield(work)


ENDPOINTS = (Endpoint("GET", "/v1/dumps/{id}/segments/{name}/packed", Access.READER, read_packed),)
