"""Chunks come out in order, whole and verified, whoever prepares them."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.client.stream import InlineStream, Prepared, ThreadedStream, Workers, prepare
from netdump.codec import Compressor, decode
from netdump.errors import LocalProtocolError
from netdump.pages import PageState, Run
from netdump.vmcore.plan import PlannedChunk
from netdump.wire import CodecId, chunk_digest, pack, raw_bytes, unpack_runs
from tests.client.pretend import PretendImage, content
from tests.threadlimit import limit_threads

if TYPE_CHECKING:
    from netdump.client.stream import ChunkStream
    from netdump.codec import Buffer

NOISE = bytes((number * number * 31 + number // 7) % 251 for number in range(4096))
Make = Callable[[Generator[PlannedChunk, None, None]], "ChunkStream"]


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(3, lambda: Compressor(1))


def planned(data: bytes, offset: int = 0, runs: tuple[Run, ...] | None = None) -> PlannedChunk:
    made = runs or (Run(PageState.DATA, len(data)),)
    return PlannedChunk(offset, sum(run.length for run in made), made, memoryview(data))


def raw(prepared: Prepared) -> bytes:
    """Verify a chunk as a collector does and return its raw data."""
    chunk = prepared.chunk
    assert pack(chunk)  # every rule of the wire
    size = raw_bytes(unpack_runs(chunk.table, chunk.offset, chunk.length))
    data = bytes(decode(chunk.codec, chunk.data, size))
    assert chunk.digest == chunk_digest(chunk.offset, chunk.length, chunk.table, data)
    assert prepared.raw_bytes == size
    return data


def drain(stream: ChunkStream) -> list[tuple[int, bytes]]:
    found = []
    while (prepared := stream.take()) is not None:
        found.append((prepared.chunk.offset, raw(prepared)))
    assert stream.take() is None
    stream.close()
    return found


def test_compressible_data_is_compressed() -> None:
    prepared = prepare(planned(b"abcd" * 1000), Compressor(1))
    assert prepared.chunk.codec is CodecId.ZSTD
    assert len(prepared.chunk.data) < 100
    assert raw(prepared) == b"abcd" * 1000


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.binary(min_size=1, max_size=3000))
def test_nothing_grows(data: bytes) -> None:
    prepared = prepare(planned(data), Compressor(1))
    assert len(prepared.chunk.data) <= len(data)
    assert raw(prepared) == data


def test_incompressible_data_is_stored_without_a_copy() -> None:
    noise = os.urandom(4096)
    prepared = prepare(planned(noise), Compressor(1))
    assert prepared.chunk.codec is CodecId.STORED
    assert isinstance(prepared.chunk.data, memoryview)
    assert prepared.chunk.data.obj is noise
    assert raw(prepared) == noise


def test_no_compression_on_request() -> None:
    prepared = prepare(planned(b"abcd" * 1000), None)
    assert prepared.chunk.codec is CodecId.STORED
    assert raw(prepared) == b"abcd" * 1000


def test_a_chunk_without_data() -> None:
    runs = (Run(PageState.ZERO, 8192), Run(PageState.LOST, 4096), Run(PageState.ALIAS, 4096, source=0))
    prepared = prepare(planned(b"", 1 << 20, runs), Compressor(1))
    assert (prepared.chunk.codec, bytes(prepared.chunk.data), prepared.raw_bytes) == (CodecId.STORED, b"", 0)
    assert raw(prepared) == b""


class Ring:
    """Chunks in buffers that are overwritten as soon as they are released; counts those that are out."""

    def __init__(self, count: int) -> None:
        self.out = self.most = 0
        self._count = count

    def __iter__(self) -> Generator[PlannedChunk, None, None]:
        for number in range(self._count):
            buffer = bytearray(number.to_bytes(4, "big") * 1024 if number % 3 else NOISE)
            self.out += 1
            self.most = max(self.most, self.out)
            yield PlannedChunk(number * 4096, 4096, (Run(PageState.DATA, 4096),), memoryview(buffer))

    def release(self, data: memoryview) -> None:
        self.out -= 1
        data[:] = bytes(len(data))
        data.release()


@pytest.mark.parametrize("count", [0, 1, 2, 5, 50])
def test_threads_keep_order_and_bounds(workers: Workers, count: int) -> None:
    ring = Ring(count)
    stream = ThreadedStream(iter(ring), workers, ring.release)
    expected = [(n * 4096, n.to_bytes(4, "big") * 1024 if n % 3 else NOISE) for n in range(count)]
    assert drain(stream) == expected
    assert ring.out == 0
    assert ring.most <= ThreadedStream.buffers(workers.count) - 1  # one more is being planned


def test_as_many_threads_as_the_system_lets_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_threads(monkeypatch, 1)
    some, none = Workers(3, lambda: None), Workers(3, lambda: None)
    assert (some.count, none.count) == (1, 0)
    ring = Ring(5)
    assert len(drain(ThreadedStream(iter(ring), some, ring.release))) == 5


class SlowPacker:
    """Sends a signal to the main thread once it has work, and is not done with that before it is let."""

    def __init__(self) -> None:
        self.let, self.done = threading.Event(), False

    def compress(self, data: Buffer) -> Buffer:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        self.let.wait(20)
        self.done = True
        return data


def test_a_signal_leaves_no_worker_with_a_buffer_that_was_given_back() -> None:
    """Sent while the worker is waited for, SIGTERM ends the run; what it reads is given back when it has done."""
    packer, ring, finished = SlowPacker(), Ring(1), []

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def release(data: memoryview) -> None:
        finished.append(packer.done)
        ring.release(data)

    stream = ThreadedStream(iter(ring), Workers(1, lambda: packer), release)
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            stream.take()
    finally:
        signal.signal(signal.SIGUSR1, before)
    threading.Timer(0.1, packer.let.set).start()
    stream.close()
    assert all(finished)  # or none: the signal came before the stream knew of the work


@pytest.mark.parametrize("count", [0, 1, 2, 5, 50])
def test_the_line_keeps_order_and_bounds(count: int) -> None:
    ring = Ring(count)
    stream = InlineStream(iter(ring), Compressor(1), ring.release)
    expected = [(n * 4096, n.to_bytes(4, "big") * 1024 if n % 3 else NOISE) for n in range(count)]
    assert drain(stream) == expected
    assert ring.out == 0
    assert ring.most <= InlineStream.BUFFERS


@pytest.mark.parametrize("threads", [False, True])
def test_a_chunk_is_valid_until_the_next_but_one_is_taken(threads: bool) -> None:
    """The link may still have it when the next one is made, and is sent without a copy."""
    ring = Ring(30)
    one = Workers(1, lambda: None)
    stream: ChunkStream = (
        ThreadedStream(iter(ring), one, ring.release) if threads else InlineStream(iter(ring), None, ring.release)
    )
    before = stream.take()
    while (prepared := stream.take()) is not None:
        assert before is not None
        assert raw(before)[:4] != bytes(4) or before.chunk.offset == 0
        before = prepared
    stream.close()
    assert ring.out == 0


def test_threads_and_line_agree(workers: Workers) -> None:
    image = PretendImage(content(40))
    threaded = ThreadedStream(image.planned(0), workers, lambda _: None)
    assert drain(threaded) == drain(image.stream(0))


def test_a_stream_may_be_closed_at_any_time(workers: Workers) -> None:
    ring = Ring(50)
    stream = ThreadedStream(iter(ring), workers, ring.release)
    stream.take()
    stream.take()
    stream.close()
    image = PretendImage(content(8))
    assert drain(ThreadedStream(image.planned(0), workers, lambda _: None)) == drain(image.stream(0))


def test_planning_does_not_run_far_ahead_at_once(workers: Workers) -> None:
    ring = Ring(50)
    stream = ThreadedStream(iter(ring), workers, ring.release)
    stream.take()
    assert ring.out == 2
    stream.close()


def test_a_slow_source_is_asked_for_one_chunk_at_once(workers: Workers) -> None:
    """So that the connection gets its turn after each: [W-60]."""
    ring = Ring(50)
    stream = ThreadedStream(iter(ring), workers, ring.release, itertools.count().__next__)
    stream.take()
    assert ring.out == 1
    stream.take()
    assert ring.out == 2  # the one before is still valid
    stream.take()
    assert ring.out == 2
    stream.close()


class TroubleError(Exception):
    pass


def failing() -> Generator[PlannedChunk, None, None]:
    yield planned(b"x")
    raise TroubleError


def make_threaded(chunks: Generator[PlannedChunk, None, None]) -> ChunkStream:
    return ThreadedStream(chunks, Workers(2, lambda: None), lambda _: None)


def make_inline(chunks: Generator[PlannedChunk, None, None]) -> ChunkStream:
    return InlineStream(chunks, None, lambda _: None)


@pytest.mark.parametrize("make", [make_threaded, make_inline])
def test_what_reading_raises_comes_out(make: Make) -> None:
    stream = make(failing())
    with pytest.raises(TroubleError):
        drain(stream)


def test_what_preparing_raises_comes_out_and_the_worker_lives_on() -> None:
    one = Workers(1, lambda: None)
    bad = PlannedChunk(0, 1, (Run(PageState.DATA, -1),), memoryview(b"x"))
    with pytest.raises(LocalProtocolError):
        ThreadedStream((chunk for chunk in [bad]), one, lambda _: None).take()
    assert ThreadedStream((chunk for chunk in [planned(b"x")]), one, lambda _: None).take() is not None


def test_a_compressor_that_cannot_be_made_is_no_reason_to_wait_for_ever() -> None:
    """There was no memory for it; there may be later."""
    answers = iter([MemoryError(), None])

    def make_compressor() -> None:
        if error := next(answers):
            raise error

    one = Workers(1, make_compressor)
    with pytest.raises(MemoryError):
        ThreadedStream((chunk for chunk in [planned(b"x")]), one, lambda _: None).take()
    assert ThreadedStream((chunk for chunk in [planned(b"x")]), one, lambda _: None).take() is not None
