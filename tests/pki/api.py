"""A collector's API for one test: enrolment and renewal over real HTTPS, and whatever wrong answer a test wants."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from netdump.errors import NetdumpError
from netdump.pki import Authority, api_server_context

if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from types import TracebackType

    from netdump.pki import Issue

INGEST_PORT = 7461


class Api:
    """Serves a collector's folder on a free port of 127.0.0.1 while it is entered.

    answers: path -> (status, body) that replaces the real answer. extra: fields that replace those of the real answers.
    requests: the paths that were asked for. failures: what went wrong in connections.
    """

    def __init__(self, folder: Path, context: ssl.SSLContext | None = None, *, now: float | None = None) -> None:
        self.authority = Authority.load(folder)
        self.now = now
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.extra: dict[str, object] = {}
        self.requests: list[str] = []
        self.failures: list[BaseException] = []
        self._server = _Server(self, context or api_server_context(folder))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.port = self._server.server_address[1]
        self.url = f"https://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: bytes, certificate: bytes | None) -> tuple[int, bytes]:
        self.requests.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/v1/ca":
            return 200, self.authority.ca_pem.encode()
        try:
            fields = json.loads(body)
            if path == "/v1/enroll":
                issue = self.authority.redeem(fields["token"], fields["csr"], self.now)
            else:
                assert path == "/v1/renew"
                assert certificate is not None
                self.authority.admit(certificate)
                issue = self.authority.renew(certificate, fields["csr"], self.now)
        except NetdumpError as error:
            return 403, json.dumps({"error": {"code": error.code, "message": str(error)}}).encode()
        return 200, json.dumps({**self._fields(issue), **self.extra}).encode()

    @staticmethod
    def _fields(issue: Issue) -> dict[str, object]:
        return {
            "name": issue.name,
            "role": issue.role,
            "certificate": issue.certificate,
            "ca": issue.ca,
            "ingest_port": INGEST_PORT,
            "advertise": [],
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, api: Api, context: ssl.SSLContext) -> None:
        self.api = api
        self.context = context
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(10)
        # The handshake happens with the first read, in the connection's own thread.
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception()
        assert error is not None
        self.api.failures.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._reply(b"")

    def do_POST(self) -> None:
        self._reply(self.rfile.read(int(self.headers["Content-Length"])))

    def _reply(self, body: bytes) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        status, data = self.server.api.answer(self.path, body, self.connection.getpeercert(binary_form=True))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
