"""One connection to one collector, from HELLO to its end.

Owns the order of what the sender says and the limits on waiting. A connection ends in one of four ways: the
collector's last word (RECEIPT, DEFER, DECLINE, ERROR) is returned; a breach of the protocol is answered with ERROR
and raised; a cut or a stall is an UnreachableError; and it is ended on purpose, with all that was sent acknowledged,
and None is returned, when its keys have served long enough, or when there is so much to catch up with before chunks
can begin that the collector would find us slow. What to do then is netdump.client.delivery's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netdump.client.link import RECORDS_MAX
from netdump.errors import DeadlineError, ProtocolError, RemoteProtocolError, UnreachableError
from netdump.namedtuple import NamedTuple
from netdump.wire import (
    Ack,
    Connection,
    Decline,
    Defer,
    Error,
    Finish,
    Receipt,
    Resume,
    Role,
    State,
    root_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netdump.client.effort import Effort
    from netdump.client.ledger import Ledger
    from netdump.client.link import Link
    from netdump.client.stream import ChunkStream, Prepared
    from netdump.client.tally import Tally
    from netdump.wire import Headline, Hello, Message

LastWord = Receipt | Defer | Decline | Error
FAREWELL_TIMEOUT = 1.0  # seconds for an ERROR frame to leave
CATCH_UP_SECONDS = 3.0  # while connected; a collector's window for slow hosts has 5 at least (rate_window_s)
QUEUE_TIMEOUT_MIN = 120.0  # seconds for a turn to come; netdump's collector says DEFER after half of that


class Limits(NamedTuple):
    """When waiting is over.

    stall, progress: seconds (stall_timeout, progress_timeout). deadline: absolute, of the session's clock.
    """

    stall: float
    progress: float
    deadline: float


class Session:
    """Delivers one dump over one link; used once.

    headline: made when asked for. catch_up: exhausted before chunks begin at an image offset, the connection being kept
    alive meanwhile, but for no longer than CATCH_UP_SECONDS. open_stream: begins the chunks at an image offset.
    afterword: the remark of FINISH, asked for when all is sent. on_turn: called often, with the acknowledged image
    offset. on_queue: called once if chunks have to wait. effort: is told how sending goes. records_max: see
    netdump.client.link.RECORDS_MAX.

    To be read after run: resume, what the collector said, if it has. advanced: it acknowledged something new on this
    connection. behind: catching up took too long, and the rest of it is the caller's.
    """

    def __init__(
        self,
        link: Link,
        ledger: Ledger,
        tally: Tally,
        limits: Limits,
        *,
        headline: Callable[[], Headline],
        afterword: Callable[[], str],
        catch_up: Callable[[int], Iterable[int]],
        open_stream: Callable[[int], ChunkStream],
        on_turn: Callable[[int], None],
        on_queue: Callable[[], None],
        effort: Effort | None = None,
        clock: Callable[[], float] = time.monotonic,
        records_max: int = RECORDS_MAX,
    ) -> None:
        self.resume: Resume | None = None
        self.advanced = False
        self.behind = False
        self._link = link
        self._ledger = ledger
        self._tally = tally
        self._limits = limits
        self._headline = headline
        self._afterword = afterword
        self._catch_up = catch_up
        self._open_stream = open_stream
        self._on_turn = on_turn
        self._on_queue = on_queue
        self._effort = effort
        self._clock = clock
        self._records_max = records_max
        now = clock()
        self._core = Connection(Role.CLIENT, now)
        self._heard = now
        self._moved = now  # last acknowledgement of something new, or nothing was waiting for one
        self._taken = 0  # bytes that had left when it was last looked
        self._queues = False  # for chunks to be taken, which is all that is left to say
        self._end: LastWord | None = None

    def run(self, hello: Hello) -> LastWord | None:
        """Offer the dump and deliver it. Returns the collector's last word; None: go on, on another connection.

        Raises RemoteProtocolError, UnreachableError, RefusedError, DeadlineError, and what reading the source raises.
        """
        try:
            self._send(hello)
            while self._end is None and self.resume is None:
                self._turn()
            if self._end is None and self.resume is not None:
                self._deliver(self.resume, hello)
        except ProtocolError as error:
            self._link.send(self._core.fail(error, self._clock()))
            self._link.close(FAREWELL_TIMEOUT)
            if isinstance(error, RemoteProtocolError) and error.reason == "idle-timeout":
                raise UnreachableError(f"{self._link.address}: connected, but the collector is silent") from error
            raise
        assert self._end is not None or self._keys_used_up or self.behind
        self._link.close()
        return self._end

    @property
    def acked_offset(self) -> int:
        """The image offset up to which this collector has everything durable, as far as known."""
        return self._core.acked_offset

    def _deliver(self, resume: Resume, hello: Hello) -> None:
        self._ledger.resume(resume)
        if not resume.headline:
            self._send(self._headline())
        self._queue()
        self._look_at_what_was_sent(resume.offset)
        if self.behind:
            return
        if self._end is None:
            stream = self._open_stream(resume.offset)
            try:
                if self._effort is not None:
                    self._effort.begin()
                self._send_chunks(stream)
            finally:
                stream.close()
        if self._end is None and not self._keys_used_up:
            last = self._ledger.last
            root = root_digest(last.chain, hello.image_bytes, last.chunks)
            self._ledger.finish(root)
            self._send(Finish(hello.image_bytes, last.chunks, root, self._afterword()))
            while self._end is None:
                self._turn()

    def _queue(self) -> None:
        """Wait until the collector takes chunks, if it does not yet [W-37]."""
        if self._core.credit:
            return
        self._on_queue()
        self._drain()
        self._queues, self._moved = True, self._clock()
        while self._end is None and not self._core.credit:
            self._turn()
        self._queues, self._moved = False, self._clock()

    def _look_at_what_was_sent(self, offset: int) -> None:
        """Exhaust catch_up, as far as there is time."""
        until = self._clock() + CATCH_UP_SECONDS
        for _ in self._catch_up(offset):
            self._turn(wait=False)
            if self._end is not None:
                return
            if self._clock() >= until:
                self.behind = True
                return

    @property
    def _keys_used_up(self) -> bool:
        return self._link.sent_records >= self._records_max

    def _send_chunks(self, stream: ChunkStream) -> None:
        """Send to the end of the image, as credit allows, or until the keys are used up and all is acknowledged.

        A chunk is made while the kernel still sends the one before.
        """
        waiting: Prepared | None = None
        while self._end is None:
            if self._keys_used_up:
                if not self._core.unacked_cost:
                    return
                self._turn()
                continue
            if waiting is None:
                waiting = stream.take()
            if waiting is None:
                self._drain()  # the last chunk is valid as long as its stream is open
                return
            ready = not self._link.pending and self._core.may_send(waiting.raw_bytes)
            if ready:
                self._send_chunk(waiting)
                waiting = None
                self._turn(wait=False)
            else:
                self._wait_to_send()

    def _drain(self) -> None:
        """Wait until the kernel has all that was sent."""
        while self._end is None and self._link.pending:
            self._turn()

    def _wait_to_send(self) -> None:
        begun = self._clock()
        self._turn()
        if self._effort is not None:
            self._effort.waited(self._clock() - begun)

    def _send_chunk(self, prepared: Prepared) -> None:
        """Its data is not copied: the link has sent all of it before another chunk goes, and it is valid until then."""
        chunk = prepared.chunk
        self._link.send(*self._core.send_parts(chunk, self._clock()))
        self._ledger.add(chunk.length, chunk.digest)
        self._tally.add(prepared)
        if self._effort is not None:
            self._effort.sent(prepared.raw_bytes, len(chunk.data), self._link.delivery_rate())

    def _send(self, message: Message) -> None:
        self._link.send(self._core.send(message, self._clock()))

    def _turn(self, *, wait: bool = True) -> None:
        """Send, receive and handle what is possible, and keep the connection alive. wait: until something is."""
        now = self._clock()
        received = self._link.exchange(self._due(now) - now if wait else 0)
        now = self._clock()
        if received:
            self._heard = now
            self._core.receive_data(received, now)
        while self._end is None and (event := self._core.next_event()) is not None:
            self._handle(event, now)
        if self._end is None:
            if self._link.eof:
                raise UnreachableError(f"{self._link.address}: the collector has closed the connection")
            self._link.send(self._core.on_time(now))
            self._check_limits(now)
        if self.resume:
            self._on_turn(self._core.acked_offset)

    def _handle(self, event: Message, now: float) -> None:
        match event:
            case Resume():
                self.resume = event
            case Ack():
                if self._ledger.acknowledge(event.offset):
                    self.advanced = True
                    self._moved = now
                elif self._core.state is State.FINISHING and not self._core.unacked_cost:
                    self._moved = now  # it reads what it has, and gets on [W-69]
            case Receipt():
                if self.resume is None:  # else the core has compared it with FINISH
                    self._ledger.check_receipt(event.root)
                self.advanced = True
                self._end = event
            case Defer() | Decline() | Error():
                self._end = event
            case _:
                pass  # KEEPALIVE: that something came is all it says

    def _due(self, now: float) -> float:
        """When this side must act even if nothing happens."""
        timer = self._core.next_timer()
        times = [self._limits.deadline, self._stall_time(), *([timer] if timer is not None else [])]
        if self._owed():
            times.append(self._moved + self._progress_timeout)
        return max(now, min(times))

    def _stall_time(self) -> float:
        """When silence counts as a stall. A collector that speaks only every keepalive seconds has said so."""
        keepalive = self.resume.keepalive if self.resume else 0
        return self._heard + max(self._limits.stall, 2 * keepalive)

    def _owed(self) -> bool:
        """Whether the collector owes an acknowledgement, a receipt, the word that it takes chunks now, or to read."""
        return self._awaited() or self._link.pending > 0

    def _awaited(self) -> bool:
        return self._core.unacked_cost > 0 or self._core.state is State.FINISHING or self._queues

    def _takes_headline(self) -> bool:
        """Whether something of what is not acknowledged has left since this was last asked: of a headline, that is."""
        before, self._taken = self._taken, self._link.sent_bytes
        return before < self._taken and not self._awaited()

    @property
    def _progress_timeout(self) -> float:
        """How long what the collector owes may take, seconds."""
        return max(self._limits.progress, QUEUE_TIMEOUT_MIN) if self._queues else self._limits.progress

    def _check_limits(self, now: float) -> None:
        if now >= self._limits.deadline:
            raise DeadlineError(f"{self._link.address}: the deadline passed while sending")
        if now >= self._stall_time():
            raise UnreachableError(f"{self._link.address}: nothing heard for {now - self._heard:.0f} s")
        if not self._owed() or self._takes_headline():
            self._moved = now
        elif now >= self._moved + self._progress_timeout:
            what = "it took no pages" if self._queues else "nothing was acknowledged"
            raise UnreachableError(f"{self._link.address}: alive, but {what} for {now - self._moved:.0f} s")
