"""The way of chunks into the store: order, batches, ACKs, faults, space, memory. Real store, no connection."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import threading
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump import wire
from netdump.codec import Compressor
from netdump.pages import ExcludeClass, PageState, Run
from netdump.server.arrival import Ending
from netdump.server.config import Ingest, Storage
from netdump.server.space import Room
from netdump.store.intake import verify_headline
from netdump.store.store import Store
from netdump.testing.sample_dump import SampleDump, received_chunk
from netdump.testing.store_contract import deliver
from tests.server.arrivals import DUMP, MIB, NONE, PLENTY, bench, cannot_sign, restored
from tests.server.rig import headline_of

if TYPE_CHECKING:
    from pathlib import Path

    from netdump.server.space import Measure


@pytest.mark.asyncio
async def test_a_dump_from_headline_to_receipt(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.arrival.take(headline_of(DUMP))
        it.bring(DUMP.chunks)
        it.finish()
        assert await it.arrival.run() == Ending(complete=True, reason=None)
        assert it.line.said == [wire.Receipt(DUMP.root, b"receipt")]
        assert it.line.forgotten == [chunk.frame for chunk in DUMP.chunks]
        assert it.journal.headlines == 1
        assert restored(it) == DUMP.image
        assert it.store.dump(DUMP.origin.id).headline_bytes == DUMP.headline


@pytest.mark.asyncio
@pytest.mark.parametrize(("log_bytes", "threads"), [(1000, "disks"), (MIB, "headlines")])
async def test_a_headline_is_unpacked_where_few_are_and_once_it_can_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_bytes: int, threads: str
) -> None:
    """What it is unpacked to may be much more than what came."""
    unpacked: list[str] = []

    def verify(headline: wire.Headline) -> bytes:
        unpacked.append(threading.current_thread().name)
        return verify_headline(headline)

    monkeypatch.setattr("netdump.server.arrival.verify_headline", verify)
    raw = wire.pack_document(wire.HeadlineDocument(log=bytes(log_bytes)))
    body = Compressor(1).compress(raw)
    async with bench(tmp_path) as it:
        it.room = NONE
        it.arrival.take(wire.Headline(wire.CodecId.ZSTD, len(raw), hashlib.sha256(raw).digest(), body))
        running = asyncio.create_task(it.arrival.run())
        await it.journal.waiting.wait()
        assert (unpacked, it.line.introductions) == ([], 0)
        it.room = PLENTY
        it.space.poke()
        await it.arrival.introduced.wait()
        assert (len(unpacked), it.line.introductions) == (1, 1)
        it.arrival.end()
        await running
        assert unpacked[0].startswith(f"{threads}_")


@pytest.mark.asyncio
async def test_a_headline_without_room_comes_back_if_its_host_may_not_send(tmp_path: Path) -> None:
    """Another collector may have room, and others may have its connection."""
    async with bench(tmp_path, admitted=False) as it:
        it.room = NONE
        it.arrival.take(headline_of(DUMP))
        ending = await it.arrival.run()
        assert (ending.complete, ending.reason) == (False, "no space")
        assert it.line.said == [wire.ErrorCode.STORAGE]
    assert not (tmp_path / "dumps" / DUMP.origin.id / "headline").exists()


@pytest.mark.asyncio
async def test_what_waits_for_room_is_behind(tmp_path: Path) -> None:
    """Though nothing is queued: else a full or slow disk would look like a slow line, and more hosts be let in."""
    async with bench(tmp_path) as it:
        behind = [it.arrival.is_behind]
        it.room = NONE
        it.bring(DUMP.chunks[:1])
        running = asyncio.create_task(it.arrival.run())
        await it.journal.waiting.wait()
        behind.append(it.arrival.is_behind)
        it.room = PLENTY
        it.space.poke()
        await it.line.until(DUMP.chunks[0].length)
        behind.append(it.arrival.is_behind)
        assert behind == [False, True, False]
        it.arrival.end()
        await running


@pytest.mark.asyncio
async def test_an_ack_means_durable(tmp_path: Path) -> None:  # [W-55]
    dump = SampleDump(seed=22, image_bytes=6 * MIB, chunk_bytes=65_536)
    ingest, storage = Ingest(credit_bytes=2 * MIB), Storage(publish_bytes=MIB)
    async with bench(tmp_path, dump, ingest=ingest, storage=storage) as it:
        seen: list[int] = []
        acknowledge = it.line.acknowledge

        def check(offset: int, credit: int | None = None) -> None:
            seen.append(it.durable)
            assert it.durable == offset
            acknowledge(offset)

        it.line.acknowledge = check  # type: ignore[method-assign]
        it.bring(dump.chunks)
        it.finish()
        assert (await it.arrival.run()).complete
        assert len(seen) >= 3
        assert seen == sorted(set(seen))
        kinds = [(each.kind, each.name.rpartition("/")[2][-8:]) for each in it.files.operations]
        renames = [place for place, (kind, _) in enumerate(kinds) if kind == "rename"]
        assert all("sync" in {kind for kind, _ in kinds[place - 4 : place]} for place in renames[-3:])
        costs = [durable.offset for durable, _ in it.journal.progress]
        assert costs == it.acked


@pytest.mark.asyncio
async def test_credit_that_is_too_little_for_a_full_chunk_publishes(tmp_path: Path) -> None:
    """[W-58]: with the smallest credit, half of it is not all that can keep a host waiting."""
    dump = SampleDump(seed=26, image_bytes=2 * MIB)
    ingest, storage = Ingest(credit_bytes=2 * MIB), Storage(publish_bytes=2 * MIB, publish_s=4)
    raw = bytes(range(250)) * 4_168
    cost = len(raw) + wire.CHUNK_COST_FLOOR
    assert 2 * cost < 2 * MIB < cost + wire.CHUNK_DATA_MAX + wire.CHUNK_COST_FLOOR
    async with bench(tmp_path, dump, ingest=ingest, storage=storage) as it:
        it.bring([received_chunk(0, [Run(PageState.DATA, len(raw))], raw)])
        work = asyncio.create_task(it.arrival.run())
        async with asyncio.timeout(2):  # before time alone would do it
            await it.line.until(len(raw))
        it.arrival.end()
        await work


@pytest.mark.asyncio
async def test_time_publishes_what_size_does_not(tmp_path: Path) -> None:  # [W-58]
    async with bench(tmp_path, storage=Storage(publish_s=1)) as it:
        work = asyncio.create_task(it.arrival.run())
        it.bring(DUMP.chunks[:3])
        end = DUMP.chunks[3].offset
        await it.line.until(end)
        assert it.durable == end
        it.arrival.end()
        assert await work == Ending(complete=False, reason=None)


@pytest.mark.asyncio
async def test_nothing_is_published_before_size_or_time_ask_for_it(tmp_path: Path) -> None:
    """A segment and its syncs for each chunk would keep the disk from all others."""
    async with bench(tmp_path, storage=Storage(publish_s=60)) as it:
        work = asyncio.create_task(it.arrival.run())
        for number in (1, 2):
            it.bring(DUMP.chunks[number - 1 : number])
            await it.line.until_forgotten(number)
        assert it.acked == []
        it.arrival.end()
        await work
        assert it.acked == [DUMP.chunks[2].offset]


@pytest.mark.asyncio
async def test_the_headline_of_an_earlier_connection_introduces(tmp_path: Path) -> None:
    """Else its host would wait for a seat that nobody looks for."""
    for known in (False, True):
        async with bench(tmp_path) as it:
            assert it.arrival.introduced.is_set() == known
            if not known:
                it.arrival.take(headline_of(DUMP))
            it.arrival.end()
            await it.arrival.run()
            assert it.arrival.introduced.is_set()


@pytest.mark.asyncio
async def test_what_was_brought_before_a_cut_is_kept(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.bring(DUMP.chunks[:7])
        it.arrival.end()
        it.bring(DUMP.chunks[7:8])  # too late
        assert await it.arrival.run() == Ending(complete=False, reason=None)
        assert it.durable == DUMP.chunks[7].offset


@pytest.mark.asyncio
async def test_a_cut_behind_finish_completes(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.bring(DUMP.chunks)
        it.finish()
        it.arrival.end()
        assert (await it.arrival.run()).complete


@pytest.mark.asyncio
@pytest.mark.parametrize(("keepalive_s", "told"), [(0, 5), (60, 0)])
async def test_a_host_that_waits_for_its_receipt_is_told_that_it_gets_on(
    tmp_path: Path, keepalive_s: int, told: int
) -> None:
    """[W-69], though not after each of very many segments."""
    (root := tmp_path / "dumps").mkdir()
    deliver(Store(root), DUMP, 15)  # three chunks a segment
    async with bench(tmp_path, ingest=Ingest(keepalive_s=keepalive_s)) as it:
        it.bring(DUMP.chunks[15:])
        it.finish()
        assert (await it.arrival.run()).complete
        assert it.line.said == [len(DUMP.image)] * told + [wire.Receipt(DUMP.root, b"receipt")]


@pytest.mark.asyncio
async def test_a_collector_that_stops_does_not_look_through_terabytes_first(tmp_path: Path) -> None:
    (root := tmp_path / "dumps").mkdir()
    deliver(Store(root), DUMP, 15)
    async with bench(tmp_path) as it:
        it.bring(DUMP.chunks[15:])
        it.finish()
        it.context.stopping.set()
        assert await it.arrival.run() == Ending(complete=False, reason="the collector stops")
        assert it.durable == len(DUMP.image)  # the host says FINISH again when it comes back


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", ["bad-digest", "bad-codec"])
async def test_a_bad_chunk_ends_it_and_the_good_ones_before_it_stay(tmp_path: Path, reason: str) -> None:
    place = next(n for n, chunk in enumerate(DUMP.chunks) if n > 4 and chunk.codec is wire.CodecId.ZSTD)
    good = DUMP.chunks[place]
    if reason == "bad-digest":
        bad = good._replace(digest=bytes(32))
    else:
        bad = good._replace(data=b"\0" + bytes(good.data)[1:])
    async with bench(tmp_path) as it:
        it.bring([*DUMP.chunks[:place], bad, *DUMP.chunks[place + 1 :]])
        it.finish()
        ending = await it.arrival.run()
        assert not ending.complete
        assert ending.reason is not None
        assert ending.reason.startswith(reason)
        assert it.line.said[0] == reason
        assert it.durable == good.offset
    async with bench(tmp_path) as it:
        assert it.writer.durable.offset == good.offset
        it.bring(DUMP.chunks[place:])
        it.finish()
        assert (await it.arrival.run()).complete
        assert restored(it) == DUMP.image


@pytest.mark.asyncio
async def test_a_bad_headline(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.arrival.take(headline_of(DUMP)._replace(digest=bytes(32)))
        it.bring(DUMP.chunks[:1])
        assert not (await it.arrival.run()).complete
        assert it.line.said == ["bad-digest"]
        assert it.store.dump(DUMP.origin.id).headline_bytes is None


@pytest.mark.asyncio
async def test_another_root(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.bring(DUMP.chunks)
        it.finish(bytes(32))
        assert not (await it.arrival.run()).complete
        assert it.line.said[-1] == "bad-root"
        assert it.durable == len(DUMP.image)
    async with bench(tmp_path) as it:
        it.finish()
        assert (await it.arrival.run()).complete


@pytest.mark.asyncio
async def test_a_fault_of_the_disk_ends_it_wherever_it_strikes(tmp_path: Path) -> None:
    """At every operation of the store: no ACK for what is not there, and the next attempt completes the dump."""
    dump = SampleDump(seed=23, image_bytes=30_000, chunk_bytes=8_192)
    strike = 0
    while True:
        folder = tmp_path / str(strike)
        folder.mkdir()
        async with bench(folder, dump) as it:
            before = len(it.files.operations)
            it.files.fail(at=strike, error=errno.EIO)
            it.arrival.take(headline_of(dump))
            it.bring(dump.chunks)
            it.finish()
            ending = await it.arrival.run()
            struck = strike < len(it.files.operations) - before
            assert it.line.said[-1] is wire.ErrorCode.STORAGE or ending.complete
            assert all(offset <= it.durable for offset in it.acked)
            told = it.context.disk_failures.look()
            assert (told is None) is (ending.reason is None)
        async with bench(folder, dump) as it:
            if it.writer.manifest is None:
                if not it.writer.has_headline:
                    it.arrival.take(headline_of(dump))
                it.bring([chunk for chunk in dump.chunks if chunk.offset >= it.writer.durable.offset])
                it.finish()
                assert (await it.arrival.run()).complete
            else:
                it.writer.close()
            assert restored(it) == dump.image
        if not struck:
            break
        strike += 1
    assert strike > 15


@pytest.mark.asyncio
async def test_without_room_nothing_is_written_and_nothing_lost(tmp_path: Path) -> None:
    async with bench(tmp_path, storage=Storage(publish_s=1)) as it:
        it.room = NONE
        work = asyncio.create_task(it.arrival.run())
        it.arrival.take(headline_of(DUMP))
        it.bring(DUMP.chunks[:5])
        await it.journal.waiting.wait()
        assert it.line.said == []
        before = len(it.files.operations)
        it.space.poke()  # looked again: still none
        it.journal.waiting.clear()
        it.bring(DUMP.chunks[5:9])
        assert len(it.files.operations) == before
        it.room = PLENTY
        it.space.poke()
        await it.line.until(DUMP.chunks[9].offset)
        it.bring(DUMP.chunks[9:])
        it.finish()
        assert (await work).complete
        assert restored(it) == DUMP.image


@pytest.mark.asyncio
async def test_room_is_made_also_for_those_who_wait_for_it(tmp_path: Path) -> None:
    """Views are given up for room, once the index says which there are: the disk by itself stays full."""
    async with bench(tmp_path) as it:
        rooms = iter([Room.NONE, Room.NONE])
        it.look = lambda: next(rooms, Room.LOW)
        it.room = NONE
        work = asyncio.create_task(it.arrival.run())
        it.bring(DUMP.chunks)
        it.finish()
        await it.journal.waiting.wait()
        while not work.done():
            it.space.poke()
            await asyncio.sleep(0)
        assert (await work).complete


@pytest.mark.asyncio
async def test_a_host_that_goes_while_there_is_no_room(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.room = NONE
        work = asyncio.create_task(it.arrival.run())
        it.bring(DUMP.chunks[:5])
        await it.journal.waiting.wait()
        it.arrival.end()
        assert await work == Ending(complete=False, reason="no space")
        assert it.durable == 0


@pytest.mark.asyncio
async def test_space_that_cannot_be_measured_is_a_fault(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:

        def broken() -> Measure:
            raise OSError(errno.EIO, "Input/output error")

        it.space._ask = broken
        it.bring(DUMP.chunks[:1])
        ending = await it.arrival.run()
        assert it.line.said == [wire.ErrorCode.STORAGE]
        assert ending.reason is not None
        assert "cannot be measured" in ending.reason


@pytest.mark.asyncio
async def test_a_host_that_stores_too_much_is_sent_away(tmp_path: Path) -> None:
    async with bench(tmp_path, quota_bytes=1000, storage=Storage(publish_s=1)) as it:
        it.bring(DUMP.chunks[:5])
        ending = await it.arrival.run()
        assert not ending.complete
        assert it.line.said == [DUMP.chunks[5].offset, wire.ErrorCode.STORAGE]


@pytest.mark.asyncio
async def test_a_receipt_that_cannot_be_signed(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        it.sign = cannot_sign
        it.bring(DUMP.chunks)
        it.finish()
        ending = await it.arrival.run()
        assert ending == Ending(complete=True, reason="the key is gone")
        assert it.line.said[-1] is wire.ErrorCode.INTERNAL


@cache
@cache
def tables(count: int) -> tuple[wire.Chunk, ...]:
    """Chunks without data whose run tables are 32 KiB each, for 4 KiB of credit."""
    chunks, offset = [], 0
    pair = [Run(PageState.EXCLUDED, 1, ExcludeClass.FREE), Run(PageState.ZERO, 1)]
    runs = pair * (wire.CHUNK_RUNS_MAX // 2)
    for _ in range(count):
        chunks.append(received_chunk(offset, runs, b""))
        offset += wire.CHUNK_RUNS_MAX
    return tuple(chunks)


@pytest.mark.asyncio
async def test_memory_that_credit_does_not_count_holds_the_reading(tmp_path: Path) -> None:
    dump = SampleDump(seed=24, image_bytes=200 * wire.CHUNK_RUNS_MAX)
    ingest, storage = Ingest(credit_bytes=2 * MIB), Storage(publish_bytes=MIB)
    async with bench(tmp_path, dump, ingest=ingest, storage=storage) as it:
        for chunk in tables(110):
            it.arrival.take(chunk)
            if it.line.holding:
                break
        assert it.line.holding
        assert it.arrival._queued_bytes <= 3 * MIB + 40_000
        work = asyncio.create_task(it.arrival.run())
        await it.line.until("release")
        it.arrival.end()
        await work
        assert not it.arrival._queued_bytes


@pytest.mark.asyncio
async def test_held_and_without_room_it_is_sent_away(tmp_path: Path) -> None:
    dump = SampleDump(seed=25, image_bytes=200 * wire.CHUNK_RUNS_MAX)
    ingest, storage = Ingest(credit_bytes=2 * MIB), Storage(publish_bytes=MIB)
    for early in (True, False):
        folder = tmp_path / str(early)
        folder.mkdir()
        async with bench(folder, dump, ingest=ingest, storage=storage) as it:
            it.room = NONE
            work = asyncio.create_task(it.arrival.run())
            it.bring(tables(110) if early else tables(110)[:2])
            if not early:
                await it.journal.waiting.wait()
                it.bring(tables(110)[2:])
            assert not (await work).complete
            assert it.line.said[-1] is wire.ErrorCode.STORAGE


@given(
    st.lists(st.sampled_from(["chunks", "turn", "end"]), max_size=12),
    st.integers(0, 3),
    st.sampled_from([MIB, 8 * MIB]),
)
@settings(derandomize=True, deadline=None, max_examples=25)
def test_any_interleaving_ends_with_a_prefix_or_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int, publish_bytes: int
) -> None:
    dump = SampleDump(seed=30 + seed, image_bytes=40_000, chunk_bytes=4_096)

    async def body() -> None:
        async with bench(tmp_path_factory.mktemp("any"), dump, storage=Storage(publish_bytes=publish_bytes)) as it:
            work = asyncio.create_task(it.arrival.run())
            sent = 0
            for step in steps:
                if step == "chunks":
                    it.bring(dump.chunks[sent : sent + 5])
                    sent = min(sent + 5, len(dump.chunks))
                elif step == "end":
                    break
                else:
                    await asyncio.sleep(0)
            else:
                it.bring(dump.chunks[sent:])
                sent = len(dump.chunks)
                it.finish()
            it.arrival.end()
            ending = await work
            assert ending.complete == (sent == len(dump.chunks) and "end" not in steps)
            ends = [0, *(chunk.offset + chunk.length for chunk in dump.chunks)]
            assert it.durable == ends[sent]
            if ending.complete:
                assert restored(it) == dump.image

    asyncio.run(body())
