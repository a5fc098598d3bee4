"""TLS on an accepted TCP connection: the server's side, as asyncio's transport for whoever speaks over it.

Owns the TLS session between two memory buffers. asyncio's own (start_tls) does the same for any peer; this one is for
peers that send gigabytes: it takes what the kernel holds in one piece, in a buffer that all connections of a listener
share, and decrypts it straight to where the protocol above wants it. docs/performance.md has the figures.

Reading is paused until the protocol above asks for it, so nothing is received between the handshake and the moment
somebody listens.

A record that changes keys has 27 bytes, and OpenSSL works in one call at as many as it is given: 256 KiB of them take
half a second. So it is given few records at a time, and a connection of which many carry nothing is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

GULP_BYTES: Final = 256 * 1024
"""As much as is taken from the kernel at once, and decrypted while it is still in the CPU's cache."""

ENCRYPT_BYTES: Final = 256 * 1024
"""As much as is encrypted and given to the kernel at once, also in cache, and in buffers that are used again."""

PIECE_BYTES: Final = 64 * 1024
"""As much as a protocol without a buffer of its own is given at once."""

RECORDS_AT_ONCE: Final = 64
"""TLS records that OpenSSL is given at once."""

MUTE_RECORDS_MAX: Final = 64
"""Records that carry no data, of one connection: no peer has to change its keys more than once in 380 GB."""

SHUTDOWN_S: Final = 3.0  # for the peer to go after close_notify, or to take some more of what was written before it
SHUTDOWN_TURNS: Final = 20  # of SHUTDOWN_S at most

_HEAD_BYTES: Final = 5  # of a record: type, version, length
_NOTHING: Final = memoryview(b"")


class _State(Enum):
    SHAKING = "SHAKING"
    OPEN = "OPEN"
    CLOSING = "CLOSING"  # close_notify is sent; what comes is not even decrypted
    LOST = "LOST"


class Gulp:
    """The buffer for what comes from the kernel. One serves any number of connections of one event loop.

    asyncio fills it and hands it on within one call, so nothing is ever left in it.
    """

    __slots__ = ("view",)

    def __init__(self) -> None:
        self.view: Final = memoryview(bytearray(GULP_BYTES))


class Records:
    """Where TLS records end in what comes, however that is cut into pieces (RFC 8446 5.1)."""

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        self._head = b""  # of a record, as far as it is here
        self._missing = 0  # bytes of the one that is under way

    def take(self, view: memoryview) -> tuple[int, int]:
        """(bytes, records): of view, up to the end of RECORDS_AT_ONCE records or all of it; how many end there."""
        size, ended, place, is_under_way = len(view), 0, self._missing, self._missing > 0
        if self._head:
            rest = _HEAD_BYTES - len(self._head)
            self._head += bytes(view[:rest])
            if len(self._head) < _HEAD_BYTES:
                return size, 0
            place, is_under_way = rest + (self._head[3] << 8 | self._head[4]), True
        self._head, self._missing = b"", 0
        while True:
            if is_under_way:
                if place > size:
                    self._missing = place - size
                    return size, ended
                ended += 1
                if ended == RECORDS_AT_ONCE:
                    return place, ended
            if place + _HEAD_BYTES > size:
                self._head = bytes(view[place:])
                return size, ended
            place, is_under_way = place + _HEAD_BYTES + (view[place + 3] << 8 | view[place + 4]), True


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """A protocol to the TCP transport below it, a transport to the protocol above it. Belongs to the event loop.

    `handshake` first; then `set_protocol`, and `resume_reading` once that protocol is ready.
    """

    def __init__(self, tcp: asyncio.Transport, context: ssl.SSLContext, gulp: Gulp) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._tcp = tcp
        self._gulp = gulp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._records = Records()
        self._rest = _NOTHING  # what came, and OpenSSL was not given yet
        self._unread = 0  # records that it was given, and that it has made nothing of
        self._mute = 0  # records that carried nothing
        self._shaken: asyncio.Future[None] = self._loop.create_future()
        self._state = _State.SHAKING
        self._paused = True
        self._protocol: Any = None
        self._farewell: asyncio.TimerHandle | None = None
        tcp.set_protocol(self)

    async def handshake(self) -> None:
        """Do it, without a deadline. Raises OSError (ssl.SSLError among them); the connection is to be aborted then."""
        self._tcp.resume_reading()
        await self._shaken

    # What the protocol above calls

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who gets what comes from now on: a BufferedProtocol, or a Protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The one that was set."""
        return cast("asyncio.BaseProtocol", self._protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """ssl_object: the session; everything else as the TCP transport has it."""
        return self._session if name == "ssl_object" else self._tcp.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Deliver nothing, and take nothing from the kernel, until resume_reading."""
        self._paused = True
        if self._state is _State.OPEN:
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if not self._paused or self._state is not _State.OPEN:
            return
        self._paused = False
        self._tcp.resume_reading()
        if self._rest or self._incoming.pending or self._session.pending():
            self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        """Whether data is delivered as it comes."""
        return not self._paused and self._state is _State.OPEN

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Does nothing on a connection that is closing."""
        if self._state is not _State.OPEN or not data:
            return
        view, done = memoryview(data), 0
        try:
            while done < len(view) and self._state is _State.OPEN:
                done += self._session.write(view[done : done + ENCRYPT_BYTES])
                self._flush()
        except ssl.SSLError:
            self._fail()

    def can_write_eof(self) -> bool:
        """TLS connections are closed both ways at once here."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high): when the protocol's resume_writing and pause_writing are called."""
        return self._tcp.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set them."""
        self._tcp.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._state in {_State.CLOSING, _State.LOST} or self._tcp.is_closing()

    def close(self) -> None:
        """Say close_notify behind all that was written; go when the peer does, or has done nothing for SHUTDOWN_S."""
        if self._state is not _State.OPEN:
            return
        self._state = _State.CLOSING
        with contextlib.suppress(ssl.SSLError):  # it wants to read the peer's, which nobody waits for
            self._session.unwrap()
        self._flush()
        # Read on, so that what is still coming does not reset the connection under the last words.
        self._tcp.resume_reading()
        self._await_farewell(SHUTDOWN_TURNS)

    def abort(self) -> None:
        """Go at once."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
        self._tcp.abort()

    # What the TCP transport calls

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # one buffer, always
        """Where asyncio shall put what arrives."""
        return self._gulp.view

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        if self._state is _State.CLOSING:
            return
        came = self._gulp.view[:nbytes]
        self._rest = memoryview(bytes(self._rest) + bytes(came)) if self._rest else came
        self._feed()
        while self._state is _State.SHAKING:
            self._shake()
            if not self._feed():
                break
        self._deliver()
        if self._rest:
            self._rest = memoryview(bytes(self._rest))  # others use the gulp as well

    def eof_received(self) -> None:
        """The peer sends no more: with or without close_notify, the connection is over."""
        if self._state is _State.OPEN:
            self._protocol.eof_received()
            self.close()
            self._tcp.close()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is written to."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        before, self._state = self._state, _State.LOST
        if self._farewell is not None:
            self._farewell.cancel()
        if before is _State.SHAKING:
            self._refuse(exc or ConnectionResetError("the peer went away in its handshake"))
        elif self._protocol is not None:
            self._protocol.connection_lost(exc)

    # Inside

    def _shake(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._refuse(error)
        else:
            self._flush()
            self._state = _State.OPEN
            self._unread = 0
            self._tcp.pause_reading()
            if not self._shaken.done():
                self._shaken.set_result(None)

    def _refuse(self, error: Exception) -> None:
        if not self._shaken.done():
            self._shaken.set_exception(error)
            self._shaken.exception()  # nobody need ask for it

    def _deliver(self) -> None:
        """Decrypt what is here, to the protocol above, for as long as it wants it."""
        while not self._paused and self._state is _State.OPEN:
            protocol = self._protocol
            own_buffer = isinstance(protocol, asyncio.BufferedProtocol)
            view = protocol.get_buffer(-1) if own_buffer else memoryview(bytearray(PIECE_BYTES))
            count, end = self._decrypt(view)
            if count and own_buffer:
                protocol.buffer_updated(count)
            elif count:
                protocol.data_received(bytes(view[:count]))
            if isinstance(end, ssl.SSLZeroReturnError):
                self.eof_received()
            elif not isinstance(end, ssl.SSLWantReadError | None) or (end is not None and self._is_mute()):
                self._fail()
            if end is not None and not self._feed():
                break
        self._flush()  # what TLS itself has to say, to a change of keys for one

    def _decrypt(self, view: memoryview) -> tuple[int, ssl.SSLError | None]:
        """Fill view as far as there is something; and why it is not full. OpenSSL gives one record a call."""
        read = cast("Callable[[int, memoryview], int]", self._session.read)
        size, count, reads = len(view), 0, 0
        end: ssl.SSLError | None = None
        try:
            while count < size:
                got = read(size - count, view[count:])
                if not got:
                    end = ssl.SSLZeroReturnError()
                    break
                count += got
                reads += 1
        except ssl.SSLError as error:
            # Its traceback would hold on to the view, and itself, until the garbage collector comes round.
            end = error.with_traceback(None)
        self._unread -= reads
        return count, end

    def _feed(self) -> bool:
        """Give OpenSSL some of what came. False: there is nothing left."""
        if not self._rest:
            return False
        size, ended = self._records.take(self._rest)
        self._incoming.write(self._rest[:size])
        self._rest = self._rest[size:]
        self._unread += ended
        return True

    def _is_mute(self) -> bool:
        """OpenSSL is through with what it was given: have too many records carried nothing by now?"""
        self._mute += max(0, self._unread)  # less than 0 where one was read in parts
        self._unread = 0
        return self._mute > MUTE_RECORDS_MAX

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._tcp.write(self._outgoing.read())

    def _await_farewell(self, turns: int) -> None:
        unsent = self._tcp.get_write_buffer_size()
        self._farewell = self._loop.call_later(SHUTDOWN_S, self._end_farewell, unsent, turns - 1)

    def _end_farewell(self, unsent: int, turns: int) -> None:
        """Go, unless the peer is slow only: the end of an answer may take long on a thin line."""
        if turns and self._tcp.get_write_buffer_size() < unsent:
            self._await_farewell(turns)
        else:
            self._tcp.abort()

    def _fail(self) -> None:
        """The session is broken: nothing that comes can be believed."""
        self._flush()
        self.abort()
