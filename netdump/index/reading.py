"""What can be asked about dumps, wherever they are: one interface, and the shapes of its answers.

Two implementations: `netdump.index.catalog.LocalCatalog` reads a collector's folder, `netdump.remote.api.ApiClient`
asks a collector over HTTPS. The reading commands and `netdump.remote.fetch` know only this interface.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from netdump.errors import DumpNotFoundError
from netdump.index.record import DumpRecord, JsonObject, State, dump_json
from netdump.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from netdump.store.findings import Report
    from netdump.store.runtables import RunTable

LIST_LIMIT_MAX: Final = 1000
"""The most dumps that one answer lists."""

_PACKED_AT_ONCE: Final = 1000  # segments: a millisecond or two


class Query(NamedTuple):
    """Which dumps to list. None: all.

    since: first seen at this time or later, seconds since 1970. drill: only drills, or only what is none. before: only
    dumps that stand after this one (a whole id) in the list, for the next page. limit: 1 .. LIST_LIMIT_MAX.
    """

    host: str | None = None
    state: State | None = None
    since: int | None = None
    drill: bool | None = None
    before: str | None = None
    limit: int = LIST_LIMIT_MAX


class PlannedSegment(NamedTuple):
    """One segment to fetch.

    start, end: image offsets, end exclusive. bytes: of the file. sha256: the digest in its trailer, hexadecimal.
    """

    name: str
    start: int
    end: int
    chunks: int
    bytes: int
    sha256: str


class FetchPlan(NamedTuple):
    """All that is needed to restore a dump: segments in image order that tile the image from 0 to offset.

    complete: offset is image_bytes and root is known. root: hexadecimal, None of an incomplete dump.
    """

    id: str
    complete: bool
    image_bytes: int
    offset: int
    chunks: int
    root: str | None
    segments: tuple[PlannedSegment, ...]


class Catalog(Protocol):
    """Access to dumps.

    An id may be shortened to its first digits. Every method may raise DumpNotFoundError and AmbiguousIdError for its
    id, DamagedError, StorageFaultError and, from afar, RemoteError and UnreachableError. Methods may be called from
    several threads at once.
    """

    def list(self, query: Query) -> list[DumpRecord]:
        """The dumps that a query asks for, newest first."""
        ...

    def show(self, dump_id: str) -> DumpRecord:
        """One dump, as it stands now."""
        ...

    def log(self, dump_id: str) -> bytes:
        """The kernel log, UTF-8 as the host sent it, empty if there is none."""
        ...

    def headline(self, dump_id: str) -> bytes | None:
        """The raw headline document, None if there is none."""
        ...

    def run_tables(self, dump_id: str) -> Generator[RunTable, None, None]:
        """The run tables of all chunks in image order, without gaps from 0 to where the dump reaches.

        For one thread, and to be exhausted or closed. Errors may come while it goes on.
        """
        ...

    def receipt(self, dump_id: str) -> bytes | None:
        """The signed receipt, None if there is none."""
        ...

    def plan(self, dump_id: str) -> FetchPlan:
        """What to fetch to restore the dump as far as it has come."""
        ...

    def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
        """The bytes of a segment file from an offset on, in pieces of at most some MiB. dump_id: whole."""
        ...

    def read_packed(self, dump_id: str, name: str, offset: int, *, always: bool) -> Iterator[tuple[bytes, int]]:
        """The same as (piece, how many bytes came for it), compressed on the way, where that is slow or always."""
        ...

    def verify(self, dump_id: str) -> Report:
        """Read and check everything that is stored of a dump. Long work. Damage is in the report, never raised."""
        ...

    def delete(self, dump_id: str) -> None:
        """Delete a dump for good. Raises BusyError while it arrives, ForbiddenError without the right."""
        ...


def every(ask: Callable[[Query], Sequence[DumpRecord]], query: Query) -> Iterator[DumpRecord]:
    """All dumps that a query asks for, by as many questions as it takes. query.limit: in the answer to one."""
    page = ask(query)
    yield from page
    while len(page) >= query.limit:
        page = _next_page(ask, query, page)
        yield from page


def _next_page(
    ask: Callable[[Query], Sequence[DumpRecord]], query: Query, page: Sequence[DumpRecord]
) -> Sequence[DumpRecord]:
    """What follows a page, the last of which somebody may have deleted since: then behind the last that is there.

    Raises DumpNotFoundError if none of them is.
    """
    for record in reversed(page[1:]):
        with suppress(DumpNotFoundError):
            return ask(query._replace(before=record.id))
    return ask(query._replace(before=page[0].id))


def plan_json(plan: FetchPlan) -> JsonObject:
    """The public object of a plan."""
    return {**plan._asdict(), "segments": [segment._asdict() for segment in plan.segments]}


def pack_plan(plan: FetchPlan) -> bytes:
    """The same as JSON. For a thread, beside others that go on: a plan may have a million segments, of which json gives
    nobody a turn before it is through with what it was given.
    """
    shown = json.dumps(plan_json(plan._replace(segments=())), separators=(",", ":"))
    head, _, tail = shown.partition('"segments":[')
    text = bytearray(f'{head}"segments":['.encode())
    for start in range(0, len(plan.segments), _PACKED_AT_ONCE):
        part = [segment._asdict() for segment in plan.segments[start : start + _PACKED_AT_ONCE]]
        text += b"," if start else b""
        text += json.dumps(part, separators=(",", ":"))[1:-1].encode()
    text += tail.encode()
    return bytes(text)


def list_json(records: Sequence[DumpRecord]) -> JsonObject:
    """The public object of a list."""
    return {"dumps": [dump_json(record) for record in records]}
