"""From segments to the image: every order, every alias, every digest; never half under its name (store.md 7)."""

from __future__ import annotations

import errno
import os
import threading
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdump.errors import BusyError, StorageFaultError
from netdump.pages import PageState, Run
from netdump.store.files import LocalFiles
from netdump.store.findings import DamageFoundError
from netdump.store.restore import Restoration, Restored, Wanted, placed_runs, read_segment, restore
from netdump.store.store import Store
from netdump.testing.memory_files import MemoryFiles
from netdump.testing.sample_dump import SampleDump, received_chunk
from netdump.testing.store_contract import append_all, deliver
from netdump.wire import Chunk, chain_link, chain_start, root_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netdump.store.segment import SegmentReader

SAMPLE = SampleDump(seed=6, image_bytes=300_000)
WANTED = Wanted(SAMPLE.dump_id, len(SAMPLE.image), SAMPLE.root)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """The segments of the sample as files, in image order, in a folder as fetch would fill it."""
    store = Store(tmp_path / "dumps")
    deliver(store, SAMPLE)
    dump = store.dump(SAMPLE.origin.id)
    return [tmp_path / "dumps" / SAMPLE.origin.id / "segments" / info.name for info in dump.segments()]


def opened(paths: list[Path]) -> Iterator[SegmentReader]:
    for path in paths:
        with read_segment(path, path.name, SAMPLE.dump_id) as segment:
            yield segment


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "dumps")


def test_in_order(tmp_path: Path, paths: list[Path]) -> None:
    target = tmp_path / "image"
    target.write_bytes(b"an older one")
    reached: list[int] = []
    assert restore(opened(paths), target, WANTED, reached.append) == Restored(target, len(SAMPLE.image), complete=True)
    assert target.read_bytes() == SAMPLE.image
    assert target.stat().st_mode & 0o777 == 0o600
    assert leftovers(tmp_path) == ["image"]
    assert reached == sorted(reached)
    assert reached[-1] == len(SAMPLE.image)


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order(tmp_path: Path, paths: list[Path], seed: int) -> None:
    shuffled = list(paths)
    Random(seed).shuffle(shuffled)
    with Restoration.to(tmp_path / "image", WANTED) as restoration:
        for segment in opened([*shuffled, shuffled[0]]):
            restoration.write_data(segment)
        for segment in opened(paths):
            restoration.write_aliases(segment)
        assert not (tmp_path / "image").exists()
        restoration.finish()
    assert (tmp_path / "image").read_bytes() == SAMPLE.image


def test_by_several_threads(tmp_path: Path, paths: list[Path]) -> None:
    with Restoration.to(tmp_path / "image", WANTED) as restoration:

        def work(mine: list[Path]) -> None:
            for segment in opened(mine):
                restoration.write_data(segment)

        threads = [threading.Thread(target=work, args=(paths[first::3],)) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for segment in opened(paths):
            restoration.write_aliases(segment)
        restoration.finish()
    assert (tmp_path / "image").read_bytes() == SAMPLE.image


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60_000), st.integers(1, 20_000))
def test_any_image(seed: int, image_bytes: int, chunk_bytes: int) -> None:
    sample = SampleDump(seed, image_bytes, chunk_bytes)
    memory = MemoryFiles()
    store = Store(Path("dumps"), memory)
    deliver(store, sample)
    store.dump(sample.origin.id).reassemble()
    assert memory.content(f"{sample.origin.id}/vmcore") == sample.image


def store_chunks(folder: Path, chunks: list[Chunk]) -> tuple[Store, Wanted]:
    """A complete dump of these chunks."""
    size = chunks[-1].offset + chunks[-1].length
    sample = SampleDump(image_bytes=1)
    origin = replace(sample.origin, image_bytes=size)
    store = Store(folder / "dumps")
    chain = chain_start(origin.dump_id, size)
    for chunk in chunks:
        chain = chain_link(chain, chunk.digest)
    root = root_digest(chain, size, len(chunks))
    with store.open_writer(origin) as writer:
        append_all(writer, chunks)
        writer.finish(root)
    return store, Wanted(origin.dump_id, size, root)


def test_huge_holes_stay_holes(tmp_path: Path) -> None:
    gib = 1 << 30
    page = bytes(range(256)) * 16
    chunks = [received_chunk(0, [Run(PageState.DATA, 4096)], page)]
    for number in range(256):
        state = [PageState.ZERO, PageState.LOST][number % 2]
        chunks.append(received_chunk(4096 + number * gib, [Run(state, gib)], b""))
    end = 4096 + 256 * gib
    # The alias of zeros comes behind data, so that its source lies within the file as it is by then.
    chunks.append(
        received_chunk(end, [Run(PageState.ALIAS, 4096, source=0), Run(PageState.ALIAS, 1 << 20, source=gib)], b"")
    )
    chunks.append(received_chunk(end + 4096 + (1 << 20), [Run(PageState.ZERO, gib)], b""))
    store, wanted = store_chunks(tmp_path, chunks)
    restored = store.dump(wanted.dump_id.hex()).reassemble()
    assert restored.bytes == restored.path.stat().st_size == end + 4096 + (1 << 20) + gib
    assert restored.path.stat().st_blocks * 512 <= 64 << 10
    descriptor = os.open(restored.path, os.O_RDONLY)
    assert os.pread(descriptor, 4096, 0) == page
    assert os.pread(descriptor, 4096, end) == page
    assert os.pread(descriptor, 4096, end + 4096) == bytes(4096)
    os.close(descriptor)


def test_an_alias_of_an_alias_of_everything(tmp_path: Path) -> None:
    page = bytes(range(256)) * 16
    chunks = [received_chunk(0, [Run(PageState.DATA, 4096), Run(PageState.ZERO, 100)], page)]
    size = 4196
    while size < 1 << 20:  # each doubles all that is before it
        chunks.append(received_chunk(size, [Run(PageState.ALIAS, size, source=0)], b""))
        size *= 2
    store, wanted = store_chunks(tmp_path, chunks)
    assert store.dump(wanted.dump_id.hex()).reassemble().path.read_bytes() == (page + bytes(100)) * (size // 4196)


def test_what_is_not_complete(tmp_path: Path, paths: list[Path]) -> None:
    wanted = WANTED._replace(root=None)
    restored = restore(opened(paths[:3]), tmp_path / "image", wanted)
    assert restored == Restored(tmp_path / "image.incomplete", int(paths[2].name[17:33], 16), complete=False)
    assert restored.path.read_bytes() == SAMPLE.image[: restored.bytes]
    assert leftovers(tmp_path) == ["image.incomplete"]
    assert restore(opened([]), tmp_path / "nothing", wanted).bytes == 0


def failing(tmp_path: Path, segments: Iterator[SegmentReader], wanted: Wanted = WANTED) -> DamageFoundError:
    """What restoring says; the target must be as before."""
    target = tmp_path / "image"
    target.write_bytes(b"an older one")
    with pytest.raises(DamageFoundError) as error:
        restore(segments, target, wanted)
    assert target.read_bytes() == b"an older one"
    assert leftovers(tmp_path) == ["image"]
    return error.value


def test_a_missing_segment(tmp_path: Path, paths: list[Path]) -> None:
    assert "end at" in str(failing(tmp_path, opened(paths[:-1])))
    with Restoration.to(tmp_path / "other", WANTED) as restoration:
        for segment in opened(paths[:1] + paths[2:]):
            restoration.write_data(segment)
        with pytest.raises(DamageFoundError, match="does not continue"):
            restoration.finish()
    assert not (tmp_path / "other").exists()


def test_another_root(tmp_path: Path, paths: list[Path]) -> None:
    assert "root" in str(failing(tmp_path, opened(paths), WANTED._replace(root=bytes(32))))


def test_segments_beyond_the_image(tmp_path: Path, paths: list[Path]) -> None:
    assert "beyond the image" in str(failing(tmp_path, opened(paths), WANTED._replace(image_bytes=1000)))


def test_a_damaged_chunk(tmp_path: Path, paths: list[Path]) -> None:
    data = bytearray(paths[1].read_bytes())
    data[72 + len(SAMPLE.chunks[3].frame) - 1] ^= 1
    paths[1].write_bytes(data)
    assert failing(tmp_path, opened(paths)).finding.file == paths[1].name
    with Restoration.to(tmp_path / "other", WANTED) as restoration:
        (segment,) = opened([paths[1]])
        with pytest.raises(DamageFoundError):
            restoration.write_data(read_segment(paths[1], paths[1].name, SAMPLE.dump_id))
        with pytest.raises(AssertionError):
            restoration.write_aliases(segment)


def test_a_segment_of_another_dump(tmp_path: Path, paths: list[Path]) -> None:
    with pytest.raises(DamageFoundError, match="another dump"):
        read_segment(paths[0], paths[0].name, bytes(16))
    with pytest.raises(StorageFaultError, match="absent"):
        read_segment(tmp_path / "absent", paths[0].name, bytes(16))


def test_one_at_a_time(tmp_path: Path, paths: list[Path]) -> None:
    with Restoration.to(tmp_path / "image", WANTED):
        with pytest.raises(BusyError, match="image"):
            Restoration.to(tmp_path / "image", WANTED)
        restore(opened(paths), tmp_path / "other", WANTED)
        assert (tmp_path / "image.partial").exists()
    assert leftovers(tmp_path) == ["other"]
    (tmp_path / "image.partial").write_bytes(b"left by a process that was killed")
    (tmp_path / "image.lock").touch()
    restore(opened(paths), tmp_path / "image", WANTED)
    assert (tmp_path / "image").read_bytes() == SAMPLE.image
    assert leftovers(tmp_path) == ["image", "other"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, paths: list[Path]) -> None:
    def interrupt(offset: int) -> None:
        if offset > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(opened(paths), tmp_path / "image", WANTED, interrupt)
    assert leftovers(tmp_path) == []


def test_a_target_that_cannot_be(tmp_path: Path, paths: list[Path]) -> None:
    with pytest.raises(StorageFaultError, match="absent/image"):
        restore(opened(paths), tmp_path / "absent" / "image", WANTED)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageFaultError, match="folder"):
        restore(opened(paths), tmp_path / "folder", WANTED)
    assert leftovers(tmp_path) == ["folder"]


def test_aliases_come_last_and_in_order(tmp_path: Path, paths: list[Path]) -> None:
    with Restoration.to(tmp_path / "image", WANTED) as restoration:
        for segment in opened(paths):
            restoration.write_data(segment)
        with pytest.raises(AssertionError):
            restoration.finish()
        for segment in opened(paths[1:2]):
            with pytest.raises(AssertionError, match="order"):
                restoration.write_aliases(segment)


def skeletons(folder: Path, paths: list[Path]) -> Iterator[SegmentReader]:
    files = LocalFiles(folder)
    for segment in opened(paths):
        with closing(files.create("skeleton")) as file:
            segment.write_skeleton(file)
        with read_segment(folder / "skeleton", segment.name, SAMPLE.dump_id) as skeleton:
            files.unlink("skeleton")
            yield skeleton


def left(tmp_path: Path, paths: list[Path], number: int) -> None:
    """An image with the data of so many segments, and nothing else yet."""
    restoration = Restoration.to(tmp_path / "image", WANTED)
    for segment in opened(paths[:number]):
        restoration.write_data(segment)
    restoration.leave()
    restoration.leave()
    assert leftovers(tmp_path) == ["image.partial"]


def taken_up(tmp_path: Path, paths: list[Path], number: int) -> bytes:
    with Restoration.to(tmp_path / "image", WANTED, again=True) as restoration:
        for skeleton in skeletons(tmp_path, paths[:number]):
            restoration.check_data(skeleton)
        for segment in opened(paths[number:]):
            restoration.write_data(segment)
        for skeleton in skeletons(tmp_path, paths):
            restoration.write_aliases(skeleton)
        restoration.finish()
    return (tmp_path / "image").read_bytes()


@pytest.mark.parametrize("number", [0, 1, 3])
def test_what_was_left_is_taken_up_again(tmp_path: Path, paths: list[Path], number: int) -> None:
    left(tmp_path, paths, number)
    assert taken_up(tmp_path, paths, number) == SAMPLE.image
    assert taken_up(tmp_path, paths, len(paths)) == SAMPLE.image, "a finished one can be taken up too"
    assert leftovers(tmp_path) == ["image"]


def test_what_a_failed_sync_leaves_is_not_taken_up(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk did not take it")

    restoration = Restoration.to(tmp_path / "image", WANTED)
    for segment in opened(paths):
        restoration.write_data(segment)
    for segment in opened(paths):
        restoration.write_aliases(segment)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StorageFaultError, match="did not take it"):
        restoration.finish()
    restoration.leave()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("finished", ["image", "image.incomplete"])
def test_what_was_left_last_is_taken_up(tmp_path: Path, paths: list[Path], finished: str) -> None:
    left(tmp_path, paths, 3)
    (tmp_path / finished).write_bytes(b"older")
    assert taken_up(tmp_path, paths, 3) == SAMPLE.image
    (tmp_path / "image").rename(tmp_path / finished)
    assert taken_up(tmp_path, paths, len(paths)) == SAMPLE.image


def test_what_stands_where_zeros_should_is_cleared(tmp_path: Path, paths: list[Path]) -> None:
    left(tmp_path, paths, 3)
    with (tmp_path / "image.partial").open("r+b") as image:
        end = 0
        for segment in opened(paths):
            for stored in segment.chunks():
                for run, place, _ in placed_runs(stored):
                    if run.state is not PageState.DATA or segment.name not in {path.name for path in paths[:3]}:
                        image.seek(place)
                        image.write(b"rubbish!" * (run.length // 8))
                    end = place + run.length
        image.seek(end + 100_000)
        image.write(b"behind the end")
    assert taken_up(tmp_path, paths, 3) == SAMPLE.image


def test_data_that_are_not_in_the_image_are_found(tmp_path: Path, paths: list[Path]) -> None:
    places = [
        (number, place)
        for number, segment in enumerate(opened(paths))
        for stored in segment.chunks()
        for _, place, raw in placed_runs(stored)
        if raw
    ]
    left(tmp_path, paths, len(paths))
    wrong, place = places[-1]
    with (tmp_path / "image.partial").open("r+b") as image:
        image.seek(place)
        byte = image.read(1)[0]
        image.seek(place)
        image.write(bytes([byte ^ 1]))
    with Restoration.to(tmp_path / "image", WANTED, again=True) as restoration:
        for number, skeleton in enumerate(skeletons(tmp_path, paths)):
            if number != wrong:
                restoration.check_data(skeleton)
                continue
            with pytest.raises(DamageFoundError, match="does not hold the data"):
                restoration.check_data(skeleton)
    assert leftovers(tmp_path) == []


def test_a_run_table_that_changes_before_its_aliases_are_written(tmp_path: Path, paths: list[Path]) -> None:
    aliased = next(
        number
        for number, segment in enumerate(opened(paths))
        if any(run.state is PageState.ALIAS for stored in segment.chunks() for run, _, _ in placed_runs(stored))
    )
    with Restoration.to(tmp_path / "image", WANTED) as restoration:
        for segment in opened(paths):
            restoration.write_data(segment)
        for segment in opened(paths[:aliased]):
            restoration.write_aliases(segment)
        data = bytearray(paths[aliased].read_bytes())
        for segment in opened(paths[aliased : aliased + 1]):
            for entry in segment.entries():
                table = segment.run_table(entry)
                at = data.index(table, entry.position)
                data[at + len(table) - 1] ^= 1
        paths[aliased].write_bytes(data)
        segments = opened(paths[aliased : aliased + 1])
        changed = next(segments)
        with pytest.raises(DamageFoundError, match="has changed"):
            restoration.write_aliases(changed)


def test_nobody_else_takes_up_what_is_under_way(tmp_path: Path) -> None:
    with Restoration.to(tmp_path / "image", WANTED), pytest.raises(BusyError):
        Restoration.to(tmp_path / "image", WANTED, again=True)
    (tmp_path / "image.partial").mkdir()
    with pytest.raises(StorageFaultError):
        Restoration.to(tmp_path / "image", WANTED, again=True)
    assert leftovers(tmp_path) == ["image.partial"]


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    mib = 1 << 20
    chunks = [received_chunk(at * mib, [Run(PageState.DATA, mib)], bytes([at]) * mib) for at in range(24)]
    chunks.append(received_chunk(24 * mib, [Run(PageState.ALIAS, 24 * mib, source=0)], b""))
    store, wanted = store_chunks(tmp_path, chunks)
    dump = store.dump(wanted.dump_id.hex())
    tracemalloc.start()
    try:
        dump.reassemble()
        assert dump.verify().ok
        assert tracemalloc.get_traced_memory()[1] < 6 * mib
    finally:
        tracemalloc.stop()


def test_the_image_is_durable() -> None:
    memory = MemoryFiles()
    store = Store(Path("dumps"), memory)
    deliver(store, SAMPLE)
    store.dump(SAMPLE.origin.id).reassemble()
    memory.cut_power()
    assert memory.content(f"{SAMPLE.origin.id}/vmcore") == SAMPLE.image


def test_placed_runs_tile_the_chunk(paths: list[Path]) -> None:
    for segment in opened(paths):
        for stored in segment.chunks():
            end = stored.chunk.offset
            for run, place, raw in placed_runs(stored):
                assert place == end
                assert len(raw) == (run.length if run.state is PageState.DATA else 0)
                assert bytes(raw) == SAMPLE.image[place : place + len(raw)]
                end += run.length
            assert end == stored.chunk.offset + stored.chunk.length
