"""The client of a collector's HTTPS API: a Catalog from afar.

Owns requests, their deadlines, and trying again what may succeed later. Methods may be called from several threads;
each uses a connection of its own, kept for the next request.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlencode

from netdump.errors import DumpNotFoundError, NetdumpError, RemoteError
from netdump.index.packing import unpack_pieces
from netdump.index.reading import LIST_LIMIT_MAX
from netdump.index.record import parse_record, time_text
from netdump.index.runstream import unpack_stream
from netdump.pki.channel import FAULTS, READ_SECONDS, Channel
from netdump.pki.faults import ERROR_BYTES_MAX, answered_error, connection_error
from netdump.pki.tls import client_context
from netdump.remote.answers import parse_list, parse_object, parse_plan, parse_report
from netdump.remote.patience import BRIEF, Patience
from netdump.wire import HEADLINE_RAW_MAX, RECEIPT_MAX

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Container, Generator, Iterator, Mapping
    from types import TracebackType

    from netdump.index.reading import FetchPlan, Query
    from netdump.index.record import DumpRecord
    from netdump.pki.bundle import Bundle
    from netdump.pki.channel import Answer
    from netdump.pki.endpoint import Endpoint
    from netdump.store.findings import Report
    from netdump.store.runtables import RunTable

VERIFY_SECONDS: Final = 6 * 3600.0
"""How long it may read a dump before it answers: 20 TB at 1 GB/s."""

PIECE_BYTES: Final = 1 << 18
LIST_BYTES_MAX: Final = 16 << 20
PLAN_BYTES_MAX: Final = 256 << 20
"""A million segments."""

_ID: Final = re.compile(r"[0-9A-Fa-f]{1,32}")


class ApiClient:
    """Implements Catalog over HTTPS. A context manager."""

    __slots__ = ("_channel", "_patience", "_proven", "_url", "_wait")

    def __init__(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        *,
        connections: int = 1,
        patience: Patience = BRIEF,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """connections: how many threads will ask at once. wait: called with seconds before something is tried again."""
        self._url: Final = endpoint.url
        self._patience: Final = patience
        self._wait: Final = wait
        self._proven = False
        self._channel: Final = Channel(endpoint, context, connections)

    @classmethod
    def of_bundle(cls, bundle: Bundle, connections: int = 1) -> Self:
        """A client of the collector that a bundle names. Raises BundleError."""
        return cls(bundle.api, client_context(bundle), connections=connections)

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def list(self, query: Query) -> list[DumpRecord]:
        """Implements Catalog.list."""
        asked = {
            "host": query.host,
            "state": query.state,
            "since": time_text(query.since),
            "drill": None if query.drill is None else str(int(query.drill)),
            "before": query.before,
            "limit": str(min(query.limit, LIST_LIMIT_MAX)),
        }
        given = urlencode({name: value for name, value in asked.items() if value is not None})
        return parse_list(self._get(f"/v1/dumps?{given}", LIST_BYTES_MAX))

    def show(self, dump_id: str) -> DumpRecord:
        """Implements Catalog.show."""
        return parse_record(parse_object(self._get(_path(dump_id), LIST_BYTES_MAX)))

    def log(self, dump_id: str) -> bytes:
        """Implements Catalog.log."""
        return self._get(_path(dump_id, "/log"), HEADLINE_RAW_MAX)

    def headline(self, dump_id: str) -> bytes | None:
        """Implements Catalog.headline."""
        whole = self.show(dump_id).id
        try:
            return self._get(_path(whole, "/headline"), HEADLINE_RAW_MAX)
        except DumpNotFoundError:
            return None  # the dump was there a moment ago

    def run_tables(self, dump_id: str) -> Generator[RunTable, None, None]:
        """Implements Catalog.run_tables. One try."""
        response = self._request("GET", _path(dump_id, "/runs"))
        try:
            pieces = response.pieces(PIECE_BYTES)
            yield from unpack_stream(pieces, lambda body: answered_error(self._url, response.status, body))
        except FAULTS as error:
            raise connection_error(self._url, error, proven=self._proven) from error
        finally:
            response.close()

    def receipt(self, dump_id: str) -> bytes | None:
        """Implements Catalog.receipt."""
        whole = self.show(dump_id).id
        try:
            return self._get(_path(whole, "/receipt"), RECEIPT_MAX)
        except DumpNotFoundError:
            return None  # the dump was there a moment ago

    def plan(self, dump_id: str) -> FetchPlan:
        """Implements Catalog.plan."""
        return parse_plan(self._get(_path(dump_id, "/plan"), PLAN_BYTES_MAX))

    def read_packed(self, dump_id: str, name: str, offset: int, *, always: bool) -> Iterator[tuple[bytes, int]]:
        """Implements Catalog.read_packed. One try."""
        response = self._request("GET", _path(dump_id, f"/segments/{name}/packed?from={offset}&always={int(always)}"))
        try:
            yield from unpack_pieces(response.read)
        except GeneratorExit:
            response.finish()  # nothing more is wanted
            raise
        except FAULTS as error:
            raise connection_error(self._url, error, proven=self._proven) from error
        finally:
            response.close()

    def read_segment(self, dump_id: str, name: str, offset: int) -> Iterator[bytes]:
        """Implements Catalog.read_segment. One try: who reads knows how much has come and where to go on."""
        headers = {"Range": f"bytes={offset}-"} if offset else None
        good = (200, 206, 416) if offset else (200,)
        response = self._request("GET", _path(dump_id, f"/segments/{name}"), headers=headers, good=good)
        try:
            if response.status == 416:
                return  # the segment ends there, or before
            # Who does not know ranges answers with all of the file.
            skip = offset if response.status == 200 else 0
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise RemoteError(f"{self._url} answers with another part of segment {name} than was asked for")
            for piece in response.pieces(PIECE_BYTES):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))
        except GeneratorExit:
            response.finish()  # nothing more is wanted
            raise
        except FAULTS as error:
            raise connection_error(self._url, error, proven=self._proven) from error
        finally:
            response.close()

    def verify(self, dump_id: str) -> Report:
        """Implements Catalog.verify."""
        return parse_report(self._ask("POST", _path(dump_id, "/verify"), LIST_BYTES_MAX, VERIFY_SECONDS))

    def delete(self, dump_id: str) -> None:
        """Implements Catalog.delete."""
        self._ask("DELETE", _path(dump_id), LIST_BYTES_MAX)

    def _get(self, path: str, bytes_max: int) -> bytes:
        """The body of an answer; tried again as long as that may help. Raises what the last try did."""
        for pause in self._patience.pauses():
            try:
                return self._ask("GET", path, bytes_max)
            except NetdumpError as error:
                if not error.retryable:
                    raise
            self._wait(pause)
        return self._ask("GET", path, bytes_max)

    def _ask(self, method: str, path: str, bytes_max: int, read_seconds: float = READ_SECONDS) -> bytes:
        response = self._request(method, path, read_seconds=read_seconds)
        try:
            body = response.read(bytes_max + 1)
        except FAULTS as error:
            raise connection_error(self._url, error, proven=self._proven) from error
        finally:
            response.close()  # a connection whose answer was read to its end is back in the pool already
        if len(body) > bytes_max:
            raise RemoteError(f"{self._url} answers with more than {bytes_max} bytes, which no collector does")
        return body

    def _request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
        good: Container[int] = (200,),
    ) -> Answer:
        """The answer to a request, its status one of the good ones, its body not read yet."""
        try:
            response = self._channel.ask(method, path, headers=headers, read_seconds=read_seconds)
            self._proven = True
            if response.status in good:
                return response
            body = response.read(ERROR_BYTES_MAX)
            response.close()
        except FAULTS as error:
            raise connection_error(self._url, error, proven=self._proven) from error
        raise answered_error(self._url, response.status, body)


def _path(dump_id: str, rest: str = "") -> str:
    if not _ID.fullmatch(dump_id):
        raise DumpNotFoundError(f"{dump_id!r} is not the id of a dump, nor the beginning of one")
    return f"/v1/dumps/{dump_id.lower()}{rest}"
