"""API: what is left of a segment, packed for an analyst behind a slow network.

Owns when pieces are read and compressed: one by one, as fast as they are taken, in threads, a few at a time for all;
and only where the network is slower than that. The form is netdump.index.packing's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.responses import Response, StreamingResponse

from netdump.errors import BadRequestError, DumpNotFoundError
from netdump.index.packing import PIECE_BYTES, Packer, stored_head
from netdump.server.answers import HEADERS
from netdump.server.api import Access, Endpoint, Visit
from netdump.server.dumps import open_segment
from netdump.store.layout import segment_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiofiles.threadpool.binary import AsyncBufferedReader
    from starlette.types import Receive, Scope, Send

    from netdump.client.tcpinfo import DeliveryRate

FAST: Final = 80e6
"""Bytes a second from which on nothing is compressed: two thirds of a gigabit. It would take longer than sending."""

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
    await file.seek(int(start))
    return _PackedResponse(file, _records(file, visit, always=always), headers)


class _PackedResponse(StreamingResponse):
    """The stream as an answer; the file is closed when the answer is over, however it ends."""

    def __init__(self, file: AsyncBufferedReader, records: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(records, headers=headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._file.close()


async def _records(file: AsyncBufferedReader, visit: Visit, *, always: bool) -> AsyncIterator[bytes]:
    """The records from where the file stands. Until the network has shown that it is slow nothing is compressed."""
    packer: Packer | None = None
    network: DeliveryRate = visit.request.state.network
    while piece := await file.read(PIECE_BYTES):
        network.read()
        if always or (network.sure and network.rate < FAST):
            packer = packer or Packer()
            async with visit.desk.packings:
                record = await asyncio.to_thread(packer.pack, piece)
            yield record
        else:
            yield stored_head(piece)
            yield piece


ENDPOINTS = (Endpoint("GET", "/v1/dumps/{id}/segments/{name}/packed", Access.READER, read_packed),)
