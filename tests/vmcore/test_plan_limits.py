"""Chunks end in time: limits of a plan, slow sources, and the buffers that its data lies in."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from netdump.testing.elf_writer import Core, Load, counter_pages
from netdump.vmcore.buffers import BufferPool
from netdump.vmcore.physmap import ImageMap
from netdump.vmcore.plan import CHUNK_DATA_MAX, Limits, PlannedChunk, iter_chunks
from tests.vmcore.doubles import BytesSource, headers_of, restore
from tests.vmcore.plans import PAGE, planned

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_limits_of_a_chunk() -> None:
    pages = b"".join(counter_pages(page, 1) + bytes(PAGE) for page in range(1, 200))
    core = Core([Load(0, len(pages), {0: pages}), Load(1 << 30, 1000 * PAGE)])
    for limits in (
        Limits(data=PAGE),
        Limits(data=10 * PAGE),
        Limits(runs=1),
        Limits(runs=2),
        Limits(runs=7),
        Limits(length=PAGE),
        Limits(length=5 * PAGE),
        Limits(read=1),
        Limits(length=7 * PAGE, data=3 * PAGE, runs=3, read=100 * PAGE),
    ):
        chunks = planned(core, limits)
        assert restore(chunks) == core.build()
        assert all(chunk.length <= limits.length for chunk in chunks)
        assert all(len(chunk.data) <= limits.data for chunk in chunks)
        assert all(1 <= len(chunk.runs) <= limits.runs for chunk in chunks)


def test_pure_data_fills_its_chunks() -> None:
    chunks = planned(Core([Load(0, 4 << 20, {0: counter_pages(1, 1024)})]))
    assert [len(chunk.data) for chunk in chunks] == [1 << 20] * 4 + [PAGE]


def test_zeros_do_not_keep_a_client_silent() -> None:
    """What is read for one chunk is bounded, even if nothing comes of it."""
    chunks = planned(Core([Load(0, 64 << 20)]), Limits(read=16 << 20))
    assert [chunk.length for chunk in chunks] == [(16 << 20) + PAGE] + [16 << 20] * 3


class SlowSource(BytesSource):
    """Takes its time for each byte, and much more for each bad page, by a clock of its own."""

    def __init__(self, image: bytes, rate: float, bad: Sequence[tuple[int, int]] = (), page_seconds: float = 0) -> None:
        super().__init__(image, bad)
        self.now = 0.0
        self._rate, self._page_seconds = rate, page_seconds

    def read_into(self, offset: int, buffer: memoryview) -> list[tuple[int, int]]:
        lost = super().read_into(offset, buffer)
        self.now += len(buffer) / self._rate + self._page_seconds * sum(length for _, length in lost) / PAGE
        return lost


def silences(source: SlowSource, core: Core) -> list[float]:
    """How long each chunk is in the making; they must be the image."""
    chunks, waits, before = [], [], 0.0
    pool = BufferPool(CHUNK_DATA_MAX, 1000)
    for chunk in iter_chunks(source, ImageMap(headers_of(source.image)), PAGE, pool=pool, clock=lambda: source.now):
        waits.append(source.now - before)
        before = source.now
        chunks.append(chunk)
    restored = restore(chunks)
    assert len(restored) == len(core.build())
    return waits


@pytest.mark.parametrize("rate", [12 << 20, 1 << 20, 100 << 10])
@pytest.mark.parametrize("kind", ["zeros", "aliases"])
def test_a_slow_source_does_not_keep_a_client_silent(rate: int, kind: str) -> None:
    """[W-60]: a chunk is finished after a second, whatever comes of it, and a block is the least that is read."""
    text = counter_pages(1, 2048) if kind == "aliases" else b""
    loads = [Load(0, 8 << 20, {0: text})] * 2 if text else [Load(0, 16 << 20)]
    source = SlowSource(Core(loads).build(), rate)
    waits = silences(source, Core(loads))
    block = (256 << 10) / rate
    assert waits[0] < 1 + 4 * block  # the first may begin with a whole block, and another to compare it with
    assert max(waits[1:]) < 2  # a block and its source, each twice as large as one that took a quarter of a second
    assert len(waits) >= source.now / 2


def test_pages_that_fail_slowly_are_tried_one_by_one() -> None:
    core = Core([Load(0, 4 << 20, {0: counter_pages(1, 1024)})])
    source = SlowSource(core.build(), 1 << 30, [(1 << 20, 2 << 20)], page_seconds=2)
    waits = silences(source, core)
    assert sorted(waits)[-2] <= 2.1, "but for the block in which the first of them is"
    assert max(waits) <= 2 * 64 + 1
    assert sum(length for _, length in source.reads) == source.size, "nothing is read twice"


def test_data_is_handed_out_as_it_was_read() -> None:
    """No copy where a chunk is all data: the source fills the pool's buffer, and that is what the chunk shows."""
    core = Core([Load(0, 1 << 20, {0: counter_pages(1, 256)})])
    image = core.build()
    pool = BufferPool(CHUNK_DATA_MAX, 3)
    buffer = pool.take()
    pool.release(memoryview(buffer))
    chunk = next(iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool))
    assert chunk.data.obj is buffer
    assert chunk.data.contiguous


def test_without_a_pool_data_is_valid_until_the_next_chunk() -> None:
    image = Core([Load(0, 3 << 20, {0: counter_pages(1, 768)})]).build()
    chunks = iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE)
    first = next(chunks)
    assert first.data[:PAGE] == image[:PAGE]
    next(chunks)
    with pytest.raises(ValueError, match="released"):
        first.data[0]


def test_with_a_pool_chunks_may_be_held_and_released_in_any_order() -> None:
    core = Core([Load(0, 8 << 20, {0: counter_pages(1, 2048)}), Load(1 << 30, 64 * PAGE)])
    image = core.build()
    pool = BufferPool(CHUNK_DATA_MAX, 5)
    held: list[PlannedChunk] = []
    kept: dict[int, bytes] = {}
    generator = random.Random(7)
    for chunk in iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool):
        held.append(chunk)
        if len(held) == 4:
            out = held.pop(generator.randrange(4))
            kept[out.offset] = bytes(out.data)
            pool.release(out.data)
    for chunk in held:
        kept[chunk.offset] = bytes(chunk.data)
    assert b"".join(kept[offset] for offset in sorted(kept)) == image[: PAGE + (8 << 20)]


def test_every_buffer_comes_back_to_the_pool() -> None:
    """However a walk ends: a client makes a new one after each cut of the connection."""
    image = Core([Load(0, 3 << 20, {0: counter_pages(1, 256), 2 << 20: b"x"})]).build()
    pool = BufferPool(CHUNK_DATA_MAX, 2)
    for wanted in (0, 1, 2, 99) * 3:
        chunks = iter_chunks(BytesSource(image), ImageMap(headers_of(image)), PAGE, pool=pool)
        for _, chunk in zip(range(wanted), chunks, strict=False):
            pool.release(chunk.data)
        chunks.close()
    assert pool.take() is not pool.take(), "both are there"


def test_a_thousand_segments_in_few_chunks() -> None:
    loads = [Load(number << 20, 100, {0: bytes([number % 255 + 1]) * 100}) for number in range(1000)]
    core = Core(loads, alignment=1)
    chunks = planned(core)
    assert len(chunks) == 1
    assert restore(chunks) == core.build()
    chunks = planned(Core(loads))  # each followed by a gap of zeros up to the next page
    assert restore(chunks) == Core(loads).build()
