"""Both sides of the HTTPS API: raw requests of a peer, and what a collector answers to one."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from functools import cache
from io import BufferedReader, BytesIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from netdump.cli.cmd_list import row
from netdump.cli.cmd_show import facts
from netdump.errors import ImpostorError, NetdumpError, RemoteError
from netdump.index.catalog import LocalCatalog
from netdump.index.index import Index
from netdump.index.packing import PIECE_BYTES, Packer, stored_head, unpack_pieces
from netdump.index.place import NAME as INDEX_NAME
from netdump.index.reading import list_json, plan_json
from netdump.index.record import PAGE_SIZES, dump_json, parse_record
from netdump.pki import Authority, Role
from netdump.pki.channel import FAULTS, BoundedResponse
from netdump.pki.endpoint import Endpoint
from netdump.pki.faults import answered_error
from netdump.pki.https import parse_object
from netdump.remote.answers import parse_list, parse_plan, parse_report
from netdump.server import dumps, enrolment, packed, runs
from netdump.server.api import Desk, build_app
from netdump.server.config import Address, Config
from netdump.server.https import ApiService
from netdump.server.ranges import UnsatisfiableRangeError, parse_range
from netdump.server.ratelimit import RateLimit
from netdump.server.space import SpaceWatch, measure_of
from netdump.store.layout import is_dump_id
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump
from netdump.testing.store_contract import deliver
from tests.fuzz.target import MIB, Target
from tests.fuzz.targets_trust import office
from tests.server.rig import issue

if TYPE_CHECKING:
    import socket
    from io import RawIOBase

    from netdump.index.record import DumpRecord

_DUMP: Final = SampleDump(seed=7, image_bytes=24_000, chunk_bytes=8_192)
_ID: Final = _DUMP.origin.id
_ANSWER_S: Final = 20.0
_ROLES: Final = (None, Role.HOST, Role.ANALYST, Role.OPERATOR)


class _Wire(asyncio.Transport):
    """A connection that goes nowhere and keeps what is written to it. data: what comes once it is read from."""

    def __init__(self, data: bytes) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 7462)})
        self.written = bytearray()
        self.closed = False
        self._data = data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """All of it was read."""

    def resume_reading(self) -> None:
        data, self._data = self._data, b""
        if data:
            self.protocol.data_received(data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol", protocol)


class _Mistakes(logging.Handler):
    """Gathers what the HTTP library logs as ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(f"{record.getMessage()}: {record.exc_info[1]!r}" if record.exc_info else record.getMessage())


class _Office:
    """The API on a folder with one dump, without sockets."""

    def __init__(self) -> None:
        folder = office().folder
        self.loop = asyncio.new_event_loop()
        self.mistakes = _Mistakes()
        logging.getLogger("uvicorn.error").addHandler(self.mistakes)
        self.loop.set_exception_handler(lambda _, context: self.mistakes.seen.append(str(context)))
        (folder / "dumps").mkdir(0o700)
        store = Store(folder / "dumps")
        deliver(store, _DUMP)
        Index.open(folder / INDEX_NAME).close()
        catalog = LocalCatalog(folder)
        catalog.refresh()
        self.plan = json.dumps(plan_json(catalog.plan(_ID))).encode()
        self.list = json.dumps(list_json([catalog.show(_ID)])).encode()
        self.report = json.dumps(catalog.verify(_ID).as_json()).encode()
        self.papers = {role: role and _der(issue(folder, role, f"x-{role}").file.read_text()) for role in _ROLES}
        self.loop.run_until_complete(self._open(catalog, store))

    async def _open(self, catalog: LocalCatalog, store: Store) -> None:
        config, folder = Config(), office().folder
        desk = Desk(
            authority=Authority.load(folder),
            opened=lambda: catalog,
            store=store,
            config=config,
            space=SpaceWatch(config.space, measure_of(folder)),
            audit=lambda event, **fields: None,
            strangers=lambda event, **fields: None,
            ingest_address=lambda: Address("127.0.0.1", 7461),
            enrolments=RateLimit(100_000, 100_000, 0.0),
            renewals=RateLimit(100_000, 100_000, 0.0),
            renewals_by_day=RateLimit(100_000, 100_000, 0.0),
            verifications=asyncio.Semaphore(1),
        )
        endpoints = enrolment.ENDPOINTS + dumps.ENDPOINTS + packed.ENDPOINTS + runs.ENDPOINTS
        self.service = ApiService(build_app(desk, endpoints), config.api)

    async def talk(self, role: Role | None, data: bytes) -> bytes:
        """All that is answered to these bytes, the end of the connection being behind them."""
        wire = _Wire(data)
        tls = SimpleNamespace(getpeercert=lambda binary_form: self.papers[role])
        self.service.serve(cast("Any", SimpleNamespace(tls=tls, transport=wire, leave=lambda: None)))
        for _ in range(20):
            await asyncio.sleep(0)
        tasks = self.service._state.tasks
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=0.02)  # answered, or waiting for the rest of a body
        wire.protocol.eof_received()
        wire.protocol.connection_lost(None)
        if tasks:
            _, late = await asyncio.wait(tuple(tasks), timeout=_ANSWER_S)
            assert not late, "an answer that does not end with its connection"
        return bytes(wire.written)


desk_office = cache(_Office)


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def _requests(data: bytes) -> None:
    """First byte: the role of the peer. The rest is what it sends."""
    if not data:
        return
    here = desk_office()
    here.mistakes.seen.clear()
    written = here.loop.run_until_complete(here.talk(_ROLES[data[0] % len(_ROLES)], data[1:]))
    assert not here.mistakes.seen, here.mistakes.seen
    assert b"HTTP/1.1 500" not in written, written
    assert b"Traceback" not in written


def _answers(data: bytes) -> None:
    """First byte: the status. The rest is a body, read as everything that a body can be."""
    if not data:
        return
    for parse in (parse_plan, parse_report):
        with suppress(RemoteError):
            parse(data[1:])
    with suppress(RemoteError):
        for record in parse_list(data[1:]):
            _show(record)
    with suppress(RemoteError):
        for piece, came in unpack_pieces(BytesIO(data[1:]).read):
            assert len(piece) <= PIECE_BYTES
            assert came <= len(data)
    with suppress(ImpostorError):
        parse_object(data[1:], Endpoint("there"))
    for head in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with suppress(*FAULTS):
            _receive(head + data[1:])
    error = answered_error("https://there", 200 + 2 * data[0], data[1:])
    assert isinstance(error, NetdumpError)
    assert str(error).isprintable()


def _receive(data: bytes) -> None:
    """What comes over a connection as the answer to a request."""
    answer = BoundedResponse(
        cast("socket.socket", SimpleNamespace(makefile=lambda _mode: BufferedReader(cast("RawIOBase", BytesIO(data)))))
    )
    answer.begin()
    while piece := answer.read(1000):
        assert len(piece) <= 1000


def _show(record: DumpRecord) -> None:
    """What commands do with a record."""
    assert is_dump_id(record.id), "ids are shown as they are"
    row(record)
    facts(record, None)
    for name in (record.nodename, record.kernel_release, record.kernel_version, record.machine):
        (name or "").encode()  # into the headers of a kdump file
    assert record.page_bytes in PAGE_SIZES
    assert record.level < 1 << 31
    assert parse_record(json.loads(json.dumps(dump_json(record)))) == record


def _ranges(data: bytes) -> None:
    with suppress(UnsatisfiableRangeError):
        span = parse_range(data.decode("latin-1"), 1000)
        assert span is None or 0 <= span.start < span.end <= 1000


def _raw_requests() -> list[bytes]:
    head = b" HTTP/1.1\r\nHost: a\r\n"
    lines = [
        b"GET /v1/ca", b"GET /v1/dumps?host=web1&state=complete&since=2026-01-01&limit=5", b"GET /v1/dumps/%s",
        b"GET /v1/dumps/%s/log", b"GET /v1/dumps/%s/plan", b"HEAD /v1/dumps/%s/runs", b"GET /v1/dumps/%s/receipt",
        b"GET /v1/dumps/..%%2f..%%2fpki/log", b"GET /v1/dumps/%s/segments/..%%2f..%%2forigin.json",
        b"GET /v1/dumps?since=0001-01-01T00:00:00%%2B23:59&before=%s",
        b"GET /v1/dumps/%s/segments/0000000000000000-0000000000002000.seg/packed?from=5&always=1",
        b"GET /v1/dumps/%s/segments/0000000000000000-0000000000002000.seg",
    ]  # fmt: skip
    asked = [
        bytes([role]) + (line.replace(b"%s", _ID.encode()).replace(b"%%", b"%") + head + b"\r\n")
        for line in lines
        for role in (0, 2)
    ]
    bodies = [b'{"token": "AAAAAAAAAAAAAAAAAAAAAA", "csr": "x"}', b'{"csr": "\\ud800"}', b"[[[[", b'{"token": 1}']
    posts = [
        bytes([role]) + b"POST " + path + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        for body in bodies
        for role, path in ((0, b"/v1/enroll"), (1, b"/v1/renew"))
    ]
    chunked = b"\0POST /v1/enroll" + head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ranged = asked[-1].replace(b"\r\n\r\n", b"\r\nRange: bytes=5-1\r\n\r\n")
    return [*asked, *posts, chunked, ranged]


def _bodies() -> list[bytes]:
    here = desk_office()
    finding = here.report.replace(b'"findings": []', b'"findings": [{"damage": [], "file": {}, "position": 1.5}]')
    error = b'{"error": {"code": "not-found", "message": "\\u001b[2J' + b"x" * 600 + b'"}}'
    broken = here.list.replace(b'"panic": null', b'"panic": "\\ud800"')
    piece = here.list * 3
    packed = Packer().pack(piece) + stored_head(piece) + piece
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello"
    chunked = b"5\r\nhello\r\n-5\r\nhello\r\n0\r\nX: y\r\n\r\n"
    bodies = [
        answer,
        chunked,
        here.plan,
        here.list,
        here.report,
        finding,
        error,
        broken,
        packed,
        b"[" * 2000,
        b"1" * 5000,
    ]
    return [b"\0" + body for body in bodies] + [b"\x66" + error]


TARGETS = (
    Target("api-requests", _requests, (), _raw_requests, bytes_max=8192, memory_max=16 * MIB, rounds=150),
    Target("api-answers", _answers, (), _bodies, bytes_max=1 << 14),
    Target(
        "ranges", _ranges, (), lambda: [b"bytes=0-9", b"bytes=-5", b"bytes=9-", b"bytes=" + b"9" * 30], bytes_max=64
    ),
)
