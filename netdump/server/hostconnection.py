"""One connection of a host: bytes to the protocol core, messages to the dump, timers, and an orderly end.

Owns a socket and its clocks. Knows nothing of stores: what HELLO leads to is decided in reception.py, what happens to
chunks in arrival.py. Never blocks.

A connection ends in one of three ways. Cut: the peer is gone. Said: the last word of the protocol (DEFER, DECLINE,
RECEIPT, ERROR) was sent; then the connection lingers, reading and ignoring what still comes [W-76], so that the word is
not lost in a TCP reset. Aborted: the peer neither reads nor goes.
"""

from __future__ import annotations

import asyncio
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Final, Protocol

from netdump import wire
from netdump.errors import RemoteProtocolError
from netdump.server.arrival import FULL_CHUNK_COST
from netdump.server.headlines import LONG_BYTES, Headlines
from netdump.server.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netdump.pki import Identity
    from netdump.server.bufferpool import BufferPool
    from netdump.server.config import Ingest
    from netdump.server.listener import Visitor

LINGER_S: Final = 2.0
TABLE_FREE: Final = 4096  # bytes of a run table that are looked through in no time
REST_S: Final = 0.5e-6  # for each byte of a longer one: four times as long as that takes the loop
UNREAD_MAX: Final = 256 * 1024  # bytes of ours that a host may leave unread; ACKs and KEEPALIVEs have some 20


class Taker(Protocol):
    """Where the messages after RESUME go. Called on the loop, in order; must not block and must not raise."""

    def take(self, message: wire.Headline | wire.Chunk | wire.Finish) -> None:
        """A message came."""

    def end(self) -> None:
        """No more messages will come, whatever the cause. May be called more than once."""


class HostConnection(asyncio.BufferedProtocol):
    """One connection of a host whose certificate was found good. Belongs to the event loop."""

    def __init__(
        self,
        visitor: Visitor,
        identity: Identity,
        settings: Ingest,
        buffers: BufferPool,
        headlines: Headlines,
        *,
        attend: Callable[[HostConnection, wire.Hello], asyncio.Task[None]],
        on_breach: Callable[[HostConnection, RemoteProtocolError], None],
        on_error: Callable[[HostConnection, wire.Error], None],
        on_lost: Callable[[HostConnection], None],
    ) -> None:
        self.identity: Final = identity
        self.peer: Final = visitor.address
        self._visitor = visitor
        self._transport = visitor.transport
        self._attend = attend
        self._on_breach = on_breach
        self._on_error = on_error
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._buffers = buffers
        self._headlines = headlines
        self._wire = wire.Connection(wire.Role.COLLECTOR, self._loop.time(), self._take_buffer)
        self._pace = Pace(settings.rate_bytes, settings.rate_window_s)
        self._received_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._taker: Taker | None = None
        self._over = False
        self._held = False
        self._rests = False  # not read, so that others get their turn of the loop

    # What the reception and an arrival see

    @property
    def host(self) -> str:
        """The host name of every dump of this connection [W-05]."""
        return self.identity.name

    @property
    def is_open(self) -> bool:
        """Messages can still be sent and received."""
        return not self._over

    def begin(self, resume: wire.Resume, taker: Taker) -> None:
        """Answer HELLO with RESUME; from now on messages go to taker."""
        self._taker = taker
        self._send(resume)
        self.release()

    def acknowledge(self, offset: int, credit: int | None = None) -> None:
        """Send ACK, with another credit or as before. Does nothing once the connection is over."""
        if not self._over:
            self._send(wire.Ack(offset, credit))

    def forget(self, frames: Iterable[wire.Buffer]) -> None:
        """These frames are stored, and nobody looks at them any more: others may be received in their place."""
        for frame in frames:
            self._buffers.give(frame)

    def introduced(self) -> None:
        """The headline is stored, or given up: nobody looks at it any more."""
        self._headlines.stored(self)

    def conclude(self, message: wire.Defer | wire.Decline | wire.Receipt) -> None:
        """Say the last word and part. Does nothing once the connection is over."""
        if not self._over:
            self._send(message)
            self._linger()

    def fail(self, code: wire.ErrorCode, text: str) -> None:
        """Say why the connection fails [W-70] and part. Does nothing once the connection is over."""
        if not self._over:
            self._write(self._wire.send(wire.Error(code, wire.printable(text)), self._loop.time()))
            self._linger()

    def breach(self, error: RemoteProtocolError) -> None:
        """Fail the connection because the peer broke the protocol, or was silent. Does nothing once it is over."""
        if not self._over:
            self._on_breach(self, error)
            self._write(self._wire.fail(error, self._loop.time()))
            self._linger()

    def hold(self) -> None:
        """Read no more for now: too much of this host is in memory. Does nothing once the connection is over."""
        if self._over:
            return
        self._held = True
        self._transport.pause_reading()
        self._pace.pause()

    def release(self) -> None:
        """Read again. Does nothing once the connection is over."""
        if self._over:
            return
        self._held = False
        self._wire.pardon(self._loop.time())
        if not self._rests:
            self._transport.resume_reading()
        self._watch_pace(self._loop.time())
        self._arm()

    def abort(self) -> None:
        """Part at once."""
        self._transport.abort()

    # What those who share out memory call

    def go_on(self) -> None:
        """See Bearer."""
        self.release()

    def give_way(self, reason: str) -> None:
        """See Bearer."""
        self.fail(wire.ErrorCode.STORAGE, f"{reason}; come back")

    # What asyncio calls

    def start(self) -> None:
        """Take over from the listener. The clock of [W-75] runs since this object was made."""
        self._transport.set_protocol(self)
        self._arm()
        self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the core knows best
        """Where TLS shall put what arrives: at its place in the frame that is under way."""
        return self._wire.receive_room()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        if self._over:
            return  # [W-76]
        now = self._loop.time()
        self._received_bytes += nbytes
        self._wire.receive_filled(nbytes, now)
        heard = False
        try:
            while not self._over and (message := self._wire.next_event()) is not None:
                heard = True
                self._dispatch(message)
        except RemoteProtocolError as error:
            self.breach(error)
            return
        if heard:  # bytes alone only put off what the timer waits for
            self._watch_pace(now)
            self._arm()

    def eof_received(self) -> None:
        """The peer will send no more: a cut, for TLS has no half-closed connections in asyncio [W-76]."""
        self._wire.receive_eof()
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it was cut makes no difference
        """The connection is gone."""
        self._finish()
        self._visitor.leave()
        self._on_lost(self)

    # Inside

    def _take_buffer(self, size: int) -> memoryview | None:
        """Memory for a frame; None: not now, and until then this connection is not read."""
        if size <= LONG_BYTES or self._is_granted:
            return self._buffers.take(size)
        if not self._headlines.take(self, size):
            self.hold()
            return None
        # This goes back to the system at once, and costs nothing before it is filled.
        return memoryview(mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS))

    @property
    def _is_granted(self) -> bool:
        """Whether chunks are due: then a seat stands for the memory that the next frame takes."""
        core = self._wire
        if core.state is not wire.State.STREAMING or core.hello is None:
            return False
        return core.credit > 0 and core.sent_offset < core.hello.image_bytes

    def _dispatch(self, message: wire.Message) -> None:
        if isinstance(message, wire.Headline):
            self._headlines.whole(self)
        else:
            self._headlines.leave(self)
        match message:
            case wire.Hello():
                # Nothing is due from the client before the answer: reading on would only gather breaches of the rules.
                self.hold()
                self._attend(self, message).add_done_callback(self._attended)
            case wire.Headline() | wire.Chunk() | wire.Finish():
                assert self._taker is not None, "the core lets these through only after RESUME"
                self._taker.take(message)
                if isinstance(message, wire.Chunk) and len(message.table) > TABLE_FREE:
                    self._rest(len(message.table) * REST_S)
            case wire.Error():
                # ERROR is never answered: what is left is to go.
                self._on_error(self, message)
                self._linger()
            case _:
                assert isinstance(message, wire.Keepalive), "the core lets nothing else through"

    def _rest(self, seconds: float) -> None:
        """Read no more for a moment: who sends much to look through for few bytes would keep the loop for itself."""
        if not self._rests:
            self._rests = True
            self._transport.pause_reading()
            self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._rests = False
        if not self._held and not self._over:
            self._transport.resume_reading()

    def _attended(self, task: asyncio.Task[None]) -> None:
        """The connection is attended to no more: normally it is over then."""
        if not task.cancelled() and (error := task.exception()) is not None:
            # A mistake of ours: the host learns that there was one, the log what it was.
            self._loop.call_exception_handler({"message": "attending to a host failed", "exception": error})
        self.fail(wire.ErrorCode.INTERNAL, "the collector made a mistake")

    def _send(self, message: wire.Message) -> None:
        self._write(self._wire.send(message, self._loop.time()))
        self._watch_pace(self._loop.time())
        self._arm()

    def _write(self, frame: bytes) -> None:
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > UNREAD_MAX:
            self._transport.abort()

    def _watch_pace(self, now: float) -> None:
        """Is the host free to send? Then it is watched."""
        core = self._wire
        streaming = core.state is wire.State.STREAMING and core.unacked_cost + FULL_CHUNK_COST <= core.credit
        if (streaming or core.state is wire.State.HEADLINE) and not self._held:
            self._pace.watch(self._progress(), now)
        else:
            self._pace.pause()

    def _progress(self) -> int:
        """Bytes of the wire that say something, and of image for stretches that have no data to send."""
        return self._received_bytes - self._wire.chatter_bytes + self._wire.sent_offset

    def _arm(self) -> None:
        """See to it that `_on_timer` runs when core or pace want it. A timer that is early enough is left alone."""
        if self._over:
            return
        moments = [moment for moment in (self._wire.next_timer(), self._pace.due()) if moment is not None]
        if not moments:
            return
        due = min(moments)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._over:
            return
        now = self._loop.time()
        if self._held:
            self._wire.pardon(now)  # the host may well have spoken
        try:
            self._write(self._wire.on_time(now))
        except RemoteProtocolError as error:
            self.breach(error)
            return
        if self._pace.is_slow(self._progress(), now):
            text = "too slow: see rate_bytes in the settings of the collector"
            self.breach(RemoteProtocolError(wire.ErrorCode.IDLE_TIMEOUT.slug, text))
            return
        self._arm()

    def _finish(self) -> None:
        """Nothing more is sent or taken."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._taker is not None:
            self._taker.end()
        self._headlines.leave(self)

    def _linger(self) -> None:
        """The last word is said: let the peer read it and go; do not wait for long."""
        self._finish()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_S, self._part)

    def _part(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()
