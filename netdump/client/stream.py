"""Chunks made ready to send: digest and compression, on one CPU in line, on more in threads, always in order.

Owns the worker threads and how much is in the making. The digest is taken first, of the bytes as they were read, so
that a fault in memory or codec shows at the collector. Knows no connection: a stream is thrown away at a cut and
another one begins where the collector wants.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from netdump.namedtuple import NamedTuple
from netdump.wire import Chunk, CodecId, chunk_digest, pack_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    from netdump.codec import Buffer
    from netdump.pages import Run
    from netdump.vmcore.plan import PlannedChunk

    class Packer(Protocol):
        """What compresses: a Compressor, or an AdaptiveCompressor. For one thread."""

        def compress(self, data: Buffer) -> Buffer:
            """One zstd frame; what is not smaller than data counts as not compressed."""

    class ChunkStream(Protocol):
        """Chunks ready to send, in order. A chunk is valid until the next but one is asked for, or close."""

        def take(self) -> Prepared | None:
            """Return the next chunk, or None after the last. Raises what reading raises."""

        def close(self) -> None:
            """Give back what the stream holds. It may be called at any time; nothing may be taken afterwards."""


TAKEN_VALID = 2  # chunks that were taken: one that the kernel still takes, and the one that is sent after it
PLAN_SECONDS = 0.5  # a plan that has taken this long is enough for one call


class Prepared(NamedTuple):
    """A chunk ready to send. raw_bytes: of its raw data. runs: what its table says, for the totals."""

    chunk: Chunk
    raw_bytes: int
    runs: tuple[Run, ...]


def prepare(planned: PlannedChunk, compressor: Packer | None) -> Prepared:
    """Digest and compress one chunk. compressor: None sends it as it is.

    The result may hold a view of planned.data: it is valid as long as that is.
    """
    table = pack_runs(planned.runs)
    data = planned.data
    digest = chunk_digest(planned.offset, planned.length, table, data)
    codec, body = CodecId.STORED, data
    if compressor and data:
        compressed = compressor.compress(data)
        if len(compressed) < len(data):
            codec, body = CodecId.ZSTD, memoryview(compressed)
    return Prepared(Chunk(planned.offset, planned.length, table, digest, codec, body), len(data), planned.runs)


class InlineStream:
    """Prepares each chunk when it is taken. For one CPU: a thread would only add switches and memory.

    planned: chunks that are valid until release is called with their data; at most BUFFERS are held at a time.
    """

    BUFFERS = TAKEN_VALID

    __slots__ = ("_compressor", "_planned", "_release", "_taken")

    def __init__(
        self,
        planned: Generator[PlannedChunk, None, None],
        compressor: Packer | None,
        release: Callable[[memoryview], None],
    ) -> None:
        self._planned = planned
        self._compressor = compressor
        self._release = release
        self._taken: deque[memoryview] = deque()

    def take(self) -> Prepared | None:
        """Return the next chunk, or None after the last."""
        if len(self._taken) == TAKEN_VALID:
            self._release(self._taken.popleft())
        planned = next(self._planned, None)
        if planned is None:
            return None
        self._taken.append(planned.data)
        return prepare(planned, self._compressor)

    def close(self) -> None:
        """Give the buffers back."""
        while self._taken:
            self._release(self._taken.popleft())
        self._planned.close()


class _Job:
    """One chunk in the making.

    The worker writes result or error, then releases the lock; the taker reads after `wait`.
    """

    __slots__ = ("done", "error", "planned", "result")

    def __init__(self, planned: PlannedChunk) -> None:
        self.planned = planned
        self.result: Prepared | None = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()  # released by the worker

    def wait(self) -> None:
        """Until the worker is done with it; any number of times."""
        with self.done:
            pass


class Workers:
    """Daemon threads that prepare chunks, each with a compressor of its own. They live as long as the process.

    count: threads, 1 or more; what the system lets be started is what there is then, which may be none.
    make_compressor: called in each of them, for its first chunk; returns None for no compression.
    """

    __slots__ = ("_queue", "count")

    def __init__(self, count: int, make_compressor: Callable[[], Packer | None]) -> None:
        self.count = 0
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        with suppress(RuntimeError):  # the limit of threads
            while self.count < count:
                name = f"compress-{self.count}"
                threading.Thread(target=self._work, args=(make_compressor,), daemon=True, name=name).start()
                self.count += 1

    def submit(self, planned: PlannedChunk) -> _Job:
        """Have a chunk prepared. Its data must stay as it is until the job is done."""
        job = _Job(planned)
        self._queue.put(job)
        return job

    def _work(self, make_compressor: Callable[[], Packer | None]) -> None:
        compressor: Packer | None = None
        is_made = False
        while True:
            job = self._queue.get()
            try:
                if not is_made:
                    compressor, is_made = make_compressor(), True
                job.result = prepare(job.planned, compressor)
            except BaseException as error:  # whatever it is, take() raises it in the thread that waits
                job.error = error
            job.done.release()


class ThreadedStream:
    """Keeps the workers busy with the chunks to come: one for each, and one more that waits. For one thread.

    planned: chunks that are valid until release is called with their data; at most buffers(workers) are held at a time.
    """

    __slots__ = ("_clock", "_depth", "_jobs", "_planned", "_release", "_taken", "_workers")

    def __init__(
        self,
        planned: Generator[PlannedChunk, None, None],
        workers: Workers,
        release: Callable[[memoryview], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._planned = planned
        self._workers = workers
        self._release = release
        self._depth = workers.count + 1
        self._jobs: deque[_Job] = deque()
        self._taken: deque[memoryview] = deque()

    @staticmethod
    def buffers(workers: int) -> int:
        """How many buffers a stream needs: for chunks in the making, those taken and the one being planned."""
        return workers + 2 + TAKEN_VALID

    def take(self) -> Prepared | None:
        """Return the next chunk, or None after the last; waits for the worker that has it, a matter of milliseconds.

        Of new chunks only two are planned in one call, or one if that took PLAN_SECONDS, so that a slow source does not
        keep the connection waiting.
        """
        if len(self._taken) == TAKEN_VALID:
            self._release(self._taken.popleft())
        self._plan(2)
        if not self._jobs:
            return None
        job = self._jobs[0]
        job.wait()  # a signal may end that: then close() still has to wait
        self._jobs.popleft()
        self._taken.append(job.planned.data)
        if job.error:
            raise job.error
        return job.result

    def close(self) -> None:
        """Give all buffers back; waits for the workers that still read them."""
        while self._taken:
            self._release(self._taken.popleft())
        for job in self._jobs:
            job.wait()
            self._release(job.planned.data)
        self._jobs.clear()
        self._planned.close()

    def _plan(self, count: int) -> None:
        begun = self._clock()
        while count > 0 and len(self._jobs) < self._depth:
            planned = next(self._planned, None)
            if planned is None:
                return
            self._jobs.append(self._workers.submit(planned))
            count = count - 1 if self._clock() - begun < PLAN_SECONDS else 0
