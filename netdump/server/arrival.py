"""One dump arriving on one connection: verified in parallel, stored in order, acknowledged when durable.

Owns the way of a chunk from the protocol core to the store, and what is made of faults on it. Disk and digests run in
threads; the rest belongs to the event loop. Who may send, and what happens before RESUME and after the end, is for
reception.py.

What bounds memory: credit binds the raw data that a host may have sent and not seen acknowledged; and the reading of
its connection is held while the frames in memory, whose run tables credit hardly counts, are more than credit and one
segment.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from netdump import wire
from netdump.errors import PkiError, RemoteProtocolError, StoreError
from netdump.namedtuple import NamedTuple
from netdump.server.diskfailures import DiskFailures
from netdump.server.seats import CREDIT_FIRST, VAST_BYTES
from netdump.server.space import Room, SpaceWatch
from netdump.store.intake import verify_chunk, verify_headline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from netdump.server.config import Ingest, Storage
    from netdump.store.recovery import Durable
    from netdump.store.writer import DumpWriter

FULL_CHUNK_COST: Final = wire.CHUNK_DATA_MAX + wire.CHUNK_COST_FLOOR

Result = TypeVar("Result")


class Ending(NamedTuple):
    """How an arrival ended. reason: what went wrong here, None if it is complete or the connection just ended."""

    complete: bool
    reason: str | None


class Line(Protocol):
    """The connection, as an arrival sees it. None of these blocks or raises, whatever became of the connection."""

    def acknowledge(self, offset: int, credit: int | None = None) -> None:
        """Send ACK. credit: None, if it is as before."""

    def forget(self, frames: Iterable[wire.Buffer]) -> None:
        """These frames are stored, nobody looks at them any more."""

    def introduced(self) -> None:
        """The headline is stored, or never will be; nobody looks at it any more."""

    def conclude(self, message: wire.Receipt) -> None:
        """Send the last word."""

    def breach(self, error: RemoteProtocolError) -> None:
        """Fail the connection for what the host did."""

    def fail(self, code: wire.ErrorCode, text: str) -> None:
        """Fail the connection for what the collector cannot do."""

    def hold(self) -> None:
        """Stop reading."""

    def release(self) -> None:
        """Read again."""


class Journal(Protocol):
    """Who is told how a dump gets on. Called on the event loop; must not block."""

    def headline_stored(self) -> None:
        """The headline is durable."""

    def progressed(self, durable: Durable, stored_bytes: int) -> None:
        """More is durable; stored_bytes: of segments, since this arrival began."""

    def waits(self) -> None:
        """There is no room to go on."""


@dataclass(frozen=True, slots=True)
class ArrivalContext:
    """What all arrivals share. verifiers: as many threads as CPUs; disks: at least one thread for each seat; headlines:
    a few, each of which may hold one of the largest twice, unpacked.

    room: measures what space is left for dumps, after making some if it can; blocks, from any thread. stopping: set
    once the collector stops, which does not wait for what takes long. disk_failures: told what the disk fails to do.
    """

    verifiers: Executor
    disks: Executor
    headlines: Executor
    space: SpaceWatch
    ingest: Ingest
    storage: Storage
    receipt: Callable[[DumpWriter], wire.Receipt]
    room: Callable[[], Room]
    stopping: threading.Event = field(default_factory=threading.Event)
    disk_failures: DiskFailures = field(default_factory=DiskFailures)


class _Item(NamedTuple):
    message: wire.Headline | wire.Chunk | wire.Finish
    raw_bytes: asyncio.Future[int] | None  # of a chunk: ready when it is verified


class _NoRoomError(Exception):
    """Less than min_free is free."""


class _GaveUpError(Exception):
    """What is not durable is let go: the connection ended while there was no room, or the collector stops."""


def _verify(chunk: wire.Chunk) -> int:
    """In a thread: check a chunk, and let go of its raw data, for the store keeps the frame. Returns its size."""
    return len(verify_chunk(chunk))


class Arrival:
    """Takes the messages of one connection from RESUME on. `run` is its life.

    admitted: whether the host may send chunks at once. credit: of the host that sends, 0 until it may, taken from the
    argument of that name at every acknowledgement anew. may_store: is told of the bytes of each segment that is
    durable; whether its host may store more. introduced: is set when the headline is durable. taken_bytes: of chunks
    that came.
    """

    def __init__(
        self,
        line: Line,
        writer: DumpWriter,
        context: ArrivalContext,
        journal: Journal,
        *,
        admitted: bool,
        may_store: Callable[[int], bool],
        credit: Callable[[], int],
    ) -> None:
        self._line = line
        self._writer = writer
        self._context = context
        self._journal = journal
        self._may_store = may_store
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Item] = deque()
        self._news = asyncio.Event()  # something was queued, or the end was reached
        self._ended = asyncio.Event()
        self._due: float | None = None  # when what was appended must be published
        self._queued_bytes = 0
        self.taken_bytes = 0
        self._before_bytes = writer.stored_bytes
        self._stored_bytes = 0
        self._stores = False
        self._waits = False
        self._holds = False
        self._segment_bytes = context.storage.publish_bytes
        if writer.origin.image_bytes >= VAST_BYTES:
            self._segment_bytes = max(self._segment_bytes, context.ingest.credit_bytes // 2)
        self._share = credit
        self.credit = min(credit(), CREDIT_FIRST) if admitted else 0
        self.introduced: Final = asyncio.Event()
        if writer.has_headline:
            self.introduced.set()

    def admit(self) -> None:
        """The host, which had to wait, may send chunks now."""
        self.credit = min(self._share(), CREDIT_FIRST)
        self._line.acknowledge(self._writer.durable.offset, self.credit)

    # The connection's side

    def take(self, message: wire.Headline | wire.Chunk | wire.Finish) -> None:
        """A message came."""
        if self._ended.is_set():
            return
        raw_bytes = None
        if isinstance(message, wire.Chunk):
            raw_bytes = self._loop.run_in_executor(self._context.verifiers, _verify, message)
            self._queued_bytes += len(message.frame)
            self.taken_bytes += len(message.frame)
            self._bound_memory()
        self._queue.append(_Item(message, raw_bytes))
        self._news.set()

    def end(self) -> None:
        """No more messages will come. What came is still dealt with."""
        self._ended.set()
        self._news.set()

    @property
    def is_behind(self) -> bool:
        """Whether something that came waits to be stored, or is being stored."""
        return self._stores or bool(self._queue)

    def _bound_memory(self) -> None:
        most = self.credit + self._context.storage.publish_bytes
        if self._queued_bytes > most and not self._holds:
            if self._waits:
                # Held for as long as there is no room, the host could not be heard, and would seem to be gone.
                self._line.fail(wire.ErrorCode.STORAGE, "the collector is short of space; come back")
                return
            self._holds = True
            self._line.hold()
        elif self._holds and self._queued_bytes <= most // 2:
            self._holds = False
            self._line.release()

    # The store's side

    async def run(self) -> Ending:
        """Work until the dump is complete, or the connection has ended and what it brought is durable or given up."""
        reason = None
        try:
            await self._work()
        except RemoteProtocolError as error:
            reason = f"{error.reason}: {error}"
            self._line.breach(error)
            with contextlib.suppress(StoreError, _GaveUpError):
                await self._publish()  # the chunks before the bad one are good
        except StoreError as error:
            # What the writer holds cannot be counted any more [S-04]; the host will offer it again.
            reason = str(error)
            self._context.disk_failures.note(error)
            self._line.fail(wire.ErrorCode.STORAGE, "the collector cannot store just now")
        except PkiError as error:
            # The dump is complete; the host gets its receipt when it comes back and the keys are in order.
            reason = str(error)
            self._line.fail(wire.ErrorCode.INTERNAL, "the collector cannot sign receipts just now")
        except _GaveUpError as error:
            reason = str(error)
        finally:
            self.end()
            self._abandon()
            self._line.introduced()
            await self._on_disk(self._writer.close)
        return Ending(self._writer.manifest is not None, reason)

    async def _work(self) -> None:
        while self._writer.manifest is None:
            if self._queue:
                await self._next()
            elif self._ended.is_set():
                await self._publish()
                return
            elif self._due is not None and self._loop.time() >= self._due:
                await self._publish()
            else:
                await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._due):
                await self._news.wait()

    async def _next(self) -> None:
        message, raw_bytes = self._queue[0]
        if raw_bytes is not None:
            await raw_bytes
            await self._append()
            return
        self._queue.popleft()
        if isinstance(message, wire.Headline):
            await self._store_headline(message)
        else:
            assert isinstance(message, wire.Finish)
            await self._complete(message)

    async def _append(self) -> None:
        """Append all chunks at the head of the queue that are verified by now, and publish if that is due."""
        batch: list[tuple[wire.Chunk, int]] = []
        cost, size, full = self._writer.pending_cost, self._writer.pending_bytes, False
        while self._queue and not full:
            message, verified = self._queue[0]
            if verified is None or not verified.done() or verified.exception() is not None:
                break
            assert isinstance(message, wire.Chunk)
            batch.append((message, verified.result()))
            self._queue.popleft()
            cost += verified.result() + wire.CHUNK_COST_FLOOR
            size += len(message.frame)
            full = size >= self._segment_bytes or self._is_owed(cost, self._context.ingest.credit_bytes)
        # What its share of credit has made due can still grow by what is here already: larger segments, fewer syncs.
        full = full or (not self._queue and self._is_owed(cost, self.credit))
        await self._write(batch, publish=full or (self._due is not None and self._loop.time() >= self._due))
        self._queued_bytes -= sum(len(chunk.frame) for chunk, _ in batch)
        self._line.forget(chunk.frame for chunk, _ in batch)
        self._bound_memory()

    @staticmethod
    def _is_owed(cost: int, credit: int) -> bool:
        """Must this much be acknowledged, so that the host is not kept waiting for credit [W-58]?"""
        return 2 * cost >= credit or cost + FULL_CHUNK_COST > credit

    async def _publish(self) -> None:
        if self._writer.pending_bytes:
            await self._write([], publish=True)

    async def _write(self, batch: list[tuple[wire.Chunk, int]], *, publish: bool) -> None:
        """Store chunks in one visit to a thread. ACK goes out only after publish() has returned [W-55]."""
        writer = self._writer

        def work() -> Durable | None:
            for chunk, raw_bytes in batch:
                writer.append(chunk, raw_bytes)
            return writer.publish() if publish else None

        durable = await self._in_room(work)
        if durable is None:
            self._due = self._due or self._loop.time() + self._context.storage.publish_s
            return
        self._due = None
        may_go_on = self._count_stored()
        credit, self.credit = self.credit, self._share()
        self._line.acknowledge(durable.offset, self.credit if self.credit != credit else None)
        self._journal.progressed(durable, self._stored_bytes)
        if not may_go_on:
            # No word of the protocol declines a dump under way; the host will be told when it comes back.
            self._line.fail(wire.ErrorCode.STORAGE, "the dumps of this host take up all the space it is allowed")

    def _count_stored(self) -> bool:
        """Tell of what is stored by now. Returns whether the host may store more."""
        before, self._stored_bytes = self._stored_bytes, self._writer.stored_bytes - self._before_bytes
        return self._may_store(self._stored_bytes - before)

    async def _store_headline(self, message: wire.Headline) -> None:
        """Verify and store in one visit to a thread, so that no more headlines are unpacked than there are threads."""
        context = self._context
        await self._in_room(
            lambda: self._writer.put_headline(verify_headline(message)),
            # One that unpacks to no more than a chunk does costs no more.
            threads=context.headlines if message.raw_bytes > wire.CHUNK_DATA_MAX else context.disks,
        )
        self._line.introduced()
        self._journal.headline_stored()
        self.introduced.set()

    async def _complete(self, message: wire.Finish) -> None:
        await self._in_room(lambda: self._writer.finish(message.root, message.remark, on_read=self._got_on()))
        self._count_stored()  # the rest became durable with that
        self._line.conclude(await self._on_disk(self._context.receipt, self._writer))

    def _got_on(self) -> Callable[[], None]:
        """What a thread calls whenever it has read more for FINISH: of terabytes that takes an hour [W-69]."""
        every, offset = self._context.ingest.keepalive_s, self._writer.origin.image_bytes
        due = self._loop.time() + every

        def got_on() -> None:
            nonlocal due
            if self._context.stopping.is_set():
                raise _GaveUpError("the collector stops")
            if self._loop.time() >= due:
                due = self._loop.time() + every
                self._loop.call_soon_threadsafe(self._line.acknowledge, offset)

        return got_on

    async def _in_room(self, work: Callable[[], Result], threads: Executor | None = None) -> Result:
        """Run work in a thread, one of the disks' if not told otherwise, once there is room to write."""

        def attempt() -> Result:
            if self._context.room() is Room.NONE:
                raise _NoRoomError
            return work()

        self._stores = True
        try:
            while True:
                changed = self._context.space.changed()
                try:
                    return await self._loop.run_in_executor(threads or self._context.disks, attempt)
                except _NoRoomError:
                    await self._wait_for_room(changed)
        finally:
            self._stores = self._waits = False

    async def _wait_for_room(self, changed: asyncio.Event) -> None:
        """Wait until there may be room; the connection says that it lives meanwhile. Raises _GaveUpError once it has
        ended.
        """
        if not self._waits:
            self._waits = True
            if self._holds or not self.credit:  # who may not send yet has no reason to stay
                self._line.fail(wire.ErrorCode.STORAGE, "the collector is short of space; come back")
            self._journal.waits()
        pause = asyncio.create_task(self._context.space.pause(changed))
        end = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({pause, end}, return_when=asyncio.FIRST_COMPLETED)
            if not pause.done():
                raise _GaveUpError("no space")
        finally:
            pause.cancel()
            end.cancel()

    async def _on_disk(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await self._loop.run_in_executor(self._context.disks, work, *arguments)

    def _abandon(self) -> None:
        for item in self._queue:
            if item.raw_bytes is not None:
                item.raw_bytes.cancel()  # and nobody asks what came of it
        self._queue.clear()
