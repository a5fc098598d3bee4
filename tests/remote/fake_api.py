"""A small HTTPS API over a collector's folder, in a thread, that misbehaves on demand."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from netdump.errors import DumpNotFoundError, NetdumpError
from netdump.index.packing import Packer
from netdump.index.reading import Query, list_json, plan_json
from netdump.index.record import State, dump_json, parse_time
from netdump.index.runstream import pack_stream
from netdump.pki import Role, api_server_context
from netdump.pki.endpoint import Endpoint

if TYPE_CHECKING:
    from netdump.index.catalog import LocalCatalog
    from netdump.pki import Bundle
    from tests.remote.conftest import Office


@dataclass(frozen=True)
class Fault:
    """What happens to one request for a segment. cut: end the connection after so many bytes. flip: damage that byte.

    status: answer with it. no_range: send the whole file. shift: begin so many bytes too late. stall: send so many
    bytes, then nothing until the server ends.
    """

    cut: int | None = None
    flip: int | None = None
    status: int | None = None
    no_range: bool = False
    shift: int = 0
    stall: int | None = None


class FakeApi:
    """A context manager. faults: for the next requests for segments. answers: (status, body) instead, by path."""

    def __init__(self, office: Office, catalog: LocalCatalog) -> None:
        self.faults: deque[Fault] = deque()
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.requests: list[str] = []
        self.sent = 0
        self.stalled = threading.Event()
        self.ended = threading.Event()
        self.catalog = catalog
        self._office = office
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = api_server_context(office.folder)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("localhost", self._server.server_address[1])

    def bundle(self, role: Role = Role.ANALYST) -> Bundle:
        return self._office.bundle(role, self.endpoint)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(_Handler):
            fake = api

        return Handler


class _Handler(BaseHTTPRequestHandler):
    fake: FakeApi
    protocol_version = "HTTP/1.1"
    timeout = 10

    def handle(self) -> None:
        with suppress(OSError):  # a client that went away, or whose certificate was not taken
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.fake.requests.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if path in self.fake.answers:
            status, body = self.fake.answers[path]
            self._answer(status, body)
            return
        try:
            self._dispatch(path)
        except NetdumpError as error:
            body = json.dumps({"error": {"code": error.code, "message": str(error)}}).encode()
            self._answer(404 if isinstance(error, DumpNotFoundError) else 500, body)

    do_POST = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815

    def _dispatch(self, path: str) -> None:
        catalog = self.fake.catalog
        if path == "/v1/dumps":
            self._json(list_json(catalog.list(self._query())))
            return
        rest = "log|headline|runs|receipt|plan|verify|segments/([0-9a-f.-]+seg)(?:/packed)?"
        match = re.fullmatch(rf"/v1/dumps/([0-9a-f]+)(?:/({rest}))?", path)
        assert match is not None, path
        dump_id, what, name = match.groups()
        if self.command == "DELETE":
            catalog.delete(dump_id)
            self._json({"deleted": True})
        elif what is None:
            self._json(dump_json(catalog.show(dump_id)))
        elif what == "log":
            self._answer(200, catalog.log(dump_id))
        elif what == "runs":
            self._answer(200, b"".join(pack_stream(catalog.run_tables(dump_id))))
        elif what == "headline":
            headline = catalog.headline(dump_id)
            if headline is None:
                raise DumpNotFoundError("the dump has no headline")
            self._answer(200, headline)
        elif what == "plan":
            self._json(plan_json(catalog.plan(dump_id)))
        elif what == "verify":
            self._json(catalog.verify(dump_id).as_json())
        elif what == "receipt":
            receipt = catalog.receipt(dump_id)
            if receipt is None:
                raise DumpNotFoundError("the dump has no receipt: it is not complete")
            self._answer(200, receipt)
        else:
            self._segment(b"".join(catalog.read_segment(dump_id, name, 0)))

    def _query(self) -> Query:
        given = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        return Query(
            host=given.get("host"),
            state=State(given["state"]) if "state" in given else None,
            since=parse_time(given["since"]) if "since" in given else None,
            drill=given["drill"] == "1" if "drill" in given else None,
            before=given.get("before"),
            limit=int(given["limit"]),
        )

    def _segment(self, data: bytes) -> None:
        fault = self.fake.faults.popleft() if self.fake.faults else Fault()
        if fault.status is not None:
            self._answer(fault.status, b"nothing that a collector says")
            return
        if self.path.endswith("/packed") or "/packed?" in self.path:
            data = data[int(parse_qs(urlsplit(self.path).query)["from"][0]) :]
            data = b"".join(Packer().pack(data[at : at + 4096]) for at in range(0, len(data), 4096))
        start = 0
        if (wanted := self.headers.get("Range")) and not fault.no_range:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                self._answer(416, b"")
                return
            start, size = int(first) + fault.shift, len(data)
            data = data[: int(last) + 1 if last else size]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{size}")
        else:
            self.send_response(200)
        body = bytearray(data[start:])
        if fault.flip is not None:
            body[fault.flip] ^= 1
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: fault.cut if fault.cut is not None else fault.stall])
        self.fake.sent += len(body)
        if fault.stall is not None:
            self.fake.stalled.set()
            self.fake.ended.wait()
        if fault.cut is not None or fault.stall is not None:
            self.close_connection = True

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
