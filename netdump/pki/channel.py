"""HTTPS connections to a collector's API: made when they are needed, kept for the next request.

Owns the connections and their time limits. On http.client itself: urllib3, which is built on it, takes 30 ms to load,
a fifth of what a command that asks one thing takes, and none of what it adds is wanted here: no redirects, no proxies,
no retries but our own. What an error means is for faults.py, what an answer means for whoever asked.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, Final

from netdump import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from http.client import HTTPMessage

    from netdump.pki.endpoint import Endpoint

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
"""How long a collector may be silent."""

END_SECONDS: Final = 2.0
"""For the end of an answer of which nothing more is wanted: a new connection costs less."""

LINES_MAX: Final = 256
"""Of status and headers, and of trailers. http.client takes 100 headers; none of ours has as many as 20."""

FAULTS: Final = (OSError, HTTPException)
"""What every method here raises when the connection cannot be made, or breaks; for faults.connection_error."""

_KEEPALIVE: Final = (
    # A verification is silent for long; without a sign of life now and then a firewall forgets the connection.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
)


class Channel:
    """Connections to one API. For several threads; at most keep connections wait for the next request."""

    __slots__ = ("_context", "_endpoint", "_guard", "_idle", "_keep")

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, keep: int = 1) -> None:
        self._endpoint: Final = endpoint
        self._context: Final = context
        self._keep: Final = keep
        self._guard: Final = threading.Lock()
        self._idle: list[HTTPSConnection] = []

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
    ) -> Answer:
        """Make a request, and return its answer before its body is read. read_seconds: of silence, from now on."""
        connection = self._take()
        try:
            assert connection.sock is not None
            connection.sock.settimeout(read_seconds)
            told = {"User-Agent": f"netdump/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
            connection.request(method, path, body, told)
            return Answer(self, connection, connection.getresponse())
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def keep(self, connection: HTTPSConnection) -> None:
        """Take a connection back whose answer was read to its end."""
        with self._guard:
            if len(self._idle) < self._keep:
                self._idle.append(connection)
                return
        connection.close()

    def _take(self) -> HTTPSConnection:
        """A connection that is open, as far as can be seen."""
        while True:
            with self._guard:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect()
            if _is_quiet(connection):
                return connection
            connection.close()

    def _connect(self) -> HTTPSConnection:
        endpoint = self._endpoint
        connection = HTTPSConnection(endpoint.host, endpoint.port, timeout=CONNECT_SECONDS, context=self._context)
        connection.response_class = BoundedResponse
        try:
            connection.connect()
            assert connection.sock is not None
            for option in _KEEPALIVE:
                connection.sock.setsockopt(*option)
        except BaseException:
            connection.close()
            raise
        return connection


class BoundedResponse(HTTPResponse):
    """An answer of which no more is read than was asked for, whatever it claims or goes on with.

    http.client takes a chunk of -1 bytes, and then reads into memory as long as anything comes; and it reads status
    lines of "100 Continue", or trailers, as long as they come.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = _BoundedReader(self.fp.detach())


class _BoundedReader(BufferedReader):
    def __init__(self, raw: RawIOBase) -> None:
        super().__init__(raw)
        self._lines = 0  # one behind the other

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise HTTPException(f"a piece of {size} bytes")
        self._lines = 0
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._lines += 1
        if self._lines > LINES_MAX:
            raise HTTPException(f"more than {LINES_MAX} lines of headers")
        return super().readline(size)


class Answer:
    """An answer whose status and headers are there. Read it, then close it; for one thread."""

    __slots__ = ("_channel", "_connection", "_response")

    def __init__(self, channel: Channel, connection: HTTPSConnection, response: HTTPResponse) -> None:
        self._channel: Final = channel
        self._connection: HTTPSConnection | None = connection
        self._response: Final = response

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self._response.status

    @property
    def headers(self) -> HTTPMessage:
        """Names in any case."""
        return self._response.headers

    def read(self, bytes_max: int) -> bytes:
        """The body, or so much of it."""
        body = self._read(bytes_max)
        if len(body) < bytes_max:
            self._check_end()
        return body

    def pieces(self, piece_bytes: int) -> Iterator[bytes]:
        """The body in pieces of that many bytes."""
        while piece := self._read(piece_bytes):
            yield piece
        self._check_end()

    def finish(self) -> None:
        """Read the end of a body of which all that is wanted was read, so that the connection can serve again.

        Never raises, and takes END_SECONDS at most, whatever comes: the collector may let us wait for the end, or send
        trailers without one.
        """
        if self._connection is None or self._connection.sock is None or self._response.isclosed():
            return
        watch = threading.Timer(END_SECONDS, _cut, [self._connection.sock])
        try:
            watch.start()
        except RuntimeError:  # the limit of threads: a new connection needs none
            return
        with suppress(*FAULTS, ValueError):  # the connection is of no use then
            self._read(1)
        watch.cancel()
        watch.join()

    def close(self) -> None:
        """Give the connection back, if nothing of the answer is left in it; may be called again."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._response.isclosed() and not self._response.length and not self._response.will_close:
            self._channel.keep(connection)
        else:
            self._response.close()
            connection.close()

    def _read(self, count: int) -> bytes:
        try:
            return self._response.read(count)
        except BaseException:
            # http.client calls an answer read to its end, too, when it makes no sense.
            connection, self._connection = self._connection, None
            self._response.close()
            if connection is not None:
                connection.close()
            raise

    def _check_end(self) -> None:
        """Of a body of known length http.client gives what there is of it, and does not say that it was cut."""
        if self._response.length:
            raise ConnectionResetError(f"the answer was cut off, {self._response.length} bytes are missing")


def _cut(sock: socket.socket) -> None:
    """Wake who reads from it. As of TCP: TLS belongs to that thread."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _is_quiet(connection: HTTPSConnection) -> bool:
    """Whether nothing has come on a connection that nothing is due on: neither its end nor anything else."""
    poller = poll()
    poller.register(connection.sock, POLLIN)
    return not poller.poll(0)
